"""A run killed anywhere and started again ends as if nothing had happened, to the bit; so do runs made in stages."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.support import small_run
from tests.support.small_run import contents

Process = subprocess.CompletedProcess

# Each kill strikes right before the file operation: (pattern, which match of it), in the order of a run.
KILLS = [
    ("open .*sft_metrics", 4),  # an SFT step is done, its line not written
    ("os.rename .*sft_checkpoints/[0-9]+'", 1),  # an SFT checkpoint is written, not in place
    ("os.rename .*[.]policy'", 1),  # and so is the warm start's policy
    ("os.rename .*tasks/round_0'", 1),  # and so is a dataset
    ("open .*checkpoints/0.*/_METADATA", 1),  # in the middle of a checkpoint, evaluation done
    ("open .*/metrics[.]jsonl", 1),  # a step is done, its rollouts are written, its line is not
    ("os.mkdir .*checkpoints/[0-9]+[.]", 2),  # all of a step is written, its checkpoint is not
    ("open .*round_0_heldout_after[.]", 1),  # after the evaluation of a round, before anything of it is written
    ("open .*round_0_heldout_after_greedy", 1),  # half of an evaluation is written
    ("os.rename .*summary[.]json", 1),  # a round is over and saved, the summary does not have it
    ("os.rename .*gates_1[.]json", 1),  # the next round's tasks are made, nothing of them is written
    ("os.rmdir [(]'meta'", 1),  # in the middle of deleting an old checkpoint
    ("open .*rollouts/round_1[.]jsonl", 1),  # a step is done, nothing of it is written
    ("os.rename .*policy/config[.]json", 1),  # in the middle of the export
]  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(workdir, *flags, kill=(pattern, count), own_cache, **changed keys) -> the finished process.

    Compiled programs are shared between the processes (tests/conftest.py), which would otherwise mostly compile.
    """
    base = tmp_path_factory.mktemp("resume")
    policies = {tokens: small_run.folder(base / tokens.name, tokens) for tokens in (small_run.TINY, small_run.REASONER)}

    def start(
        workdir: Path, *flags: str, kill: tuple[str, int] = ("", 0), own_cache: bool = False, **changes: Any
    ) -> Process:
        command = [sys.executable, small_run.__file__, kill[0], str(kill[1]), f"--workdir={workdir}"]
        environment = small_run.environment()
        if own_cache:  # instead of the one of all tests
            del environment["JAX_COMPILATION_CACHE_DIR"]
        policy = policies[small_run.REASONER if "reasoning__rounds" in changes else small_run.TINY]
        return subprocess.run(
            [*command, *small_run.arguments(policy, **changes), *flags], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip

    return start


@pytest.fixture(scope="module")
def reference(start, tmp_path_factory) -> dict[str, object]:
    """What an uninterrupted run leaves behind."""
    workdir = tmp_path_factory.mktemp("reference")
    result = start(workdir)
    assert result.returncode == 0, result.stdout
    return contents(workdir)


def assert_same(found: dict[str, object], expected: dict[str, object]) -> None:
    """Equal file by file, naming the files that differ."""
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_ends_the_same_and_compiles_nothing_again(start, tmp_path, rounds):
    """With a cache of its own: the resumed run compiles only what the killed one had not come to, and a run from the
    beginning nothing at all. It loads every program from the disk, the other compiled them: the results are the same.
    """
    cache = tmp_path / "cache"

    def run(name: str, kill: tuple[str, int] = ("", 0)) -> tuple[Process, int, int]:
        """(process, misses, programs that it added to the cache)."""
        before = len(list(cache.rglob("*-cache")))
        flag = f"--config.compile_cache={cache}"
        result = start(tmp_path / name, flag, kill=kill, own_cache=True, rl__rounds=rounds)
        said = re.search(r"cache: (\d+) hits, (\d+) misses", result.stdout)
        misses = int(said[2]) if said else 0
        return result, misses, len(list(cache.rglob("*-cache"))) - before

    killed, _, compiled = run("killed", ("open .*/metrics[.]jsonl", 2))
    assert killed.returncode == -signal.SIGKILL and compiled > 50, killed.stdout
    resumed, misses, added = run("killed")
    assert resumed.returncode == 0 and "resuming at round 0, step 1" in resumed.stdout, resumed.stdout
    assert misses == added < compiled / 2
    whole, misses, added = run("whole")
    assert whole.returncode == 0 and (misses, added) == (0, 0), whole.stdout
    expected = contents(tmp_path / "whole")
    assert_same(contents(tmp_path / "killed"), expected)
    assert sum(row["updates"] for row in expected["metrics.jsonl"]) >= 2


@pytest.mark.slow
def test_a_run_goes_on_with_other_keys_of_speed_and_more_steps(start, tmp_path):
    """On two devices, with other micro-batches, slots and recomputation, and for one more step: as if it had been asked
    for that at first, but for the last bits. What was sampled before is the same to the bit."""
    common = {"rl__rounds": 1, "rl__sft_steps": 0}
    faster = {"rl__rows": 4, "rl__logits_chunk": 64, "model__remat": "full", "sampler__slots": 16, "mesh__fsdp": 2}
    assert start(tmp_path / "a", "--stage=rl", **common, rl__steps=3).returncode == 0
    assert start(tmp_path / "b", "--stage=rl", **common).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_run, "environment", lambda: {**os.environ, "JAX_NUM_CPU_DEVICES": "2"})
        resumed = start(tmp_path / "b", "--stage=rl", **common, **faster, rl__steps=3)
    told = next(line for line in resumed.stdout.splitlines() if " goes on with " in line)
    assert told.endswith(
        "mesh.fsdp -1 -> 2, model.remat 'none' -> 'full', rl.logits_chunk 1024 -> 64, rl.rows 2 -> 4, "
        "sampler.slots 8 -> 16 (speed and last bits); rl.steps 2 -> 3"
    )
    assert resumed.returncode == 0 and "resuming at round 0, step 2" in resumed.stdout
    first, second = (contents(tmp_path / name) for name in ("a", "b"))
    rows = [found["metrics.jsonl"] for found in (first, second)]
    assert rows[0][:2] == rows[1][:2] and len(rows[1]) == 3
    assert rows[1][2]["loss"] == pytest.approx(rows[0][2]["loss"], rel=1e-3, abs=1e-5)
    one, two = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("a", "b"))
    assert max(abs(one[name] - two[name]).max() for name in one) < 1e-3
    refused = start(tmp_path / "b", "--stage=rl", **common, rl__steps=1)
    assert refused.returncode == 2 and "rl.steps (was 3, now 1)" in refused.stdout


@pytest.mark.slow
def test_reference_learns(reference):
    """The comparisons below would be empty if the reference had no updates, no growth or no files."""
    steps = reference["metrics.jsonl"]
    assert [(row["round"], row["step"]) for row in steps] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sum(row["updates"] for row in steps) >= 2 and len(reference["sft/sft_metrics.jsonl"]) == 6
    assert reference["sft/policy/model.safetensors"] != reference["policy/model.safetensors"]
    first, second = reference["summary.json"]["rounds"]
    assert second["branches_mean"] > first["branches_mean"]
    names = [f"round_0_heldout_{name}{greedy}" for name in ("after", "initial") for greedy in ("", "_greedy")]
    names += [f"round_1_heldout_{n}{greedy}" for n in ("after", "before", "initial") for greedy in ("", "_greedy")]
    names += ["round_0", "round_1"]
    assert sorted(n for n in reference if n.startswith("rollouts/")) == sorted(f"rollouts/{n}.jsonl" for n in names)
    assert [n for n in reference if "array_record" in n and "round_1" in n]


@pytest.mark.slow
def test_killed_at_every_point_and_started_again(start, reference, tmp_path):
    """One run that is killed fourteen times; what it was writing to is torn on top of it."""
    for kill in KILLS:
        result = start(tmp_path, kill=kill)
        assert result.returncode == -signal.SIGKILL, (kill, result.stdout)
        if (metrics := tmp_path / "metrics.jsonl").exists():
            with metrics.open("a") as file:
                file.write('{"round": 0, "st')
    result = start(tmp_path)
    assert result.returncode == 0, result.stdout
    assert_same(contents(tmp_path), reference)


@pytest.mark.slow
def test_a_damaged_checkpoint_changes_no_result(start, reference, tmp_path):
    """One flipped bit in the newest checkpoint: the run goes on from the one before and ends the same."""
    killed = start(tmp_path, kill=("open .*rollouts/round_1[.]jsonl", 1))
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    array = max((tmp_path / "checkpoints" / str(newest) / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes(content)
    result = start(tmp_path)
    assert result.returncode == 0 and f"it is now {newest}.damaged" in result.stdout, result.stdout
    assert_same(contents(tmp_path), reference)


@pytest.mark.slow
def test_stage_by_stage(start, reference, tmp_path):
    """synth, rl, one round, one more round: as if all had been asked for at once; evaluate changes none of it."""

    def run(*flags: str, **changes: object) -> dict[str, object]:
        result = start(tmp_path, *flags, **changes)
        assert result.returncode == 0, result.stdout
        return contents(tmp_path)

    run("--stage=synth", rl__rounds=1)
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "tasks" / "preview.json").unlink()  # stage=synth shows what it has made
    shutil.rmtree(tmp_path / "tasks" / "preview")
    trained = run("--stage=rl", rl__rounds=1)
    assert len(trained["metrics.jsonl"]) == 2 and "summary.json" not in trained
    measured = run("--stage=evaluate", rl__rounds=1, evaluate__trials=2)
    evaluation = {name: measured.pop(name) for name in sorted(measured) if name.startswith("evaluation/")}
    found = json.loads(evaluation["evaluation/report.json"])
    suite = found["suites"]["agentic/round_0"]
    assert found["updates"]["current"] > 0 and suite["policies"]["current"]["episodes"] == 2 * 4
    assert set(suite["policies"]) == {"initial", "current"} and set(suite["comparisons"]) == {"current - initial"}
    assert_same(measured, trained)
    shutil.rmtree(tmp_path / "evaluation")
    once = run(rl__rounds=1)
    assert len(once["summary.json"]["rounds"]) == 1
    assert once["policy/model.safetensors"] == trained["policy/model.safetensors"]
    result = start(tmp_path, "--stage=rl", rl__rounds=1)
    assert result.returncode and "raise rl.rounds" in result.stdout
    assert_same(contents(tmp_path), once)
    assert_same(run(), reference)
    assert_same(run(), reference)  # and a finished run stays as it is


@pytest.mark.slow
def test_a_reasoning_run_that_samples_ahead_replays_and_resumes(start, tmp_path):
    """Problems, search and data, in batches a step behind, except right after a checkpoint; killed in the second round,
    whose problems have grown by what failed in the first, the run ends the same. With adapters, whose moments lie in
    the host's memory.
    """
    changes = {"reasoning__rounds": 2, "reasoning__train_roots": 4, "reasoning__heldout_roots": 4, "rl__rounds": 0}
    changes |= {"rl__max_staleness": 1, "rl__minibatches": 1, "rl__groups": 4, "rl__steps": 3, "rl__sft_steps": 0}
    changes |= {"rl__lora_rank": 2, "rl__offload_optimiser": True}
    changes |= {"checkpoint__every": 2, "env__max_turns": 8, "sampler__context": 576, "evaluate__greedy": False}
    assert start(tmp_path / "a", **changes).returncode == 0
    killed = start(tmp_path / "b", kill=("open .*/metrics[.]jsonl", 6), **changes)  # in the last step
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    resumed = start(tmp_path / "b", **changes)
    assert resumed.returncode == 0 and "resuming at round 1, step 2" in resumed.stdout
    expected = contents(tmp_path / "a")
    assert_same(contents(tmp_path / "b"), expected)
    steps = expected["metrics.jsonl"]
    assert [row["staleness"] for row in steps] == [0, 1, 0] * 2 and all(row["updates"] for row in steps)
    episodes = [json.loads(line) for line in expected["rollouts/round_1.jsonl"].splitlines()]
    assert [{e["policy_version"] for e in episodes if e["step"] == step} for step in range(3)] == [{3}, {3}, {5}]
    assert {json.loads(line)["score"]["error"] for line in expected["rollouts/round_0.jsonl"].splitlines()} == {None}
    assert set(expected["summary.json"]["rounds"][1]["pass_after"]["worlds"]) == {"data", "reasoning", "search"}
    refused = start(tmp_path / "b", **{**changes, "checkpoint__every": 3})
    assert refused.returncode == 2 and "checkpoint.every (was 2, now 3)" in refused.stdout
