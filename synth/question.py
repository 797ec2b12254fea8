"""The record of a question: what the reasoning, search and data worlds ask, and the answer that code knows."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

ENVS = ("reasoning", "search", "data")
# How a scripted agent of these worlds (envs/workers.py) goes wrong. skip: it leaves out a sentence of the problem, the
# rest of a search, the cleaning of a table. misread: it takes an operation, a sentence of a page, a value of a column
# for another. guess: it makes up the answer, without a tool.
SLIPS = ("skip", "misread", "guess")


def parse_weights(text: str) -> dict[str, float]:
    """The weights in "reasoning=2,search=1". Raises ValueError naming what is wrong."""
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
        raise ValueError(f"reasoning.weights: {text!r} leaves nothing to ask")
    return {name: weight for name, weight in found.items() if weight}


@dataclasses.dataclass(frozen=True)
class Question:
    """A frozen, JSON-serialisable question. Provenance (id to round) is as in synth.task.Task.

    env: the world that asks it: "reasoning" | "search" | "data".
    prompt: the user's message. answer: the right answer, as text.
    source: what the world needs beside it: for "reasoning" {"problem": a synth.problems.graph.Problem as data}, {}
        for a question from a file, {"teacher": kind} for a teacher's rewrite; see envs/search.py and envs/data.py for
        those of their worlds.
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
        """JSON text; same question, same bytes."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Question:
        """Inverse of `to_json`. Raises ValueError naming the missing or unknown fields."""
        record = json.loads(text)
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(record) != expected:
            missing, unknown = sorted(expected - set(record)), sorted(set(record) - expected)
            raise ValueError(f"question record: missing fields {missing}, unknown {unknown}")
        return cls(**record)
