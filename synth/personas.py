"""Personas: who asks, and in which words. A persona fixes the wording of a user for a whole episode.

Personas are combinations of a name, an opening, a way of putting the request and a way of answering. Each
combination belongs to exactly one split, so that no persona of the base model's or of the training tasks ever speaks
in a held-out task.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Sequence

SPLITS = ("base", "train", "heldout")

_NAMES = ("Ada", "Ben", "Chloe", "Dmitri", "Elif", "Farid", "Grace", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mateo",
          "Nadia", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Viktor", "Wen", "Yusuf")  # fmt: skip
_OPENINGS = ("Hi, {name} here.", "Hello, I am {name}.", "{name} speaking.", "Good day, this is {name}.")
_REQUESTS = ('Please {verb} {record} "{id}"{detail}.', 'I want you to {verb} {record} "{id}"{detail}.',
             'Could you {verb} {record} "{id}"{detail}?', 'I need you to {verb} {record} "{id}"{detail}.')  # fmt: skip
_DETAILS = (', "{slot}": "{value}"', ' with "{slot}": "{value}"')
_YES = ("Yes.", "Yes, go ahead.", "Yes, please.")
_NO = ("No.", "No, leave it.", "No, I changed my mind.")


@dataclasses.dataclass(frozen=True)
class Persona:
    """One way of speaking. `request` and `detail` are templates over verb, record, id, slot and value."""

    name: str
    opening: str
    request: str
    detail: str
    yes: str
    no: str

    def ask(
        self, verb: str, record: str, record_id: str, slots: dict[str, str], also: Sequence[str] = ()
    ) -> str:
        """The first user message; `slots` are the details this user gives unasked, `also` further records."""
        # The template closes the quotes after the last identifier.
        record_id = f'" and {record} "'.join([record_id, *also])
        detail = "".join(self.detail.format(slot=slot, value=value) for slot, value in slots.items())
        request = self.request.format(verb=verb, record=record, id=record_id, detail=detail)
        return f"{self.opening.format(name=self.name)} {request}"


@functools.cache
def personas(split: str) -> tuple[Persona, ...]:
    """Every persona of a split. Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"personas: unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    everyone = [Persona(*parts) for parts in itertools.product(_NAMES, _OPENINGS, _REQUESTS, _DETAILS, _YES, _NO)]
    random.Random("personas").shuffle(everyone)  # a fixed partition, the same in every run
    return tuple(everyone[SPLITS.index(split) :: len(SPLITS)])
