"""The reasoning world: a problem, a Python tool, an answer that code knows.

Reward: 1.0 for a right answer after a program that ran, `untooled` (0.9 in the paper) for a right answer without one,
0 for anything else. Format rules that are broken are named among the violations; they cost what they cost, which is the
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs import actors, answers, asking
from envs.base import Actor
from envs.sandbox import python_tool
from envs.sandbox.python_tool import PythonTool
from synth.problems import catalogue, charge, generate, growth, operators
from synth.problems.graph import Problem
from synth.question import Question

UNTOOLED = 0.9  # the paper's reward of a right answer without a tool call


class Reasoning(asking.Asking):
    """One episode of one problem; implements envs.base.Env."""

    tools = [python_tool.SCHEMA]
    system = "Solve the problem. The python tool runs programs for you."

    def __init__(self, question: Question, untooled: float = UNTOOLED, tool: PythonTool | None = None):
        super().__init__(question)
        self._untooled, self._tool = untooled, tool or python_tool.shared()

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Runs a program."""
        result = await self._tool.call(arguments["code"])
        return result.ok, result.text

    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """See the module."""
        tooled = any(ok for _, _, ok in self.calls)
        return (1.0 if tooled else self._untooled) if right else 0.0, {"tool_call": tooled}

    def node(self, answer: str | None) -> str | None:
        """ "operation/kind" as synth.problems.charge finds it."""
        if not self.question.source.get("problem"):
            return None
        given = None if answer is None else answers.number(answer)
        given = answer if given is None else given
        found = charge.charge(Problem.from_dict(self.question.source["problem"]), self.said, given)
        return None if found is None else "/".join(found)


def make(question: Question, untooled: float = UNTOOLED) -> Reasoning:
    """A fresh episode of a problem."""
    return Reasoning(question, untooled)


def oracle(question: Question) -> Actor:
    """The actor that earns reward 1.0: a program that ends in the answer, then the answer."""
    return actors.scripted(
        [
            {"call": "python", "args": {"code": repr(question.answer)}, "say": ""},
            {"say": f"Answer: {question.answer}"},
        ]
    )


def tasks(split: str, rounds: int = 3, roots: int = 28, seed: int = 0) -> Sequence[Question]:
    """Gated problems of a split ("train" | "heldout") made on the spot, as for a policy that fails everywhere.

    Raises ValueError for an unknown split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"reasoning.tasks: unknown split {split!r}, expected 'train' or 'heldout'")
    patterns, found, taken = growth.roots(split, roots, catalogue.select("all"), seed), [], {}
    for number in range(rounds):
        if number:
            patterns = growth.grow(patterns, {}, list(operators.OPERATORS.values()), 1.0, seed)
        accepted, _ = generate.select(generate.questions(patterns, 2, seed), generate.check, taken)
        found += accepted
    return found
