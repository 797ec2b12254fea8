"""Real problem sets: JSONL or TFDS with `question` and `answer`, as GSM8K- and AIME-like files have them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from synth import jsonl
from synth.problems import latex
from synth.question import Question


def final(answer: str) -> str:
    """The final answer in a worked one: behind GSM8K's "####", in the last \\boxed{} of MATH, or the text itself."""
    if "####" in answer:
        return answer.rpartition("####")[2].strip().replace(",", "")
    return latex.box(answer) or answer.strip()


def read(path: str | os.PathLike, split: str, env: str = "reasoning", name: str = "") -> list[Question]:
    """The questions of a JSONL file, or of every split of a TFDS dataset folder, in order.

    split: "train" or "heldout": which side of the run they stand on; it is part of their ids and roots, and so are env
    and name, which is the file's own if not given.

    Raises FileNotFoundError without such a file or folder, ValueError naming file, line and key of a record that lacks
    `question` or `answer`.
    """
    path = Path(path)
    found = []
    for number, (where, record) in enumerate(_folder(path) if path.is_dir() else _lines(path)):
        question, answer = (jsonl.text(record, key, where) for key in ("question", "answer"))
        if not final(answer):
            raise ValueError(f"{where}: expected answer, which holds no final one: {answer!r}")
        root = f"{split}-{env}-{name or path.stem}-{number:05d}"
        found.append(Question(f"{root}@r0/0", root, "", "", 0, 0, env, question, final(answer), {}))
    if not found:
        raise ValueError(f"{path}: no problem in it")
    return found


def read_all(paths: Sequence[str], split: str) -> list[Question]:
    """The questions of several files or folders; if two have the same name, their places tell their ids apart."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f"{place}-{name}" for place, name in enumerate(names, 1)]
    return [question for path, name in zip(paths, names) for question in read(path, split, name=name)]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, record) of every line."""
    return ((f"{path}, line {number}", record) for number, record in jsonl.records(path))


def _folder(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(folder and split, record) of every example."""
    if not (path / "dataset_info.json").is_file():
        raise FileNotFoundError(f"{path}: no TFDS dataset (dataset_info.json) in this folder")
    builder = tfds.builder_from_directory(os.fspath(path))
    for split in sorted(builder.info.splits):
        examples = builder.as_data_source(split)
        records = [{key: r[key].decode() for key in ("question", "answer") if key in r} for r in examples]
        for record in sorted(records, key=lambda r: list(r.values())):  # TFDS stores them in order of a hash
            yield f"{path}, split {split}", record
