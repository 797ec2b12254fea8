"""What a teacher will cost: a client that sends nothing and counts what would be sent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth import llm
from synth.llm import Question


@dataclasses.dataclass
class Counts(llm.Ledger):
    """What would be asked for, as if it had been."""

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """The cost at these prices of a million tokens."""
        return (self.prompt_tokens * prompt_price + self.completion_tokens * completion_price) / 1e6


class Estimate:
    """Stands where a synth.llm.Client does. Answers that are not in the cache are None, as if they stayed malformed, so
    the program's own proposals take their places.

    Answers in the cache, and those that were asked for before, cost nothing. Malformed answers, which cost a
    repetition, and the chat format's own tokens are not foreseen.

    Args:
      model, cache: as of the client. count: tokens of a text.
    """

    def __init__(self, model: str, cache: Path, count: Callable[[str], int]):
        self.ledger = Counts()
        self._count = count
        self._kept = llm.Client(model, cache, offline=True)
        self._asked: set[str] = set()

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
                self.ledger.answers += 1
                self.ledger.prompt_tokens += sum(self._count(message["content"]) for message in question.messages)
                self.ledger.completion_tokens += self._count(question.typical or json.dumps(question.schema))
                return None
        self.ledger.cached += 1
        return found
