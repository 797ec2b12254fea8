"""A cache with a bound on what it holds, not only on how many things: for keys and values whose sizes others choose."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any

SHARE = 4  # what weighs more than this part of a cache is not kept: it would push out everything else


class Recent:
    """Keeps the values that were used last, as long as their weights together are at most `most`.

    Threads may share it.
    """

    def __init__(self, most: int):
        self._most, self.weight = most, 0
        self._found: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Hashable) -> Any:
        """The value of a key, None if it is not kept."""
        with self._lock:
            if key not in self._found:
                return None
            self._found.move_to_end(key)
            return self._found[key][0]

    def put(self, key: Hashable, value: Any, weight: int) -> None:
        """Keeps a value. weight: of key and value together."""
        if weight * SHARE > self._most:
            return
        with self._lock:
            self.weight -= self._found.pop(key, (None, 0))[1]
            self._found[key] = value, weight
            self.weight += weight
            while self.weight > self._most:
                self.weight -= self._found.popitem(last=False)[1][1]

    def make(self, key: Hashable, make: Callable[[], Any], weigh: Callable[[Any], int]) -> Any:
        """The value of a key; if it is not kept, it is made and kept with its weight."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value, weigh(value))
        return value
