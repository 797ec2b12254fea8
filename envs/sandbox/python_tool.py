"""The Python tool: a stateless interpreter for untrusted code, as a pool of warm fork servers.

Each call runs in its own process, forked from an interpreter that has imported the modules which programs use, and
nothing of this repository. Guarantees for a call, whatever its code does:

- System calls: seccomp admits only a list of harmless ones. So there is no network and there are no new processes or
  threads, other programs, signals to other processes, tracing or mounts.
- Reading files: Landlock admits only Python's standard library, SymPy and the shared libraries that they need. So the
  repository, other installed packages, /proc and the user's files cannot be opened.
- Writing files: only into an empty folder in memory (tmpfs), of bounded size and number of files, which is removed
  after the call.
- Inheritance: the call gets no environment variables and no open files of this process.
- Limits: CPU time, wall time, memory, output, file size and open files are bounded. A call that exceeds a limit is
  killed, and its output so far is returned.
- Isolation of calls: a call cannot change later calls or read earlier ones, because each is forked from a server that
  never sees the contents of calls.

Not guaranteed: protection from bugs in the kernel; secrecy of names, sizes and dates of files (stat works); limits on
memory bandwidth or heat.

On the same machine the same program gives the same output each time, in every server, unless it depends on

- the clock (and so, near the limits, the machine's load), process numbers or dates of files;
- the kernel's randomness: os.urandom and what uses it, such as secrets, uuid4, random.seed() and random.Random()
  without a seed.

To that end `random` starts from seed 0 and hashes are not randomised. Neither are addresses, where the machine allows
that (some containers do not). The output shows " at 0x...>" for the address of an object.

A machine without Landlock or seccomp is refused with a RuntimeError that says what is missing. On a machine without
unprivileged user namespaces there is no writable folder: programs cannot write files, and a warning says so. All
servers share one empty folder, `python-tool` in the system's temporary folder, over which each server mounts its own.
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
MAX_CODE = 20_000  # most characters of one program
PLACE = os.path.join(tempfile.gettempdir(), "python-tool")  # where servers mount the writable folders
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+(?=[>,])")  # in <object object at 0x7f...>

SCHEMA = tools.schema(
    "python",
    "Run a Python program. Returns what it prints and the value of its last expression. Nothing is kept between calls.",
    {"code": {"type": "string"}},
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one call. wall_seconds stops programs that wait instead of computing."""

    cpu_seconds: int = 5
    wall_seconds: int = 10
    memory_bytes: int = 1 << 30
    output_bytes: int = 4000
    scratch_bytes: int = 16 << 20
    scratch_files: int = 256
    open_files: int = 32


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a call. ok: whether the program ended without an error. text: what the model sees."""

    ok: bool
    text: str


class PythonTool:
    """A pool of `size` fork servers, which are started on first use. Each handles one call at a time.

    prelude: trusted code that each server runs once, unconfined, for example to import modules ahead of calls.
    """

    def __init__(self, size: int = 2, limits: Limits = Limits(), prelude: str = ""):
        self._limits, self._prelude = limits, prelude
        self.lacking = ""  # why programs cannot write files here, "" if they can; set when a server starts
        self._free: queue.LifoQueue[_Server | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)  # None: a server that has not been started

    def run(self, code: str, names: dict[str, Any] | None = None) -> Result:
        """Runs a program. A refusal, an error or a crash of the program is returned as a Result.

        names: global variables of the program, name -> JSON value.
        Raises RuntimeError if the machine cannot confine programs or a server breaks.
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
        """Runs `run` in a thread."""
        return await asyncio.to_thread(self.run, code, names)

    def close(self) -> None:
        """Stops the idle servers. The pool remains usable: it starts new servers when needed."""
        for server in [self._free.get() for _ in range(self._free.qsize())]:
            if server is not None:
                server.stop()
            self._free.put(None)


@functools.cache
def shared() -> PythonTool:
    """The pool that all users in this process share; stopped when the process exits."""
    tool = PythonTool(max(2, os.cpu_count() or 1))
    atexit.register(tool.close)
    return tool


def _told(answer: dict[str, Any], output: str, limits: Limits) -> Result:
    """Makes the Result of a call from the server's answer and the program's output."""
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
    """One fork server process. Raises RuntimeError if it does not start or cannot confine programs."""

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
        """Runs one call; returns ({"stopped", "status", "signal"}, output). Raises EOFError or OSError."""
        python_worker.send(self._process.stdin, message)
        answer = self._within(self._limits.wall_seconds + 20, python_worker.receive)
        return answer, self._within(20, python_worker.receive_frame).decode(errors="replace")

    def _within(self, seconds: float, receive: Callable[[BinaryIO], Received | None]) -> Received:
        """Receives what the server sends next; kills the server if that takes longer than `seconds`."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            received = receive(self._process.stdout)
        finally:
            timer.cancel()
        if received is None:
            raise EOFError("the process ended")
        return received

    def stop(self) -> None:
        """Ends the process, and with it its mounts."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                stream.close()
            except OSError:  # unsent data
                pass
