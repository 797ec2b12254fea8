"""Generates questions from patterns of problems, and the gates that these questions must pass."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterable, Sequence

from synth.gating.gates import Report
from synth.problems import grammar, graph, operators, trades
from synth.problems.graph import Problem
from synth.problems.growth import Pattern
from synth.question import Question

NGRAM = 13  # no question may share so many words in a row with an evaluation set


def questions(patterns: Sequence[Pattern], variants: int, seed: int) -> list[Question]:
    """Up to `variants` questions per pattern, each with newly drawn numbers; fewer if drawing numbers fails."""
    found = []
    for pattern in patterns:
        for variant in range(variants):
            rng = random.Random(f"{seed}/variant/{pattern.id}/{variant}")
            try:
                problem = operators.resample(pattern.problem, rng)
            except ValueError:
                continue
            # Personas of the pattern's trade only, because the operator "move" may have chosen this trade.
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


def ngrams(text: str) -> set[tuple[str, ...]]:
    """All runs of NGRAM words in a row, in lower case and without punctuation."""
    words = _words(text)
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def evaluation_ngrams(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """All runs of NGRAM words in the texts of evaluation sets: what `check` takes as `forbidden`."""
    return set().union(*map(ngrams, texts))


def fingerprint(question: Question) -> str:
    """A text that is equal for questions that count as duplicates.

    Generated problems are duplicates if they differ only in persona, distractors and wording. Other questions are
    duplicates if they have the same words and the same corpus or tables.
    """
    if question.source.get("problem"):
        return graph.fingerprint(Problem.from_dict(question.source["problem"]))
    about = {key: value for key, value in question.source.items() if key in ("corpus", "tables")}
    return json.dumps([_words(question.prompt), about], sort_keys=True)


def _words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def check(question: Question, forbidden: set[tuple[str, ...]] = frozenset()) -> str | None:
    """The first gate that a question fails, as "gate: detail"; None if it passes all.

    The gates are, the last two for generated problems only:
    - overlap: the prompt shares no run of NGRAM words with `forbidden`;
    - answer: the stored answer equals the one that each operation's second method computes;
    - rendering: the prompt can be read in exactly one way, and this gives the same graph and persona.
    """
    if shared := ngrams(question.prompt) & forbidden:
        return f"overlap: {' '.join(min(shared))!r} also occurs in an evaluation set"
    if not question.source.get("problem"):
        return None
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
    return None


def select(
    candidates: Iterable[Question], check: Callable[[Question], str | None], taken: dict[str, str]
) -> tuple[list[Question], Report]:
    """(the questions that pass every gate, the counts).

    Args:
      candidates: questions, in order.
      check: returns the first gate that a candidate fails on its own, as "gate: detail", or None.
      taken: fingerprint -> id, for all questions accepted before, in all splits. Accepted questions are added to it, so
        that no question occurs twice, neither within a split nor across splits.
    """
    report, accepted = Report(), []
    for question in candidates:
        report.seen += 1
        mark = fingerprint(question)
        problem = f"duplicate: of {taken[mark]}" if mark in taken else check(question)
        if problem:
            gate = problem.split(":")[0]
            report.rejected[gate] += 1
            report.examples.setdefault(gate, f"{question.id}: {problem}")
            continue
        taken[mark] = question.id
        accepted.append(question)
    report.passed = len(accepted)
    return accepted, report
