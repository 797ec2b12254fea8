"""Who may write into a workdir, and what happens to records that a run finds there and cannot continue.

Imports neither jax nor anything of this project: the command line is checked with it before those are loaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
# Stages that write only into a folder of their own, and lock only that: one can measure a run that is training.
APART = {"evaluate": "evaluation"}
UNLOCKED = ("plan", "serve", "compare")  # they write nothing, or one file in one rename


@contextlib.contextmanager
def locked(workdir: Path, stage: str) -> Iterator[None]:
    """Keeps other processes that write the same files out of the workdir, which is created if missing.

    The lock belongs to this process and ends with it, however it ends; children do not inherit it. It also holds
    between machines if the shared file system knows POSIX locks (NFS does).
    Raises ValueError, naming the host and process that hold the lock, or if the folder cannot be written or its file
    system has no locks.
    """
    path = workdir / APART.get(stage, "") / LOCK_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = open(path, "a+", encoding="utf-8")
    except OSError as error:  # no permission, a read-only or full disk, a file where a folder should be
        raise ValueError(
            f"--workdir={workdir}: cannot be written ({error.filename}: {error.strerror}); take another folder"
        ) from error
    with opened as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # which of the two differs between systems
            file.seek(0)
            raise ValueError(f"--workdir={workdir}: in use by {file.read().strip() or 'another process'}") from None
        except OSError as error:  # a file system without locks
            raise ValueError(f"{path}: cannot be locked ({error.strerror})") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} (stage {stage})\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # an empty file is left: one that is removed could be locked by two at once


def config(workdir: Path) -> dict[str, Any] | None:
    """The config that the workdir was made with; None if nothing has been made in it yet.

    A first attempt that failed leaves a config.json but no results. Such a config binds nobody.
    Raises ValueError, naming the file, if it cannot be read as a JSON object.
    """
    path = workdir / CONFIG_FILE
    if not path.exists() or not _produced(workdir):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _produced(workdir: Path) -> bool:
    """Whether the workdir holds a file that a stage has made."""
    own = {CONFIG_FILE, f".{CONFIG_FILE}", LOCK_FILE}
    return any(name not in own for _, _, names in os.walk(workdir) for name in names)


def set_aside(workdir: Path, names: Sequence[str]) -> Path:
    """Moves files or folders of the workdir, as far as they exist, into a new folder set_aside_<n>; returns it.

    names: relative to the workdir; places within it are kept.
    """
    number = next(n for n in range(1, 1_000_000) if not (workdir / f"set_aside_{n}").exists())
    folder = workdir / f"set_aside_{number}"
    for name in names:
        if (workdir / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (workdir / name).rename(folder / name)
    return folder
