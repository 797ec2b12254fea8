"""Patterns of problems and the questions made of them; how patterns grow between rounds; the gates.

A pattern is one problem whose numbers and persona its questions draw anew: what a workflow is to the agentic flywheel.
Roots belong to one split and so does everything that descends from them.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from synth import gates, generate
from synth.generate import Outcome
from synth.problems import catalogue, grammar, graph, operators, trades
from synth.problems.graph import Problem
from synth.problems.operators import Operator
from synth.question import Question

NGRAM = 13  # words in a row that no question may share with an evaluation set
Charges = Mapping[str, Sequence[str]]  # pattern id -> the operations that failed attempts went wrong at


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One problem of one round; the fields are those of synth.workflow.Workflow."""

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


def questions(patterns: Sequence[Pattern], variants: int, seed: int) -> list[Question]:
    """`variants` questions per pattern, each with numbers of its own; fewer where no further numbers are found."""
    found = []
    for pattern in patterns:
        for variant in range(variants):
            rng = random.Random(f"{seed}/variant/{pattern.id}/{variant}")
            try:
                problem = operators.resample(pattern.problem, rng)
            except ValueError:
                continue
            # The pattern's own trade, or moving to another one would be undone here.
            same = [p for p in trades.personas(pattern.split) if p.trade == pattern.problem.persona.trade]
            problem = dataclasses.replace(problem, persona=rng.choice(same))
            found.append(
                Question(
                    id=f"{pattern.id}/{variant}",
                    root=pattern.root,
                    parent=pattern.parent,
                    operator=pattern.operator,
                    seed=seed,
                    round=pattern.round,
                    env="reasoning",
                    prompt=grammar.render(problem),
                    answer=graph.answer_text(graph.solve(problem).values[-1]),
                    source={"problem": problem.to_dict()},
                )
            )
    return found


def expander(charges: Charges) -> Callable[[Pattern, Operator, int], Pattern]:
    """expand(pattern, operator, seed) for synth.generate.grow, aimed at the operation each pattern failed at most.

    A pattern that the operator cannot grow is carried over with other numbers.
    """

    def expand(pattern: Pattern, operator: Operator, seed: int) -> Pattern:
        rng = random.Random(f"{seed}/{pattern.id}/{operator.name}")
        counts = Counter(charges.get(pattern.id, ()))
        focus = max(sorted(counts), key=counts.__getitem__) if counts else ""
        try:
            return pattern.grown(operator.apply(pattern.problem, rng, pattern.split, focus), operator.name)
        except ValueError:
            return pattern.kept()

    return expand


def grow(
    patterns: Sequence[Pattern],
    outcomes: Mapping[str, Outcome],
    charges: Charges,
    chosen: Sequence[Operator],
    share: float,
    seed: int,
) -> list[Pattern]:
    """The next round's training patterns: see synth.generate.grow."""
    return generate.grow(patterns, outcomes, chosen, share, seed, expander(charges))


def grow_like(patterns: Sequence[Pattern], examples: Sequence[Pattern], seed: int) -> list[Pattern]:
    """The next round's held-out patterns: see synth.generate.grow_like."""
    return generate.grow_like(patterns, examples, seed, operators.OPERATORS, expander({}))


def ngrams(text: str) -> set[tuple[str, ...]]:
    """Every NGRAM words in a row, in lower case and without punctuation."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def evaluation_ngrams(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """What training questions must not share with these texts."""
    return set().union(*map(ngrams, texts))


def fingerprint(question: Question) -> str:
    """Equal for questions that differ in persona, distractors and wording at most; without a graph, the prompt."""
    if not question.source.get("problem"):
        return question.prompt
    return graph.fingerprint(Problem.from_dict(question.source["problem"]))


def check(question: Question, forbidden: set[tuple[str, ...]]) -> str | None:
    """The first gate that a question fails, as "gate: detail", or None.

    answer: the stored answer equals the one found by the other way of every operation. rendering: the prompt is read
    back as the same graph, in exactly one way. overlap: no NGRAM words in a row of an evaluation set.
    """
    problem = Problem.from_dict(question.source["problem"])
    try:
        recomputed = graph.answer_text(graph.check(problem))
    except ValueError as error:
        return f"answer: {error}"
    if recomputed != question.answer:
        return f"answer: {question.answer}, but recomputed {recomputed}"
    try:
        read = grammar.parse(question.prompt)
    except ValueError as error:
        return f"rendering: {error}"
    persona = problem.persona
    wanted = {"nodes": problem.nodes, "distractors": problem.distractors, "name": persona.name, "trade": persona.trade}
    if read != wanted:
        return f"rendering: read back as {read}"
    if shared := ngrams(question.prompt) & forbidden:
        return f"overlap: {' '.join(min(shared))!r} stands in an evaluation set"
    return None


def select(
    candidates: Iterable[Question], forbidden: set[tuple[str, ...]], taken: dict[str, str]
) -> tuple[list[Question], gates.Report]:
    """The problems that pass every gate; see `check` and synth.gates.sift."""
    return gates.sift(candidates, lambda question: check(question, forbidden), fingerprint, taken)
