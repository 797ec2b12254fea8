"""Task datasets on disk: one TFDS `array_record` dataset per flywheel round; equal tasks give equal bytes.

A dataset is one directory: dataset_info.json, features.json, and one or more shards per split. It is built beside its
place and put there by a single rename, so a dataset is never incomplete. TFDS reads it without this module:
`tfds.builder_from_directory(directory)`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.proto import tf_example_pb2

from synth import tfds_folder
from synth.keys import Keys
from synth.question import Question
from synth.task import Task

_PROVENANCE_TEXT = ("id", "root", "parent", "operator")
_PROVENANCE_NUMBERS = ("seed", "round")
REMEDY = "; put back a copy, or move the folder away: the round that a run is in is written again, the same"


class Tasks(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of one round's tasks or questions, keyed by id.

    Features:
      id, root, parent, operator, seed, round: the provenance of the task.
      split: the name of its split.
      task: the whole record as JSON text (`to_json`).
    TFDS returns text features as UTF-8 bytes.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits: Mapping[str, Iterable[Task | Question]], **kwargs: Any):
        """splits: split name -> its tasks. kwargs: passed to `tfds.core.DatasetBuilder` (data_dir, file_format)."""
        self._tasks = splits
        self._ids = Keys()
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
        empty = True
        for task in self._tasks[split]:
            empty = False
            if not self._ids.add((task.id,)):
                raise ValueError(f"task id {task.id} occurs more than once")
            provenance = {name: getattr(task, name) for name in (*_PROVENANCE_TEXT, *_PROVENANCE_NUMBERS)}
            yield task.id, {**provenance, "split": split, "task": task.to_json()}
        if empty:
            raise ValueError(f"a dataset needs at least one task in every split; empty: {split}")


class _Shuffler(shuffle.Shuffler):
    """Sorts records by the hashes of their keys, on disk. It replaces the shuffler of TFDS for two reasons:

    - TFDS's shuffler keeps up to a gigabyte in memory, and needs TensorFlow for anything larger.
    - TFDS serialises the entries of a protobuf map in hash order, which differs between processes. Here the entries
      are serialised in the order of their keys, so equal records give equal bytes.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._file = sqlite3.connect("")  # an empty name makes a temporary database on disk
        self._file.execute("PRAGMA journal_mode=OFF")
        self._file.execute("CREATE TABLE records (hash BLOB, record BLOB)")

    @property
    def bucket_lengths(self) -> list[int]:
        """The number of records in each bucket; here one bucket holds all records."""
        return [self.num_examples]

    def _add_to_mem_buffer(self, hkey: int, data: bytes) -> None:
        record = tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)
        name = hkey.to_bytes(shuffle.HKEY_SIZE_BYTES, "big")
        self._file.execute("INSERT INTO records VALUES (?, ?)", (name, record))

    def _iter_mem(self) -> Iterator[tuple[int, bytes]]:
        self._file.execute("CREATE INDEX in_order ON records (hash)")
        for name, record in self._file.execute("SELECT hash, record FROM records ORDER BY hash"):
            yield int.from_bytes(name, "big"), record


@contextlib.contextmanager
def _shuffling_on_disk() -> Iterator[None]:
    """Makes TFDS use `_Shuffler` inside the `with` block, by patching its module: TFDS has no setting for it."""
    theirs, shuffle.Shuffler = shuffle.Shuffler, _Shuffler
    try:
        yield
    finally:
        shuffle.Shuffler = theirs


def write(
    directory: str | os.PathLike,
    splits: Mapping[str, Iterable[Task | Question]],
    before: Callable[[], None] = lambda: None,
) -> Path:
    """Writes the tasks of all splits as one dataset at `directory` and returns its path.

    The bytes depend only on the tasks: not on their order, the path, the process or the time. Splits are written in
    the order of the mapping. Each split's tasks are consumed one at a time and not kept in memory.

    Args:
      directory: where the dataset is to appear.
      splits: split name -> its tasks.
      before: called once all tasks have been consumed, before the dataset appears at `directory`.
    Raises:
      ValueError: there is no split, a split is empty, or an id occurs twice (in one split or in two).
      FileExistsError: `directory` already exists; a dataset is never changed once written.
    """
    directory = Path(directory)
    if not splits:
        raise ValueError("a dataset needs at least one split")
    if directory.exists():
        raise FileExistsError(f"dataset {directory} already exists")
    # In the same parent folder, because a rename does not work across file systems.
    partial = directory.with_name(f".incomplete.{directory.name}")
    if partial.exists():  # left by a killed run
        shutil.rmtree(partial)
    builder = Tasks(splits, data_dir=os.fspath(partial), file_format="array_record")
    tfds.disable_progress_bar()
    try:
        # The redirection hides the line "Downloading and preparing" that TFDS prints.
        with contextlib.redirect_stdout(io.StringIO()), _shuffling_on_disk():
            builder.download_and_prepare()
        before()
        os.rename(builder.data_path, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # a failure here must not hide the error that led here
    return directory


def read(directory: str | os.PathLike, split: str) -> list[Task | Question]:
    """The tasks of one split, sorted by id. Raises the same errors as `stream`."""
    return sorted(stream(directory, split), key=lambda task: task.id)


def read_round(folder: str | os.PathLike, number: int, split: str, agentic_from: int = 0) -> list[Task | Question]:
    """As `stream_round`, but a list sorted by id."""
    return sorted(stream_round(folder, number, split, agentic_from), key=lambda task: task.id)


def stream_round(
    folder: str | os.PathLike, number: int, split: str, agentic_from: int = 0
) -> Iterator[Task | Question]:
    """As `stream` for folder/round_<number>, the dataset of a run's round, whose tasks must be of this round.

    agentic_from: the run's first agentic round, from which their tasks count rounds anew.
    """
    return stream(Path(folder) / f"round_{number}", split, number - (agentic_from if number >= agentic_from else 0))


def stream(directory: str | os.PathLike, split: str, round_number: int | None = None) -> Iterator[Task | Question]:
    """Yields the tasks of one split, one at a time, in the order on disk (sorted by the hashes of their ids).

    round_number: the round that the tasks themselves name; None for any.
    Raises, when the first task is requested:
      FileNotFoundError: there is no dataset at `directory`.
      ValueError: the dataset has no such split (the message names the splits it has).
    And at the latest after the last one:
      ValueError: naming the folder, if its files are not those that were written, or are of another split or round.
    """
    directory = Path(directory)
    if not (directory / "dataset_info.json").is_file():
        raise FileNotFoundError(f"no task dataset at {directory}{REMEDY}")
    try:
        builder = tfds_folder.builder(directory)
        splits = builder.info.splits
    except Exception as error:  # of TFDS and protobuf, for files that are cut or empty
        raise _damaged(directory, error) from error
    if split not in splits:
        raise ValueError(f"dataset {directory} has no split {split!r}; it has {sorted(splits)}")
    for record in _records(directory, builder, split):
        if (found := record["split"].decode()) != split:
            raise _damaged(directory, f"the file of {split} holds tasks of {found}")
        if round_number not in (None, int(record["round"])):
            raise _damaged(directory, f"its tasks are of round {record['round']}, expected {round_number}")
        yield record["parsed"]


def _records(directory: Path, builder: tfds.core.DatasetBuilder, split: str) -> Iterator[dict[str, Any]]:
    """The records of a split, with the task or question under "parsed". array_record checks their hashes.

    Raises ValueError as `stream` does.
    """
    try:
        source = builder.as_data_source(split)
        for index in range(len(source)):
            record = source[index]
            if record["split"] is None:  # what is read where a file was cut
                raise ValueError(f"record {index} of {split} is empty")
            yield {**record, "parsed": _record(record["task"])}
    except Exception as error:  # of array_record, TFDS, etils or protobuf, depending on what is damaged
        raise _damaged(directory, error) from error


def _damaged(directory: Path, flaw: Exception | str) -> ValueError:
    told = " ".join(str(flaw).split())[:400] or type(flaw).__name__
    return ValueError(f"{directory}: the dataset is not what was written ({told}){REMEDY}")


def _record(text: bytes) -> Task | Question:
    """The task or question in a JSON text. Questions are recognised by the key "env", which tasks lack."""
    return (Question if b'"env":' in text and "env" in json.loads(text) else Task).from_json(text)
