"""Personas: who the user is and how the user speaks. A persona fixes the user's wording for a whole episode.

A persona combines a name, an opening, a form of request, a form of detail, a "yes" and a "no". Each combination belongs
to exactly one split. So no persona from the tasks of the base model or from training tasks speaks in a held-out task.
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
    """One way of speaking.

    name: the user's first name. yes, no: the answers to a request for consent.
    opening: template with the placeholder {name}.
    request: template with {verb}, {record}, {id} and {detail}. detail: template with {slot} and {value}.
    """

    name: str
    opening: str
    request: str
    detail: str
    yes: str
    no: str

    def ask(self, verb: str, record: str, record_id: str, slots: dict[str, str], also: Sequence[str] = ()) -> str:
        """The first user message.

        Args:
          verb: what is to be done, such as "refund".
          record: the kind of record, such as "order".
          record_id: its identifier.
          slots: {detail: value}, the details that this user gives without being asked.
          also: identifiers of further records in the same request.
        """
        # The request template puts one pair of quotes around {id}; further identifiers close and reopen them.
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
    random.Random("personas").shuffle(everyone)  # a fixed seed, so that the partition is the same in every run
    return tuple(everyone[SPLITS.index(split) :: len(SPLITS)])
