"""The environment protocol: what every executable world, benchmark adapter and tool world implements."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

# An OpenAI-style chat message: {"role", "content", "tool_calls"?, "tool_call_id"?}.
Message = dict[str, Any]

# A scripted policy: given the conversation so far, the next assistant message.
Actor = Callable[[list[Message]], Awaitable[Message]]


@dataclasses.dataclass(frozen=True)
class Step:
    """What the environment answers to one assistant message.

    messages: tool results and user turns to append to the conversation, in order.
    done: whether the episode is over (the user ended it or the agent transferred it).
    """

    messages: list[Message]
    done: bool


@dataclasses.dataclass(frozen=True)
class Score:
    """The outcome of an episode, computed by code from state and recorded events.

    reward: in [0, 1]; None when the infrastructure failed and the episode must be masked out.
    subgoals: subgoal name -> reached.
    violations: names of the rules that were broken, in the order they were broken.
    error: the infrastructure failure, if any.
    delta: the state changes, {"collection/record_id/field": [before, after]}.
    node: id of the first behaviour-tree node at which the episode left its branch; None if it never did. In worlds that
        ask a question: "what/how" the attempt went wrong, None if nothing shows it.
    reward_source: "code", or "llm" where a language model judged the episode (envs/simulation/judge.py).
    code_reward: what code says of an episode that a model judged, where it was played in an executable world.
    """

    reward: float | None
    subgoals: dict[str, bool]
    violations: list[str]
    error: str | None = None
    delta: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    node: str | None = None
    reward_source: str = "code"
    code_reward: float | None = None


class Env(Protocol):
    """One episode of one task. Instances never share state, so any number may run concurrently."""

    tools: list[dict]  # OpenAI function schemas

    async def reset(self) -> list[Message]:
        """Returns the system message and the first user message."""
        ...

    async def step(self, message: Message) -> Step:
        """Applies one assistant message. A tool error is a message in the Step, not an exception."""
        ...

    async def score(self) -> Score:
        """Scores the episode so far from the state and the recorded events."""
        ...

    def close(self) -> None:
        """Releases what the episode holds."""
        ...


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end for callers that are not asynchronous themselves.

    Works in a notebook too, whose own event loop is running: there it takes a thread with a loop of its own.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is None:  # outside the except, or every failure would seem to be caused by its exception
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
