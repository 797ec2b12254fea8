"""Group rollouts: many episodes of many tasks, played side by side in the slots of one sampler engine.

Each episode goes at its own pace: while its environment takes a step (concurrently on asyncio) its slot is parked and
the engine goes on with the others; an episode that ends hands its slot to the next in the queue. What an episode says
depends on (seed, task id, member, turn) and the parameters alone, to the bit: not on its slot, its company or the time
its environment takes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from envs import base
from envs.base import Env, Message, Score
from model import draw, sampler
from model.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth.task import Task

Result = TypeVar("Result")

FIELDS = {field.name for field in dataclasses.fields(Trajectory)}
CUT_OFFS = {sampler.LENGTH: trajectory.LENGTH, sampler.CONTEXT: trajectory.CONTEXT}


@dataclasses.dataclass
class Stats:
    """One run in numbers. Seconds are wall clock; `seconds` is the whole run, the other three are parts of it.

    turns: assistant turns over all episodes. The tokens and slot_steps are the engine's, see sampler.Stats.
    env_seconds: when the engine had nothing to do but wait for environments.
    """

    episodes: int = 0
    turns: int = 0
    prefill_tokens: int = 0
    shared_tokens: int = 0
    sampled_tokens: int = 0
    slot_steps: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    env_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def occupancy(self) -> float:
        """Share of the places for a token in decode calls that got one."""
        return (self.sampled_tokens - self.turns) / max(self.slot_steps, 1)


@dataclasses.dataclass
class _Episode:
    """An episode under way.

    env: None before it is made and after it is closed. slot: in the engine, -1 for none. pending: tokens that the
    policy is to see next. reason: why the episode ended, "" while it goes on. The rest is as in Trajectory.
    """

    task: Task
    member: int
    env: Env | None = None
    slot: int = -1
    pending: list[int] = dataclasses.field(default_factory=list)
    reason: str = ""
    score: Score | None = None
    tokens: list[int] = dataclasses.field(default_factory=list)
    loss_mask: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    messages: list[Message] = dataclasses.field(default_factory=list)
    tools: list[dict] = dataclasses.field(default_factory=list)
    turns: int = 0

    def record(self, tokens: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Appends tokens: sampled ones with their logprobs, or given ones (None)."""
        self.tokens += tokens
        self.loss_mask += [int(logprobs is not None)] * len(tokens)
        self.logprobs += [0.0] * len(tokens) if logprobs is None else logprobs

    async def guard(self, stage: str, call: Callable[[], Awaitable[Result]]) -> Result | None:
        """Awaits call(); an exception gives None and ends this episode, and no other, with reward None.

        This is the one place where a broad except is right: environments are foreign code with backends of their own
        and may fail in any way, and such a failure must neither become a reward nor stop the run. Nothing is lost by
        it: the error holds stage, exception and traceback, what failed before stays in front of it, and so does what
        was known of the ending; a score that was already computed keeps all but its reward. KeyboardInterrupt and
        cancellation are no Exception and pass through.
        """
        try:
            return await call()
        except Exception as error:
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

    def to_trajectory(self, policy_version: int) -> Trajectory:
        """The record of the finished episode."""
        values = {name: getattr(self, name) for name in FIELDS - {"task_id", "policy_version"}}
        return Trajectory(task_id=self.task.id, policy_version=policy_version, **values)


class Rollouts:
    """Plays episodes with one engine, which it needs to itself while a run lasts.

    engine: with chat.stop_ids as its stop ids. make_env: a fresh environment of a task. max_turns: assistant turns per
    episode. seed: of the sampling. end_long_prompts: whether an episode whose prompt leaves no room to sample ends with
    reason CONTEXT, scored as it stands, instead of stopping the run. stats: of the latest run. Raises ValueError when
    max_turns is not positive.
    """

    def __init__(
        self,
        engine: sampler.Engine,
        chat: Chat,
        make_env: Callable[[Task], Env],
        max_turns: int,
        seed: int,
        end_long_prompts: bool = False,
    ):
        if max_turns < 1:
            raise ValueError(f"env.max_turns: must be positive, found {max_turns}")
        self.engine, self.chat, self.make_env, self.max_turns, self.seed = engine, chat, make_env, max_turns, seed
        self.end_long_prompts = end_long_prompts
        self.stats = Stats()

    def run(self, *args: Any, **kwargs: Any) -> list[Trajectory]:
        """`collect` for callers that are not asynchronous."""
        return base.run(self.collect(*args, **kwargs))

    async def collect(
        self,
        params: Any,
        tasks: Iterable[Task],
        members: Iterable[int],
        policy_version: int,
        temperature: float | None = None,
        seed: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Trajectory]:
        """Plays one episode per task and member; returns their trajectories sorted by (task id, member).

        params: the policy's parameters. policy_version: recorded as it is. temperature: None for the engine's, 0.0 for
        greedy. seed: None for the constructor's. on_progress: called with (finished episodes, all episodes).

        All environments are reset before the first turn is sampled. An environment that raises or says what the chat
        format cannot ends its own episode with reason ERROR and reward None (with no tokens if that was in reset); an
        episode cut off by a budget is scored as it stands. What the environment answers last is among the messages,
        not among the tokens.
        Raises ValueError, before anything is sampled, when a task stands twice or a prompt leaves no room to sample
        (but see end_long_prompts).
        """
        start, before = time.perf_counter(), dataclasses.replace(self.engine.stats)
        self.stats = Stats()
        pairs = sorted(itertools.product(tasks, members), key=lambda pair: (pair[0].id, pair[1]))
        episodes = [_Episode(task, member) for task, member in pairs]
        for left, right in itertools.pairwise(episodes):
            if (left.task.id, left.member) == (right.task.id, right.member):
                raise ValueError(f"rollout: task {left.task.id!r}, member {left.member} stands twice")
        try:
            self.engine.forget()  # what slots hold was computed with other parameters
            await self._open(episodes)
            seed = self.seed if seed is None else seed
            await self._play(self.engine.place(params), episodes, temperature, seed, on_progress)
        finally:
            with contextlib.ExitStack() as stack:  # closes all that an exception left open, also if one close fails
                for episode in episodes:
                    self._free(episode)
                    if episode.env is not None:
                        stack.callback(episode.env.close)
        for field in dataclasses.fields(before):
            setattr(self.stats, field.name, getattr(self.engine.stats, field.name) - getattr(before, field.name))
        self.stats.episodes, self.stats.turns = len(episodes), sum(episode.turns for episode in episodes)
        self.stats.seconds = time.perf_counter() - start
        return [episode.to_trajectory(policy_version) for episode in episodes]

    async def _open(self, episodes: Sequence[_Episode]) -> None:
        """Makes and resets every environment. Raises ValueError for a prompt that does not fit."""
        await self._in_envs(episode.reset(self.make_env, self.chat) for episode in episodes)
        for episode in episodes:
            if not episode.reason and len(episode.pending) >= self.engine.context:
                if self.end_long_prompts:
                    episode.reason = trajectory.CONTEXT
                    continue
                raise ValueError(
                    f"task {episode.task.id!r}: the prompt has {len(episode.pending)} tokens, which leaves no room in "
                    f"sampler.context={self.engine.context}"
                )

    async def _play(
        self,
        params: Any,
        episodes: Sequence[_Episode],
        temperature: float | None,
        seed: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Plays the episodes that have been opened to their ends."""
        await self._in_envs(episode.finish() for episode in episodes if episode.reason)
        queue = collections.deque(episode for episode in episodes if not episode.reason)
        free, done = collections.deque(range(self.engine.slots)), len(episodes) - len(queue)
        sampling: dict[int, _Episode] = {}  # by slot
        stepping: dict[asyncio.Task[None], _Episode] = {}  # in their environments
        try:
            while queue or sampling or stepping:
                admitted = [queue.popleft() for _ in range(min(len(queue), len(free)))]
                for episode in admitted:  # the slot that was released first: others' prompts stay longer
                    episode.slot = free.popleft()
                sampling |= self._submit(admitted, temperature, seed)
                if sampling:
                    for slot, sample in await self._step(params):
                        episode = sampling.pop(slot)
                        stepping[asyncio.create_task(self._advance(episode, sample))] = episode
                elif stepping:
                    start = time.perf_counter()
                    await asyncio.wait(stepping, return_when=asyncio.FIRST_COMPLETED)
                    self.stats.env_seconds += time.perf_counter() - start
                await asyncio.sleep(0)  # environments that need not wait for anything answer here
                answered = [(task, episode) for task, episode in stepping.items() if task.done()]
                for task, episode in answered:
                    del stepping[task]
                    task.result()
                    if episode.reason:
                        free.append(episode.slot)
                        self._free(episode)
                        done += 1
                going = [episode for _, episode in answered if not episode.reason]
                sampling |= self._submit(going, temperature, seed)
                if on_progress is not None and len(going) < len(answered):
                    on_progress(done, len(episodes))
        except BaseException as error:
            for task in stepping:  # their environments are closed by `collect`
                task.cancel()
            for other in await asyncio.gather(*stepping, return_exceptions=True):
                if isinstance(other, Exception):  # no cancellation: failed at the same time
                    error.add_note(f"And another episode:\n{''.join(traceback.format_exception(other))}")
            raise

    async def _step(self, params: Any) -> list[tuple[int, sampler.Sample]]:
        """A step of the engine, in a thread of its own, so that environments go on meanwhile.

        A cancellation waits for the thread, because nobody may touch the engine while it is at work.
        """
        work = asyncio.ensure_future(asyncio.to_thread(self.engine.step, params))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _submit(
        self, episodes: Sequence[_Episode], temperature: float | None, seed: int
    ) -> dict[int, _Episode]:
        """Asks for the episodes' next turns; returns them by slot."""
        if not episodes:
            return {}
        ids, members, turns = zip(*((episode.task.id, episode.member, episode.turns) for episode in episodes))
        keys = draw.turn_keys(seed, ids, members, turns)
        self.engine.submit(
            [sampler.Request(e.slot, e.pending, key, temperature) for e, key in zip(episodes, keys, strict=True)]
        )
        return {episode.slot: episode for episode in episodes}

    async def _advance(self, episode: _Episode, sample: sampler.Sample) -> None:
        """Records a sampled turn and lets the environment answer it; scores and closes the episode if that was its
        last."""
        episode.record(episode.pending)
        episode.record(sample.tokens, sample.logprobs)
        message = self.chat.parse(sample.tokens, episode.turns)
        episode.messages.append(message)
        episode.turns += 1
        episode.reason = CUT_OFFS.get(sample.finish_reason, "")
        if not episode.reason:
            await episode.step(message, self.chat, self.max_turns, self.engine.room(episode.slot))
        if episode.reason:
            await episode.finish()

    def _free(self, episode: _Episode) -> None:
        """Empties the episode's slot, if it has one."""
        if episode.slot >= 0:
            self.engine.release(episode.slot)
            episode.slot = -1

    async def _in_envs(self, calls: Iterable[Awaitable[None]]) -> None:
        """Runs what waits for environments concurrently, and counts the time."""
        start = time.perf_counter()
        await asyncio.gather(*calls)
        self.stats.env_seconds += time.perf_counter() - start


def write(trajectories: Iterable[Trajectory], path: str | os.PathLike[str], **tags: int | str) -> None:
    """Appends one JSON line per trajectory to the file, creating it if needed; each line begins with the tags.

    Raises ValueError for a tag that is called as a field of Trajectory.
    """
    taken = sorted(tags.keys() & FIELDS)
    if taken:
        raise ValueError(f"rollout.write: the tags {taken} are fields of a trajectory")
    with open(path, "a", encoding="utf-8") as file:
        for item in trajectories:
            file.write(json.dumps({**tags, **item.to_json()}, ensure_ascii=False) + "\n")


def read(path: str | os.PathLike[str]) -> list[Trajectory]:
    """The trajectories of a file made by `write`, without their tags.

    Raises ValueError naming file and line for a line that is none.
    """
    trajectories = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                trajectories.append(Trajectory.from_json({name: record[name] for name in FIELDS}))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{os.fspath(path)}, line {number}: expected a trajectory record: {error}") from error
    return trajectories
