"""Evaluation: pass rates over sampled trials, their intervals, and the constant policies a learned one has to beat."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import world
from rl.trajectory import Trajectory
from synth.inversion import script
from synth.question import Question
from synth.task import Task

Interval = dict[str, float]  # {"mean", "low", "high"}


def derive_seed(*parts: Any) -> int:
    """A sampling seed in [0, 2**31) that is a function of the parts alone."""
    return random.Random("/".join(map(str, parts))).randrange(2**31)


def clustered_interval(by_root: Mapping[str, Sequence[float]], resamples: int, seed: int) -> Interval:
    """Mean over all values with a 95 % percentile bootstrap interval that resamples whole roots.

    Tasks of one root share tree and wording, so they are not independent; resampling them singly makes the interval
    too narrow (cluster bootstrap, Davison & Hinkley 1997, section 3.8). Raises ValueError when there is no value.
    """
    roots = sorted(root for root, values in by_root.items() if len(values))
    if not roots:
        raise ValueError("evaluate: no episode without an infrastructure fault, so there is no pass rate")
    sums = np.array([np.sum(by_root[r]) for r in roots], np.float64)
    counts = np.array([len(by_root[r]) for r in roots], np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(roots), (resamples, len(roots)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(sums.sum() / counts.sum()), "low": float(low), "high": float(high)}


def pass_rate(tasks: Sequence[Task | Question], trajectories: Sequence[Trajectory], resamples: int) -> dict[str, Any]:
    """The pass rate of trajectories of `tasks`: an Interval with "episodes", "faults" and "reward_mean" beside it.

    Where the tasks are questions, "worlds" holds an Interval of each world's (none where all episodes
    failed).
    Episodes whose infrastructure failed (reward None) are excluded and counted under "faults". Raises ValueError, with
    the first error, if all failed.
    """
    by_id = {task.id: task for task in tasks}
    by_root, rewards, worlds = defaultdict(list), [], defaultdict(lambda: defaultdict(list))
    for item in trajectories:
        if item.reward is not None:
            task, passed = by_id[item.task_id], float(item.passed)
            by_root[task.root].append(passed)
            rewards.append(item.reward)
            if isinstance(task, Question):
                worlds[task.env][task.root].append(passed)
    if trajectories and not rewards:
        first = trajectories[0].score.error
        raise ValueError(f"evaluate: all {len(trajectories)} episodes faulted; the first: {first}")
    interval = clustered_interval(by_root, resamples, seed=0)
    faults = len(trajectories) - len(rewards)
    found = {**interval, "episodes": len(rewards), "faults": faults, "reward_mean": float(np.mean(rewards))}
    if worlds:
        found["worlds"] = {env: clustered_interval(worlds[env], resamples, seed=0) for env in sorted(worlds)}
    return found


def constant_pass_rates(tasks: Sequence[Task]) -> dict[str, float]:
    """Pass rate of every constant policy on the tasks, played in their worlds."""
    return {
        name: float(np.mean([world.reward(task, script.constant(task, name)) == 1.0 for task in tasks]))
        for name in script.CONSTANTS
    }
