"""Patterns of problems, and how they grow between rounds: worst first, by operators that answer what went wrong."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from synth.problems import catalogue, operators, trades
from synth.problems.graph import Problem
from synth.problems.operators import Operator


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One problem whose numbers and persona its questions draw anew: what a workflow is to the agentic flywheel.

    id: "<root>@r<round>". root: the round-0 pattern it descends from, which belongs to one split for good. parent: the
    pattern it was grown from, "" in round 0. operator: what was applied to the parent, "" for nothing.
    """

    id: str
    root: str
    parent: str
    operator: str
    round: int
    split: str
    problem: Problem

    def grown(self, problem: Problem, operator: str) -> Pattern:
        """The child pattern of the next round."""
        number = self.round + 1
        return dataclasses.replace(
            self, id=f"{self.root}@r{number}", parent=self.id, operator=operator, round=number, problem=problem
        )

    def kept(self) -> Pattern:
        """The same pattern carried into the next round."""
        return self.grown(self.problem, "")

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `from_dict` is the inverse."""
        return {**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, "problem": self.problem.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Pattern:
        """Inverse of `to_dict`."""
        return cls(**{**record, "problem": Problem.from_dict(record["problem"])})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the policy did with one pattern's questions in a round. charges: "operation/kind", see charge.py."""

    episodes: int = 0
    passes: int = 0
    charges: tuple[str, ...] = ()

    @property
    def pass_rate(self) -> float:
        """Mean of a Beta(1, 1) posterior, so patterns seen once are not taken for certain."""
        return (self.passes + 1) / (self.episodes + 2)

    @property
    def focus(self) -> str:
        """The operation that most failed attempts went wrong at, "" if none shows."""
        counts = Counter(charge.partition("/")[0] for charge in sorted(self.charges))
        return counts.most_common(1)[0][0] if counts else ""

    def calls_for(self, operator: Operator) -> int:
        """How many failed attempts went wrong in a way that the operator answers."""
        return sum(charge.partition("/")[2] in operator.answers for charge in self.charges)


def roots(split: str, count: int, families: Sequence[str], seed: int) -> list[Pattern]:
    """`count` round-0 patterns of a split: one node of two or three items each, families in rotation."""
    found = []
    for i in range(count):
        family = families[i % len(families)]
        root = f"{split}-{i:05d}-{family.replace(' ', '_')}"
        rng = random.Random(f"{seed}/problem/{root}")
        node = operators.draw_node(rng.choice(catalogue.FAMILIES[family]), rng, rng.randint(2, 3), {})
        problem = Problem([node], [], rng.choice(trades.personas(split)))
        found.append(Pattern(f"{root}@r0", root, "", "", 0, split, problem))
    return found


def _applied(pattern: Pattern, options: Sequence[Operator], focus: str, seed: int) -> Pattern:
    """The pattern grown by the first of the operators that fits it; carried over if none does."""
    for operator in options:
        rng = random.Random(f"{seed}/{pattern.id}/{operator.name}")
        try:
            return pattern.grown(operator.apply(pattern.problem, rng, pattern.split, focus), operator.name)
        except ValueError:
            continue
    return pattern.kept()


def grow(
    patterns: Sequence[Pattern], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], share: float, seed: int
) -> list[Pattern]:
    """The next round's training patterns: the worst `share` grown where the policy failed, the rest carried over.

    Among the operators that are used least so far, what the pattern's failed attempts are charged to decides.
    """
    ranked = sorted(patterns, key=lambda p: (outcomes.get(p.id, Outcome()).pass_rate, p.id))
    used: Counter[str] = Counter()
    grown = {pattern.root: pattern.kept() for pattern in patterns}
    for pattern in ranked[: round(share * len(ranked))]:
        outcome, rng = outcomes.get(pattern.id, Outcome()), random.Random(f"{seed}/grow/{pattern.id}")
        tie = {o.name: rng.random() for o in chosen}
        options = sorted(chosen, key=lambda o: (used[o.name], -outcome.calls_for(o), tie[o.name]))
        child = _applied(pattern, options, outcome.focus, seed)
        used[child.operator] += 1
        grown[pattern.root] = child
    return [grown[pattern.root] for pattern in patterns]


def grow_like(patterns: Sequence[Pattern], examples: Sequence[Pattern], seed: int) -> list[Pattern]:
    """The next round's held-out patterns: with the training patterns' mix of operators, not from held-out failures."""
    mix = [example.operator for example in examples]
    rng = random.Random(f"{seed}/grow_like/{patterns[0].round if patterns else 0}")
    found = []
    for pattern in patterns:
        name = rng.choice(mix)
        found.append(_applied(pattern, [operators.OPERATORS[name]] if name else [], "", seed))
    return found
