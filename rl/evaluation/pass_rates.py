"""Pass rates over sampled trials, their confidence intervals, and the constant policies that serve as baselines."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from envs import world
from rl.trajectory import Trajectory
from synth.inversion import script
from synth.question import Question
from synth.task import Task

Interval = dict[str, float]  # {"mean", "low", "high"}: a mean and the bounds of its 95 % confidence interval


def derive_seed(*parts: Any) -> int:
    """A sampling seed in [0, 2**31) that depends only on the parts, by their str()."""
    return random.Random("/".join(map(str, parts))).randrange(2**31)


def clustered_interval(by_root: Mapping[str, Sequence[float]], resamples: int, seed: int) -> Interval:
    """The mean of all values with a 95 % percentile bootstrap interval that resamples whole roots.

    Tasks of one root share tree and wording, so they are not independent. Resampling them one by one would make the
    interval too narrow (cluster bootstrap, Davison & Hinkley 1997, section 3.8).

    by_root: root -> values. resamples: number of bootstrap samples. Raises ValueError if there is no value.
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


def pass_rate(
    tasks: Sequence[Task | Question],
    trajectories: Sequence[Trajectory],
    resamples: int,
    unseen: Collection[str] = (),
) -> dict[str, Any]:
    """The pass rate of trajectories of `tasks`: an Interval with the further keys "episodes", "faults", "reward_mean".

    "faults" counts the episodes whose infrastructure failed (reward None); these are excluded from everything else. If
    tasks are questions, "worlds" has an Interval for every world with an episode that did not fail, with the keys
    "episodes" and "faults", too. If there are `unseen` domains, it has one for these and one for all others.

    resamples: see `clustered_interval`. unseen: domains from which no training task is. Raises ValueError, with the
    first error, if all episodes failed.
    """
    by_id = {task.id: task for task in tasks}
    by_root, rewards, worlds = defaultdict(list), [], defaultdict(lambda: defaultdict(list))
    lost = Counter(world for item in trajectories
                   if item.reward is None and (world := _world(by_id[item.task_id], unseen)))  # fmt: skip
    for item in trajectories:
        if item.reward is not None:
            task, passed = by_id[item.task_id], float(item.passed)
            by_root[task.root].append(passed)
            rewards.append(item.reward)
            if world := _world(task, unseen):
                worlds[world][task.root].append(passed)
    if trajectories and not rewards:
        first = trajectories[0].score.error
        raise ValueError(f"evaluate: all {len(trajectories)} episodes faulted; the first: {first}")
    interval = clustered_interval(by_root, resamples, seed=0)
    faults = len(trajectories) - len(rewards)
    found = {**interval, "episodes": len(rewards), "faults": faults, "reward_mean": float(np.mean(rewards))}
    if worlds:
        found["worlds"] = {
            env: {
                **clustered_interval(worlds[env], resamples, seed=0),
                "episodes": sum(map(len, worlds[env].values())),
                "faults": lost[env],
            }
            for env in sorted(worlds)
        }
    return found


def _world(task: Task | Question, unseen: Collection[str]) -> str:
    """What a task's pass rate is reported under, beside the rate of all tasks; "" for nothing."""
    if isinstance(task, Question):
        return task.env
    return ("new businesses" if task.domain in unseen else "known businesses") if unseen else ""


def constant_pass_rates(tasks: Sequence[Task]) -> dict[str, float]:
    """Constant policy (of script.CONSTANTS) -> its pass rate, in [0, 1], on the tasks, played in their worlds."""
    return {
        name: float(np.mean([world.reward(task, script.constant(task, name)) == 1.0 for task in tasks]))
        for name in script.CONSTANTS
    }
