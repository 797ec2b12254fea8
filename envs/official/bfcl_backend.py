"""Runs BFCL's executable classes and checker without side effects on each other or on the rest of the process.

The package has three kinds of shared state:

- It keeps instances in module globals, under names made of model, task and class. So each use here has its own model
  name, which is removed after use.
- Some instances hold parts of module constants and write to them. So instances get copies.
- MathAPI sets mpmath's global precision. So precisions are restored, and one thread runs at a time.
"""

from __future__ import annotations

import contextlib
import copy
import decimal
import functools
import importlib
import inspect
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import bfcl_eval
    import mpmath
    from bfcl_eval.constants import default_prompts, executable_backend_config, type_mappings
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils
except ImportError as missing:
    raise ImportError(
        "BFCL needs the official package: make setup, or pip install --no-deps -r requirements-bfcl.txt"
    ) from missing

# The package's own constants.
STEP_LIMIT: int = default_prompts.MAXIMUM_STEP_LIMIT
REVEAL_WITH_FUNCTIONS: str = default_prompts.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_PROMPTING
JSON_TYPES: dict[str, str] = type_mappings.GORILLA_TO_OPENAPI

MOST_ENTRIES, MOST_DEPTH = 20_000, 200  # limits of a file system; the largest task has some hundred entries

_DATA = Path(bfcl_eval.__file__).parent / "data"
_LOCK = threading.Lock()
_NUMBERS = itertools.count()

Record = dict[str, Any]


class StateTooLargeError(Exception):
    """A file system has become too large to compare.

    Copies of directories share their contents, so a few calls can make exponentially many paths, or a directory that
    contains itself.
    """


def lines(name: str) -> list[Record]:
    """The records of a JSON-lines file. name: its path in the package's data folder."""
    return [json.loads(line) for line in (_DATA / name).read_text(encoding="utf-8").splitlines()]


@functools.cache
def functions(class_name: str) -> list[Record]:
    """The package's function descriptions of an executable class."""
    return lines(f"multi_turn_func_doc/{executable_backend_config.MULTI_TURN_FUNC_DOC_FILE_MAPPING[class_name]}")


def parameters(class_name: str, method: str) -> list[str]:
    """The names of a method's parameters, in order."""
    module = importlib.import_module(executable_backend_config.CLASS_FILE_PATH_MAPPING[class_name])
    return list(inspect.signature(getattr(getattr(module, class_name), method)).parameters)[1:]  # without self


class Session:
    """The executable classes of one episode.

    entry: the task's record in the package's data.
    """

    def __init__(self, entry: Record):
        self._entry = entry
        self._name = _fresh_name()
        with _inside():
            self._instances = _instantiate(entry, self._name, grading=False)

    def execute(self, calls: Sequence[str]) -> list[str]:
        """Evaluates calls (see envs/official/bfcl_calls.py) in order; returns the result or error of each as text.

        Raises StateTooLargeError if a file system becomes too large.
        """
        results = []
        with _inside():
            for call in calls:
                results += _execute(self._entry, self._name, [call], grading=False)[0]
                if call.startswith(("mkdir(", "cp(", "mv(")):
                    _check_size(self._instances["GorillaFileSystem"].root)
        return results

    def close(self) -> None:
        """Removes the instances."""
        _purge(self._name)


def check(entry: Record, turns: Sequence[Sequence[Sequence[str]]], truth: Sequence[Sequence[str]]) -> Record:
    """The result of the package's multi_turn_checker for an episode: {"valid", "error_type"?, ...}.

    turns: for each turn the calls of each step. truth: for each turn the ground truth's calls.
    """
    name = _fresh_name()
    try:
        with _inside():
            for player in (name, f"{name}_ground_truth"):
                _instantiate(entry, player, grading=True)
            category = entry["id"].rsplit("_", 1)[0]
            return multi_turn_checker.multi_turn_checker(turns, truth, entry, category, name)
    finally:
        _purge(name)


def _fresh_name() -> str:
    """A new model name. It ends in a letter, so that no name is a prefix of another."""
    return f"episode_{next(_NUMBERS)}x"


@contextlib.contextmanager
def _inside() -> Iterator[None]:
    """Admits one thread at a time and restores numeric precisions afterwards."""
    with _LOCK, decimal.localcontext(), mpmath.workdps(15):
        yield


def _execute(entry: Record, name: str, calls: list[str], grading: bool) -> tuple[list[str], dict[str, Any]]:
    """Evaluates calls by the package; returns (results, class name -> instance)."""
    return multi_turn_utils.execute_multi_turn_func_call(
        calls, entry["initial_config"], entry["involved_classes"], name, entry["id"],
        long_context="long_context" in entry["id"], is_evaL_run=grading,
    )  # fmt: skip


def _instantiate(entry: Record, name: str, grading: bool) -> dict[str, Any]:
    """Makes the instances for a model name; returns class name -> instance.

    Their contents are copied, because in long contexts they hold parts of module constants: otherwise a booking would
    change credit cards for all later episodes.
    """
    _, instances = _execute(entry, name, [], grading)
    for instance in instances.values():
        vars(instance).update(copy.deepcopy(vars(instance)))
    return instances


def _purge(name: str) -> None:
    """Removes the instances of a model name from the package's globals."""
    with _LOCK:
        for key in [key for key in vars(multi_turn_utils) if key.startswith(name)]:
            del vars(multi_turn_utils)[key]


def _check_size(root: Any) -> None:
    """Raises StateTooLargeError if there are too many or too deep paths below a directory."""
    entries, found = [(root, 0)], 0
    while entries:
        directory, depth = entries.pop()
        found += len(directory.contents)
        if found > MOST_ENTRIES or depth > MOST_DEPTH:
            raise StateTooLargeError(f"more than {MOST_ENTRIES} entries, or {MOST_DEPTH} levels, in a file system")
        entries += [(item, depth + 1) for item in directory.contents.values() if hasattr(item, "contents")]
