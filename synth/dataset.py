"""Task datasets on disk: one TFDS `array_record` dataset per flywheel round; same tasks, same bytes.

A dataset is one directory (dataset_info.json, features.json, one shard or more per split) that appears by a single
rename: it exists whole or not at all. TFDS reads it too: `tfds.builder_from_directory(directory)`.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from synth.question import Question
from synth.task import Task

_PROVENANCE_TEXT = ("id", "root", "parent", "operator")
_PROVENANCE_NUMBERS = ("seed", "round")


class Tasks(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of one round's tasks or questions, keyed by id.

    Features: the task's provenance (id, root, parent, operator, seed, round), its split, and `task`, the whole record
    as JSON text (`to_json`). Text comes back from TFDS as UTF-8 bytes.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits: Mapping[str, Sequence[Task | Question]], **kwargs: Any):
        """splits: split name -> tasks. kwargs: of `tfds.core.DatasetBuilder` (data_dir, file_format)."""
        self._tasks = splits
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {name: tfds.features.Text() for name in (*_PROVENANCE_TEXT, "split", "task")}
        features |= {name: tfds.features.Scalar(dtype=np.int64) for name in _PROVENANCE_NUMBERS}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Tool-use tasks with their provenance; `task` is the JSON text of synth.task.Task.",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self._tasks}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for task in self._tasks[split]:
            provenance = {name: getattr(task, name) for name in (*_PROVENANCE_TEXT, *_PROVENANCE_NUMBERS)}
            yield task.id, {**provenance, "split": split, "task": task.to_json()}


def write(directory: str | os.PathLike, splits: Mapping[str, Sequence[Task | Question]]) -> Path:
    """Writes the tasks of each split as one dataset at `directory` and returns its path.

    The bytes depend on the tasks alone: not on their order, the path, the process or the time.

    Raises:
      ValueError: a split is empty, or an id occurs twice (in one split or in two).
      FileExistsError: `directory` already exists; datasets are never changed once written.
    """
    directory = Path(directory)
    _check(splits)
    if directory.exists():
        raise FileExistsError(f"dataset {directory} already exists")
    partial = directory.with_name(f".incomplete.{directory.name}")  # beside it: rename needs the same file system
    if partial.exists():  # left by a killed run
        shutil.rmtree(partial)
    builder = Tasks(splits, data_dir=os.fspath(partial), file_format="array_record")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces "Downloading and preparing"
        builder.download_and_prepare()
    for shard in sorted(Path(builder.data_path).glob("*.array_record-*")):
        _canonicalise(shard)
    os.rename(builder.data_path, directory)
    shutil.rmtree(partial)
    return directory


def read(directory: str | os.PathLike, split: str) -> list[Task | Question]:
    """Returns the tasks of one split in order of id (TFDS itself stores them in order of the id's hash).

    Raises:
      FileNotFoundError: there is no dataset at `directory`.
      ValueError: unknown split (the message names the known ones).
    """
    if not (Path(directory) / "dataset_info.json").is_file():
        raise FileNotFoundError(f"no task dataset at {directory}")
    builder = tfds.builder_from_directory(os.fspath(directory))
    if split not in builder.info.splits:
        raise ValueError(f"dataset {directory} has no split {split!r}; it has {sorted(builder.info.splits)}")
    records = builder.as_data_source(split)
    return sorted((_record(record["task"]) for record in records), key=lambda task: task.id)


def _record(text: bytes) -> Task | Question:
    """The task or question of a JSON text: only questions say which world they are for."""
    return (Question if b'"env":' in text and "env" in json.loads(text) else Task).from_json(text)


def _check(splits: Mapping[str, Sequence[Task | Question]]) -> None:
    """Raises ValueError for empty splits and for ids that occur twice."""
    empty = [split for split, tasks in splits.items() if not tasks]
    if empty or not splits:
        raise ValueError(f"a dataset needs at least one task in every split; empty: {empty or 'all'}")
    counts = collections.Counter(task.id for tasks in splits.values() for task in tasks)
    repeated = sorted(id for id, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(f"{len(repeated)} task ids occur more than once, among them {repeated[:5]}")


def _canonicalise(shard: Path) -> None:
    """Rewrites a shard's tf.Example records with their map entries in order of key.

    TFDS serialises them in the hash order of a protobuf map, which differs from process to process.
    """
    reader = array_record_module.ArrayRecordReader(os.fspath(shard))
    records = reader.read_all()
    reader.close()
    writer = array_record_module.ArrayRecordWriter(os.fspath(shard), "group_size:1")
    for record in records:
        writer.write(tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True))
    writer.close()
