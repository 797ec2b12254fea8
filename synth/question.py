"""The question record: what the reasoning, search and data worlds ask, with the right answer, computed by code."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

ENVS = ("reasoning", "search", "data")
# How a scripted agent of these worlds (envs/workers.py) goes wrong:
# - skip: leaves out a sentence of the problem, the rest of a search, or the cleaning of a table;
# - misread: confuses one operation, sentence of a page, or value of a column with another;
# - guess: makes up the answer without calling a tool.
SLIPS = ("skip", "misread", "guess")


def parse_weights(text: str) -> dict[str, float]:
    """Parses "reasoning=2,search=1" into {world: weight}, without the weights of 0.

    Raises ValueError for an unknown world, a weight that is not a finite number >= 0, or a sum of 0.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"reasoning.weights: expected name=number in {part!r}") from None
        if name not in ENVS or not 0 <= found[name] < math.inf:
            raise ValueError(f"reasoning.weights: {part!r}; expected one of {', '.join(ENVS)} and a weight >= 0")
    if not sum(found.values()):
        raise ValueError(f"reasoning.weights: {text!r} leaves nothing to ask, expected a weight above 0")
    return {name: weight for name, weight in found.items() if weight}


@dataclasses.dataclass(frozen=True)
class Question:
    """A frozen, JSON-serialisable question. The fields from id to round (its provenance) are as in synth.task.Task.

    env: the world that asks it: "reasoning" | "search" | "data".
    prompt: the user's message.
    answer: the right answer, as text.
    source: what else the world needs. See envs/search.py and envs/data.py for "search" and "data". For "reasoning":
        - {"problem": a synth.problems.graph.Problem as data} for a generated problem;
        - {} for a question from a file;
        - {"teacher": kind} for a teacher's rewrite.
    """

    id: str
    root: str
    parent: str
    operator: str
    seed: int
    round: int
    env: str
    prompt: str
    answer: str
    source: dict[str, Any]

    def to_json(self) -> str:
        """JSON text; equal questions give equal bytes."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Question:
        """Inverse of `to_json`. Raises ValueError for malformed JSON, or naming the missing or unknown fields."""
        record = json.loads(text)
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(record) != expected:
            missing, unknown = sorted(expected - set(record)), sorted(set(record) - expected)
            raise ValueError(f"question record: missing fields {missing}, unknown {unknown}")
        return cls(**record)
