"""The reasoning world: a problem with a known answer, and a Python tool.

Reward: 1.0 for a right answer after a program that ran, `untooled` (0.9 in the paper) for a right answer without one,
0 for anything else. Broken format rules are listed among the violations. They do not lower the reward as such: they
matter only if no right answer can be read.
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
        """Runs a Python program."""
        result = await self._tool.call(arguments["code"])
        return result.ok, result.text

    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """(reward, whether a program ran); see the module's docstring."""
        tooled = any(ok for _, _, ok in self.calls)
        return (1.0 if tooled else self._untooled) if right else 0.0, {"tool_call": tooled}

    def node(self, answer: str | None) -> str | None:
        """ "operation/kind of mistake" as synth.problems.charge finds it; None if it finds none."""
        if not self.question.source.get("problem"):
            return None
        given = None if answer is None else answers.number(answer)
        given = answer if given is None else given
        found = charge.charge(Problem.from_dict(self.question.source["problem"]), self.said, given)
        return None if found is None else "/".join(found)


def make(question: Question, untooled: float = UNTOOLED) -> Reasoning:
    """A new episode of a problem. untooled: reward of a right answer without a program that ran."""
    return Reasoning(question, untooled)


def oracle(question: Question) -> Actor:
    """A scripted actor that earns reward 1.0: runs a program that returns the answer, then gives the answer."""
    return actors.scripted(
        [
            {"call": "python", "args": {"code": repr(question.answer)}, "say": ""},
            {"say": f"Answer: {question.answer}"},
        ]
    )


def tasks(split: str, rounds: int = 3, roots: int = 28, seed: int = 0) -> Sequence[Question]:
    """Makes problems of a split ("train" | "heldout") that pass the gates, as for a policy that fails everywhere.

    roots: number of round-0 patterns. rounds: number of rounds; between them patterns grow.
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
