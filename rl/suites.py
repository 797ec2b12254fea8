"""What --stage=evaluate can measure: suites of tasks with the environments, oracles and baselines that go with them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from envs import actors, world
from envs.base import Actor, Env
from rl.evaluate import derive_seed
from synth import dataset, script

FAMILIES = ("agentic", "bfcl")
BFCL_COLUMNS = {  # category -> the paper's column
    "multi_turn_base": "BFCL-V4 base",
    "multi_turn_miss_func": "BFCL-V4 miss func",
    "multi_turn_miss_param": "BFCL-V4 miss param",
    "multi_turn_long_context": "BFCL-V4 long ctx",
}


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tasks that are measured together.

    name: "<family>/<split>". tasks: anything with id and root. make: a fresh environment of a task. max_turns:
    assistant turns per episode. seed: of the sampling. actors: the baselines beside the policy, name -> actor of a
    task, None where a task has no such actor. column: of the paper's table, "" if it has none. note: what a reader of
    the figures has to know.
    """

    name: str
    tasks: Sequence[Any]
    make: Callable[[Any], Env]
    max_turns: int
    seed: int
    actors: Mapping[str, Callable[[Any], Actor | None]]
    column: str = ""
    note: str = ""


def parse(text: str) -> list[str]:
    """The names in config.evaluate.suites: families, or "<family>/<split>" for one of its suites.

    Raises ValueError naming an unknown family or a name that stands twice.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name.split("/")[0] not in FAMILIES:
            raise ValueError(f"evaluate.suites: unknown suite {name!r}, expected some of {', '.join(FAMILIES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"evaluate.suites: {text!r} names a suite twice")
    return names


def load(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The suites of config.evaluate.suites.

    Raises ValueError naming what is missing: an unknown suite, tasks in the workdir, an official package.
    """
    found: list[Suite] = []
    for name in parse(config.evaluate.suites):
        family, _, split = name.partition("/")
        suites = {"agentic": agentic, "bfcl": bfcl}[family](config, workdir)
        chosen = [suite for suite in suites if split in ("", suite.name.partition("/")[2])]
        if not chosen:
            raise ValueError(f"evaluate.suites: no suite {name!r}, there are {', '.join(s.name for s in suites)}")
        found += [suite for suite in chosen if suite.name not in {other.name for other in found}]
    if limit := config.evaluate.limit:
        found = [dataclasses.replace(suite, tasks=suite.tasks[:limit]) for suite in found]
    return found


def agentic(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The held-out tasks of every round in the workdir, with the seeds that the rounds measured them with."""
    rounds = sorted(int(path.name.removeprefix("round_")) for path in (workdir / "tasks").glob("round_*"))
    if not rounds:
        raise ValueError(f"evaluate: {workdir} holds no tasks; run --stage=synth or --stage=flywheel first")
    constants = {name: functools.partial(_constant, name=name) for name in script.CONSTANTS}
    return [
        Suite(
            name=f"agentic/round_{number}",
            tasks=dataset.read(workdir / "tasks" / f"round_{number}", "heldout"),
            make=world.make,
            max_turns=config.env.max_turns,
            seed=derive_seed(config.seed, "evaluate", number),
            actors=baselines(world.oracle, lambda task: task.tools) | constants,
        )
        for number in rounds
    ]


def bfcl(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The four multi-turn categories of BFCL-V4."""
    del workdir  # the tasks come with the official package
    try:
        from envs import bfcl as benchmark
    except ImportError as error:
        raise ValueError(f"evaluate.suites: {error}") from error
    return [
        Suite(
            name=f"bfcl/{split}",
            tasks=benchmark.tasks(split),
            make=functools.partial(benchmark.make, form=config.evaluate.bfcl_form),
            max_turns=benchmark.MAX_TURNS,
            seed=derive_seed(config.seed, "evaluate", split),
            actors=baselines(benchmark.oracle, lambda task: task.functions),
            column=column,
        )
        for split, column in BFCL_COLUMNS.items()
    ]


def baselines(
    oracle: Callable[[Any], Actor], tools: Callable[[Any], Sequence[dict]]
) -> dict[str, Callable[[Any], Actor | None]]:
    """The baselines of every suite: what can be reached, and what is reached by doing nothing or passing on."""
    return {
        "oracle": oracle,
        "do_nothing": lambda task: actors.scripted([]),
        "always_transfer": lambda task: actors.transferring(tools(task)),
    }


def _constant(task: Any, name: str) -> Actor:
    """A constant policy of the executable worlds."""
    return actors.scripted(script.constant(task, name))
