"""What worlds that ask a question have in common: tools are called until a message without a call gives the answer."""

from __future__ import annotations

import abc
import json
from typing import Any

from envs import answers, tools
from envs.base import Message, Score, Step
from synth.question import Question


class Asking(abc.ABC):
    """One episode of one question; subclasses name their tools and system message and carry out the calls.

    calls: [(tool, arguments, whether it went well)] so far. violations: broken format rules, calls that were none.
    """

    tools: list[dict] = []
    system: str = ""

    def __init__(self, question: Question):
        self.question = question
        self.calls: list[tuple[str, dict[str, Any], bool]] = []
        self.violations: list[str] = []
        self.said: list[str] = []  # what assistant and tools wrote
        self._validators = tools.validators(self.tools)
        self._final: str | None = None

    async def reset(self) -> list[Message]:
        """The system message and the question."""
        system = f"{self.system} {answers.INSTRUCTION}"
        return [{"role": "system", "content": system}, {"role": "user", "content": self.question.prompt}]

    async def step(self, message: Message) -> Step:
        """Runs the tool calls of a message; a message without any is the final one."""
        if self._final is not None:
            raise RuntimeError(f"{self.question.id}: step after the final answer")
        self.said.append(message.get("content") or "")
        calls = message.get("tool_calls") or []
        if not calls:
            self._final = message.get("content") or ""
            return Step([], True)
        results = []
        for call in calls:
            text = await self._answer(call["function"])
            self.said.append(text)
            results.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        return Step(results, False)

    async def _answer(self, function: dict[str, str]) -> str:
        """The tool message of one call."""
        name = function["name"]
        arguments, error = tools.parse_arguments(self._validators, name, function["arguments"])
        if error:
            self.violations.append("invalid_call")
            return json.dumps({"error": error})
        ok, text = await self.call(name, arguments)
        self.calls.append((name, arguments, ok))
        return text

    @abc.abstractmethod
    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """(whether it went well, the tool message's text) of a valid call."""

    @abc.abstractmethod
    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """(reward, subgoals) of an episode whose answer was right or not."""

    def node(self, answer: str | None) -> str | None:
        """Where a failed attempt went wrong, if the transcript shows it."""
        del answer
        return None

    async def score(self) -> Score:
        """The reward of the episode so far; no final message is no answer."""
        answer, broken = (None, answers.NO_ANSWER) if self._final is None else answers.extract(self._final)
        right = answer is not None and await answers.same_async(self.question.answer, answer)
        reward, subgoals = self.reward(right)
        violations = self.violations + ([broken] if broken and not right else [])
        return Score(reward, {"answer": right, **subgoals}, violations, node=None if right else self.node(answer))

    def close(self) -> None:  # noqa: B027  a world that holds something overrides it
        """Nothing is held outside the instance."""
