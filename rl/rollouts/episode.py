"""An unfinished episode: its conversation, its tokens so far and its environment. A failure of the environment ends
this episode only."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeVar

from envs import contract
from envs.base import Env, Message, Score, Step
from model.sampling import constrain, sampler
from model.text.chat import Chat
from rl import trajectory
from rl.rollouts import fault
from rl.trajectory import Trajectory
from synth.task import Task

Result = TypeVar("Result")

FIELDS = {field.name for field in dataclasses.fields(Trajectory)}
PATIENCE = 10.0  # seconds in which an environment has to stop after its call was cancelled
CUT_OFFS = {sampler.LENGTH: trajectory.LENGTH, sampler.CONTEXT: trajectory.CONTEXT}


@dataclasses.dataclass
class Episode:
    """An unfinished episode.

    seed: for sampling.
    version: the policy version (see Trajectory) of the parameters that sample its next turn.
    timeout: seconds that the environment may take to answer; None: no limit.
    failures: the errors of earlier attempts at the episode.
    env: the environment; None before it is made and after it is closed.
    slot: in the engine, -1 for none.
    pending: tokens of the prompt or the environment's answer that the policy has not seen yet.
    unread: after a pause, the tokens before `pending`, which the new slot's cache does not hold.
    pauses: how often the episode was put aside.
    since: the number of turns it had taken when the current run began.
    reason: why the episode ended, "" while it goes on.
    stage: the call to the environment that is under way, "" for none.
    due: the time, of the event loop's clock, by which that call has to be over; None for no limit.
    stopping: whether the run ends, so that a cancellation is not the environment's.
    The other fields are as in Trajectory.
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
    stage: str = ""
    due: float | None = None
    stopping: bool = False
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
        """Appends the pending tokens and the tokens sampled after them to the record."""
        given = len(self.pending)
        self.tokens += self.pending + sample.tokens
        self.loss_mask += [0] * given + [1] * len(sample.tokens)
        self.logprobs += [0.0] * given + sample.logprobs
        self.kept += [[] for _ in range(given)] + sample.kept if sample.kept else []

    async def guard(self, stage: str, call: Callable[[], Awaitable[Result]]) -> Result | None:
        """Awaits call() and returns its result; an exception ends this episode with reward None, and None is returned.

        Catching everything is right here: environments are external code with backends of their own and may fail in any
        way, also with SystemExit or a CancelledError of a task of their own. Such a failure must neither become a
        reward nor stop the run. Only what the user or the end of the run has caused passes through.
        """
        limit, task = asyncio.timeout(self.timeout), fault.running()
        self.stage = stage
        self.due = None if self.timeout is None else asyncio.get_running_loop().time() + self.timeout + PATIENCE
        try:
            async with limit:
                found = await call()
            await self._uncancel()
            if not limit.expired():
                return found
            raise TimeoutError("it answered only after its call was cancelled")
        except BaseException as error:
            if isinstance(error, GeneratorExit) and fault.running() is not task:  # this coroutine is thrown away
                raise
            if fault.by_user(error) or (self.stopping and isinstance(error, asyncio.CancelledError)):
                raise
            await self._uncancel()
            self.fail(self._late(stage) if limit.expired() else stage, fault.told(error))
            return None
        finally:
            self.stage, self.due = "", None

    async def _uncancel(self) -> None:
        """Takes back the cancellation of this episode's own task by its environment, which is to end nothing else."""
        task = fault.running()
        if task is None or self.stopping or not task.cancelling():
            return
        while task.cancelling():
            task.uncancel()
        try:
            await asyncio.sleep(0)  # where Python before 3.13 raises what is still to come
        except asyncio.CancelledError:
            if self.stopping:
                raise

    def _late(self, stage: str) -> str:
        return f"{stage} took longer than env.timeout = {self.timeout} s"

    def fail(self, stage: str, told: str) -> None:
        """Ends the episode with reason ERROR and reward None.

        score.error records the failure: the errors before it, how the episode had ended or would have been rewarded,
        then the stage and what there is to tell. A score that was already computed keeps all but its reward.
        """
        known = self.score or Score(None, {}, [])
        ending = f"after {self.reason}, " if self.reason not in ("", trajectory.ERROR) else ""
        ending += "" if known.reward is None else f"reward {known.reward} was due, "
        told = f"{ending}{stage}: {told}"
        told = told if known.error is None else f"{known.error}\n{told}"
        self.reason, self.score = trajectory.ERROR, dataclasses.replace(known, reward=None, error=told)

    async def reset(self, make_env: Callable[[Task], Env], chat: Chat, calls: constrain.Calls | None = None) -> None:
        """Makes and resets the environment and encodes the prompt. calls: what is to constrain the tool calls."""

        async def call() -> tuple[list[dict], list[Message]]:
            self.env = make_env(self.task)
            found = contract.tools(self.env.tools), contract.messages(await self.env.reset())
            if calls is not None and found[0]:  # tools that no grammar can express fail here, not while sampling
                calls.matcher(tuple(tool["function"]["name"] for tool in found[0]))
            return found

        async def encode() -> list[int]:
            return chat.prompt(self.messages, self.tools)

        if (found := await self.guard("reset", call)) is not None:
            self.tools, self.messages = found
            self.pending = await self.guard("reset", encode) or []

    async def step(self, message: Message, chat: Chat, max_turns: int, room: int) -> None:
        """Gives the assistant's message to the environment and encodes the answer as pending tokens.

        max_turns: ends the episode after so many turns. room: tokens that fit into the slot; a longer answer ends it.
        """

        async def call() -> Step:
            return contract.step(await self.env.step(message))

        async def encode() -> list[int]:
            return chat.increment(step.messages)

        if (step := await self.guard("step", call)) is None:
            return
        self.messages += step.messages
        if step.done:
            self.reason = trajectory.ENDED
        elif self.turns == max_turns:
            self.reason = trajectory.MAX_TURNS
        elif (pending := await self.guard("step", encode)) is not None:
            self.pending = pending
            self.reason = "" if len(pending) <= room else trajectory.CONTEXT

    async def play(self, sample: sampler.Sample, chat: Chat, max_turns: int, room: int) -> None:
        """Records a sampled turn and lets the environment answer it. Scores and closes the episode if it has ended.

        max_turns, room: as for `step`.
        """
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

        async def scored() -> Score:
            return contract.score(await self.env.score())

        async def close() -> None:
            env, self.env = self.env, None
            if env is not None:
                env.close()

        if self.reason != trajectory.ERROR:
            score = await self.guard("score", scored)
            if score is not None:
                self.score = score
                self.reason = trajectory.ERROR if score.reward is None else self.reason
        await self.guard("close", close)

    def given_up(self) -> Episode:
        """The episode as a failed one that shares nothing with this one, whose call to the environment does not end."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = {name: list(value) if isinstance(value, list) else value for name, value in values.items()}
        episode, self.env = Episode(**values), None
        episode.fail(self._late(self.stage), "it goes on although its call was cancelled")
        episode.stage, episode.due = "", None
        return episode

    def pause(self) -> None:
        """Puts the episode aside between two turns. It keeps its environment but loses its slot's cache: all its tokens
        are to be processed again by the next run's parameters."""
        self.unread, self.pauses = list(self.tokens), self.pauses + 1

    def again(self) -> Episode:
        """A new attempt at the episode from its beginning, after this one failed."""
        failures = [*self.failures, self.score.error or "no reward"]
        return Episode(self.task, self.member, self.seed, self.version, self.timeout, failures)

    def to_trajectory(self) -> Trajectory:
        """The record of the finished episode. If its last attempt failed too, score.error has all attempts' errors."""
        values = {name: getattr(self, name) for name in FIELDS - {"task_id", "policy_version"}}
        first = self.versions[0] if self.versions else self.version
        values["versions"] = [] if set(self.versions) <= {first} else self.versions
        if self.reason == trajectory.ERROR and self.failures:
            told = "\n".join([*self.failures, self.score.error or "no reward"])
            values["score"] = dataclasses.replace(self.score, error=told)
        return Trajectory(task_id=self.task.id, policy_version=first, **values)
