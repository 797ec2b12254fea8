"""Real problem sets: JSONL or TFDS with `question` and `answer`, as GSM8K- and AIME-like files have them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from synth import latex
from synth.question import Question


def final(answer: str) -> str:
    """The final answer in a worked one: behind GSM8K's "####", in the last \\boxed{} of MATH, or the text itself."""
    if "####" in answer:
        return answer.rpartition("####")[2].strip().replace(",", "")
    return latex.box(answer) or answer.strip()


def read(path: str | os.PathLike, split: str, env: str = "reasoning") -> list[Question]:
    """The questions of a JSONL file, or of every split of a TFDS dataset folder, in order.

    split: "train" or "heldout": which side of the run they stand on; it is part of their ids and roots, and so is env.

    Raises FileNotFoundError without such a file or folder, ValueError naming file and line of a record that lacks
    `question` or `answer`.
    """
    path = Path(path)
    found = []
    for number, (question, answer) in enumerate(_folder(path) if path.is_dir() else _lines(path)):
        root = f"{split}-{env}-{path.stem}-{number:05d}"
        found.append(Question(f"{root}@r0/0", root, "", "", 0, 0, env, question, final(answer), {}))
    if not found:
        raise ValueError(f"{path}: no problem in it")
    return found


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                yield str(record["question"]), str(record["answer"])
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected an object with question and answer: {error!r}"
                ) from error


def _folder(path: Path) -> Iterator[tuple[str, str]]:
    if not (path / "dataset_info.json").is_file():
        raise FileNotFoundError(f"{path}: no TFDS dataset (dataset_info.json) in this folder")
    builder = tfds.builder_from_directory(os.fspath(path))
    for split in sorted(builder.info.splits):
        records = [(r["question"].decode(), r["answer"].decode()) for r in builder.as_data_source(split)]
        yield from sorted(records)  # TFDS stores them in order of a hash
