"""Contenders, each in its own process, that are asked in turn, so that changes of the machine's speed affect all alike.

A contender is a module that calls `serve({command: function})`. It may run in another virtual environment. The driver
sends commands as JSON lines over pipes, and only one contender works at a time. Functions return a JSON-serialisable
dict, whose value `seconds` is compared.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

Record = dict[str, Any]


def serve(commands: Mapping[str, Callable[..., Record]]) -> None:
    """The contender's side: answers commands until the input ends. Output that libraries print is sent to stderr.

    commands: name -> function, which is called with the command's keyword arguments.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(commands[name](**arguments)) + "\n")
        answers.flush()


class Contender:
    """A running contender. python: the interpreter of its environment. module: run with -m in the repository root."""

    def __init__(self, name: str, python: str | os.PathLike[str], module: str):
        self.name = name
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [os.fspath(python), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment,
        )

    def ask(self, command: str, **arguments: Any) -> Record:
        """The answer to one command. Raises RuntimeError if the contender has died."""
        try:
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(f"benchmark: {self.name} died before {command!r}") from error
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmark: {self.name} died in {command!r}; its last words are on stderr")
        return json.loads(line)

    def close(self) -> None:
        """Closes the contender's input and waits for its process to end."""
        self._process.stdin.close()
        self._process.wait()


def interleaved(entries: Sequence[tuple[Contender, str]], rounds: int) -> dict[str, float]:
    """Contender's name -> median seconds of its command over `rounds` rounds.

    Every round asks all (contender, command) of `entries` in turn. One more round before these is a warm-up and does
    not count. Raises RuntimeError if a contender has died.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender, _ in entries}
    for number in range(rounds + 1):
        for contender, command in entries:
            record = contender.ask(command)
            print(f"round {number} {command} {contender.name}: {record['seconds']:.3f} s", file=sys.stderr)
            if number:
                seconds[contender.name].append(record["seconds"])
    return {name: statistics.median(found) for name, found in seconds.items()}
