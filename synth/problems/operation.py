"""What a problem is made of: operations over slots and items, each with its wordings.

An operation is one node of a problem's expression graph: "a stock of things that grows and shrinks", "the shortest way
through a road map". It has scalar slots ("args"), a list of items (events, clues, roads, ...), and named values that
can be asked for ("wants": "left", or "price:fig" where there is one per thing). Everything is data; `solve` and `check`
are two independent ways from the data to the values.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Value = int | Fraction | str
Args = dict[str, Any]
Items = Sequence[dict[str, Any]]  # each {"kind": ..., slot: value, ...}
Steps = list[tuple[str, Value]]  # (item kind, value after it) in the order in which a person would compute them

UNITS = {  # dimension -> {unit, plural: how many base units it is}; the base unit stands first
    "time": {"hours": Fraction(1), "minutes": Fraction(1, 60)},
    "mass": {"kilograms": Fraction(1), "grams": Fraction(1, 1000)},
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place for a value in a sentence.

    pattern: regular expression of its text. read: text -> value. show: value -> text.
    low, high: what an integer of this slot may be. link: whether an earlier node's value may stand here.
    """

    pattern: str
    read: Callable[[str], Any] = str
    show: Callable[[Any], str] = str
    low: int = 0
    high: int = 0
    link: bool = False


def number(low: int, high: int, link: bool = False) -> Slot:
    """A whole number; with `link`, also the letter of an earlier node."""
    return Slot(r"-?\d+", int, str, low, high, link)


def quantity(dimension: str) -> Slot:
    """A whole number of some unit of a dimension: {"n": 90, "unit": "minutes"}."""
    units = "|".join(UNITS[dimension])

    def read(text: str) -> dict[str, Any]:
        count, unit = text.split()
        return {"n": int(count), "unit": unit}

    return Slot(rf"\d+ (?:{units})", read, lambda value: f"{value['n']} {value['unit']}")


def _read_list(text: str) -> list[str]:
    return re.split(r", | and ", text)


def _show_list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _read_basket(text: str) -> list[list[Any]]:
    return [[int(part.split()[0]), part.split()[1]] for part in _read_list(text)]


WORD = Slot(r"[a-z]+")
NAME = Slot(r"[A-Z][a-z]+")
WORDS = Slot(r"[a-z]+(?:, [a-z]+)*(?: and [a-z]+)?", _read_list, _show_list)
NAMES = Slot(r"[A-Z][a-z]+(?:, [A-Z][a-z]+)*(?: and [A-Z][a-z]+)?", _read_list, _show_list)
BASKET = Slot(  # [[3, "fig"], [1, "plum"]]: "3 fig and 1 plum"
    r"\d+ [a-z]+(?:, \d+ [a-z]+)*(?: and \d+ [a-z]+)?",
    _read_basket,
    lambda basket: _show_list([f"{count} {word}" for count, word in basket]),
)


def base_units(amount: Mapping[str, Any]) -> Fraction:
    """A quantity in the base unit of its dimension."""
    return amount["n"] * next(table[amount["unit"]] for table in UNITS.values() if amount["unit"] in table)


@dataclasses.dataclass(frozen=True)
class Item:
    """A kind of item: its wordings over its slots (in braces) and the trade's nouns (in angle brackets)."""

    wordings: tuple[str, ...]
    slots: dict[str, Slot]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One kind of node.

    wordings: of the sentence that opens it. wants: name -> noun phrase of the value, with {of} for the part of a want
    behind its colon. most: how many items it may have.
    draw(rng, size, fixed) -> (args, items): a random instance with about `size` items; `fixed` holds values of linked
        slots. Raises ValueError where none was found.
    extend(rng, args, items) -> items: the items and one more; None where only a new draw can be bigger.
    solve(args, items) -> (values by want, steps). Raises ValueError for an instance that makes no sense.
    check(args, items) -> values by want, found another way.
    """

    name: str
    family: str
    wordings: tuple[str, ...]
    slots: dict[str, Slot]
    items: dict[str, Item]
    wants: dict[str, str]
    most: int
    draw: Callable[[random.Random, int, Args], tuple[Args, list]]
    solve: Callable[[Args, Items], tuple[dict[str, Value], Steps]]
    check: Callable[[Args, Items], dict[str, Value]]
    extend: Callable[[random.Random, Args, Items], list] | None = None

    @property
    def links(self) -> list[str]:
        """The slots that an earlier node's value may fill."""
        return [name for name, slot in self.slots.items() if slot.link]


def grown(
    rng: random.Random, size: int, args: Args, extend: Callable[[random.Random, Args, Items], list]
) -> tuple[Args, list]:
    """(args, items) of `size` items, each added by `extend`."""
    items: list = []
    for _ in range(size):
        items = extend(rng, args, items)
    return args, items


def attempts(make: Callable[[], Any], count: int = 60) -> Any:
    """The first result of `make` that raises no ValueError. Raises ValueError if none of `count` does."""
    for _ in range(count):
        try:
            return make()
        except ValueError:
            continue
    raise ValueError(f"no instance found in {count} attempts")
