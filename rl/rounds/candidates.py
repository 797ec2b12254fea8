"""A round's candidates and what the gates that concern a task alone say of each: made here, in processes or on Beam.

On Beam (synth.runner) trees go to part files, workers turn them into files of examined tasks, and these are read in
order: a part is whole or not there, and one that is there is not made again. Whatever compares tasks with each other
comes later and in order (gates.passing), so all ways give the same bytes.
"""

from __future__ import annotations

import collections
import functools
import importlib.util
import itertools
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ml_collections import config_dict

from envs import world
from synth import generate
from synth.gating import gates
from synth.task import Task
from synth.teachers.teacher import Teacher
from synth.trees import domains
from synth.trees.workflow import Workflow

Examined = tuple[Task, gates.Verdict]
AHEAD = 16  # trees per process that are under way or wait to be taken
PART = 32  # trees per part
BESIDE = Path(__file__).parents[2] / ".venv" / "beam"  # where make puts Beam, see the Makefile


def examined(config: config_dict.ConfigDict, trees: Sequence[Workflow], place: Path) -> Iterator[Examined]:
    """The tasks of trees in order of id, each examined. place: a folder for what Beam's workers read and write."""
    c = config.synth
    slots = generate.slots(trees, c.variants, c.legal_share, c.refused_share)
    if c.runner == "beam":
        yield from _on_beam(slots, config.seed, c.beam_options, place)
    elif c.processes == 1:
        yield from itertools.chain.from_iterable(of_slot(slot, config.seed) for slot in slots)
    else:
        yield from itertools.chain.from_iterable(_in_processes(slots, config.seed, c.processes))


def worded(config: config_dict.ConfigDict, trees: Sequence[Workflow], by: Teacher) -> Iterator[Examined]:
    """As `examined`, with what users say in the teacher's words."""
    for task in spoken(config, trees, by):
        yield task, gates.examine(task, world.reward)


def spoken(config: config_dict.ConfigDict, trees: Sequence[Workflow], by: Teacher) -> Iterator[Task]:
    """The tasks of trees in order of id, with what users say in the teacher's words."""
    c = config.synth
    for part in _parts(generate.slots(trees, c.variants, c.legal_share, c.refused_share)):
        yield from by.speak([task for slot in part for task in generate.of_tree(*slot, config.seed)])


def of_slot(slot: generate.Slot, seed: int) -> list[Examined]:
    """The tasks of one tree, examined."""
    return [(task, gates.examine(task, world.reward)) for task in generate.of_tree(*slot, seed)]


def _in_processes(slots: Iterable[generate.Slot], seed: int, processes: int) -> Iterator[list[Examined]]:
    """`of_slot` of each, from so many processes, which are not let run far ahead."""
    # Not forked: jax runs threads, and a lock that one of them holds would stay locked in the child.
    known, waiting = (list(domains.DOMAINS.values()),), collections.deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), domains.register, known) as pool:
        for slot in slots:
            waiting.append(pool.submit(of_slot, slot, seed))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def require_beam() -> None:
    """Raises ValueError if Apache Beam is not installed."""
    if str(BESIDE) not in sys.path:
        sys.path.append(str(BESIDE))
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError("synth.runner = 'beam': apache-beam is not installed; make setup-beam does it")


def _on_beam(slots: Iterable[generate.Slot], seed: int, options: str, place: Path) -> Iterator[Examined]:
    """`of_slot` of each, from a pipeline whose workers see the same files and can import this repository."""
    require_beam()
    import apache_beam as beam  # not at the top: takes seconds, and only this way of making tasks needs it
    from apache_beam.options.pipeline_options import PipelineOptions

    place.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, part in enumerate(_parts(slots), 1):
        lines = [json.dumps({"workflow": flow.to_dict(), "wanted": wanted}) for flow, wanted in part]
        _write(place / f"trees_{count - 1}.jsonl", lines)
    work = functools.partial(examine_part, place, seed, list(domains.DOMAINS.values()))
    with beam.Pipeline(options=PipelineOptions(options.split())) as pipeline:
        _ = pipeline | beam.Create(range(count)) | beam.Reshuffle() | beam.Map(work)
    for number in range(count):
        with open(place / f"examined_{number}.jsonl", encoding="utf-8") as file:
            for record in map(json.loads, file):
                yield Task.from_json(record["task"]), (record["problem"], record["figures"])
    shutil.rmtree(place)


def _parts(slots: Iterable[generate.Slot]) -> Iterator[list[generate.Slot]]:
    remaining = iter(slots)
    while part := list(itertools.islice(remaining, PART)):
        yield part


def examine_part(place: Path, seed: int, known: Sequence[domains.Domain], number: int) -> None:
    """What a worker does: examines the tasks of one part's trees, unless that has been done."""
    domains.register(known)
    done, lines = place / f"examined_{number}.jsonl", []
    if done.exists():
        return
    with open(place / f"trees_{number}.jsonl", encoding="utf-8") as file:
        for record in map(json.loads, file):
            for task, (problem, figures) in of_slot((Workflow.from_dict(record["workflow"]), record["wanted"]), seed):
                lines.append(json.dumps({"task": task.to_json(), "problem": problem, "figures": figures}))
    _write(done, lines)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Writes a file in one rename. Two workers may be at the same part, so each has a name of its own for it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(partial, path)
