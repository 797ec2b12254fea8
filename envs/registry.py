"""Finds the world that a task belongs to: one `make` and one `oracle` for batches that mix worlds."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from envs import data, reasoning, search, world
from envs.asking import Asking
from envs.base import Actor, Env, Message
from synth.question import Question
from synth.task import Task

_ASKING: dict[str, ModuleType] = {"reasoning": reasoning, "search": search, "data": data}
_EPISODES: dict[str, type[Asking]] = {"reasoning": reasoning.Reasoning, "search": search.Search, "data": data.Data}


def name(task: Task | Question) -> str:
    """The name of a task's world: "world" for executable worlds, else "reasoning", "search" or "data"."""
    return "world" if isinstance(task, Task) else task.env


def make(
    task: Task | Question, untooled: float = reasoning.UNTOOLED, by_model: Callable[[Task], Env] | None = None
) -> Env:
    """A new episode of a task.

    untooled: the reasoning world's reward of a right answer without a tool call. by_model: makes the episodes of tasks
    that a language model rewards. Raises ValueError for such a task if by_model is None.
    """
    if isinstance(task, Task):
        if task.reward_source == "code":
            return world.make(task)
        if by_model is None:
            raise ValueError(f"{task.id}: needs a language model as judge, but rl.reward is not 'llm'")
        return by_model(task)
    return reasoning.make(task, untooled) if task.env == "reasoning" else _ASKING[task.env].make(task)


def opening(task: Task | Question) -> tuple[list[Message], list[dict]]:
    """(the messages that an episode of a task begins with, its tools), without making the environment."""
    if isinstance(task, Task):
        return world.opening(task), task.tools
    episode = _EPISODES[task.env]
    return episode.opening(task), episode.tools


def oracle(task: Task | Question) -> Actor:
    """A scripted actor that earns reward 1.0 on a task."""
    return world.oracle(task) if isinstance(task, Task) else _ASKING[task.env].oracle(task)
