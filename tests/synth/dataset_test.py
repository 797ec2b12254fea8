"""Task datasets: round trip, byte-identical files across processes, whole or absent, errors that name the fault."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from synth import dataset
from synth.task import Task

REPOSITORY = Path(__file__).parents[2]


def make_task(index: int, variant: int = 0) -> Task:
    """A small task; the text holds non-ASCII characters on purpose."""
    root = f"orders-{index:03d}"
    return Task(
        id=f"{root}/r1/leaf/{variant}",
        root=root,
        parent=f"{root}/r0",
        operator="guard",
        seed=2**40 + index,
        round=1,
        domain="orders",
        persona="Zoë",
        branch=["start", "leaf"],
        legal=index % 2 == 0,
        policy="Refunds above 50 € need a manager → ask first.",
        tools=[{"type": "function", "function": {"name": "get_order", "parameters": {"type": "object"}}}],
        effects={"get_order": {"kind": "read"}},
        state={"orders": {"A1": {"total": 12.5, "open": True, "note": None}}},
        user={"first": "Hi!"},
        subgoals=[{"name": "refunded", "weight": 1.0}],
        violations=[],
        oracle=[{"call": "get_order"}],
        tree={"id": "start", "kind": "terminal", "children": []},
    )


def splits() -> dict[str, list[Task]]:
    return {"train": [make_task(i, v) for i in range(12) for v in range(2)], "heldout": [make_task(50)]}


def files(directory: Path) -> dict[str, bytes]:
    return {os.fspath(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_round_trip_is_ordered_by_id(tmp_path):
    expected = splits()
    path = dataset.write(tmp_path / "round1", {name: tasks[::-1] for name, tasks in expected.items()})
    assert path == tmp_path / "round1"
    for name, tasks in expected.items():
        assert dataset.read(path, name) == sorted(tasks, key=lambda task: task.id)


def test_tfds_reads_the_provenance_columns(tmp_path):
    dataset.write(tmp_path / "d", splits())
    (record,) = tfds.builder_from_directory(tmp_path / "d").as_data_source("heldout")
    task = make_task(50)
    assert json.loads(record["task"])["policy"] == task.policy
    for name in ("id", "root", "parent", "operator"):
        assert record[name].decode() == getattr(task, name)
    assert (int(record["seed"]), int(record["round"]), record["split"]) == (task.seed, 1, b"heldout")


def test_same_tasks_give_the_same_bytes_in_other_processes_and_places(tmp_path):
    """The hash seed, the path and the order of the tasks differ; every byte of every file is the same."""
    first = dataset.write(tmp_path / "first" / "round1", splits())
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from synth import dataset; from tests.synth import dataset_test\n"
        "dataset.write(sys.argv[1], {k: v[::-1] for k, v in dataset_test.splits().items()})\n"
    )
    arguments = [REPOSITORY]
    for seed in (1, 2):
        other = tmp_path / f"other{seed}" / "somewhere" / "r"
        command = [sys.executable, "-c", program, other, *arguments]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)})
        assert files(other) == files(first)
    names = set(files(first))
    assert {"dataset_info.json", "features.json"} < names and len(names) == 4


def test_another_task_gives_other_bytes(tmp_path):
    first = dataset.write(tmp_path / "a", {"train": [make_task(0)]})
    second = dataset.write(tmp_path / "b", {"train": [make_task(1)]})
    assert files(first) != files(second)


def test_killed_build_leaves_nothing_that_counts(tmp_path):
    """What a killed build leaves is not a dataset, and the next build replaces it."""
    left = tmp_path / ".incomplete.d" / "tasks" / "incomplete.XYZ_1.0.0"
    left.mkdir(parents=True)
    (left / "tasks-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(FileNotFoundError, match="no task dataset"):
        dataset.read(tmp_path / "d", "train")
    dataset.write(tmp_path / "d", splits())
    assert len(dataset.read(tmp_path / "d", "train")) == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]


def test_failed_build_leaves_no_dataset(tmp_path):
    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        dataset.write(tmp_path / "d", splits(), fail)
    assert not list(tmp_path.iterdir())


def test_errors_name_the_fault(tmp_path):
    with pytest.raises(ValueError, match="orders-003/r1/leaf/0"):
        dataset.write(tmp_path / "d", {"train": [make_task(3)], "heldout": [make_task(4), make_task(3)]})
    with pytest.raises(ValueError, match="heldout"):
        dataset.write(tmp_path / "d", {"train": [make_task(3)], "heldout": []})
    assert not list(tmp_path.iterdir())
    dataset.write(tmp_path / "d", splits())
    with pytest.raises(ValueError, match=r"no split 'test'.*\['heldout', 'train'\]"):
        dataset.read(tmp_path / "d", "test")
    with pytest.raises(FileExistsError, match="already exists"):
        dataset.write(tmp_path / "d", splits())


def _first(directory: Path, pattern: str) -> Path:
    return next(directory.glob(pattern))


def _cut(file: Path, share: float) -> None:
    os.truncate(file, int(file.stat().st_size * share))


DAMAGE = {
    "a shard cut": lambda d: _cut(_first(d, "*train*"), 0.5),
    "a shard emptied": lambda d: _cut(_first(d, "*train*"), 0),
    "a shard gone": lambda d: _first(d, "*train*").unlink(),
    "a bit flipped": lambda d: _flip(_first(d, "*train*")),
    "another split's shard": lambda d: shutil.copy(_first(d, "*heldout*"), _first(d, "*train*")),
    "the description emptied": lambda d: _cut(d / "dataset_info.json", 0),
    "the description of something else": lambda d: (d / "dataset_info.json").write_text("[]"),
    "the features gone": lambda d: (d / "features.json").unlink(),
    "all emptied": lambda d: [_cut(file, 0) for file in d.iterdir()],
    "all gone": lambda d: [file.unlink() for file in d.iterdir()],
}


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_dataset_is_named_with_what_to_do(tmp_path, what):
    path = dataset.write(tmp_path / "round_1", splits())
    DAMAGE[what](path)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        dataset.read_round(tmp_path, 1, "train")
    text = str(error.value)
    assert str(path) in text and "; put back a copy, or move the folder away" in text and "\n" not in text


def test_a_dataset_of_another_round_is_named(tmp_path):
    dataset.write(tmp_path / "round_1", splits())
    assert len(dataset.read_round(tmp_path, 1, "train")) == 24
    (tmp_path / "round_1").rename(tmp_path / "round_3")
    assert len(dataset.read_round(tmp_path, 3, "train", agentic_from=2)) == 24
    with pytest.raises(ValueError, match=r"round_3: .*\(its tasks are of round 1, expected 3\); put back a copy"):
        dataset.read_round(tmp_path, 3, "train")
