"""Checkpoints that survive a kill at any moment, and the truncation of a run's *.jsonl files to a checkpoint's state.

A checkpoint is a pytree of arrays and a JSON record (round, step, task statistics, file sizes, ...). Orbax writes it
under a temporary name and renames it when complete, so `restore` only ever sees complete checkpoints. Then a digest of
each of its files is written beside them. A checkpoint that was damaged later is noticed by them and passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rl import hosts

Tree = Any
# In the folder of a checkpoint: {path relative to it: sha256} of its other files. Written last, in one rename. A save
# that was killed right before leaves a whole checkpoint without it.
DIGESTS = "digests.json"
# What orbax and tensorstore raise for files that are missing, cut or changed. Running out of memory is not among them.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


class _OtherArrays(ValueError):
    """A checkpoint is whole but of another model."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences orbax's log messages: it logs through absl at every save and restore, and every error that it raises,
    too, with the tracebacks of all its tasks. The callbacks of a save that failed find their event loop closed."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio", "concurrent.futures")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _flatten(tree: Tree) -> dict[str, Any]:
    """{path as text: leaf}. This dict is what is stored, so that files do not depend on container classes."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct | np.ndarray:
    """The description orbax needs to restore an array like `leaf`: on the devices of `leaf`, or as a numpy array."""
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty(np.shape(leaf), np.asarray(leaf).dtype)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: the folder of the checkpoints, created if missing. Incomplete checkpoints of a killed save are
            removed.
        keep: how many of the newest checkpoints to keep.
        read_only: remove nothing, so that another process may be saving to the folder at the same time.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int, read_only: bool = False):
        self.directory = pathlib.Path(directory).resolve()
        self.read_only = read_only
        self.directory.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0 and not read_only:  # orbax's own clean-up would still be running at the first save
            for unfinished in ocp.utils.tmp_checkpoints(self.directory):
                shutil.rmtree(unfinished.get())
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        with _quiet():
            # Passed explicitly: without handlers a new process cannot read a checkpoint's metadata before it saves one.
            handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

    def save(self, index: int, state: Tree, meta: dict[str, Any]) -> None:
        """Writes checkpoint `index` and returns when it is complete on disk.

        Args:
            index: grows from save to save (the count of RL steps, say).
            state: a pytree of jax or numpy arrays.
            meta: whatever else a resumed run needs, JSON-serialisable.

        Raises:
            ValueError: if `index` is not above the latest one.
        """
        latest = self._manager.latest_step()
        if latest is not None and index <= latest:
            raise ValueError(f"{self.directory}: checkpoint {index} is not newer than the latest, {latest}")
        items = ocp.args.Composite(state=ocp.args.StandardSave(_flatten(state)), meta=ocp.args.JsonSave(meta))
        with _quiet():
            self._manager.save(index, args=items, force=True)
        folder = self.directory / str(index)
        names = hosts.gather(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))[0]
        hosts.write_json(folder / DIGESTS, _digests(folder, names))

    def latest(self) -> int | None:
        """Index of the newest complete checkpoint, None if there is none."""
        return self._manager.latest_step()

    def restore(self, example: Tree) -> tuple[Tree, dict[str, Any]] | None:
        """The newest whole checkpoint.

        Newer ones that are damaged are passed over with a printed line. Unless read_only is set, they are renamed to
        <index>.damaged, so that the run can save under their numbers again.

        Args:
            example: the state's structure: arrays or `jax.ShapeDtypeStruct`s with the shardings to restore to.

        Returns:
            (state, meta), or None if there is no checkpoint.

        Raises:
            ValueError: naming the arrays that are missing, unknown, or of another shape or dtype in the checkpoint; or
                naming the checkpoints, if there are some and all are damaged. No file is changed then.
        """
        wanted = {name: _abstract(leaf) for name, leaf in _flatten(example).items()}
        damaged: dict[int, str] = {}
        for index in sorted(self._manager.all_steps(), reverse=True):
            found = self._read(index, wanted)
            if isinstance(found, str):
                damaged[index] = found
                continue
            for number, flaw in damaged.items():
                self._pass_over(number, flaw)
            if damaged and not self.read_only:
                with _quiet():
                    self._manager.reload()
            leaves = [found.state[name] for name in wanted]
            return jax.tree.unflatten(jax.tree.structure(example), leaves), found.meta
        if damaged:
            flaws = "; ".join(f"{index}: {flaw}" for index, flaw in damaged.items())
            raise ValueError(
                f"{self.directory}: no checkpoint is whole ({flaws}); put back a copy, "
                "or move the folder away to start anew"
            )
        return None

    def _read(self, index: int, wanted: dict[str, Any]) -> Any:
        """The content of checkpoint `index`; or a phrase that says what is wrong with its files.

        All processes get the same answer. Raises ValueError, as `_check` does, if it is whole but of another model.
        """
        folder = self.directory / str(index)
        listed = (folder / DIGESTS).exists()
        flaw, restored = (_flaw(folder) if listed else None), None
        if flaw is None:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(wanted), meta=ocp.args.JsonRestore())
            try:
                with _quiet():
                    self._check(index, wanted)
                    restored = self._manager.restore(index, args=items)
            except DAMAGE as error:
                if listed or isinstance(error, _OtherArrays):  # its files are those that were saved
                    raise
                flaw = f"cannot be read ({type(error).__name__}: {str(error).partition(chr(10))[0][:100]})"
        flaws = hosts.gather(flaw)
        return next((f for f in flaws if f is not None), restored)

    def _pass_over(self, index: int, flaw: str) -> None:
        """Says that checkpoint `index` is damaged and moves it out of the way of later saves."""
        folder, now = self.directory / str(index), ""
        if not self.read_only:
            names = (f"{index}.damaged", *(f"{index}.damaged_{n}" for n in range(2, 1_000_000)))
            place = next(self.directory / name for name in names if not (self.directory / name).exists())
            hosts.wait(f"checkpoint {index} is damaged")  # all processes have chosen the same name
            if hosts.first():
                folder.rename(place)
            hosts.wait(f"checkpoint {index} is moved")
            now = f"; it is now {place.name}"
        print(f"checkpoint {folder} is damaged and passed over: {flaw}{now}", flush=True)

    def _check(self, index: int, wanted: dict[str, Any]) -> None:
        """Raises _OtherArrays unless checkpoint `index` holds arrays of the wanted names, shapes and dtypes."""
        stored = self._manager.item_metadata(index).state
        name = f"{self.directory}: checkpoint {index}"
        if set(stored) != set(wanted):
            missing, unknown = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
            raise _OtherArrays(f"{name}: missing arrays {missing}, unknown {unknown}")
        for key, array in wanted.items():
            if (tuple(stored[key].shape), stored[key].dtype) != (tuple(array.shape), array.dtype):
                raise _OtherArrays(
                    f"{name}: {key} is {stored[key].dtype}{tuple(stored[key].shape)}, "
                    f"expected {array.dtype}{tuple(array.shape)}"
                )

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


def any_saved(directory: str | os.PathLike[str]) -> bool:
    """Whether the folder of a run's checkpoints is there and holds a complete one, whole or not."""
    folder = pathlib.Path(directory)
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def _digests(folder: pathlib.Path, names: Sequence[str]) -> dict[str, str | None]:
    """{name: sha256 of that file of the folder, None if it is missing}. Every process reads a share of the files."""

    def digest(name: str) -> str | None:
        try:
            with open(folder / name, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    own = hosts.share(names)
    with ThreadPoolExecutor(8) as pool:
        parts = hosts.gather(dict(zip(own, pool.map(digest, own), strict=True)))
    return {name: value for part in parts for name, value in part.items()}


def _flaw(folder: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint's files, by their digests; None if nothing is. Other files do not count."""
    try:
        expected = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except ValueError:  # not JSON, or not UTF-8
        expected = None
    if not isinstance(expected, dict) or not expected:
        return f"{DIGESTS} is not what was written"
    found = _digests(folder, sorted(expected))
    changed = sorted(name for name in expected if found[name] != expected[name])
    if not changed:
        return None
    more = f" and {len(changed) - 1} more" if changed[1:] else ""
    return f"{changed[0]} is {'missing' if found[changed[0]] is None else 'not what was written'}{more}"


def _matching(root: pathlib.Path, patterns: Sequence[str]) -> dict[str, pathlib.Path]:
    """{path relative to root, with forward slashes: path} of the files in `root` or a folder of it that match a pattern
    (a regular expression for the whole of that relative path)."""
    paths = (path for depth in ("*", "*/*") for path in root.glob(depth) if path.is_file())
    found = {path.relative_to(root).as_posix(): path for path in sorted(paths)}
    return {name: path for name, path in found.items() if any(re.fullmatch(pattern, name) for pattern in patterns)}


def file_sizes(root: str | os.PathLike[str], patterns: Sequence[str]) -> dict[str, int]:
    """{path relative to `root`: size in bytes} of the files under `root` that match one of `patterns`, regular
    expressions for the whole relative path, which has at most one slash.

    Store the result in a checkpoint's meta. Flush the files first.
    """
    return {name: path.stat().st_size for name, path in _matching(pathlib.Path(root), patterns).items()}


def cut_back(root: str | os.PathLike[str], sizes: dict[str, int], patterns: Sequence[str]) -> None:
    """Restores the files under `root` that match `patterns` to the recorded `sizes` in bytes (see `file_sizes`).

    Files that are not in `sizes` are deleted and longer files are truncated, so that a resumed run ends with the same
    files as an uninterrupted one. An empty `sizes` stands for the state before anything was written.

    Raises:
        ValueError: naming the file, if a recorded file is missing or shorter than recorded. No file is changed then.
    """
    found = _matching(pathlib.Path(root), patterns)
    for name, size in sizes.items():
        if name not in found:
            raise ValueError(f"{root}: {name} is missing, the checkpoint expects {size} bytes")
        if found[name].stat().st_size < size:
            raise ValueError(
                f"{root}: {name} has {found[name].stat().st_size} bytes, the checkpoint expects at least {size}"
            )
    for name, path in found.items():
        if name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[name]:
            os.truncate(path, sizes[name])
