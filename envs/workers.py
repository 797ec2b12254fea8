"""Scripted agents for the worlds that ask questions: careful ones earn 1.0, sloppy ones make mistakes at given rates.

They use only the question and what the tools answer. Their texts are such that a small model can learn them: they
repeat the sentence of a page that matters, and a program follows its problem sentence by sentence.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import re
from collections.abc import Generator, Mapping

from envs import actors
from envs.base import Actor, Message
from synth.corpora import facts, tables
from synth.inversion.script import Step
from synth.problems import programs
from synth.problems.catalogue import OPERATIONS
from synth.problems.graph import Problem
from synth.question import Question

Work = Generator[Step, str, None]  # yields steps, the last without a call; is sent tool results


class Slips:
    """Draws mistakes: `slips("skip")` is True with the probability rates["skip"]; names are in synth.question.SLIPS.

    rng: also used to choose how something goes wrong.
    """

    def __init__(self, rates: Mapping[str, float], rng: random.Random):
        self._rates, self.rng = rates, rng

    def __call__(self, name: str) -> bool:
        return self.rng.random() < self._rates.get(name, 0.0)


def worker(question: Question, rates: Mapping[str, float], rng: random.Random) -> Actor:
    """The agent for a generated question. rates: probability of each slip; slips that are not in it do not happen.

    The agent raises ValueError if it plays a problem for which synth.problems.programs has no program.
    """
    work = {"reasoning": _solve, "search": _find, "data": _query}[question.env](question, Slips(rates, rng))
    turn = 0

    async def act(messages: list[Message]) -> Message:
        nonlocal turn
        step = work.send(messages[-1]["content"]) if turn else next(work)
        turn += 1
        return actors.to_message(step, turn - 1)

    return act


def _answer(text: object) -> Step:
    return {"say": f"Answer: {text}"}


def _solve(question: Question, slips: Slips) -> Work:
    """Solves a problem by a program."""
    if slips("guess"):
        yield _answer(slips.rng.choice(re.findall(r"\d+", question.prompt)))
        return
    code = programs.program(_misunderstood(Problem.from_dict(question.source["problem"]), slips))
    told = yield {"call": "python", "args": {"code": code}, "say": ""}
    yield _answer(told)


def _misunderstood(problem: Problem, slips: Slips) -> Problem:
    """The problem as a sloppy reader understands it: some sentences skipped, others misread."""
    (node,) = copy.deepcopy(problem.nodes)
    kinds, items = OPERATIONS[node["op"]].items, []
    for item in node["items"]:
        if slips("skip"):
            continue
        if slips("misread"):
            alike = [name for name, kind in kinds.items() if kind.slots.keys() == kinds[item["kind"]].slots.keys()]
            item["kind"] = slips.rng.choice(alike)
            if "each" in item:
                item["each"]["unit"] = slips.rng.choice(("grams", "kilograms"))
        items.append(item)
    return dataclasses.replace(problem, nodes=[{**node, "items": items}])


def _find(question: Question, slips: Slips) -> Work:
    """Answers a question about pages: goes from page to page, each found by the name on the page before."""
    name, relations = facts.read(question.prompt)
    sentence = ""
    if slips("guess"):
        relations = []
    for relation in relations:
        if sentence and slips("skip"):
            break
        said = yield {"call": "search", "args": {"query": f"{name} register", "k": 1}, "say": sentence}
        page = yield {"call": "open", "args": {"id": json.loads(said)[0]["id"]}, "say": ""}
        text = json.loads(page)["text"]
        told = {r.name: found for r in facts.RELATIONS if (found := re.search(r.sentence.format(name, r"(\w+)"), text))}
        if not told:  # a dead end after a wrong turn
            break
        lost = slips("misread") or relation.name not in told  # after a wrong turn the sentence may be missing
        found = told[slips.rng.choice(list(told)) if lost else relation.name]
        sentence, name = found[0], found[1]
    yield {"say": f"{sentence}\nAnswer: {name}".lstrip()}


def _query(question: Question, slips: Slips) -> Work:
    """Answers a question about tables by one query."""
    subject, sql = tables.SUBJECTS[question.source["tables"]["name"]], question.source["sql"]
    if slips("guess"):
        yield _answer(slips.rng.choice((*subject.traits, 12, 40, 100)))
        return
    if slips("skip"):
        sql = tables.rash_sql(subject) + "select" + sql.partition(") select")[2]
    if slips("misread"):
        values = "|".join((*subject.groups, *subject.traits))
        for value in re.findall(rf"= '({values})'", sql):
            column = subject.groups if value in subject.groups else subject.traits
            sql = sql.replace(f"= '{value}'", f"= '{slips.rng.choice(column)}'")
    told = yield {"call": "query", "args": {"sql": sql}, "say": ""}
    yield _answer(json.loads(told)["rows"][0][0])
