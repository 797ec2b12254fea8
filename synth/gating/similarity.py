"""How alike tasks are: near duplicates by MinHash, runs of words shared with texts nobody may train on."""

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
PERMUTATIONS = 128  # the estimate of a similarity is off by 1 / sqrt(128) = 0.09 at worst
NEAR = 0.9  # estimated Jaccard similarity from which a task counts as a duplicate
GRAM = 13  # words in a row: shorter runs are common speech (Brown et al. 2020, appendix C)
_SPACE = re.compile(r"\s*")


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return re.findall(r"\w+", text.lower())


def grams(text: str, size: int) -> set[str]:
    """Every run of `size` words."""
    found = words(text)
    return {" ".join(found[i : i + size]) for i in range(len(found) - size + 1)}


def prose(task: Task) -> str:
    """What the task says in words: policy and user."""
    user = task.user
    later = [goal["request"] for goal in user.get("later", ()) if "request" in goal]
    return "\n".join([task.policy, user["request"], *user.get("insists", ()), *later])


def entities(task: Task) -> set[str]:
    """The names in a task: of its persona and of every record."""
    return {task.persona.lower(), *(record_id for records in task.state.values() for record_id in records)}


def _records(task: Task) -> str:
    """The records in play, as their tools show them."""
    domain = domains.DOMAINS[task.domain]
    ids = [task.user["record_id"], *(goal["record_id"] for goal in task.user.get("later", ()))]
    shown = [task.state[domain.record.collection][i] for i in ids]
    shown += [task.state[domain.owner.collection][record[domain.owner.key]] for record in shown]
    return json.dumps(shown)


class Neighbours:
    """An index of tasks by MinHash signatures (Broder 1997) of the word shingles an agent sees; 1 KB a task, on disk.

    Compared are tasks that agree in one band of their signatures at least (Leskovec, Rajaraman, Ullman, Mining of
    Massive Datasets, section 3.4).
    """

    def __init__(self) -> None:
        index = datasketch.MinHashLSH(NEAR, PERMUTATIONS)  # it knows how many bands suit the limit
        self._bands = [slice(i * index.r, (i + 1) * index.r) for i in range(index.b)]
        self._empty = datasketch.MinHash(PERMUTATIONS)
        self._keys = Keys()

    def _signature(self, task: Task) -> np.ndarray:
        signature = self._empty.copy()
        shingles = sorted(grams(f"{prose(task)}\n{_records(task)}", SHINGLE))
        signature.update_batch([shingle.encode() for shingle in shingles])
        return signature.hashvalues

    def nearest(self, task: Task) -> tuple[str, float] | None:
        """(id, estimated Jaccard similarity) of the nearest task in the index, if any is near enough to be found."""
        signature = self._signature(task)
        names = {name for key in self._band_keys(signature) for name in self._keys.find(key)}
        if not names:
            return None
        alike, nearest = max((jaccard(signature, self._kept(name)), name) for name in names)
        return nearest, round(alike, 3)

    def add(self, task: Task) -> None:
        """Takes a task into the index."""
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
    """The similarity of two sets, estimated from their MinHash signatures."""
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
        """The corpus of what `locate` finds, None where that is nothing. Raises ValueError as it does, and for JSON
        that is none."""
        wanted = locate(paths)
        return cls(text for path in wanted for text in _texts(path)) if wanted else None

    def shared(self, task: Task) -> dict[str, Any]:
        """{"grams": runs of 13 words that both hold, "entities": the task's names that the corpus knows as words}."""
        here = {gram for gram in grams(prose(task), GRAM) if hash(gram) in self._grams}
        return {"grams": len(here), "entities": sorted(entities(task) & self._words)}


def locate(paths: str) -> list[Path]:
    """What a comma-separated list of files, folders and names in BENCHMARKS stands for.

    Raises ValueError for a path that is not there and a benchmark that is not installed.
    """
    wanted = [name.strip() for name in paths.split(",") if name.strip()]
    found = [BENCHMARKS[name]() if name in BENCHMARKS else Path(name) for name in wanted]
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        raise ValueError(f"synth.benchmarks: no such file or folder: {', '.join(missing)}")
    return found


def _bfcl() -> Path:
    """The data folder of the installed package."""
    if (package := importlib.util.find_spec("bfcl_eval")) is None:
        raise ValueError("synth.benchmarks: bfcl needs the package of requirements-bfcl.txt")
    return Path(package.origin).parent / "data"


def _tau2() -> Path:
    """The data of the checkout that evaluation uses (envs/official/tau2_backend.py)."""
    if not (folder := os.environ.get("TAU2_DATA_DIR")):
        raise ValueError("synth.benchmarks: tau2 needs TAU2_DATA_DIR, the folder data of a checkout of tau2-bench")
    return Path(folder) / "tau2"


BENCHMARKS = {"bfcl": _bfcl, "tau2": _tau2}


def _texts(path: Path) -> Iterator[str]:
    """The files at or under a path, as text; of JSON what its strings and numbers say."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        text = file.read_text(encoding="utf-8", errors="ignore")
        yield "\n".join(_said(list(_values(file, text)))) if file.suffix in (".json", ".jsonl") else text


def _values(file: Path, text: str) -> Iterator[Any]:
    """The JSON values of a file, one or one after the other: BFCL's .json files have one a line."""
    decode, at = json.JSONDecoder().raw_decode, _SPACE.match(text).end()
    while at < len(text):
        try:
            value, at = decode(text, at)
        except ValueError as error:
            raise ValueError(f"synth.benchmarks: {file} is not JSON: {error}") from error
        yield value
        at = _SPACE.match(text, at).end()


def _said(value: Any) -> Iterator[str]:
    """Every key, string and number of JSON data."""
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list):
        for part in value:
            yield from _said(part)
    elif value is not None:
        yield str(value)
