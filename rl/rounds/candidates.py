"""A round's candidate tasks, each with the verdict of the gates that examine a task on its own.

They are made in this process, in several processes (synth.processes) or on Apache Beam (synth.runner). On Beam the
trees are written to part files, workers turn each part into a file of examined tasks, and these files are read in
order. A file of examined tasks is complete or missing; one that exists is not made again.

Gates that compare tasks with each other run later, in order (gates.passing). So all three ways give the same bytes.
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
from rl import endings
from synth import generate
from synth.gating import gates
from synth.task import Task
from synth.teachers.teacher import Teacher
from synth.trees import domains
from synth.trees.workflow import Workflow

Examined = tuple[Task, gates.Verdict]
AHEAD = 16  # trees per process that are being examined or whose results have not been consumed
PART = 32  # trees per part
BESIDE = Path(__file__).parents[2] / ".venv" / "beam"  # where `make setup-beam` installs Beam, see the Makefile


def examined(config: config_dict.ConfigDict, trees: Sequence[Workflow], place: Path) -> Iterator[Examined]:
    """The tasks of the trees in order of id, each with its verdict.

    place: a folder for the files of Beam's workers. Raises ValueError if Beam is wanted and not installed.
    """
    c = config.synth
    slots = generate.slots(trees, c.variants, c.legal_share, c.refused_share)
    if c.runner == "beam":
        yield from _on_beam(slots, config.seed, c.beam_options, place)
    elif c.processes == 1:
        yield from itertools.chain.from_iterable(of_slot(slot, config.seed) for slot in slots)
    else:
        yield from itertools.chain.from_iterable(_in_processes(slots, config.seed, c.processes))


def worded(config: config_dict.ConfigDict, trees: Sequence[Workflow], by: Teacher) -> Iterator[Examined]:
    """As `examined`, but the teacher words what users say. Always in this process."""
    for task in spoken(config, trees, by):
        yield task, gates.examine(task, world.reward)


def spoken(config: config_dict.ConfigDict, trees: Sequence[Workflow], by: Teacher) -> Iterator[Task]:
    """The tasks of the trees in order of id; the teacher words what users say."""
    c = config.synth
    for part in _parts(generate.slots(trees, c.variants, c.legal_share, c.refused_share)):
        yield from by.speak([task for slot in part for task in generate.of_tree(*slot, config.seed)])


def of_slot(slot: generate.Slot, seed: int) -> list[Examined]:
    """The tasks of one tree, each with its verdict."""
    return [(task, gates.examine(task, world.reward)) for task in generate.of_tree(*slot, seed)]


def _in_processes(slots: Iterable[generate.Slot], seed: int, processes: int) -> Iterator[list[Examined]]:
    """`of_slot` of each slot, in order, computed in `processes` processes.

    At most AHEAD trees per process are submitted ahead of the consumer, which bounds the memory.
    """
    # Spawned, not forked: a lock that one of jax's threads holds would stay locked forever in a forked child.
    known, waiting = (_known(),), collections.deque()
    endings.start_tracker()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, known)
    try:
        for slot in slots:
            waiting.append(pool.submit(of_slot, slot, seed))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(known: Sequence[domains.Domain]) -> None:
    """Prepares a process of the pool. known: the domains."""
    endings.end_with_parent()
    domains.register(known)


def _known() -> list[domains.Domain]:
    """The domains that another process has to be told of. It finds written and composed businesses by their names."""
    return list(domains.DOMAINS.values())


def require_beam() -> None:
    """Raises ValueError if Apache Beam is not installed."""
    if str(BESIDE) not in sys.path:
        sys.path.append(str(BESIDE))
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError("synth.runner = 'beam': apache-beam is not installed; make setup-beam does it")


def _on_beam(slots: Iterable[generate.Slot], seed: int, options: str, place: Path) -> Iterator[Examined]:
    """`of_slot` of each slot, in order, computed by a Beam pipeline.

    Its workers must share this file system and be able to import this repository.
    """
    require_beam()
    import apache_beam as beam  # not at the top: the import takes seconds, and only this function needs it
    from apache_beam.options.pipeline_options import PipelineOptions

    place.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, part in enumerate(_parts(slots), 1):
        lines = [json.dumps({"workflow": flow.to_dict(), "wanted": wanted}) for flow, wanted in part]
        _write(place / f"trees_{count - 1}.jsonl", lines)
    work = functools.partial(examine_part, place, seed, _known())
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
    """The work of a Beam worker: examines the tasks of part `number`'s trees, unless that has been done.

    place: the folder of trees_<number>.jsonl, to which examined_<number>.jsonl is written. known: the domains.
    """
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
    """Writes a file under a temporary name and renames it. The temporary name is unique, because two workers may be
    writing the same part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(partial, path)
