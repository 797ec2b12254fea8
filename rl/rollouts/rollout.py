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
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from envs import base
from envs.base import Env
from model.sampling import constrain, draw, sampler
from model.text.chat import Chat
from rl import trajectory
from rl.rollouts.episode import FIELDS, Episode
from rl.trajectory import Trajectory
from synth.task import Task


@dataclasses.dataclass(frozen=True)
class Limits:
    """What episodes and their environments may take.

    max_turns: assistant turns per episode. concurrency: environments open at a time; None: all of a run. timeout:
    seconds for an answer of an environment; None: any time, so that nothing depends on the clock. retries: how often
    an episode is played again, from its beginning, when its environment has failed. max_faults: how many attempts may
    fail in a row, over all episodes, before the run stops, because then a backend is down; None: any number.
    end_long_prompts: an episode whose prompt leaves no room to sample ends with reason CONTEXT and is scored as it
    stands, instead of stopping the run. Raises ValueError for an impossible value.
    """

    max_turns: int
    concurrency: int | None = None
    timeout: float | None = None
    retries: int = 0
    max_faults: int | None = None
    end_long_prompts: bool = False

    def __post_init__(self):
        for name in ("max_turns", "concurrency", "timeout", "max_faults"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"env.{name}: must be positive, found {value}")
        if self.retries < 0:
            raise ValueError(f"env.retries: must not be negative, found {self.retries}")


@dataclasses.dataclass
class Stats:
    """One run in numbers. Seconds are wall clock; `seconds` is the whole run, the other three are parts of it.

    episodes: that ended. paused: that were put aside. retries: attempts that failed and were played again; their turns
    and tokens are among the engine's, for which see sampler.Stats. env_seconds: when the engine had nothing to do but
    wait for environments.
    """

    episodes: int = 0
    paused: int = 0
    turns: int = 0
    retries: int = 0
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


def total(parts: Sequence[Stats]) -> Stats:
    """The numbers of several processes that played side by side: sums, and of the seconds the longest."""
    names = [field.name for field in dataclasses.fields(Stats)]
    return Stats(**{n: (max if n.endswith("seconds") else sum)(getattr(part, n) for part in parts) for n in names})


class Rollouts:
    """Plays episodes with one engine, which it needs to itself while a run lasts.

    engine: with chat.stop_ids as its stop ids. make_env: a fresh environment of a task. seed: of the sampling. calls:
    constrains tool calls to those that can be read. stats: of the latest run. aside: episodes of groups that the latest
    run has not ended, which the next one goes on with.
    """

    def __init__(
        self,
        engine: sampler.Engine,
        chat: Chat,
        make_env: Callable[[Task], Env],
        limits: Limits,
        seed: int,
        calls: constrain.Calls | None = None,
    ):
        self.engine, self.chat, self.make_env, self.limits, self.seed = engine, chat, make_env, limits, seed
        self.calls, self.stats = calls, Stats()
        self.aside: list[Episode] = []

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
        turns: int = 0,
        pauses: int = 0,
    ) -> list[Trajectory]:
        """Plays one episode per task and member; returns their trajectories sorted by (task id, member).

        params: the policy's parameters. policy_version: recorded as it is. temperature: None for the engine's, 0.0 for
        greedy. seed: None for the constructor's. on_progress: called with (finished episodes, all episodes).
        turns: an episode that goes on after so many in this run is put aside, unless that has happened `pauses` times;
        0: none is. Then the trajectories are those of the tasks all of whose episodes have ended. The next run goes on
        with the others, and reads what has been said so far with its own parameters (partial rollouts: Kimi k1.5,
        arXiv:2501.12599, section 2.6.2). As turns are counted and not seconds, runs replay to the bit.

        An environment that raises, is too late or says what the chat format cannot ends its own episode with reason
        ERROR and reward None (with no tokens if that was in reset), after `limits.retries` more attempts; an episode
        cut off by a budget is scored as it stands. What the environment answers last is among the messages, not among
        the tokens.
        Raises ValueError when a task stands twice or, as soon as its environment has said it, a prompt leaves no room
        to sample; RuntimeError after `limits.max_faults` failures in a row.
        """
        start, before = time.perf_counter(), dataclasses.replace(self.engine.stats)
        self.stats = Stats()
        seed = self.seed if seed is None else seed
        new = itertools.product(tasks, members)
        episodes = self.aside + [Episode(*pair, seed, policy_version, self.limits.timeout) for pair in new]
        episodes.sort(key=lambda episode: (episode.task.id, episode.member))
        failures = sum(len(episode.failures) for episode in self.aside)
        ended = sum(bool(episode.reason) for episode in self.aside)
        for episode in self.aside:
            episode.version, episode.since = policy_version, episode.turns
        for left, right in itertools.pairwise(episodes):
            if (left.task.id, left.member) == (right.task.id, right.member):
                raise ValueError(f"rollout: task {left.task.id!r}, member {left.member} stands twice")
        self.aside, aside = [], set()
        try:
            self.engine.forget()  # what slots hold was computed with other parameters
            await self._play(self.engine.place(params), episodes, temperature, on_progress, turns, pauses)
            aside = {episode.task.id for episode in episodes if not episode.reason}
            self.aside = [episode for episode in episodes if episode.task.id in aside]
        finally:
            with contextlib.ExitStack() as stack:  # closes all that an exception left open, also if one close fails
                for episode in episodes:
                    self._free(episode)
                    if episode.env is not None and episode.task.id not in aside:
                        stack.callback(episode.env.close)
        for field in dataclasses.fields(before):
            setattr(self.stats, field.name, getattr(self.engine.stats, field.name) - getattr(before, field.name))
        self.stats.episodes = sum(bool(episode.reason) for episode in episodes) - ended
        self.stats.paused = sum(not episode.reason for episode in episodes)
        self.stats.retries = sum(len(episode.failures) for episode in episodes) - failures
        self.stats.seconds = time.perf_counter() - start
        return [episode.to_trajectory() for episode in episodes if episode.task.id not in aside]

    async def _open(self, episode: Episode) -> None:
        """Makes and resets the episode's environment. Raises ValueError for a prompt that does not fit."""
        await episode.reset(self.make_env, self.chat)
        if not episode.reason and len(episode.pending) >= self.engine.context:
            if not self.limits.end_long_prompts:
                raise ValueError(
                    f"task {episode.task.id!r}: the prompt has {len(episode.pending)} tokens, which leaves no room in "
                    f"sampler.context={self.engine.context}"
                )
            episode.reason = trajectory.CONTEXT
        if episode.reason:
            await episode.finish()

    async def _play(
        self,
        params: Any,
        episodes: list[Episode],
        temperature: float | None,
        on_progress: Callable[[int, int], None] | None,
        turns: int,
        pauses: int,
    ) -> None:
        """Plays the episodes to their ends, or until they are put aside as `collect` says; one that is played again
        takes its predecessor's place in the list.

        An episode (its place) is waiting to be opened, at work in its environment, ready for a slot, or sampling.
        """
        waiting = collections.deque(i for i, e in enumerate(episodes) if e.env is None and not e.reason)
        free = collections.deque(range(self.engine.slots))
        working: dict[asyncio.Task[None], int] = {}
        ready = {place for place, episode in enumerate(episodes) if episode.env is not None}
        sampling: dict[int, int] = {}  # by slot
        open_, most, faults = len(ready), self.limits.concurrency or len(episodes), 0
        done = len(episodes) - len(waiting) - len(ready)
        try:
            while waiting or working or ready or sampling:
                while waiting and open_ < most:
                    place = waiting.popleft()
                    working[asyncio.create_task(self._open(episodes[place]))] = place
                    open_ += 1
                if sampling:
                    for slot, sample in await self.engine.step_in_thread(params):
                        place = sampling.pop(slot)
                        answer = episodes[place].play(sample, self.chat, self.limits.max_turns, self.engine.room(slot))
                        working[asyncio.create_task(answer)] = place
                elif working:
                    start = time.perf_counter()
                    await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                    self.stats.env_seconds += time.perf_counter() - start
                await asyncio.sleep(0)  # environments that need not wait for anything answer here
                going = []
                for task in [task for task in working if task.done()]:
                    place = working.pop(task)
                    task.result()
                    episode = episodes[place]
                    if not episode.reason and 0 < turns <= episode.turns - episode.since and episode.pauses < pauses:
                        free.append(episode.slot)
                        self._free(episode)
                        episode.pause()
                        continue
                    if not episode.reason:
                        ready.add(place) if episode.slot < 0 else going.append(place)
                        continue
                    if episode.slot >= 0:
                        free.append(episode.slot)
                    self._free(episode)
                    open_ -= 1
                    faults = faults + 1 if episode.reason == trajectory.ERROR else 0
                    if faults == self.limits.max_faults:
                        raise RuntimeError(
                            f"rollout: {faults} attempts at episodes failed in a row (env.max_faults), the last one, "
                            f"task {episode.task.id!r}, with {episode.score.error or 'no reward'}"
                        )
                    if faults and len(episode.failures) < self.limits.retries:
                        episodes[place] = episode.again()
                        waiting.append(place)
                    else:
                        done += 1
                        if on_progress is not None:
                            on_progress(done, len(episodes))
                for place in sorted(ready)[: len(free)]:  # neighbours have prompts in common
                    ready.remove(place)
                    episodes[place].slot = free.popleft()  # the one released first: others' prompts stay longer
                    going.append(place)
                self._submit([episodes[place] for place in going], temperature)
                sampling |= {episodes[place].slot: place for place in going}
        except BaseException as error:
            for task in working:  # their environments are closed by `collect`
                task.cancel()
            for other in await asyncio.gather(*working, return_exceptions=True):
                if isinstance(other, Exception):  # no cancellation: failed at the same time
                    error.add_note(f"And another episode:\n{''.join(traceback.format_exception(other))}")
            raise

    def _submit(self, episodes: Sequence[Episode], temperature: float | None) -> None:
        """Asks for the episodes' next turns."""
        requests = []
        for seed, alike in itertools.groupby(sorted(episodes, key=lambda e: e.seed), key=lambda e: e.seed):
            alike = list(alike)
            ids, members, turns = zip(*((episode.task.id, episode.member, episode.turns) for episode in alike))
            for episode, key in zip(alike, draw.turn_keys(seed, ids, members, turns), strict=True):
                constraint = self.calls and self.calls.turn(episode.tools)
                tokens, episode.unread = episode.unread + episode.pending, []
                requests.append(sampler.Request(episode.slot, tokens, key, temperature, constraint=constraint))
        self.engine.submit(requests)

    def _free(self, episode: Episode) -> None:
        """Empties the episode's slot, if it has one."""
        if episode.slot >= 0:
            self.engine.release(episode.slot)
            episode.slot = -1


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
