"""The suites of --stage=evaluate: tasks with their environments, oracles and baselines."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from envs import actors, registry
from envs.base import Actor, Env
from rl.evaluation.pass_rates import derive_seed
from synth import dataset
from synth.inversion import script
from synth.task import Task

FAMILIES = ("agentic", "bfcl", "tau2")
BFCL_COLUMNS = {  # category -> the paper's column
    "multi_turn_base": "BFCL-V4 base",
    "multi_turn_miss_func": "BFCL-V4 miss func",
    "multi_turn_miss_param": "BFCL-V4 miss param",
    "multi_turn_long_context": "BFCL-V4 long ctx",
}
TAU2_COLUMNS = {  # split -> the paper's column, if it has one
    "airline": "tau2 airline",
    "retail": "tau2 retail",
    "telecom": "tau2 telecom",
    "telecom_solo": "",
}


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tasks that are measured together.

    name: "<family>/<split>".
    tasks: objects with id and root.
    make: makes a new environment for a task.
    max_turns: assistant turns per episode.
    seed: for sampling.
    actors: the baselines, name -> function from a task to an actor, or to None if the baseline cannot act on it.
    make_scripted: makes the environment in which baselines play.
    column: the column of the paper's table, "" if there is none.
    note: a remark on the figures for the report, "" for none.
    """

    name: str
    tasks: Sequence[Any]
    make: Callable[[Any], Env]
    max_turns: int
    seed: int
    actors: Mapping[str, Callable[[Any], Actor | None]]
    make_scripted: Callable[[Any], Env]
    column: str = ""
    note: str = ""


def parse(text: str) -> list[str]:
    """The names in config.evaluate.suites, comma-separated: families, or "<family>/<split>" for one suite of a family.

    Raises ValueError for an unknown family or if a name is given twice.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name.split("/")[0] not in FAMILIES:
            raise ValueError(f"evaluate.suites: unknown suite {name!r}, expected some of {', '.join(FAMILIES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"evaluate.suites: {text!r} names a suite twice")
    return names


def load(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The suites that config.evaluate.suites names, each with at most evaluate.limit tasks if that is not 0.

    Raises ValueError for an unknown suite, a workdir without tasks, or an official package that is not installed.
    """
    found: list[Suite] = []
    for name in parse(config.evaluate.suites):
        family, _, split = name.partition("/")
        suites = {"agentic": agentic, "bfcl": bfcl, "tau2": tau2}[family](config, workdir)
        chosen = [suite for suite in suites if split in ("", suite.name.partition("/")[2])]
        if not chosen:
            raise ValueError(f"evaluate.suites: no suite {name!r}, there are {', '.join(s.name for s in suites)}")
        found += [suite for suite in chosen if suite.name not in {other.name for other in found}]
    if limit := config.evaluate.limit:
        found = [dataclasses.replace(suite, tasks=suite.tasks[:limit]) for suite in found]
    return found


def agentic(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """One suite per round in the workdir: its held-out tasks, with the seed that the flywheel measured them with.

    Raises ValueError if the workdir has no tasks, and as `dataset.stream` does.
    """
    names = (re.fullmatch(r"round_(\d+)", path.name) for path in (workdir / "tasks").glob("round_*"))
    rounds = sorted(int(name[1]) for name in names if name)
    if not rounds:
        raise ValueError(f"evaluate: {workdir} holds no tasks; run --stage=synth or --stage=flywheel first")
    constants = {name: functools.partial(_constant, name=name) for name in script.CONSTANTS}
    make = functools.partial(registry.make, untooled=config.reasoning.untooled_reward)
    return [
        Suite(
            name=f"agentic/round_{number}",
            tasks=dataset.read_round(workdir / "tasks", number, "heldout", config.reasoning.rounds),
            make=make,
            max_turns=config.env.max_turns,
            seed=derive_seed(config.seed, "evaluate", number),
            actors=_baselines(registry.oracle, lambda task: getattr(task, "tools", ())) | constants,
            make_scripted=make,
        )
        for number in rounds
    ]


def bfcl(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The four multi-turn categories of BFCL-V4, a suite each. Raises ValueError if the package is not installed."""
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
            actors=_baselines(benchmark.oracle, lambda task: task.functions),
            make_scripted=benchmark.make,
            column=column,
        )
        for split, column in BFCL_COLUMNS.items()
    ]


def tau2(config: config_dict.ConfigDict, workdir: Path) -> list[Suite]:
    """The domains of tau2-bench, a suite each. Policies play with the user model that the config names (evaluate.user),
    baselines with the scripted user. Raises ValueError if the package is not installed."""
    del workdir  # the tasks come with the checkout
    try:
        from envs import tau2 as benchmark
    except ImportError as error:
        raise ValueError(f"evaluate.suites: {error}") from error
    c = config.evaluate
    user = benchmark.UserModel(c.user, c.user_url, os.environ.get(c.user_key_env, "")) if c.user else None
    other = f"the user is {c.user or 'scripted'}, not {benchmark.OFFICIAL_USER}: not comparable with the leaderboard"
    return [
        Suite(
            name=f"tau2/{split}",
            tasks=benchmark.tasks(split),
            make=functools.partial(benchmark.make, user=user),
            max_turns=benchmark.MAX_TURNS,
            seed=derive_seed(config.seed, "evaluate", split),
            actors={
                "oracle": benchmark.oracle,
                "do_nothing": benchmark.idle,
                "always_transfer": benchmark.transferring,
            },
            make_scripted=benchmark.make,
            column=column,
            note="" if c.user == benchmark.OFFICIAL_USER or split == "telecom_solo" else other,
        )
        for split, column in TAU2_COLUMNS.items()
    ]


def _baselines(
    oracle: Callable[[Any], Actor], tools: Callable[[Any], Sequence[dict]]
) -> dict[str, Callable[[Any], Actor | None]]:
    """The usual baselines: the oracle (an upper bound), doing nothing, and always transferring to a person.

    tools: task -> its function schemas.
    """
    return {
        "oracle": oracle,
        "do_nothing": lambda task: actors.scripted([]),
        "always_transfer": lambda task: actors.transferring(tools(task)),
    }


def _constant(task: Any, name: str) -> Actor:
    """The constant policy `name` of the executable worlds; None for a question, to which these do not apply."""
    return actors.scripted(script.constant(task, name)) if isinstance(task, Task) else None
