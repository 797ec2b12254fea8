"""What a teacher will cost: a client that sends nothing and counts what would be sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth.teachers import llm
from synth.teachers.llm import Question


class Estimate:
    """Stands where an llm.Client does. Answers that are not in the cache are None, as if they stayed malformed, so
    the program's own proposals take their places.

    Answers in the cache, and those that were asked for before, cost nothing. Malformed answers, which cost a
    repetition, and the chat format's own tokens are not foreseen.

    Args:
      model, cache, prices: as of the client. count: tokens of a text.
    """

    def __init__(self, model: str, cache: Path, count: Callable[[str], int], prices: llm.Prices = llm.Prices()):
        self.ledger = llm.Ledger()  # what would be asked for, as if it had been
        self._count, self._prices = count, prices
        self._kept = llm.Client(model, cache, offline=True)
        self._asked: set[str] = set()

    def told(self) -> str:
        """The ledger in words."""
        return f"would take {self.ledger.told()}"

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """Counts the questions that are not answered by the cache."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Any:
        try:
            (found,) = self._kept.ask_all([question])
        except llm.NoAnswer:
            found, asked = None, json.dumps(question.messages)
            if asked not in self._asked:
                self._asked.add(asked)
                tokens = (
                    sum(self._count(message["content"]) for message in question.messages),
                    self._count(question.typical or json.dumps(question.schema)),
                )
                self.ledger.add(*tokens, self._prices.cost(*tokens))
                return None
        self.ledger.cached += 1
        return found
