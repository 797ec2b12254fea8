"""Personas of problems: a name, a trade, an opening and a choice of wordings. Sentences use the nouns of the trade.

Each combination belongs to exactly one split, so that no persona of a training problem tells a held-out one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random

from synth.personas import SPLITS

NAMES = ("Ada", "Ben", "Chloe", "Dmitri", "Elif", "Farid", "Grace", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mateo",
         "Nadia", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Viktor", "Wen", "Yusuf")  # fmt: skip

# trade -> its nouns: the place of work, the things it counts, their containers, the people it works with, its money.
TRADES: dict[str, dict[str, str]] = {
    "baker": {"place": "bakery", "items": "loaves", "boxes": "trays", "people": "apprentices", "coins": "euros"},
    "chemist": {"place": "laboratory", "items": "flasks", "boxes": "racks", "people": "assistants", "coins": "francs"},
    "physicist": {"place": "workshop", "items": "lenses", "boxes": "cases", "people": "students", "coins": "pounds"},
    "trader": {"place": "warehouse", "items": "parcels", "boxes": "pallets", "people": "partners", "coins": "dollars"},
    "farmer": {"place": "farm", "items": "melons", "boxes": "crates", "people": "pickers", "coins": "pesos"},
    "nurse": {"place": "clinic", "items": "bandages", "boxes": "cartons", "people": "carers", "coins": "kroner"},
    "librarian": {"place": "library", "items": "books", "boxes": "shelves", "people": "readers", "coins": "crowns"},
    "sailor": {"place": "harbour", "items": "ropes", "boxes": "chests", "people": "deckhands", "coins": "rupees"},
    "gardener": {"place": "nursery", "items": "bulbs", "boxes": "beds", "people": "helpers", "coins": "zloty"},
    "carpenter": {"place": "yard", "items": "planks", "boxes": "stacks", "people": "joiners", "coins": "lira"},
    "cook": {"place": "kitchen", "items": "dumplings", "boxes": "baskets", "people": "waiters", "coins": "yen"},
    "tailor": {"place": "studio", "items": "shirts", "boxes": "rails", "people": "sewers", "coins": "rand"},
}

OPENINGS = (
    "I am {name}, a {trade}.",
    "This is {name}, and I work as a {trade}.",
    "My name is {name}, a {trade} by trade.",
)
DEFINITIONS = ("Let {letter} be {phrase}.", "Call {phrase} {letter}.", "Write {letter} for {phrase}.")
QUESTIONS = ("What is {phrase}?", "Find {phrase}.", "Work out {phrase}.", "Tell me {phrase}.")
DISTRACTORS = {  # kind -> wordings of a sentence with a number on which nothing depends
    "windows": ("The <place> has {n} windows.",),
    "years": ("The <place> opened {n} years ago.",),
    "age": ("My oldest customer is {n} years old.",),
    "hats": ("Over the years I have worn out {n} hats.",),
    "steps": ("From my door to the <place> it is {n} steps.",),
}


@dataclasses.dataclass(frozen=True)
class Persona:
    """Who tells a problem.

    opening: template of the first sentence. wording: the number of the alternative that this persona uses everywhere.
    """

    name: str
    trade: str
    opening: str
    wording: int

    @property
    def nouns(self) -> dict[str, str]:
        """The trade's nouns, {placeholder: noun}."""
        return TRADES[self.trade]

    def pick(self, alternatives: tuple[str, ...]) -> str:
        """This persona's choice among alternative wordings."""
        return alternatives[self.wording % len(alternatives)]

    def to_dict(self) -> dict[str, str | int]:
        """The persona as JSON data."""
        return dataclasses.asdict(self)


@functools.cache
def personas(split: str) -> tuple[Persona, ...]:
    """Every persona of a split. Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"personas: unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    everyone = [Persona(*parts) for parts in itertools.product(NAMES, TRADES, OPENINGS, range(12))]
    random.Random("problem personas").shuffle(everyone)  # a fixed seed, so that the partition is the same in every run
    return tuple(everyone[SPLITS.index(split) :: len(SPLITS)])
