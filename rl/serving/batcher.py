"""Samples turns for many clients with one engine: they get slots in order, are decoded together and can be cancelled.

The engine's steps run in a thread. All other calls of the engine are made between two steps, by `Batcher.run`.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.sampling import sampler


class OverloadedError(Exception):
    """Too many turns are waiting for a slot already."""


class StoppedError(Exception):
    """The batcher has ended: it was told to stop, or its engine failed."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """The part of a turn that has been sampled. finish_reason: "" while it goes on, else as in sampler.Sample."""

    tokens: list[int]
    logprobs: list[float]
    finish_reason: str = ""


@dataclasses.dataclass(eq=False)
class Job:
    """One turn to sample for a client.

    tokens, key, temperature, max_new_tokens: as in sampler.Request. eager: call `tell` after every step of the engine;
    otherwise only at the end of the turn. tell: called in the event loop with a Progress, or with a StoppedError if the
    batcher ends before the turn. slot: -1 while the job waits. given_up: the client does not want the turn any more.
    """

    tokens: Sequence[int]
    key: np.ndarray
    temperature: float | None
    max_new_tokens: int | None
    eager: bool
    tell: Callable[[Progress | Exception], None]
    slot: int = -1
    given_up: bool = False


class Batcher:
    """Samples jobs with an engine. Nothing else may use the engine.

    params: the result of `engine.place`. most_waiting: number of jobs that may wait for a slot; more are refused.
    """

    def __init__(self, engine: sampler.Engine, params: Any, most_waiting: int):
        self.engine, self._params, self._most_waiting = engine, params, most_waiting
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: dict[int, Job] = {}
        self._free = collections.deque(range(engine.slots))
        self._work = asyncio.Event()
        self.failure: Exception | None = None

    @property
    def load(self) -> tuple[int, int]:
        """(jobs in slots, jobs waiting)."""
        return len(self._running), len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accepts the jobs: all of them, or none. Raises OverloadedError if too many would wait, and StoppedError if
        the batcher has ended."""
        if self.failure is not None:
            raise StoppedError(str(self.failure))
        if len(self._waiting) + len(jobs) > self._most_waiting + len(self._free):
            raise OverloadedError(
                f"{len(self._running)} turns are under way and {len(self._waiting)} are waiting; try again later"
            )
        self._waiting += jobs
        self._work.set()

    def give_up(self, jobs: Sequence[Job]) -> None:
        """Cancels jobs. Waiting jobs are dropped; jobs in slots are stopped after the engine's current step."""
        for job in jobs:
            job.given_up = True
        self._work.set()

    async def run(self) -> None:
        """Samples jobs until it is cancelled or the engine fails, and raises that error. The remaining jobs are told a
        StoppedError."""
        try:
            while True:
                self._admit()
                if not self._running:
                    self._work.clear()
                    await self._work.wait()
                    continue
                await self._step()
        except asyncio.CancelledError:
            self.failure = StoppedError("the server is stopping")
            raise
        except Exception as error:
            self.failure = error
            logging.getLogger(__name__).exception("the engine failed; nothing more can be sampled")
            raise
        finally:
            for job in (*self._running.values(), *self._waiting):
                job.tell(StoppedError(str(self.failure)))

    def _admit(self) -> None:
        """Releases the slots of cancelled jobs and gives the free slots to waiting jobs in the order of submission."""
        for slot, job in list(self._running.items()):
            if job.given_up:
                self._release(slot)
        self._waiting = collections.deque(job for job in self._waiting if not job.given_up)
        requests = []
        while self._waiting and self._free:
            job = self._waiting.popleft()
            job.slot = self._free.popleft()
            self._running[job.slot] = job
            requests.append(sampler.Request(job.slot, job.tokens, job.key, job.temperature, job.max_new_tokens))
        self.engine.submit(requests)

    async def _step(self) -> None:
        """Runs one step of the engine and tells its results to the jobs."""
        for slot, sample in await self.engine.step_in_thread(self._params):
            job = self._running[slot]
            self._release(slot)
            job.tell(Progress(sample.tokens, sample.logprobs, sample.finish_reason))
        if any(job.eager for job in self._running.values()):
            for slot, (tokens, logprobs) in self.engine.partial().items():
                if self._running[slot].eager:
                    self._running[slot].tell(Progress(tokens, logprobs))

    def _release(self, slot: int) -> None:
        """Releases a slot, so that the next job can have it."""
        self.engine.release(slot)
        del self._running[slot]
        self._free.append(slot)
