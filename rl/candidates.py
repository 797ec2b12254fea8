"""A round's candidates and what the gates that concern a task alone say of each: here, or in several processes."""

from __future__ import annotations

import collections
import functools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from ml_collections import config_dict

from envs import world
from synth import domains, gates, generate
from synth.task import Task
from synth.workflow import Workflow

Examined = tuple[Task, gates.Verdict]
AHEAD = 16  # trees per process that are under way or wait to be taken


def examined(config: config_dict.ConfigDict, trees: Sequence[Workflow]) -> Iterator[Examined]:
    """The tasks of trees in order of id, each examined; the same however they are made."""
    c = config.synth
    slots = generate.slots(trees, c.variants, c.legal_share)
    work = functools.partial(of_slot, seed=config.seed)
    if c.processes == 1:
        found = map(work, slots)
    else:
        found = _in_processes(work, slots, c.processes)
    for tasks in found:
        yield from tasks


def of_slot(slot: tuple[Workflow, list[bool]], seed: int) -> list[Examined]:
    """The tasks of one tree, examined; slot: as generate.slots gives it."""
    return [(task, gates.examine(task, world.reward)) for task in generate.of_tree(*slot, seed)]


def _in_processes(work: functools.partial, slots: Iterator, processes: int) -> Iterator[list[Examined]]:
    """What `map` gives, from so many processes, which are not let run far ahead."""
    # Not forked: jax runs threads, and a lock that one of them holds would stay locked in the child.
    known, waiting = (list(domains.DOMAINS.values()),), collections.deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), domains.register, known) as pool:
        for slot in slots:
            waiting.append(pool.submit(work, slot))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
