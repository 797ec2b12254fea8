"""A set of keys and values on disk, to remember which tasks were seen; memory use does not grow with their number."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any


class Keys:
    """A map from keys (tuples of strings, numbers and bytes) to any number of values (text or bytes) per key.

    It is kept in an unnamed temporary file, which disappears when the process ends.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.execute("PRAGMA journal_mode=OFF")  # nothing is ever rolled back
        self._file.execute("CREATE TABLE keys (key BLOB, value BLOB, PRIMARY KEY (key, value)) WITHOUT ROWID")

    def add(self, key: tuple, value: Any = "") -> bool:
        """Adds a value to a key. Returns True if the value is new for this key, False if the key had it already."""
        found = self._file.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (_digest(key), value))
        return found.rowcount == 1

    def add_all(self, keys: Iterable[tuple], value: Any = "") -> None:
        """Adds the same value to each of the keys."""
        pairs = ((_digest(key), value) for key in keys)
        self._file.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", pairs)

    def find(self, key: tuple) -> list[Any]:
        """The values of a key, sorted; [] if it has none."""
        return [value for (value,) in self._file.execute("SELECT value FROM keys WHERE key = ?", (_digest(key),))]


def _digest(key: tuple) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
