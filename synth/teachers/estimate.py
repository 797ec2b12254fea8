"""Estimates what a teacher will cost: a client that sends nothing and counts what would be sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth.teachers import llm
from synth.teachers.llm import Question


class Estimate:
    """Replaces an llm.Client. It answers None where the cache has no answer, as for answers that stay malformed.

    So the program's own proposals take the place of the missing answers. Answers in the cache, and questions that were
    asked before, cost nothing. The estimate includes neither repairs of malformed answers nor the tokens of the chat
    format.

    Args:
      model, cache, prices: as in llm.Client.
      count: text -> its number of tokens.
    """

    def __init__(self, model: str, cache: Path, count: Callable[[str], int], prices: llm.Prices = llm.Prices()):
        self.ledger = llm.Ledger()  # the requests that would be sent, counted as if they had been
        self._count, self._prices = count, prices
        self._kept = llm.Client(model, cache, offline=True)
        self._asked: set[str] = set()

    def told(self) -> str:
        """The ledger in words."""
        return f"would take {self.ledger.told()}"

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """The cached answers, in order, None for all others; counts the questions that the cache does not answer."""
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
