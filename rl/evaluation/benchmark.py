"""Measures policies on suites of tasks: plays the episodes that are missing, stores all episodes, writes a report.

All files are in WORKDIR/evaluation:
  settings.json       the settings that episodes depend on; to use other settings, remove the folder
  baselines.json      pass rates of policies that need no model
  rollouts/*.jsonl    all episodes; one file for each suite, policy and number of updates, greedy trials apart
  report.json, .md    the results (see rl/evaluation/scoreboard.py)

Episodes are written batch by batch, and stored episodes are not played again. So the same command continues a killed
evaluation. It also plays the episodes whose infrastructure failed again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs import actors, base, contract
from rl import hosts, setup
from rl.evaluation import pass_rates, scoreboard, trials
from rl.evaluation.suites import Suite
from rl.reports import show
from rl.rollouts import fault, rollout
from rl.trajectory import Trajectory

SETTINGS = ("context", "max_new_tokens", "slots", "bfcl_form", "user", "user_url")  # keys of the evaluate section
BATCH = 8  # episodes per slot that are played before they are written


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy to measure. params: its parameters. updates: optimiser updates that were made to them."""

    name: str
    params: Any
    updates: int


class Evaluation:
    """Measures policies with one engine.

    parts: of the run. folder: WORKDIR/evaluation. Raises ValueError, naming the key, if the folder was made with
    another value of one of SETTINGS.
    """

    def __init__(self, parts: setup.Parts, folder: Path):
        self.config, self.folder = parts.config, folder
        c = self.config.evaluate
        (folder / "rollouts").mkdir(parents=True, exist_ok=True)
        _check_settings(folder / "settings.json", {key: c[key] for key in SETTINGS})
        self._parts = parts
        self._engine = parts.engine(c.slots, c.context, c.max_new_tokens)

    def run(self, found: Sequence[Suite], policies: Sequence[Policy], against: Path | None) -> dict[str, Any]:
        """Measures every policy on every suite, writes the report and returns it (see rl/evaluation/scoreboard.py).

        The last policy is compared with the other policies and, if `against` is given, with the current policy of that
        workdir. Raises ValueError if a suite has not been evaluated in `against`, or all episodes of a suite failed.
        """
        c = self.config.evaluate
        report = {"trials": c.trials, "limit": c.limit, "updates": {p.name: p.updates for p in policies}, "suites": {}}
        for suite in found:
            report["suites"][suite.name] = self._suite(suite, policies, against)
            _write(self.folder, report)
        return report

    def _suite(self, suite: Suite, policies: Sequence[Policy], against: Path | None) -> dict[str, Any]:
        """The report's entry for one suite."""
        baselines, faults = self._baselines(suite)
        record: dict[str, Any] = {
            "tasks": len(suite.tasks),
            "column": suite.column,
            "note": suite.note,
            "baselines": baselines,
            "baseline_faults": faults,
            "policies": {},
            "comparisons": {},
        }
        root_of = {task.id: task.root for task in suite.tasks}
        measured = {}
        for policy in policies:
            record["policies"][policy.name], items = self._measure(suite, policy)
            measured[policy.name] = trials.passes(items, root_of)
        if against is not None:
            path = newest(against, suite)
            items = [item for item in rollout.read(path) if item.task_id in root_of]
            measured = {str(against): trials.passes(items, root_of), **measured}
        *others, last = measured
        resamples = self.config.evaluate.bootstrap
        for other in others:
            record["comparisons"][f"{last} - {other}"] = trials.compare(measured[other], measured[last], resamples)
        return record

    def _baselines(self, suite: Suite) -> tuple[dict[str, float | None], dict[str, int]]:
        """(baseline -> its pass rate on the suite; baseline -> faults, where there were any), read from baselines.json
        if they are there."""
        path, key = self.folder / "baselines.json", f"{suite.name}, {len(suite.tasks)} tasks"
        known = json.loads(path.read_text()) if path.exists() else {}
        if key not in known:
            found = {name: _baseline(suite, name) for name in show.bar(suite.actors, f"{suite.name}, baselines")}
            known[key] = {name: rate for name, (rate, _) in found.items()}
            known[f"{key}, faults"] = {name: faults for name, (_, faults) in found.items() if faults}
            hosts.write_json(path, known)
        faults = known.get(f"{key}, faults", {})
        return {n: known[key][n] for n in suite.actors}, {n: faults[n] for n in suite.actors if n in faults}

    def _measure(self, suite: Suite, policy: Policy) -> tuple[dict[str, Any], list[Trajectory]]:
        """(figures for the report, sampled episodes) of a policy on a suite."""
        c = self.config.evaluate
        items = self._play(suite, policy, "", range(c.trials), None)
        show.faults(items)
        rate = pass_rates.pass_rate(suite.tasks, items, c.bootstrap)
        passes = trials.passes(items, {task.id: task.root for task in suite.tasks})
        result = {**rate, **trials.summarise(passes, c.trials, c.bootstrap), "reasons": _reasons(items)}
        if c.greedy:
            trials_of_one = self._play(suite, policy, "_greedy", [0], 0.0)
            show.faults(trials_of_one)
            greedy = pass_rates.pass_rate(suite.tasks, trials_of_one, c.bootstrap)
            result |= {"greedy": greedy["mean"], "greedy_faults": greedy["faults"]}
        show.line(f"{suite.name}  {policy.name}: {show.percent(result)}")
        return result, items

    def _play(
        self, suite: Suite, policy: Policy, kind: str, members: Sequence[int], temperature: float | None
    ) -> list[Trajectory]:
        """The episodes of these members for all tasks of the suite. Plays those that are not stored yet.

        kind: ending of the file's name. temperature: as for Rollouts.collect.
        """
        path = self.folder / "rollouts" / file_name(suite, policy.name, policy.updates, kind)
        if hosts.first():
            _tidy(path)
        hosts.wait(f"episodes of {path.name}")
        known = rollout.read(path) if path.exists() else []
        there = {(item.task_id, item.member) for item in known}
        missing = {task.id: tuple(m for m in members if (task.id, m) not in there) for task in suite.tasks}
        limits = dataclasses.replace(setup.limits(self.config), max_turns=suite.max_turns)
        rollouts = rollout.Rollouts(self._engine, self._parts.chat, suite.make, limits, suite.seed, self._parts.calls)
        batches = _batches(suite.tasks, missing, BATCH * self._engine.slots)
        for number, (tasks, wanted) in enumerate(batches):
            with show.Progress(f"{suite.name}, {policy.name}{kind}, batch {number + 1}/{len(batches)}") as bar:
                items = self._parts.play(
                    policy.params, tasks, wanted, policy.updates, rollouts=rollouts, temperature=temperature,
                    on_progress=bar.update,
                )  # fmt: skip
            if hosts.first():
                rollout.write(items, path, suite=suite.name, phase=policy.name + kind)
            known += items
        wanted = {(task.id, member) for task in suite.tasks for member in members}
        return sorted((i for i in known if (i.task_id, i.member) in wanted), key=lambda i: (i.task_id, i.member))


def file_name(suite: Suite, policy: str, updates: int | str, kind: str = "") -> str:
    """The file name of a policy's episodes on a suite. kind: "" for sampled trials, "_greedy" for greedy ones."""
    return f"{suite.name.replace('/', '_')}-{policy}_{updates}{kind}.jsonl"


def newest(workdir: Path, suite: Suite) -> Path:
    """The file of the episodes that another workdir's current policy played on the suite, after the most updates.

    Raises ValueError if the suite has not been evaluated there.
    """
    found = [
        path for path in (workdir / "evaluation" / "rollouts").glob(file_name(suite, "current", "*"))
        if not path.stem.endswith("_greedy")
    ]  # fmt: skip
    if not found:
        raise ValueError(f"evaluate.against = {str(workdir)!r}: {suite.name} has not been evaluated there")
    return max(found, key=lambda path: int(path.stem.rpartition("_")[2]))


def _baseline(suite: Suite, name: str) -> tuple[float | None, int]:
    """(the pass rate of a baseline on the suite, the number of its episodes that faulted and are left out).

    The rate is None if the baseline cannot act on a task or no episode could be scored.
    """
    passed, faults = [], 0
    for task in suite.tasks:
        actor = suite.actors[name](task)
        if actor is None:
            return None, 0
        try:
            _, score = base.run(actors.play(suite.make_scripted(task), actor, suite.max_turns))
            reward, error = contract.score(score).reward, score.error
        except (
            Exception,
            SystemExit,
            asyncio.CancelledError,
        ) as failure:  # of an environment, which may fail in any way
            reward, error = None, fault.told(failure)
        if reward is not None:
            passed.append(reward == 1.0)
            continue
        faults += 1
        if faults == 1:
            show.line(f"{suite.name}, {name}: {task.id} faulted: {(error or 'no error told').splitlines()[0]}")
    return sum(passed) / len(passed) if passed else None, faults


def _batches(
    tasks: Sequence[Any], missing: Mapping[str, tuple[int, ...]], size: int
) -> list[tuple[list[Any], tuple[int, ...]]]:
    """(tasks, members) of each batch: tasks for which the same members are missing, about `size` episodes.

    missing: task id -> members that are to be played.
    """
    found = []
    todo = sorted((task for task in tasks if missing[task.id]), key=lambda task: missing[task.id])  # stable
    for members, group in itertools.groupby(todo, key=lambda task: missing[task.id]):
        alike, width = list(group), max(1, size // len(members))
        found += [(alike[i : i + width], members) for i in range(0, len(alike), width)]
    return found


def _tidy(path: Path) -> None:
    """Removes an incomplete last line and the episodes whose infrastructure failed from a file, if it exists."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n") and json.loads(line)["score"]["reward"] is not None]
    if len(whole) < len(lines):
        partial = path.with_suffix(".partial")
        partial.write_text("".join(whole), encoding="utf-8")
        os.replace(partial, path)


def _reasons(items: Sequence[Trajectory]) -> dict[str, int]:
    """Reason for which episodes ended -> number of episodes."""
    reasons = sorted(item.reason for item in items)
    return {reason: len(list(group)) for reason, group in itertools.groupby(reasons)}


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Writes the settings if the file is missing; raises ValueError if it holds other settings."""
    if not path.exists():
        hosts.write_json(path, settings)
    hosts.wait("settings of the evaluation")
    there = json.loads(path.read_text())
    for key in sorted(settings.keys() | there.keys()):
        if settings.get(key) != there.get(key):
            raise ValueError(
                f"evaluate.{key} = {settings.get(key)!r}, but {path.parent} was made with {there.get(key)!r}: "
                "remove that folder to measure anew"
            )


def _write(folder: Path, report: dict[str, Any]) -> None:
    """Writes report.json and report.md. Only the first process writes."""
    if not hosts.first():
        return
    hosts.write_json(folder / "report.json", report)
    partial = folder / ".report.md"
    partial.write_text(scoreboard.markdown(report), encoding="utf-8")
    os.replace(partial, folder / "report.md")
