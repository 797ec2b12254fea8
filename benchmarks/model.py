"""Forward and train-step speed of the 27M-parameter Qwen3 against transformers on PyTorch and Tunix.

    make benchmarks                              # Tunix's environment, then all benchmarks
    ./run -m benchmarks.model         # this one; prints one JSON line, progress on stderr

Everybody loads the same checkpoint; that they compute the same thing is checked before anything is timed. A third
contender is the machine: a square float32 matrix product by PyTorch, whose rate stands for the peak.
"""

import argparse
import json
import math
import pathlib
import sys
import tempfile

import jax.numpy as jnp
from flax import nnx

from benchmarks.contestants import architecture, contest
from model.checkpoints import hf_config, load
from model.network import transformer

TUNIX_PYTHON = contest.REPOSITORY / ".venv" / "tunix" / "bin" / "python"


def write_checkpoint(path: pathlib.Path) -> None:
    """Writes random weights of the benchmark's architecture to `path`, a Hugging Face folder."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(architecture.CONFIG))
    config = hf_config.read(path)
    load.save_pretrained(transformer.Transformer(config, dtype=jnp.float32, rngs=nnx.Rngs(0)), config, path)


def enter(path: pathlib.Path) -> list[contest.Contender]:
    """Starts the contenders and makes them load the checkpoint. Raises ValueError if Tunix's environment is missing."""
    if not TUNIX_PYTHON.exists():
        raise ValueError(f"benchmark: {TUNIX_PYTHON} is missing: make benchmarks installs it")
    contenders = [
        contest.Contender("ours", sys.executable, "benchmarks.contestants.ours"),
        contest.Contender("transformers", sys.executable, "benchmarks.contestants.peer_torch"),
        contest.Contender("tunix", TUNIX_PYTHON, "benchmarks.contestants.peer_tunix"),
    ]
    for contender in contenders:
        print(f"{contender.name}: {contender.ask('load', path=str(path))}", file=sys.stderr)
    return contenders


def check_agreement(contenders: list[contest.Contender], command: str, tolerance: float) -> None:
    """Raises ValueError unless all contenders return the same value for the command, within a relative tolerance."""
    values = {contender.name: contender.ask(command)["value"] for contender in contenders}
    if not all(math.isclose(value, next(iter(values.values())), rel_tol=tolerance) for value in values.values()):
        raise ValueError(f"benchmark: the contenders disagree on {command}: {values}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        write_checkpoint(path)
        contenders = enter(path)
        check_agreement(contenders, "forward", 1e-4)
        check_agreement(contenders, "train", 1e-4)
        check_agreement(contenders, "train", 1e-3)  # the loss after the first update agrees too
        probe = contest.Contender("machine", sys.executable, "benchmarks.contestants.peer_torch")
        medians = {
            command: contest.interleaved([*((c, command) for c in contenders), (probe, "matmul")], rounds)
            for command in ("forward", "train")
        }
        for contender in (*contenders, probe):
            contender.close()
    print(json.dumps(summary(medians)))


def summary(medians: dict) -> dict:
    """For "forward" and "train": tokens/s and share of the matmul peak of every contender, and the ratio of our speed
    to that of the faster peer. medians: command -> {contender: seconds}."""
    tokens, found = architecture.ROWS * architecture.LENGTH, {}
    for command, passes in (("forward", 1), ("train", 3)):
        seconds = dict(medians[command])
        peak = 2 * architecture.MATMUL**3 / seconds.pop("machine")
        found[command] = {
            "tokens_per_second": {name: round(tokens / s) for name, s in seconds.items()},
            "share_of_peak": {
                name: round(passes * architecture.forward_flops() / s / peak, 3) for name, s in seconds.items()
            },
            "peak_gflops": round(peak / 1e9),
            "ratio_to_better_peer": round(min(s for n, s in seconds.items() if n != "ours") / seconds["ours"], 3),
        }
    return {"benchmark": "model", **found}


if __name__ == "__main__":
    main()
