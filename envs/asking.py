"""The common part of worlds that ask a question: the policy calls tools until a message without a call answers."""

from __future__ import annotations

import abc
import json
from typing import Any

from envs import answers, tools
from envs.base import Message, Score, Step
from synth.question import Question


class Asking(abc.ABC):
    """One episode of one question. Subclasses define the tools, the system message and how calls are executed.

    calls: (tool, arguments, whether it succeeded) of each valid call so far. violations: "invalid_call" for each
    malformed call so far.
    """

    tools: list[dict] = []
    system: str = ""

    def __init__(self, question: Question):
        self.question = question
        self.calls: list[tuple[str, dict[str, Any], bool]] = []
        self.violations: list[str] = []
        self.said: list[str] = []  # all texts of the assistant and the tools, in order
        self._validators = tools.validators(self.tools)
        self._final: str | None = None

    async def reset(self) -> list[Message]:
        """Returns the system message and the question."""
        return self.opening(self.question)

    @classmethod
    def opening(cls, question: Question) -> list[Message]:
        """The messages that an episode of a question begins with."""
        system = f"{cls.system} {answers.INSTRUCTION}"
        return [{"role": "system", "content": system}, {"role": "user", "content": question.prompt}]

    async def step(self, message: Message) -> Step:
        """Runs the tool calls of a message; a message without calls ends the episode.

        Raises RuntimeError if the episode has ended.
        """
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
        """Executes one call and returns the text of the tool message."""
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
        """Executes a valid call; returns (whether it succeeded, the text of the tool message)."""

    @abc.abstractmethod
    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """(reward, subgoals) of the episode. right: whether its answer is right."""

    def node(self, answer: str | None) -> str | None:
        """Where a failed attempt went wrong (see Score.node); None if the transcript does not show it."""
        del answer
        return None

    async def score(self) -> Score:
        """Scores the episode so far; without a final message there is no answer."""
        answer, broken = (None, answers.NO_ANSWER) if self._final is None else answers.extract(self._final)
        right = answer is not None and await answers.same_async(self.question.answer, answer)
        reward, subgoals = self.reward(right)
        violations = self.violations + ([broken] if broken and not right else [])
        return Score(reward, {"answer": right, **subgoals}, violations, node=None if right else self.node(answer))

    def close(self) -> None:  # noqa: B027  a world that holds resources overrides it
        """Does nothing: the instance holds no outside resources."""
