"""Patterns of problems, and how they grow between rounds: those with the lowest pass rates first."""

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
    """A problem as a pattern for questions, each of which draws new numbers and a new persona.

    Patterns are to the reasoning flywheel what workflows are to the agentic one.

    id: "<root>@r<round>".
    root: the round-0 pattern that this one descends from; it belongs to one split for good.
    parent: id of the previous round's pattern that this one was made from; "" in round 0.
    operator: the operator that was applied to the parent's problem; "" for none.
    round: the flywheel round.
    split: "base" | "train" | "heldout", inherited from the root.
    problem: the problem whose structure the questions share.
    """

    id: str
    root: str
    parent: str
    operator: str
    round: int
    split: str
    problem: Problem

    def grown(self, problem: Problem, operator: str) -> Pattern:
        """The next round's pattern, in which `operator` made `problem` from this one."""
        number = self.round + 1
        return dataclasses.replace(
            self, id=f"{self.root}@r{number}", parent=self.id, operator=operator, round=number, problem=problem
        )

    def kept(self) -> Pattern:
        """The next round's pattern with the same problem."""
        return self.grown(self.problem, "")

    def to_dict(self) -> dict[str, Any]:
        """The pattern as JSON data."""
        return {**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, "problem": self.problem.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Pattern:
        """Inverse of `to_dict`. Raises KeyError or TypeError for missing or unknown keys."""
        return cls(**{**record, "problem": Problem.from_dict(record["problem"])})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results of the policy on one pattern's questions in a round.

    episodes, passes: counts. charges: where failed episodes went wrong, as "<operation>/<kind>" (see charge.py).
    """

    episodes: int = 0
    passes: int = 0
    charges: tuple[str, ...] = ()

    @property
    def pass_rate(self) -> float:
        """Posterior mean of the pass rate under a Beta(1, 1) prior, which keeps few episodes from giving 0 or 1."""
        return (self.passes + 1) / (self.episodes + 2)

    @property
    def focus(self) -> str:
        """The operation at which the most failed episodes went wrong; "" if there is none."""
        counts = Counter(charge.partition("/")[0] for charge in sorted(self.charges))
        return counts.most_common(1)[0][0] if counts else ""

    def calls_for(self, operator: Operator) -> int:
        """The number of failed episodes whose kind of failure is among the operator's `answers`."""
        return sum(charge.partition("/")[2] in operator.answers for charge in self.charges)


def roots(split: str, count: int, families: Sequence[str], seed: int) -> list[Pattern]:
    """`count` round-0 patterns of a split; they rotate through the families.

    Each has a single node, drawn with a size of 2 or 3 items. Raises KeyError for an unknown family, ValueError for an
    unknown split or if no instance is found.
    """
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
    """The pattern grown by the first of the operators that can be applied to it; carried over if none can."""
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
    """The next round's training patterns, one for each of this round's and in the same order.

    The share of patterns with the lowest pass rates grows, and all others are carried over. A pattern grows by the
    least used operator that can be applied; among equally used ones, by the one that answers the most of its failures.

    Args:
      patterns: this round's training patterns.
      outcomes: pattern id -> the policy's results; patterns without an entry were not measured.
      chosen: the operators that may be used.
      share: the share of the patterns that grows, in [0, 1].
      seed: the run's seed.
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
    """The next round's held-out patterns, one for each of this round's and in the same order.

    Operators are drawn from the mix by which the training patterns grew, so that failures on held-out questions have no
    influence. `examples`: the next round's training patterns, at least one; IndexError if there is none.
    """
    mix = [example.operator for example in examples]
    rng = random.Random(f"{seed}/grow_like/{patterns[0].round if patterns else 0}")
    found = []
    for pattern in patterns:
        name = rng.choice(mix)
        found.append(_applied(pattern, [operators.OPERATORS[name]] if name else [], "", seed))
    return found
