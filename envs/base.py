"""The environment protocol, which every world and benchmark adapter implements, and the records it exchanges."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

# An OpenAI-style chat message: {"role", "content", "tool_calls"?, "tool_call_id"?}.
Message = dict[str, Any]

# A scripted policy: takes the conversation so far and returns the next assistant message.
Actor = Callable[[list[Message]], Awaitable[Message]]


@dataclasses.dataclass(frozen=True)
class Step:
    """The environment's answer to one assistant message.

    messages: tool results and user turns to append to the conversation, in order.
    done: whether the episode is over (the user ended it or the agent transferred it).
    """

    messages: list[Message]
    done: bool


@dataclasses.dataclass(frozen=True)
class Score:
    """The outcome of an episode.

    reward: in [0, 1]; None if the infrastructure failed. Such an episode must not be trained on or counted.
    subgoals: subgoal name -> whether it was reached.
    violations: names of the broken rules, in the order in which they were broken.
    error: the infrastructure failure, if any.
    delta: the state changes, {"collection/record_id/field": [before, after]}.
    node: where the episode went wrong.
        In worlds with behaviour trees: id of the first node at which it left its branch; None if it did not.
        In worlds that ask a question: "step/kind of mistake", for example "answer/wrong"; None if nothing shows it.
    reward_source: "code", or "llm" if a language model judged the episode (envs/simulation/judge.py).
    code_reward: the reward by code of an episode that a model judged; None if it was not played in an executable world.
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
    """One episode of one task. Call `reset` once, then `step` until it is done, then `score` and `close`.

    Instances share no state, so any number may run concurrently. What they hand back is checked by envs/contract.py;
    whatever they raise, and whatever that refuses, is a fault that ends the episode and nothing else. Code that waits
    without `await` holds up all episodes, and no env.timeout can end it.
    """

    tools: list[dict]  # OpenAI function schemas

    async def reset(self) -> list[Message]:
        """Returns the system message and the first user message."""
        ...

    async def step(self, message: Message) -> Step:
        """Applies one assistant message. A tool error becomes a message in the Step, not an exception."""
        ...

    async def score(self) -> Score:
        """Scores the episode so far from the state and the recorded events."""
        ...

    def close(self) -> None:
        """Releases the resources of the episode, such as processes and files."""
        ...


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine from synchronous code and returns its result.

    Also works where an event loop is already running, as in a notebook: the coroutine then runs in a new thread with
    its own event loop.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is None:  # not inside the except block, whose exception would be shown as the cause of every failure
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
