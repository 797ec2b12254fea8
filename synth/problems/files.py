"""Reads problem sets from files: JSONL or TFDS with the keys `question` and `answer`, as in GSM8K or AIME."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synth import jsonl, tfds_folder
from synth.problems import latex
from synth.question import Question

_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(,\d{3})+(?![\d,])")


def final(answer: str) -> str:
    """The final answer in a worked solution: after "####" (GSM8K), in the last \\boxed{} (MATH), or the whole text.

    After "####", commas between groups of three digits are removed, because GSM8K writes them into numbers. Others
    separate the numbers of a list.
    """
    if "####" in answer:
        return _GROUPED.sub(lambda m: m[0].replace(",", ""), answer.rpartition("####")[2].strip())
    return latex.box(answer) or answer.strip()


def read(path: str | os.PathLike, split: str, env: str = "reasoning", name: str = "") -> list[Question]:
    """The questions of a JSONL file, in order, or of all splits of a TFDS dataset folder, sorted in each split.

    Args:
      path: the file or folder.
      split: "train" or "heldout", the split of the run to which the questions belong.
      env: the world that asks them.
      name: the name of the set; "" for the file's own, without its suffix. Split, env and name become part of the
        questions' ids and roots.
    Raises:
      FileNotFoundError: there is no such file, or no TFDS dataset in the folder.
      ValueError: the features of a TFDS folder are not TFDS's own; a record lacks `question` or `answer` (the message
        names file, line and key); an answer has no final answer; or the set is empty.
    """
    return [question for _, question in located(path, split, env, name)]


def located(path: str | os.PathLike, split: str, env: str = "reasoning", name: str = "") -> list[tuple[str, Question]]:
    """As `read`, each question with its place: "<file>, line <number>" or "<folder>, split <name>"."""
    path = Path(path)
    found = []
    for number, (where, record) in enumerate(_folder(path) if path.is_dir() else _lines(path)):
        question, answer = (jsonl.text(record, key, where) for key in ("question", "answer"))
        if not final(answer):
            raise ValueError(f"{where}: expected answer to contain a final answer, got {answer!r}")
        root = f"{split}-{env}-{name or path.stem}-{number:05d}"
        found.append((where, Question(f"{root}@r0/0", root, "", "", 0, 0, env, question, final(answer), {})))
    if not found:
        raise ValueError(f"{path}: contains no problems")
    return found


def read_all(paths: Sequence[str], split: str) -> list[Question]:
    """The questions of several files or folders; if two have the same name, ids also contain their place in the list.

    Raises as `read` does.
    """
    return [question for _, question in located_all(paths, split)]


def located_all(paths: Sequence[str], split: str) -> list[tuple[str, Question]]:
    """As `read_all`, each question with its place (see `located`)."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f"{place}-{name}" for place, name in enumerate(names, 1)]
    return [pair for path, name in zip(paths, names) for pair in located(path, split, name=name)]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields ("<file>, line <number>", record) for every record."""
    return ((f"{path}, line {number}", record) for number, record in jsonl.records(path))


def _folder(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields ("<folder>, split <name>", record) for every example."""
    if not (path / "dataset_info.json").is_file():
        raise FileNotFoundError(f"{path}: no TFDS dataset (dataset_info.json) in this folder")
    builder = tfds_folder.builder(path)
    for split in sorted(builder.info.splits):
        examples = builder.as_data_source(split)
        records = [{key: r[key].decode() for key in ("question", "answer") if key in r} for r in examples]
        for record in sorted(records, key=lambda r: list(r.values())):  # TFDS stores them in the order of a hash
            yield f"{path}, split {split}", record
