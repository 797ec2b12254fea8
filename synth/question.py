"""The record of a question: what the reasoning, search and data worlds ask, and the answer that code knows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Question:
    """A frozen, JSON-serialisable question. Provenance (id to round) is as in synth.task.Task.

    env: the world that asks it: "reasoning" | "search" | "data".
    prompt: the user's message. answer: the right answer, as text.
    source: what the world needs beside it: for "reasoning" {"problem": a synth.problems.graph.Problem as data}, or {}
        for a question from a file; see envs/search.py and envs/data.py for theirs.
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
