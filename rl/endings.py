"""How a command ends: its exit status, one line for what is not a bug, and signals.

    status 0    done
    status 2    refused: the command, the config or a file has to change first, or the same command ends the same way
    status 1    ended during work by the machine, an endpoint or training that diverged; or by a bug, with a traceback
    status 130  Ctrl-C (SIGINT)
    status 143  SIGTERM

In all of them the workdir is as after a kill, and the same command goes on from the last checkpoint. So a process that
has to end ends at once. It does not wait for threads that play episodes, and dying libraries get to print nothing.

Imports nothing but the standard library: a command may have to end before anything else is loaded.
"""

from __future__ import annotations

import contextlib
import dis
import errno
import functools
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

DONE, FAILED, REFUSED = 0, 1, 2
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "told to end (SIGTERM)"}
REPOSITORY = Path(__file__).resolve().parents[1]
PARENT = "AGENTICQWEN_PARENT"  # environment variable: number of a file whose end tells that the parent has ended
GOES_ON = "the same command goes on from the last checkpoint"
# Exceptions that are bugs even if this repository's code raises them by itself.
BUGS = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, TypeError)
# What of the machine can be at fault -> what to do about it.
MACHINE = {
    errno.ENOSPC: f"free some space; {GOES_ON}",
    errno.EDQUOT: f"the quota is used up, free some space; {GOES_ON}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f); {GOES_ON}",
    errno.EMFILE: f"raise the limit on open files (ulimit -n); {GOES_ON}",
    errno.ENFILE: f"too many files are open on this machine; {GOES_ON}",
    errno.ENOMEM: f"free some memory; {GOES_ON}",
    errno.EAGAIN: f"raise the limit on processes (ulimit -u); {GOES_ON}",
    errno.EACCES: "make it accessible to this user, or take another place",
    errno.EPERM: "make it accessible to this user, or take another place",
    errno.EROFS: "it is read-only; take another place",
    errno.EIO: f"the disk or the network file system fails; {GOES_ON}",
    errno.ESTALE: f"the network file system has lost the file; {GOES_ON}",
    errno.EPIPE: f"nobody reads the output any more; {GOES_ON}",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# How libraries that are not written in Python say the same, in messages of errors of their own.
SAID = {
    "No space left on device": errno.ENOSPC,
    "StorageFull": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "FileTooLarge": errno.EFBIG,
    "Too many open files": errno.EMFILE,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EROFS,
}
OUT_OF_MEMORY = (
    "out of memory: lower rl.rows, sampler.slots or rl.logits_chunk, or set model.remat (all of them may change in a "
    "run), or take more devices"
)


def verdict(error: BaseException) -> tuple[int, str] | None:
    """(exit status, one line that says what ended a command and what to do); None for a bug, whose traceback says more.

    A person or the machine is at fault if this repository raised the error itself, as it does in one line for whatever
    is not a bug, or if the machine refused something (no space, no permission, no memory). An error that other code
    raises (ValueError from numpy, say) is a bug, unless somebody here knew what it means.
    """
    text = " ".join(str(error).split())
    if text and _raised_here(error) and not isinstance(error, BUGS) and "Traceback (most recent call last)" not in text:
        refused = isinstance(error, (ValueError, ImportError, FileNotFoundError))
        return (REFUSED if refused else FAILED), text
    found = next(filter(None, map(_of_machine, _chain(error))), None)
    return None if found is None else (FAILED, found)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause's cause, ..."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _of_machine(error: BaseException) -> str | None:
    """The line for an error of the machine; None for another."""
    if isinstance(error, OSError):
        if error.errno in MACHINE:
            return f"{_named(error)}{error.strerror}; {MACHINE[error.errno]}"
        # A file that somebody removed or replaced, or a bug; the line says as much as a traceback.
        return f"{_named(error)}{error.strerror}" if error.filename is not None and error.strerror else None
    text = str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED: Out of memory" in text:
        return OUT_OF_MEMORY
    if isinstance(error, BUGS):
        return None
    for words, number in SAID.items():
        if words in text:
            places = re.findall(r"\"(/[^\"]+)\"", text)  # as tensorstore quotes them
            return f"{places[0] if places else _place}: {os.strerror(number)}; {MACHINE[number]}"
    return None


def _named(error: OSError) -> str:
    names = [str(name) for name in map(_text, (error.filename, error.filename2)) if name]
    if not names and error.errno in FULL:  # a write does not know its file
        names = [_place]
    return "".join(f"{name}: " for name in names)


def _text(name: Any) -> Any:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def writing_to(place: os.PathLike[str] | str) -> None:
    """Says where this command writes, for errors that do not name their file."""
    global _place
    _place = os.fspath(place)


def _raised_here(error: BaseException) -> bool:
    """Whether a raise statement of this repository raised the error: not a call that failed, even if made from here."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    ours = Path(code.co_filename).resolve()
    own = ours.is_relative_to(REPOSITORY) and "site-packages" not in ours.parts
    return own and code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def run(program: str, work: Callable[[], int]) -> int:
    """Does the work and returns its exit status. An error that is no bug is told in one line; a bug is raised."""
    try:
        return work()
    except KeyboardInterrupt:
        ended, told = 128 + signal.SIGINT, f"{SIGNALS[signal.SIGINT]}; {GOES_ON}"
    except Exception as error:
        found = verdict(error)
        if found is None:
            raise
        ended, told = found
    print(f"{program}: {told}", file=sys.stderr)
    return ended


def leave(program: str, work: Callable[[], int]) -> None:
    """`run` for the whole process, which ends with it: at once unless all went well."""
    watch(program)
    try:
        ended = run(program, work)
    except Exception:
        traceback.print_exc()
        ended = FAILED
    if ended == DONE:
        sys.exit(DONE)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # full or closed
            stream.flush()
    os._exit(ended)


_ending = threading.Lock()
_program, _place = "", "the disk"


def watch(program: str) -> None:
    """From now on SIGINT and SIGTERM end this process at once, with a line and the status of the table above.

    A thread waits for them beside Python's own handlers, which would wait for the end of a compilation. It also waits
    for the end of the parent, if that has said so (see `end_with_me`). Both do nothing about a signal for which another
    handler has been installed since, as a web server does. Call it in the main thread.
    """
    global _program
    _program, sys.unraisablehook = program, _unraisable
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _signalled)
    threading.Thread(target=_wait_for_signals, args=(told,), daemon=True).start()
    if (parent := os.environ.pop(PARENT, "")).isdecimal():
        threading.Thread(target=_wait_for_parent, args=(int(parent),), daemon=True).start()


def _unraisable(told: Any) -> None:
    """Prints errors that cannot be raised, but for one: tensorstore's threads tell a save that failed of their ends,
    and where it has raised its error by then, each of them would print that its event loop is closed."""
    if not (isinstance(told.exc_value, RuntimeError) and str(told.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(told)


def unwatch() -> None:
    """Puts Python's own handlers back, if `watch` has been called."""
    if not _program:
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _signalled(number: int, frame: FrameType | None) -> None:
    del frame
    if _ending.acquire(blocking=False):
        start = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # below a progress bar
        told = f"{start}{_program}: {SIGNALS[signal.Signals(number)]}; {GOES_ON}\n"
        with contextlib.suppress(OSError):
            os.write(2, told.encode())  # not print, which the signal may have interrupted
        os._exit(128 + number)


def _wait_for_signals(told: int) -> None:
    while number := os.read(told, 1):
        if signal.getsignal(number[0]) is _signalled:
            _signalled(number[0], None)


def _wait_for_parent(file: int) -> None:
    try:
        while os.read(file, 1):
            pass
    except OSError:  # no such file: somebody else has passed the variable on
        return
    os._exit(FAILED)


@functools.cache
def _life() -> int:
    """The read end of a pipe that ends when this process ends, however it ends: it alone holds the write end."""
    read, write = os.pipe()
    del write  # stays open
    return read


def end_with_me() -> dict[str, Any]:
    """Arguments of subprocess.Popen for a command that calls `watch`: it ends when this process ends."""
    return {"pass_fds": (_life(),), "env": {**os.environ, PARENT: str(_life())}}


def start_tracker() -> None:
    """Starts multiprocessing's resource tracker so that it says nothing when it cleans up after a killed process."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def end_with_parent() -> None:
    """In a process that multiprocessing has started: it ends when its parent ends, also when that is killed.

    Otherwise it would wait for work for ever. Ctrl-C, which a terminal sends to both, is the parent's to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:  # joining waits for the end of a pipe that the parent holds

        def wait() -> None:
            parent.join()
            os._exit(FAILED)

        threading.Thread(target=wait, daemon=True).start()
