"""The paper's own way to harder problems: a teacher rewrites problems that the policy failed, and solves them itself.

Every failed question gives two candidates:
- "moved" only changes the persona and its world, so that the answer stays the known one;
- "harder" also changes the structure before that, so that its answer is unknown.

The teacher solves each candidate three times. A candidate is dropped if the three answers differ, or if they agree on
an answer that is known to be wrong. The latter can only be noticed for "moved" candidates. Its frequency there
estimates how often the teacher agrees on a wrong answer to a "harder" one.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synth.problems import trades
from synth.question import Question
from synth.teachers import llm

SOLVES = 3  # how many times the teacher solves each candidate
KINDS = ("moved", "harder")

Ask = Callable[[Sequence[llm.Question]], list[Any]]  # synth.teachers.llm.Client.ask_all
Same = Callable[[str, str], bool]  # whether two answers are equal

_SYSTEM = {"role": "system", "content": "You write and solve problems. You answer with one JSON object."}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 4000}
PROBLEM = {"type": "object", "properties": {"problem": _TEXT}, "required": ["problem"], "additionalProperties": False}
_SOLVED = {"working": {"type": "string"}, "answer": {"type": "string", "minLength": 1, "maxLength": 120}}
SOLUTION = {"type": "object", "properties": _SOLVED, "required": ["working", "answer"], "additionalProperties": False}
_HARDER = (
    "Rewrite the problem below so that it is harder: change its numbers, add a constraint, or build a second concept "
    "on top. It must have exactly one answer, a number or a word. Schema: {schema}\n\n{problem}"
)
_MOVED = (
    "Retell the problem below as {name}, a {trade}, would meet it at work. Change neither its numbers nor what is "
    "asked, so that the answer stays the same. Schema: {schema}\n\n{problem}"
)
_SOLVE = (
    "Solve the problem below step by step (independent attempt {attempt}). The answer is a whole number, a fraction "
    "such as 3/8, or a word. Schema: {schema}\n\n{problem}"
)


@dataclasses.dataclass
class Tally:
    """Counts of what became of the candidates of one kind.

    asked: all candidates.
    unusable: the teacher gave no valid problem, or not all of its solutions were valid.
    disagreed: the teacher's answers differ.
    agreed_wrong: the teacher's answers agree, but the answer is known to be wrong.
    kept: the teacher's answers agree, and the answer is not known to be wrong.
    """

    asked: int = 0
    unusable: int = 0
    disagreed: int = 0
    agreed_wrong: int = 0
    kept: int = 0


def _question(schema: llm.Schema, form: str, **parts: Any) -> llm.Question:
    text = form.format(schema=schema, **parts)
    return llm.Question([_SYSTEM, {"role": "user", "content": text}], schema)


def _problems(ask: Ask, asked: Mapping[str, llm.Question]) -> dict[str, str]:
    """Candidate -> the problem that the teacher wrote for it. Candidates without a valid problem are left out."""
    answers = ask(list(asked.values()))
    return {name: answer["problem"] for name, answer in zip(asked, answers, strict=True) if answer is not None}


def rewrite(
    failed: Sequence[Question], number: int, seed: int, ask: Ask, same: Same
) -> tuple[list[Question], dict[str, Tally]]:
    """(the candidates of round `number` that are kept, sorted by id; kind of candidate -> counts).

    Args:
      failed: questions of the round before that the policy failed; candidates inherit their roots and splits.
      number: the round.
      seed: the seed from which personas are drawn.
      ask: asks the teacher; answers are in the order of the questions, None for those that stayed malformed.
      same: whether two answers are equal.
    Raises:
      ValueError: a root belongs to no split.
      Exception: whatever `ask` raises, such as synth.teachers.llm.NoAnswer.
    """
    origin, kind_of = {}, {}
    for question in failed:
        for kind in KINDS:
            name = f"{question.root}-{kind}@r{number}"
            origin[name], kind_of[name] = question, kind
    harder = {
        name: _question(PROBLEM, _HARDER, problem=q.prompt) for name, q in origin.items() if kind_of[name] == "harder"
    }
    texts = {name: q.prompt for name, q in origin.items() if kind_of[name] == "moved"} | _problems(ask, harder)
    retold = {}
    for name, text in texts.items():
        persona = random.Random(f"{seed}/rewrite/{name}").choice(trades.personas(origin[name].root.partition("-")[0]))
        retold[name] = _question(PROBLEM, _MOVED, name=persona.name, trade=persona.trade, problem=text)
    texts = _problems(ask, retold)
    solutions = ask(
        [_question(SOLUTION, _SOLVE, attempt=k + 1, problem=text) for text in texts.values() for k in range(SOLVES)]
    )
    found, tallies = [], {kind: Tally() for kind in KINDS}
    for name in origin:
        tallies[kind_of[name]].asked += 1
        tallies[kind_of[name]].unusable += name not in texts
    for index, (name, text) in enumerate(texts.items()):
        question, kind = origin[name], kind_of[name]
        known = question.answer if kind == "moved" else None
        verdict, answer = _verdict(solutions[index * SOLVES : (index + 1) * SOLVES], known, same)
        setattr(tallies[kind], verdict, getattr(tallies[kind], verdict) + 1)
        if verdict == "kept":
            provenance = (question.root, question.id, f"teacher_{kind}", seed, number)
            found.append(Question(f"{name}/0", *provenance, "reasoning", text, answer, {"teacher": kind}))
    return sorted(found, key=lambda q: q.id), tallies


def _verdict(solutions: Sequence[dict[str, str] | None], known: str | None, same: Same) -> tuple[str, str]:
    """(the field of Tally that counts the candidate, its answer or ""). `known`: its answer, None if unknown."""
    if None in solutions:
        return "unusable", ""
    first, *others = (solution["answer"] for solution in solutions)
    if not all(same(first, other) for other in others):
        return "disagreed", ""
    if known is not None and not same(known, first):
        return "agreed_wrong", ""
    return "kept", known or first


def worst(questions: Sequence[Question], counts: dict[str, list], most: int) -> list[Question]:
    """Up to `most` problems that the policy failed at least once, lowest pass rate first, one per pattern.

    Problems that a teacher has rewritten already are left out.

    Args:
      questions: questions of the round before.
      counts: pattern id -> [episodes, passes, ...] of the round before.
      most: the largest number of problems.
    """
    rates = {name: passes / episodes for name, (episodes, passes, *_) in counts.items() if passes < episodes}
    first: dict[str, Question] = {}
    for question in questions:
        name = f"{question.root}@r{question.round}"
        if question.env == "reasoning" and name in rates and "teacher" not in question.source:
            first.setdefault(name, question)
    return [first[name] for name in sorted(first, key=lambda n: (rates[n], n))[:most]]
