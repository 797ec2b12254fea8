"""The Python tool: a stateless interpreter for untrusted code, as a pool of warm fork servers.

Every call runs in a process of its own, forked from an interpreter that has imported what programs use and nothing of
this repository's. What this promises of a call, whatever the code does:
  - no network, no new processes or threads, no other programs, no signals to other processes, no tracing, no mounts:
    seccomp lets through a list of harmless system calls and nothing else;
  - no file can be opened but those of Python's standard library, of SymPy and of the shared libraries they need, for
    reading, and an empty folder of its own for writing, in memory, of bounded size and number of files, which is gone
    after the call (Landlock, tmpfs): neither the repository nor other installed packages nor /proc nor any file of the
    user;
  - no environment variable and no open file of this process reaches it;
  - CPU time, wall time, memory, output, file size and open files are bounded; what runs over is killed for good, and
    its output up to there is returned;
  - it can neither change later calls nor read earlier ones: they are forked from a server that no call passes through.
It does not promise: a defence against bugs in the kernel; secrecy of names, sizes and dates of files (stat works);
bounds on memory bandwidth or heat.

The same program prints the same again on the same machine, and in other servers, unless it depends on the clock (and
so, near its limits, on the machine's load), on process numbers, on dates of files, or on the kernel's randomness:
os.urandom and what draws from it, such as secrets, uuid4, random.seed() and random.Random() without a seed. `random`
itself starts from seed 0, hashes are not randomised, and neither are addresses where the machine lets us (not in every
container); in the output " at 0x...>" stands for the address of an object.

A machine without Landlock or seccomp is refused with a RuntimeError that says what is missing. A machine without
unprivileged user namespaces is used without the writable folder: programs cannot write files at all there, and a
warning says so. All servers share one empty folder, python-tool in the system's for temporary files, over which each
mounts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import functools
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from envs import tools
from envs.sandbox import python_worker

Received = TypeVar("Received")

REPOSITORY = Path(__file__).parents[2]
MODULES = (
    "math", "cmath", "fractions", "decimal", "itertools", "functools", "collections", "statistics", "random", "re",
    "string", "datetime", "json", "heapq", "bisect", "operator", "time", "sympy",
)  # fmt: skip
MAX_CODE = 20_000  # characters of one program
PLACE = os.path.join(tempfile.gettempdir(), "python-tool")  # where servers mount programs' folders
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+(?=[>,])")  # in <object object at 0x7f...>

SCHEMA = tools.schema(
    "python",
    "Run a Python program. Returns what it prints and the value of its last expression. Nothing is kept between calls.",
    {"code": {"type": "string"}},
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one call. wall_seconds is a backstop for programs that wait instead of computing."""

    cpu_seconds: int = 5
    wall_seconds: int = 10
    memory_bytes: int = 1 << 30
    output_bytes: int = 4000
    scratch_bytes: int = 16 << 20
    scratch_files: int = 256
    open_files: int = 32


@dataclasses.dataclass(frozen=True)
class Result:
    """What a call came to. ok: it ran to its end without an error. text: what the model sees."""

    ok: bool
    text: str


class PythonTool:
    """A pool of `size` fork servers, each answering one call at a time; started on first use.

    prelude: our own code that every server runs once, before it confines anything, so that what it imports is warm.
    """

    def __init__(self, size: int = 2, limits: Limits = Limits(), prelude: str = ""):
        self._limits, self._prelude = limits, prelude
        self.lacking = ""  # why programs cannot write files on this machine, once a server has started
        self._free: queue.LifoQueue[_Server | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)  # a place for a server

    def run(self, code: str, names: dict[str, Any] | None = None) -> Result:
        """Runs a program that knows `names` (JSON values). A refusal, an error or a crash of the program is a Result.

        Raises RuntimeError where the machine cannot protect itself, or when a server breaks.
        """
        if len(code) > MAX_CODE:
            return Result(False, f"Error: the program has {len(code)} characters, at most {MAX_CODE} are allowed.")
        server = self._free.get()
        try:
            if server is None:
                server = _Server(self._limits, self._prelude)
                self.lacking = server.lacking
                if self.lacking:
                    warnings.warn(f"python tool: {self.lacking}, so programs cannot write files here", stacklevel=2)
            return _told(*server.call({"code": code, "names": names or {}}), self._limits)
        except (OSError, EOFError, ValueError) as error:
            server.stop()
            server = None
            raise RuntimeError(f"python tool: the fork server broke: {error!r}") from error
        finally:
            self._free.put(server)

    async def call(self, code: str, names: dict[str, Any] | None = None) -> Result:
        """`run` in a thread."""
        return await asyncio.to_thread(self.run, code, names)

    def close(self) -> None:
        """Stops the servers that are not at work. The pool can be used again: it starts new ones."""
        for server in [self._free.get() for _ in range(self._free.qsize())]:
            if server is not None:
                server.stop()
            self._free.put(None)


@functools.cache
def shared() -> PythonTool:
    """The pool of this process, stopped when it ends."""
    tool = PythonTool(max(2, os.cpu_count() or 1))
    atexit.register(tool.close)
    return tool


def _told(answer: dict[str, Any], output: str, limits: Limits) -> Result:
    """The result of a call as the model sees it."""
    text = _ADDRESS.sub("0x...", output).rstrip("\n")
    notes = {
        "time": f"stopped: more than {limits.cpu_seconds} s of CPU time or {limits.wall_seconds} s in all",
        "output": f"stopped: more than {limits.output_bytes} bytes of output",
    }
    note = notes.get(answer["stopped"], "")
    if not note and answer["signal"]:
        note = f"crashed with signal {answer['signal']}"
    elif not note and answer["status"] not in (0, 1):
        note = f"ended with status {answer['status']}"
    text = "\n".join(part for part in (text, note and f"[{note}]") if part)
    return Result(not note and answer["status"] == 0, text or "[no output]")


class _Server:
    """One fork server process. Raises RuntimeError if it refuses to serve."""

    def __init__(self, limits: Limits, prelude: str):
        self._limits = limits
        worker = [sys.executable, "-s", "-P", "-B", "-m", "envs.sandbox.python_worker", PLACE]
        self._process = subprocess.Popen(
            [*worker, ",".join(MODULES), json.dumps(dataclasses.asdict(limits)), prelude],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        try:
            hello = self._within(60, python_worker.receive)
        except EOFError:
            self.stop()
            raise RuntimeError("python tool: the fork server did not start") from None
        self.lacking = hello["lacking"]
        if hello["refused"]:
            self.stop()
            raise RuntimeError(f"python tool: this machine cannot confine programs: {hello['refused']}")

    def call(self, message: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """One call: ({"stopped", "status", "signal"}, output). Raises EOFError or OSError if the server is gone."""
        python_worker.send(self._process.stdin, message)
        answer = self._within(self._limits.wall_seconds + 20, python_worker.receive)
        return answer, self._within(20, python_worker.receive_frame).decode(errors="replace")

    def _within(self, seconds: float, receive: Callable[[BinaryIO], Received | None]) -> Received:
        """What the server sends next; one that is silent for longer is killed."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            received = receive(self._process.stdout)
        finally:
            timer.cancel()
        if received is None:
            raise EOFError("it ended")
        return received

    def stop(self) -> None:
        """Ends the process, and with it what it mounted."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                stream.close()
            except OSError:  # what was not sent any more
                pass
