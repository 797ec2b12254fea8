"""Group rollouts: many episodes of many tasks, played concurrently in the slots of one sampler engine.

Environments run on asyncio. While the environment of an episode takes a step, the episode's slot waits and the engine
samples for the other episodes. When an episode ends, its slot goes to the next one in the queue.

The sampled tokens of a turn depend only on the parameters, the conversation so far and (seed, task id, member, turn),
to the bit. They do not depend on the slot, on the other episodes, or on the time that environments take.
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
    """Limits on episodes and their environments.

    max_turns: assistant turns per episode.
    concurrency: most environments open at a time; None: those of all episodes.
    timeout: seconds that an environment may take to answer; None: no limit, so that no result depends on the clock.
    retries: how often an episode whose environment failed is played again from its beginning.
    max_faults: the run stops after so many failed attempts in a row, over all episodes, since a backend is then
        probably down; None: never.
    end_long_prompts: whether an episode whose prompt leaves no room to sample ends with reason CONTEXT and is scored.
        Otherwise such a prompt stops the run.

    Raises ValueError for an impossible value.
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
    """Statistics of one run. Times are wall-clock seconds: `seconds` for the whole run, the others for parts of it.

    episodes: number of episodes that ended. paused: of those put aside. retries: failed attempts that were played
    again; their turns and tokens are included in the other fields. env_seconds: time in which the engine only waited
    for environments. The remaining fields come from the engine, see sampler.Stats.
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
        """The share of the decode calls' token places that were filled, in [0, 1]."""
        return (self.sampled_tokens - self.turns) / max(self.slot_steps, 1)


def total(parts: Sequence[Stats]) -> Stats:
    """The statistics of several processes that played at the same time: sums, but for times the longest."""
    names = [field.name for field in dataclasses.fields(Stats)]
    return Stats(**{n: (max if n.endswith("seconds") else sum)(getattr(part, n) for part in parts) for n in names})


class Rollouts:
    """Plays episodes with one engine. Nothing else may use the engine during a run.

    engine: its stop ids must be chat.stop_ids. make_env: makes a new environment for a task. seed: for sampling. calls:
    if given, constrains sampled tool calls to valid ones. stats: of the latest run. aside: all episodes of the groups
    that the latest run has not completed; the next run continues them.
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
        """`collect` for synchronous callers, with the same arguments, result and errors."""
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

        Args:
            params: the policy's parameters.
            policy_version: recorded in the trajectories.
            temperature: None for the engine's, 0.0 for greedy sampling.
            seed: None for the constructor's.
            on_progress: called with (finished episodes, all episodes).
            turns: an episode that has taken so many turns in this run and has not ended is put aside, unless that has
                happened to it `pauses` times before. 0: no episode is put aside.

        Partial rollouts (Kimi k1.5, arXiv:2501.12599, section 2.6.2): if episodes are put aside, only tasks all of
        whose episodes have ended are in the result. The next run continues the other tasks; its parameters then process
        the conversations so far again. The limit counts turns instead of seconds, so that runs repeat to the bit.

        How an episode ends:
          - Its environment raises, is too late, or answers what the chat format cannot express: after `limits.retries`
            more attempts the episode ends with reason ERROR and reward None (without tokens if reset failed). The other
            episodes go on.
          - A budget cuts it off: it is scored in the state it has reached.
          - The last answer of the environment is among the messages, but not among the tokens.

        Raises:
            ValueError: if a task is given twice, or a prompt leaves no room to sample (see limits.end_long_prompts).
            RuntimeError: after `limits.max_faults` failed attempts in a row.
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
                raise ValueError(f"rollout: task {left.task.id!r}, member {left.member} is given twice")
        self.aside, aside = [], set()
        try:
            self.engine.forget()  # the slots' caches were computed with other parameters
            await self._play(self.engine.place(params), episodes, temperature, on_progress, turns, pauses)
            aside = {episode.task.id for episode in episodes if not episode.reason}
            self.aside = [episode for episode in episodes if episode.task.id in aside]
        finally:
            # Closes the environments that an exception left open; if one close fails, the others are still closed.
            with contextlib.ExitStack() as stack:
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
        """Makes and resets the episode's environment.

        Raises ValueError for a prompt that leaves no room to sample, unless limits.end_long_prompts is set.
        """
        await episode.reset(self.make_env, self.chat)
        if not episode.reason and len(episode.pending) >= self.engine.context:
            if not self.limits.end_long_prompts:
                raise ValueError(
                    f"task {episode.task.id!r}: the prompt has {len(episode.pending)} tokens, which leaves no room in "
                    f"sampler.context={self.engine.context}; raise it, in a new workdir"
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
        """Plays the episodes to their ends, or until they are put aside (see `collect`).

        An episode that is played again replaces the failed one in `episodes`. The index of an unfinished episode is in
        one of four collections:
          - waiting: its environment has not been made.
          - working: its environment is resetting, stepping or scoring.
          - ready: it has a prompt and needs a slot.
          - sampling: the engine samples its turn.
        """
        waiting = collections.deque(i for i, e in enumerate(episodes) if e.env is None and not e.reason)
        free = collections.deque(range(self.engine.slots))
        working: dict[asyncio.Task[None], int] = {}
        ready = {place for place, episode in enumerate(episodes) if episode.env is not None}
        sampling: dict[int, int] = {}  # slot -> index
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
                await asyncio.sleep(0)  # lets environments run; those that wait for nothing answer now
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
                for place in sorted(ready)[: len(free)]:  # sorted, since neighbours in the list share prompts
                    ready.remove(place)
                    # The slot released first, so that the latest prompts stay in the other slots' caches.
                    episodes[place].slot = free.popleft()
                    going.append(place)
                self._submit([episodes[place] for place in going], temperature)
                sampling |= {episodes[place].slot: place for place in going}
        except BaseException as error:
            for task in working:  # `collect` closes their environments
                task.cancel()
            for other in await asyncio.gather(*working, return_exceptions=True):
                if isinstance(other, Exception):  # not a cancellation: this episode failed at the same time
                    error.add_note(f"And another episode:\n{''.join(traceback.format_exception(other))}")
            raise

    def _submit(self, episodes: Sequence[Episode], temperature: float | None) -> None:
        """Requests the episodes' next turns from the engine."""
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
        """Releases the episode's slot, if it has one."""
        if episode.slot >= 0:
            self.engine.release(episode.slot)
            episode.slot = -1


def write(trajectories: Iterable[Trajectory], path: str | os.PathLike[str], **tags: int | str) -> None:
    """Appends one JSON line per trajectory to the file, creating it if needed. Each line begins with the tags.

    Raises ValueError for a tag with the name of a field of Trajectory.
    """
    taken = sorted(tags.keys() & FIELDS)
    if taken:
        raise ValueError(f"rollout.write: the tags {taken} are fields of a trajectory")
    with open(path, "a", encoding="utf-8") as file:
        for item in trajectories:
            file.write(json.dumps({**tags, **item.to_json()}, ensure_ascii=False) + "\n")


def read(path: str | os.PathLike[str]) -> list[Trajectory]:
    """The trajectories of a file made by `write`, without their tags.

    Raises ValueError, naming file and line, for a line that is not a trajectory record.
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
