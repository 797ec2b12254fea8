"""Statistics of several trials per task: pass@k and pass^k of a policy, and a test of whether two policies differ.

Trials are grouped as {root: {task id: [passed in each trial]}}. The tasks of one root are variations of each other, so
every interval and test treats roots as the independent units.
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

RESAMPLES = 9999  # of the permutation test; with so few roots that there are no more sign changes, all are tried


def passes(items: Iterable[Trajectory], root_of: Mapping[str, str]) -> Passes:
    """The trials of the trajectories, without those whose infrastructure failed. root_of: task id -> root."""
    found: Passes = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.reward is not None:
            found[root_of[item.task_id]][item.task_id].append(item.passed)
    return {root: dict(tasks) for root, tasks in found.items()}


def pass_at(trials: Sequence[bool], k: int) -> float:
    """An unbiased estimate of the probability that at least one of k trials passes, from n >= k trials.

    1 - C(n - c, k) / C(n, k), where c of the n trials passed (Chen et al., arXiv:2107.03374, equation 1).
    """
    return 1.0 - math.comb(len(trials) - sum(trials), k) / math.comb(len(trials), k)


def pass_hat(trials: Sequence[bool], k: int) -> float:
    """An unbiased estimate of the probability that all of k trials pass, from n >= k trials of which c passed.

    C(c, k) / C(n, k) (tau-bench, arXiv:2406.12045, section 2).
    """
    return math.comb(sum(trials), k) / math.comb(len(trials), k)


def summarise(found: Passes, trials: int, resamples: int) -> dict[str, dict[str, Interval]]:
    """{"pass_at": {"1": Interval, ...}, "pass_hat": {...}} for k from 1 to `trials`; means over tasks.

    A task with fewer than k trials (after removing faults) is left out for that k. If no task has k trials, the result
    has no entry for k. resamples: see pass_rates.clustered_interval.
    """
    result: dict[str, dict[str, Interval]] = {"pass_at": {}, "pass_hat": {}}
    for name, measure in (("pass_at", pass_at), ("pass_hat", pass_hat)):
        for k in range(1, trials + 1):
            by_root = {root: [measure(t, k) for t in tasks.values() if len(t) >= k] for root, tasks in found.items()}
            if any(by_root.values()):
                result[name][str(k)] = clustered_interval(by_root, resamples, seed=0)
    return result


def compare(first: Passes, second: Passes, resamples: int) -> dict[str, Any]:
    """Compares two policies on the tasks that both have trials of.

    Returns an Interval of the mean over tasks of the pass rate of `second` minus that of `first`, with the further keys
    "p_value" and "tasks" (how many tasks both have). The p-value is two-sided, from a paired permutation test: the
    differences are summed per root, and the signs of these sums are changed at random (exact if there are few roots).

    resamples: see pass_rates.clustered_interval. Raises ValueError if the policies have no task in common.
    """
    differences = {
        root: [float(np.mean(second[root][task]) - np.mean(trials)) for task, trials in tasks.items()
               if task in second.get(root, {})]
        for root, tasks in first.items()
    }  # fmt: skip
    differences = {root: values for root, values in differences.items() if values}
    if not differences:
        raise ValueError("evaluate: the two policies have no task in common")
    # scipy needs at least two values; an additional root without any difference does not change the result.
    sums = np.array([*map(math.fsum, differences.values()), 0.0])
    test = stats.permutation_test(
        (sums,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    interval = clustered_interval(differences, resamples, seed=0)
    return {**interval, "p_value": float(test.pvalue), "tasks": sum(map(len, differences.values()))}
