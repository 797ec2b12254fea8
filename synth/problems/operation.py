"""The parts of a problem: operations over slots and items, each with its wordings.

An operation is the kind of a node in a problem's expression graph, such as "a stock of things that grows and shrinks"
or "the shortest way through a road map". It has
- args: values of its slots;
- items: a list of events, clues, roads, ...;
- wants: named values that can be asked for, such as "left", or "price:fig" where there is one for each thing.

All of these are data. `solve` and `check` are two independent ways to compute the wants from args and items.
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
Steps = list[tuple[str, Value]]  # (item kind, value after it), in the order in which a person would compute them

UNITS = {  # dimension -> {unit, in the plural: number of base units}; the base unit comes first
    "time": {"hours": Fraction(1), "minutes": Fraction(1, 60)},
    "mass": {"kilograms": Fraction(1), "grams": Fraction(1, 1000)},
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place for a value in a sentence.

    pattern: regular expression of the value's text. read: text -> value. show: value -> text.
    low, high: bounds, both included, of a value that comes from an earlier node.
    link: whether an earlier node's value may fill this slot.
    """

    pattern: str
    read: Callable[[str], Any] = str
    show: Callable[[Any], str] = str
    low: int = 0
    high: int = 0
    link: bool = False


def number(low: int, high: int, link: bool = False) -> Slot:
    """A slot for a whole number; with `link`, also for the letter that stands for an earlier node's value."""
    return Slot(r"-?\d+", int, str, low, high, link)


def quantity(dimension: str) -> Slot:
    """A slot for a whole number of a unit, {"n": 90, "unit": "minutes"}. Raises KeyError for an unknown dimension."""
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
    """A quantity {"n", "unit"} in the base unit of its dimension. Raises StopIteration for an unknown unit."""
    return amount["n"] * next(table[amount["unit"]] for table in UNITS.values() if amount["unit"] in table)


@dataclasses.dataclass(frozen=True)
class Item:
    """A kind of item. Its wordings are templates with slots in braces and nouns of the trade in angle brackets."""

    wordings: tuple[str, ...]
    slots: dict[str, Slot]


@dataclasses.dataclass(frozen=True)
class Operation:
    """A kind of node.

    name, family: its own name, and that of the family it belongs to.
    wordings: templates of the sentence that opens a node. slots: the slots of this sentence.
    items: item kind -> its wordings and slots.
    wants: name -> noun phrase for the value, where {of} stands for the part of a want after its colon.
    most: the largest number of items.
    draw(rng, size, fixed) -> (args, items): a random instance with about `size` items. `fixed` holds the values of
        linked slots. Raises ValueError if no instance is found.
    solve(args, items) -> (values by want, steps). Raises ValueError for an invalid instance.
    check(args, items) -> values by want, computed by a second, independent method.
    extend(rng, args, items) -> the items and one more. Raises ValueError if none is found. `extend` is None for
        operations in which an instance cannot be extended and a larger one must be drawn anew.
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
        """The names of the slots that an earlier node's value may fill."""
        return [name for name, slot in self.slots.items() if slot.link]


def grown(
    rng: random.Random, size: int, args: Args, extend: Callable[[random.Random, Args, Items], list]
) -> tuple[Args, list]:
    """(args, `size` items), each item added by `extend`. Raises ValueError if `extend` does."""
    items: list = []
    for _ in range(size):
        items = extend(rng, args, items)
    return args, items


def attempts(make: Callable[[], Any], count: int = 60) -> Any:
    """The result of the first call of `make` that raises no ValueError. Raises ValueError if all `count` calls do."""
    for _ in range(count):
        try:
            return make()
        except ValueError:
            continue
    raise ValueError(f"no instance found in {count} attempts")
