"""What the parts of the soak share: its clock, its counts, and commands that are watched."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import small_run

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 900  # seconds that a command may take: only what hangs takes longer


class Failure(Exception):
    """Something that must not happen did."""


@dataclasses.dataclass
class Soak:
    """One soak. seed: of all plans. folder: where everything lies. ends: when no trial is begun any more, on the clock
    time.monotonic. counts: what was done, by name. failures: what went wrong, with how to repeat it. last: how long the
    latest trial of each part took."""

    seed: int
    folder: Path
    ends: float
    counts: Counter = dataclasses.field(default_factory=Counter)
    failures: list[str] = dataclasses.field(default_factory=list)

    def trial(self, part: str, number: int, work: Callable[[random.Random, Path], None]) -> None:
        """Does one trial in a folder of its own. Its plan depends on (seed, part, number) alone."""
        place = self.folder / part / str(number)
        place.mkdir(parents=True)
        try:
            work(random.Random(f"{self.seed}/{part}/{number}"), place)
            self.counts[f"{part}: trials"] += 1
        except Failure as failure:
            told = f"{part}/{number}: {failure}; again: --seed={self.seed} --only={part}/{number}"
            self.failures.append(told)
            print(f"FAILED {told}", flush=True)
        finally:
            remove(place)


def remove(place: Path) -> None:
    """Removes a folder and what is in it."""
    shutil.rmtree(place, ignore_errors=True)


def expect(right: bool, what: str) -> None:
    """Raises Failure, saying what should be, unless it is."""
    if not right:
        raise Failure(what)


def environment(soak: Soak, **changes: str) -> dict[str, str]:
    """The environment of a command: one CPU device, programs compiled quickly and kept for the next command."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(soak.folder / "cache"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
             "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
             "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}  # fmt: skip
    return {**small_run.environment(), **cache, **changes}


@dataclasses.dataclass
class Ended:
    """A command that has ended. status: as subprocess says it, negative for a signal."""

    status: int
    out: str
    err: str

    def in_one_line(self, *statuses: int) -> Ended:
        """Itself, if the status is one of these and errors were told in one line, which is the last."""
        lines = self.err.splitlines()
        expect(self.status in statuses, f"status {self.status}, expected one of {statuses}: {self.tail()}")
        if self.status not in (0, -signal.SIGKILL):
            expect(bool(lines) and lines[-1].startswith("main.py: "), f"the last line is not the error: {self.tail()}")
        expect("Traceback" not in self.err, f"a traceback: {self.tail()}")
        return self

    def tail(self) -> str:
        """The end of what it printed."""
        return repr((self.out[-300:], self.err[-1500:]))


@contextlib.contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen]:
    """A process that is ended with the block, and with it all that it started."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace", **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait(process: subprocess.Popen) -> Ended:
    """Waits for the end of a process."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failure(f"it hangs: {process.args!r}") from None
    return Ended(process.returncode, out, err)


def run(command: Sequence[str | Path], env: Mapping[str, str], **options: Any) -> Ended:
    """Runs a command to its end."""
    with started(command, env=env, **options) as process:
        return wait(process)


def nobody_left(soak: Soak) -> None:
    """Raises Failure if a process that a command of this soak has started is still there after half a minute."""
    for _ in range(600):
        if not (left := processes_of(soak)):
            return
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise Failure(f"{len(left)} processes are left behind")


def processes_of(soak: Soak) -> list[int]:
    """Ids of the living processes that have this soak's folder in their environment: commands and children."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mine = os.fsencode(soak.folder) in (entry / "environ").read_bytes()  # a zombie's is empty
            if mine and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found
