"""How similar tasks are: near duplicates by MinHash, and runs of words shared with texts that no task may repeat."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasketch
import numpy as np

from synth.keys import Keys
from synth.task import Task
from synth.trees import domains

SHINGLE = 3  # words
PERMUTATIONS = 128  # hashes per signature; the standard error of a similarity is at most 0.5 / sqrt(128) = 0.044
NEAR = 0.9  # a task with at least this estimated Jaccard similarity counts as a near duplicate
GRAM = 13  # length of a run, in words; shorter runs are common speech (Brown et al. 2020, appendix C)
_SPACE = re.compile(r"\s*")


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def grams(text: str, size: int) -> set[str]:
    """All runs of `size` words in a row, in lower case; the empty set if the text is shorter."""
    found = words(text)
    return {" ".join(found[i : i + size]) for i in range(len(found) - size + 1)}


def prose(task: Task) -> str:
    """The texts of a task: the policy text and what the user says, except the answers to requests for consent."""
    user = task.user
    later = [goal["request"] for goal in user.get("later", ()) if "request" in goal]
    return "\n".join([task.policy, user["request"], *user.get("insists", ()), *later])


def entities(task: Task) -> set[str]:
    """The names in a task: its persona's name, in lower case, and the identifiers of all records."""
    return {task.persona.lower(), *(record_id for records in task.state.values() for record_id in records)}


def _records(task: Task) -> str:
    """The records in play and their owners, as JSON text."""
    domain = domains.find(task.domain)
    ids = [task.user["record_id"], *(goal["record_id"] for goal in task.user.get("later", ()))]
    shown = [task.state[domain.record.collection][i] for i in ids]
    shown += [task.state[domain.owner.collection][record[domain.owner.key]] for record in shown]
    return json.dumps(shown)


class Neighbours:
    """An index of tasks by MinHash signatures (Broder 1997) of the word shingles that an agent sees.

    Only tasks whose signatures agree in at least one band are compared (locality-sensitive hashing: Leskovec,
    Rajaraman, Ullman, Mining of Massive Datasets, section 3.4). A signature takes 1 KB, on disk.
    """

    def __init__(self) -> None:
        index = datasketch.MinHashLSH(NEAR, PERMUTATIONS)  # only used to choose the number of bands for this threshold
        self._bands = [slice(i * index.r, (i + 1) * index.r) for i in range(index.b)]
        self._empty = datasketch.MinHash(PERMUTATIONS)
        self._keys = Keys()

    def _signature(self, task: Task) -> np.ndarray:
        signature = self._empty.copy()
        shingles = sorted(grams(f"{prose(task)}\n{_records(task)}", SHINGLE))
        signature.update_batch([shingle.encode() for shingle in shingles])
        return signature.hashvalues

    def nearest(self, task: Task) -> tuple[str, float] | None:
        """(id, estimated Jaccard similarity) of the most similar task found; None if no task agrees in any band."""
        signature = self._signature(task)
        names = {name for key in self._band_keys(signature) for name in self._keys.find(key)}
        if not names:
            return None
        alike, nearest = max((jaccard(signature, self._kept(name)), name) for name in names)
        return nearest, round(alike, 3)

    def add(self, task: Task) -> None:
        """Adds a task to the index."""
        signature = self._signature(task)
        self._keys.add(("signature", task.id), signature.tobytes())
        for key in self._band_keys(signature):
            self._keys.add(key, task.id)

    def _band_keys(self, signature: np.ndarray) -> Iterator[tuple]:
        return ((number, signature[band].tobytes()) for number, band in enumerate(self._bands))

    def _kept(self, name: str) -> np.ndarray:
        """The signature of a task in the index."""
        return np.frombuffer(self._keys.find(("signature", name))[0], self._empty.hashvalues.dtype)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard similarity of two sets, in [0, 1], estimated from their MinHash signatures (shape [PERMUTATIONS])."""
    return float(np.mean(one == other))


class Corpus:
    """Texts that no task may repeat, such as a benchmark's policies, tasks and data."""

    def __init__(self, texts: Iterable[str]):
        self._grams: set[int] = set()
        self._words: set[str] = set()
        for text in texts:
            self._grams |= {hash(gram) for gram in grams(text, GRAM)}
            self._words |= set(words(text))

    @classmethod
    def read(cls, paths: str) -> Corpus | None:
        """The corpus of the files that `locate` finds; None if `paths` is empty.

        Raises ValueError as `locate` does, and for a file that is named as JSON but is not JSON.
        """
        wanted = locate(paths)
        return cls(text for path in wanted for text in _texts(path)) if wanted else None

    def shared(self, task: Task) -> dict[str, Any]:
        """What a task shares with the corpus.

        {"grams": how many runs of 13 words occur in both, "entities": which of the task's names are words of the
        corpus}.
        """
        here = {gram for gram in grams(prose(task), GRAM) if hash(gram) in self._grams}
        return {"grams": len(here), "entities": sorted(entities(task) & self._words)}


def locate(paths: str) -> list[Path]:
    """The paths in a comma-separated list of files, folders and names in BENCHMARKS.

    Raises ValueError for a path that does not exist, or a benchmark that is not installed.
    """
    wanted = [name.strip() for name in paths.split(",") if name.strip()]
    found = [BENCHMARKS[name]() if name in BENCHMARKS else Path(name) for name in wanted]
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        raise ValueError(f"synth.benchmarks: no such file or folder: {', '.join(missing)}")
    return found


def _bfcl() -> Path:
    """The data folder of the installed package bfcl_eval. Raises ValueError if it is not installed."""
    if (package := importlib.util.find_spec("bfcl_eval")) is None:
        raise ValueError("synth.benchmarks: bfcl needs the package of requirements-bfcl.txt")
    return Path(package.origin).parent / "data"


def _tau2() -> Path:
    """The data folder of the checkout that evaluation uses (envs/official/tau2_backend.py).

    Raises ValueError if TAU2_DATA_DIR is not set.
    """
    if not (folder := os.environ.get("TAU2_DATA_DIR")):
        raise ValueError("synth.benchmarks: tau2 needs TAU2_DATA_DIR, the folder data of a checkout of tau2-bench")
    return Path(folder) / "tau2"


BENCHMARKS = {"bfcl": _bfcl, "tau2": _tau2}


def _texts(path: Path) -> Iterator[str]:
    """Yields the text of each file at or under a path; for JSON files, the keys, strings and numbers, one per line."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        text = file.read_text(encoding="utf-8", errors="ignore")
        yield "\n".join(_said(list(_values(file, text)))) if file.suffix in (".json", ".jsonl") else text


def _values(file: Path, text: str) -> Iterator[Any]:
    """Yields the JSON values in a file's text: one, or several in a row, as BFCL's .json files have one per line."""
    decode, at = json.JSONDecoder().raw_decode, _SPACE.match(text).end()
    while at < len(text):
        try:
            value, at = decode(text, at)
        except ValueError as error:
            raise ValueError(f"synth.benchmarks: {file} is not JSON: {error}") from error
        yield value
        at = _SPACE.match(text, at).end()


def _said(value: Any) -> Iterator[str]:
    """Yields all keys, strings and numbers in JSON data, as text."""
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list):
        for part in value:
            yield from _said(part)
    elif value is not None:
        yield str(value)
