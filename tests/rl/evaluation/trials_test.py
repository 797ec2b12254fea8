"""pass@k and pass^k against their definitions, the paired comparison against all sign changes written out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import learning
from envs.base import Score
from rl import trajectory
from rl.evaluation import trials

TRIALS = st.lists(st.booleans(), min_size=1, max_size=6)


@given(TRIALS, st.data())
def test_pass_at_and_pass_hat_are_means_over_all_choices_of_k(found, data):
    k = data.draw(st.integers(1, len(found)))
    chosen = list(itertools.combinations(found, k))
    assert trials.pass_at(found, k) == pytest.approx(np.mean([any(c) for c in chosen]))
    assert trials.pass_hat(found, k) == pytest.approx(np.mean([all(c) for c in chosen]))


def test_summary_is_over_tasks_and_leaves_out_tasks_with_too_few_trials():
    found = {"a": {"a1": [True, False], "a2": [True]}, "b": {"b1": [False, False]}}
    result = trials.summarise(found, 3, 100)
    assert [result[name]["1"]["mean"] for name in ("pass_at", "pass_hat")] == [pytest.approx(0.5)] * 2
    assert [result[name]["2"]["mean"] for name in ("pass_at", "pass_hat")] == [0.5, 0.0]
    assert "3" not in result["pass_at"]  # no task has three
    assert result["pass_at"]["1"]["low"] == 0.0  # of two roots, one passes nothing


def test_faults_are_no_trials():
    scores = [Score(1.0, {}, []), Score(None, {}, [], "down"), Score(0.9, {}, [])]
    items = [trajectory.Trajectory("t", m, [], [], [], 0, trajectory.ENDED, s, [], [], 1) for m, s in enumerate(scores)]
    assert trials.passes(items, {"t": "r"}) == {"r": {"t": [True, False]}}


def test_the_learning_benchmark_counts_faults_as_everything_else_does():
    """Left out of the passes and counted; with nothing else there is no rate."""
    scores = [Score(1.0, {}, []), Score(None, {}, [], "down"), Score(0.9, {}, []), Score(1.0, {}, [])]
    items = [trajectory.Trajectory(n, 0, [], [], [], 0, trajectory.ENDED, s, [], [], 1) for n, s in zip("aabc", scores)]
    found = learning.measured(items, {"a": "r", "b": "r", "c": "s"})
    assert found == {"passes": {"r": [1.0, 0.0], "s": [1.0]}, "faults": 1}
    with pytest.raises(ValueError, match="all 1 held-out episodes faulted; the first: down"):
        learning.measured(items[1:2], {"a": "r"})


@given(st.lists(st.lists(st.tuples(TRIALS, TRIALS), min_size=1, max_size=3), min_size=1, max_size=7))
def test_p_value_counts_the_sign_changes_of_roots_that_are_as_extreme(roots):
    """Every way to exchange the two policies within roots, by hand; the mean difference is over tasks."""
    sides = [
        {str(r): {f"{r}/{t}": pair[side] for t, pair in enumerate(tasks)} for r, tasks in enumerate(roots)}
        for side in (0, 1)
    ]
    result = trials.compare(*sides, resamples=20)
    by_root = [[np.mean(b) - np.mean(a) for a, b in tasks] for tasks in roots]
    sums = [math.fsum(values) for values in by_root]
    assert result["mean"] == pytest.approx(np.mean([d for values in by_root for d in values]))
    changed = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=len(sums))]
    assert result["p_value"] == pytest.approx(np.mean([c >= abs(sum(sums)) - 1e-9 for c in changed]))
    assert result["tasks"] == sum(map(len, roots))


def test_comparison_pairs_tasks_and_finds_a_small_difference_among_unequal_ones():
    """Two policies that differ on a few of many tasks, whose difficulty varies far more than the policies do."""
    rng = np.random.default_rng(0)
    easy = {str(i): {str(i): [bool(rng.random() < 0.5)] * 4} for i in range(200)}
    better = {r: {t: [True] * 4 if int(t) < 16 else x for t, x in tasks.items()} for r, tasks in easy.items()}
    result = trials.compare(easy, better, 500)
    assert 0 < result["low"] < result["mean"] < 0.1 and result["p_value"] < 0.05
    assert trials.compare(easy, easy, 500)["p_value"] == 1.0
    assert trials.compare(better, easy, 500)["mean"] == -result["mean"]


def test_only_common_tasks_are_compared():
    first, second = {"a": {"t": [True]}, "b": {"u": [True]}}, {"a": {"t": [False]}, "c": {"v": [True]}}
    assert trials.compare(first, second, 10)["tasks"] == 1
    with pytest.raises(ValueError, match="no task in common"):
        trials.compare(first, {"c": {"v": [True]}}, 10)
