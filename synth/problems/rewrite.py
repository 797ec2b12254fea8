"""The paper's own way to harder problems: a teacher rewrites what the policy failed, and its own agreement is the gate.

Every failed question gives two candidates. "moved" only changes the persona and its world, so the answer stays what
code knows it is; "harder" changes the structure first, and nobody knows its answer. The teacher solves each three
times. What it does not agree on is dropped; what it agrees on against the known answer is dropped and counted: that
count over the moved ones estimates how often agreement deceives in the harder ones.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synth.problems import trades
from synth.question import Question
from synth.teachers import llm

SOLVES = 3
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
    """What became of the candidates of one kind.

    unusable: the teacher gave no usable problem, or no usable solution. agreed_wrong: its solutions agree on what is
    known to be wrong.
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
    """Candidate -> the problem that the teacher gave for it; those it gave none for are left out."""
    answers = ask(list(asked.values()))
    return {name: answer["problem"] for name, answer in zip(asked, answers, strict=True) if answer is not None}


def rewrite(
    failed: Sequence[Question], number: int, seed: int, ask: Ask, same: Same
) -> tuple[list[Question], dict[str, Tally]]:
    """The candidates of round `number` that the teacher agrees on, and what became of all of them by kind.

    Args:
      failed: questions of the round before; their roots and splits are inherited.
      seed: of the personas.
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
    """(what becomes of a candidate: a field of Tally, its answer)."""
    if None in solutions:
        return "unusable", ""
    first, *others = (solution["answer"] for solution in solutions)
    if not all(same(first, other) for other in others):
        return "disagreed", ""
    if known is not None and not same(known, first):
        return "agreed_wrong", ""
    return "kept", known or first


def worst(questions: Sequence[Question], counts: dict[str, list], most: int) -> list[Question]:
    """At most `most` problems that the policy failed, lowest pass rate first, one per pattern.

    counts: pattern id -> [episodes, passes, ...] of the round before.
    """
    rates = {name: passes / episodes for name, (episodes, passes, *_) in counts.items() if passes < episodes}
    first: dict[str, Question] = {}
    for question in questions:
        name = f"{question.root}@r{question.round}"
        if question.env == "reasoning" and name in rates and "teacher" not in question.source:
            first.setdefault(name, question)
    return [first[name] for name in sorted(first, key=lambda n: (rates[n], n))[:most]]
