"""The businesses there are: written ones, which are files, and composed ones, which are numbered."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from synth.business.compose import compose
from synth.business.schema import Business
from synth.business.view import Service, view
from synth.trees import domains

_FOLDER = Path(__file__).parent / "written"


@functools.cache
def _written() -> tuple[Business, ...]:
    return tuple(Business.read(path) for path in sorted(_FOLDER.glob("*.json")))


_composed = functools.lru_cache(maxsize=4096)(compose)


def written() -> list[Business]:
    """The businesses that were written by hand, in the order of their files' names."""
    return list(_written())


def composed(count: int, seed: int = 0) -> list[Business]:
    """The first `count` composed businesses."""
    return [_composed(number, seed) for number in range(count)]


def find(name: str, seed: int = 0) -> Business:
    """The business of that name; a composed one is composed again from its number.

    Raises ValueError for a name that no business has.
    """
    for business in _written():
        if business.name == name:
            return business
    if match := re.fullmatch(r"[a-z][a-z0-9_]*_(0|[1-9][0-9]{0,8})", name):
        found = _composed(int(match[1]), seed)
        if found.name == name:
            return found
    raise ValueError(f"there is no business {name!r}: it is neither written nor composed with seed {seed}")


def domain(name: str) -> Service | None:
    """The domain of a business; None for a name that no business has."""
    try:
        return view(find(name))
    except ValueError:
        return None


domains.FINDERS.append(domain)
