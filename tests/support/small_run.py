"""A whole run small enough for tests: a two-layer policy that starts from random weights and a coin for a judge.

As a program, it is main.py with that judge, and with a kill built in:

    python tests/support/small_run.py PATTERN COUNT --config=... --workdir=... [--stage=...]

sends SIGKILL to itself right before the COUNT-th file operation that matches PATTERN (a regular expression for
"operation (arguments)", for example "os.rename .*summary"); COUNT 0 runs to the end. SMALL_RUN_SIGNAL in the
environment is the number of another signal. A run that ends says last how many operations matched, how many programs it
took from the compilation cache, and how many it compiled: "operations: COUNT", "cache: HITS hits, MISSES misses".
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "model" / "tiny_qwen3"
REASONER = REPOSITORY / "model" / "tiny_reasoner"
ARCHITECTURE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip
# What a wall clock measures; everything else must be equal.
TIMING = {"seconds", "wall_seconds", "tokens_per_second", "learner_tokens_per_second", "mfu", *(
    f"{name}_seconds" for name in ("rollout", "learner", "prefill", "decode", "env"))}  # fmt: skip
KEYS = {
    "model.init": "random",
    "synth.domains": "orders",
    "synth.operators": "guard,missing,confirm",
    "synth.train_roots": 3,
    "synth.heldout_roots": 2,
    "sampler.slots": 8,
    "sampler.max_new_tokens": 16,
    "rl.rounds": 2,
    "rl.steps": 2,
    "rl.groups": 2,
    "rl.group_size": 4,
    "rl.rows": 2,
    "rl.learning_rate": 1e-3,
    "rl.sft_steps": 6,
    "rl.sft_episodes": 4,
    "rl.sft_learning_rate": 5e-3,
    "checkpoint.every": 1,
    "checkpoint.sft_every": 2,
}


def folder(path: Path, base: Path = TINY, architecture: dict[str, Any] = ARCHITECTURE) -> Path:
    """Makes an HF folder without weights: the tokenizer of a shipped base, a smaller architecture."""
    path.mkdir(parents=True)
    for file in base.glob("*token*"):
        shutil.copy(file, path)
    shutil.copy(base / "chat_template.jinja", path)
    record = json.loads((base / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**record, **architecture}))
    return path


def arguments(policy: Path, **changes: Any) -> list[str]:
    """The command line of the run, but for the workdir; `changes` are config keys with __ for the dot."""
    keys = {**KEYS, "model.checkpoint": policy, **{key.replace("__", "."): value for key, value in changes.items()}}
    config = REPOSITORY / "configs" / "tiny.py"
    return [f"--config={config}:runlocal", *(f"--config.{key}={value}" for key, value in keys.items())]


def environment(**changes: str) -> dict[str, str]:
    """The environment of a run: this process's, one CPU device."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", **changes}


def coin(play: Callable[..., list]) -> Callable[..., list]:
    """`Rollouts.run` with the rewards replaced by coins that fall as a checksum of the tokens says.

    A policy that knows nothing never passes a task; with this judge it passes half of the time, so that all that hangs
    on rewards happens: mixed groups, gradients, failed nodes.
    """

    def run(*args: Any, **kwargs: Any) -> list:
        found = []
        for item in play(*args, **kwargs):
            if item.reward is None:  # a fault stays one
                found.append(item)
                continue
            passed = zlib.crc32(str(item.tokens).encode()) % 2
            node = None if passed else item.score.node
            score = dataclasses.replace(item.score, reward=float(passed), node=node)
            found.append(dataclasses.replace(item, score=score))
        return found

    return run


def contents(workdir: Path) -> dict[str, object]:
    """{file: what is in it, times left out} of a workdir; checkpoints are compared by what comes of them."""
    found: dict[str, object] = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.is_dir() or "checkpoints/" in name:
            continue
        if name.endswith("metrics.jsonl"):
            found[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif name == "summary.json":
            found[name] = timeless(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


def timeless(record: dict) -> dict:
    """The record without what a clock measured."""
    return {key: value for key, value in record.items() if key not in TIMING}


def _kill_at(pattern: str, count: int, number: int) -> collections.Counter:
    """Installs the kill by signal `number`; returns what counts the operations."""
    operations: collections.Counter = collections.Counter()

    def hook(event: str, args: tuple) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"):
            if re.search(pattern, f"{event} {args}"):
                operations["seen"] += 1
                if operations["seen"] == count:
                    os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    return operations


def _count_compilations() -> collections.Counter:
    """Counts what the compilation cache has and has not, from now on, by the last word of JAX's name for the event."""
    import jax

    counts: collections.Counter = collections.Counter()
    jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rpartition("/")[-1]]))
    return counts


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    import main
    from rl import endings
    from rl.rollouts import rollout

    counts = _count_compilations()
    rollout.Rollouts.run = coin(rollout.Rollouts.run)  # type: ignore[method-assign]
    operations = _kill_at(sys.argv[1], int(sys.argv[2]), int(os.environ.get("SMALL_RUN_SIGNAL", signal.SIGKILL)))

    def work() -> int:
        """main.py's work, and the last lines."""
        status = main.main(sys.argv[3:])
        print(f"operations: {operations['seen']}")
        print(f"cache: {counts['cache_hits']} hits, {counts['cache_misses']} misses")
        return status

    endings.leave("main.py", work)
