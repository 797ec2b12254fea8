"""What several trials per task say about a policy, and whether two policies differ.

Rewards are grouped as {root: {task id: [passed in each trial]}}: trials belong to a task, and tasks of one root are
variations of one another. Every interval and test treats roots as the independent units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from rl.evaluation.pass_rates import Interval, clustered_interval
from rl.trajectory import Trajectory

Passes = dict[str, dict[str, list[bool]]]  # root -> task id -> trials

RESAMPLES = 9999  # of the permutation test; with fewer than 14 roots all sign changes are gone through


def passes(items: Iterable[Trajectory], root_of: Mapping[str, str]) -> Passes:
    """The trials of trajectories; those whose infrastructure failed are left out."""
    found: Passes = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.reward is not None:
            found[root_of[item.task_id]][item.task_id].append(item.passed)
    return {root: dict(tasks) for root, tasks in found.items()}


def pass_at(trials: Sequence[bool], k: int) -> float:
    """Probability that at least one of k trials passes: 1 - C(n - c, k) / C(n, k), unbiased from n >= k trials of which
    c passed (Chen et al., arXiv:2107.03374, equation 1)."""
    return 1.0 - math.comb(len(trials) - sum(trials), k) / math.comb(len(trials), k)


def pass_hat(trials: Sequence[bool], k: int) -> float:
    """Probability that all of k trials pass: C(c, k) / C(n, k) (tau-bench, arXiv:2406.12045, section 2)."""
    return math.comb(sum(trials), k) / math.comb(len(trials), k)


def summarise(found: Passes, trials: int, resamples: int) -> dict[str, dict[str, Interval]]:
    """{"pass_at": {"1": Interval, ...}, "pass_hat": {...}} for k from 1 to `trials`, means over tasks.

    A task that has fewer than k trials left after faults is left out for that k; a k that no task has is missing.
    """
    result: dict[str, dict[str, Interval]] = {"pass_at": {}, "pass_hat": {}}
    for name, measure in (("pass_at", pass_at), ("pass_hat", pass_hat)):
        for k in range(1, trials + 1):
            by_root = {
                root: [measure(t, k) for t in tasks.values() if len(t) >= k] for root, tasks in found.items()
            }
            if any(by_root.values()):
                result[name][str(k)] = clustered_interval(by_root, resamples, seed=0)
    return result


def compare(first: Passes, second: Passes, resamples: int) -> dict[str, Any]:
    """Whether `second` passes more than `first` on the tasks that both have trials of.

    Per task the difference of the two pass rates; per root their sum. Returns an Interval of the mean difference over
    tasks with "p_value" and "tasks" beside it. The p-value is two-sided, of the test that changes the signs of the
    roots' sums at random (a paired permutation test; exact where there are few roots). Raises ValueError when no task
    is common.
    """
    differences = {
        root: [float(np.mean(second[root][task]) - np.mean(trials)) for task, trials in tasks.items()
               if task in second.get(root, {})]
        for root, tasks in first.items()
    }  # fmt: skip
    differences = {root: values for root, values in differences.items() if values}
    if not differences:
        raise ValueError("evaluate: the two policies have no task in common")
    # scipy wants two roots at least; one without a difference changes nothing.
    sums = np.array([*map(math.fsum, differences.values()), 0.0])
    test = stats.permutation_test(
        (sums,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    interval = clustered_interval(differences, resamples, seed=0)
    return {**interval, "p_value": float(test.pvalue), "tasks": sum(map(len, differences.values()))}
