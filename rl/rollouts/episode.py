"""An episode under way: its conversation, its tokens so far, and its environment, whose failures stay its own."""

from __future__ import annotations

import asyncio
import dataclasses
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

from envs.base import Env, Message, Score
from model.sampling import sampler
from model.text.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth.task import Task

Result = TypeVar("Result")

FIELDS = {field.name for field in dataclasses.fields(Trajectory)}
CUT_OFFS = {sampler.LENGTH: trajectory.LENGTH, sampler.CONTEXT: trajectory.CONTEXT}


@dataclasses.dataclass
class Episode:
    """An episode under way.

    seed: of its sampling. version: of the parameters that sample its next turn. timeout: seconds that an environment
    may take for an answer; None: any time. failures: how earlier attempts at it failed. env: None before it is made and
    after it is closed. slot: in the engine, -1 for none. pending: tokens that the policy is to see next. unread: those
    before them that its slot does not hold, after a pause. pauses: how often it was put aside; since: the turns it had
    taken when the run began. reason: why the episode ended, "" while it goes on. The rest is as in Trajectory.
    """

    task: Task
    member: int
    seed: int = 0
    version: int = 0
    timeout: float | None = None
    failures: list[str] = dataclasses.field(default_factory=list)
    env: Env | None = None
    slot: int = -1
    pending: list[int] = dataclasses.field(default_factory=list)
    unread: list[int] = dataclasses.field(default_factory=list)
    pauses: int = 0
    since: int = 0
    reason: str = ""
    score: Score | None = None
    tokens: list[int] = dataclasses.field(default_factory=list)
    loss_mask: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    kept: list[list[int]] = dataclasses.field(default_factory=list)
    messages: list[Message] = dataclasses.field(default_factory=list)
    tools: list[dict] = dataclasses.field(default_factory=list)
    turns: int = 0
    versions: list[int] = dataclasses.field(default_factory=list)

    def record(self, sample: sampler.Sample) -> None:
        """Appends the tokens that were pending and those that were sampled after them."""
        given = len(self.pending)
        self.tokens += self.pending + sample.tokens
        self.loss_mask += [0] * given + [1] * len(sample.tokens)
        self.logprobs += [0.0] * given + sample.logprobs
        self.kept += [[] for _ in range(given)] + sample.kept if sample.kept else []

    async def guard(self, stage: str, call: Callable[[], Awaitable[Result]]) -> Result | None:
        """Awaits call(); an exception gives None and ends this episode, and no other, with reward None.

        This is the one place where a broad except is right: environments are foreign code with backends of their own
        and may fail in any way, and such a failure must neither become a reward nor stop the run. Nothing is lost by
        it: the error holds stage, exception and traceback, what failed before stays in front of it, and so does what
        was known of the ending; a score that was already computed keeps all but its reward. KeyboardInterrupt and
        cancellation are no Exception and pass through.
        """
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await call()
        except Exception as error:
            stage = f"{stage} took longer than env.timeout = {self.timeout} s" if limit.expired() else stage
            known = self.score or Score(None, {}, [])
            ending = f"after {self.reason}, " if self.reason not in ("", trajectory.ERROR) else ""
            ending += "" if known.reward is None else f"reward {known.reward} was due, "
            told = f"{ending}{stage}: {error!r}\n{''.join(traceback.format_exception(error))}"
            told = told if known.error is None else f"{known.error}\n{told}"
            self.reason, self.score = trajectory.ERROR, dataclasses.replace(known, reward=None, error=told)
            return None

    async def reset(self, make_env: Callable[[Task], Env], chat: Chat) -> None:
        """Makes and resets the environment and encodes the prompt."""

        async def call() -> None:
            self.env = make_env(self.task)
            self.tools = list(self.env.tools)
            self.messages = list(await self.env.reset())
            self.pending = chat.prompt(self.messages, self.tools)

        await self.guard("reset", call)

    async def step(self, message: Message, chat: Chat, max_turns: int, room: int) -> None:
        """Hands the assistant's message to the environment and encodes its answer for a slot that has room left."""

        async def call() -> None:
            step = await self.env.step(message)
            self.messages += step.messages
            if step.done:
                self.reason = trajectory.ENDED
            elif self.turns == max_turns:
                self.reason = trajectory.MAX_TURNS
            else:
                self.pending = chat.increment(step.messages)
                self.reason = "" if len(self.pending) <= room else trajectory.CONTEXT

        await self.guard("step", call)

    async def play(self, sample: sampler.Sample, chat: Chat, max_turns: int, room: int) -> None:
        """Records a sampled turn and lets the environment answer it; scores and closes the episode if that was its
        last."""
        self.record(sample)
        message = chat.parse(sample.tokens, self.turns)
        self.messages.append(message)
        self.versions.append(self.version)
        self.turns += 1
        self.reason = CUT_OFFS.get(sample.finish_reason, "")
        if not self.reason:
            await self.step(message, chat, max_turns, room)
        if self.reason:
            await self.finish()

    async def finish(self) -> None:
        """Scores the episode, unless it has failed, and closes the environment."""

        async def close() -> None:
            env, self.env = self.env, None
            if env is not None:
                env.close()

        if self.reason != trajectory.ERROR:
            score = await self.guard("score", self.env.score)
            if score is not None:
                self.score = score
                self.reason = trajectory.ERROR if score.reward is None else self.reason
        await self.guard("close", close)

    def pause(self) -> None:
        """Puts the episode aside between two turns: with its environment, but without what a slot holds of it, which
        other parameters would have computed otherwise."""
        self.unread, self.pauses = list(self.tokens), self.pauses + 1

    def again(self) -> Episode:
        """The same episode from its beginning, after it failed."""
        failures = [*self.failures, self.score.error or "no reward"]
        return Episode(self.task, self.member, self.seed, self.version, self.timeout, failures)

    def to_trajectory(self) -> Trajectory:
        """The record of the finished episode; if the last attempt failed too, with the errors of all."""
        values = {name: getattr(self, name) for name in FIELDS - {"task_id", "policy_version"}}
        first = self.versions[0] if self.versions else self.version
        values["versions"] = [] if set(self.versions) <= {first} else self.versions
        if self.reason == trajectory.ERROR and self.failures:
            told = "\n".join([*self.failures, self.score.error or "no reward"])
            values["score"] = dataclasses.replace(self.score, error=told)
        return Trajectory(task_id=self.task.id, policy_version=first, **values)
