"""Pass rates and their clustered intervals against known cases; constant policies played by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from envs import world
from envs.base import Score
from rl import trajectory
from rl.evaluation import pass_rates
from synth import generate, operators
from synth.question import Question
from synth.trees import domains, workflow


def flat(interval):
    return interval["low"], interval["mean"], interval["high"]


def test_interval_of_few_roots_is_the_exact_bootstrap():
    """Four roots: all 256 resamples written out give the percentiles that many draws come to."""
    values = {"a": [0.0], "b": [0.25], "c": [1.0, 1.0], "d": [0.5]}
    draws = [sum(draw, []) for draw in itertools.product(values.values(), repeat=4)]
    low, high = np.percentile([np.mean(draw) for draw in draws], [2.5, 97.5], method="inverted_cdf")
    expected = (low, 2.75 / 5, high)
    np.testing.assert_allclose(flat(pass_rates.clustered_interval(values, 50_000, seed=0)), expected, atol=1e-12)
    assert 0 < low < high < 1


def test_interval_of_many_roots_is_the_normal_one():
    """400 independent coin flips: mean +- 1.96 standard errors."""
    values = {str(i): [float(i % 4 == 0)] for i in range(400)}
    low, mean, high = flat(pass_rates.clustered_interval(values, 20_000, seed=1))
    error = 1.959964 * math.sqrt(0.25 * 0.75 / 400)
    assert mean == 0.25
    np.testing.assert_allclose((low, high), (0.25 - error, 0.25 + error), atol=0.004)


def test_roots_are_resampled_whole():
    """Ten copies of every value in one root carry no more information than one."""
    single = {str(i): [float(i % 2)] for i in range(20)}
    copied = {root: values * 10 for root, values in single.items()}
    spread = {f"{root}/{i}": values for root, values in single.items() for i in range(10)}
    one, ten, wrong = (pass_rates.clustered_interval(v, 4000, seed=0) for v in (single, copied, spread))
    assert one == ten
    assert wrong["high"] - wrong["low"] < 0.5 * (ten["high"] - ten["low"])


def test_mean_weighs_values_not_roots():
    assert pass_rates.clustered_interval({"a": [1.0] * 9, "b": [0.0]}, 100, 0)["mean"] == 0.9


def test_intervals_repeat_and_do_not_depend_on_order():
    values = {str(i): [float(i % 3 == 0)] * (1 + i % 2) for i in range(30)}
    again = dict(reversed(values.items()))
    assert pass_rates.clustered_interval(values, 200, 5) == pass_rates.clustered_interval(again, 200, 5)
    assert pass_rates.clustered_interval(values, 200, 5) != pass_rates.clustered_interval(values, 200, 6)


def test_one_root_has_no_spread():
    assert flat(pass_rates.clustered_interval({"a": [1.0, 0.0]}, 50, 0)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [{}, {"a": []}])
def test_no_value_is_an_error(values):
    with pytest.raises(ValueError, match="no episode without an infrastructure fault"):
        pass_rates.clustered_interval(values, 10, 0)


def made(split="train", grown=(), legal_share=0.5, variants=2):
    """Tasks of two order roots whose trees the named operators have grown."""
    workflows = workflow.roots(split, 2, domains.select("orders"), 0)
    for name in grown:
        workflows = [operators.expand(w, operators.OPERATORS[name], 0) for w in workflows]
    return generate.tasks(workflows, variants, legal_share, 0)


def episodes(tasks, rewards):
    """Episodes of the tasks with the given rewards, in order."""
    return [
        trajectory.Trajectory(task.id, m, [], [], [], 0, trajectory.ENDED, Score(reward, {}, []), [], [], 1)
        for m, (task, reward) in enumerate(zip(tasks, rewards, strict=True))
    ]


def test_pass_rate_counts_whole_rewards_and_leaves_faults_out():
    tasks = made()
    assert len(tasks) == 4
    found = pass_rates.pass_rate(tasks, episodes(tasks, [1.0, 0.9, None, 1.0]), 100)
    assert found["mean"] == pytest.approx(2 / 3) and found["low"] <= found["mean"] <= found["high"]
    assert (found["episodes"], found["faults"]) == (3, 1) and found["reward_mean"] == pytest.approx(2.9 / 3)
    failed = episodes(tasks, [None] * 4)
    failed[0] = dataclasses.replace(failed[0], score=Score(None, {}, [], error="reset: OSError('no such world')"))
    with pytest.raises(ValueError, match=r"all 4 episodes faulted; the first: reset: OSError\('no such world'\)"):
        pass_rates.pass_rate(tasks, failed, 100)


def test_pass_rate_clusters_by_root():
    """Two roots, one always passed, one never: the interval is as wide as two values make it."""
    tasks = made()
    rewards = [float(task.root == tasks[0].root) for task in tasks]
    assert flat(pass_rates.pass_rate(tasks, episodes(tasks, rewards), 1000)) == (0.0, 0.5, 1.0)


def test_questions_have_a_pass_rate_per_world():
    """By hand: both search roots fail, one of two problems passes; the agentic tasks above have no worlds."""
    asked = [(env, f"{env}-{i}") for env in ("search", "reasoning") for i in range(2)]
    tasks = [Question(root, root, "", "", 0, 0, env, "?", "1", {}) for env, root in asked]
    found = pass_rates.pass_rate(tasks, episodes(tasks, [0.5, 0.0, 1.0, 0.9]), 200)
    assert found["mean"] == 0.25 and list(found["worlds"]) == ["reasoning", "search"]
    assert flat(found["worlds"]["search"]) == (0.0, 0.0, 0.0) and flat(found["worlds"]["reasoning"]) == (0.0, 0.5, 1.0)
    faulted = pass_rates.pass_rate(tasks, episodes(tasks, [None, None, None, 1.0]), 200)["worlds"]
    assert [(world, rate["episodes"], rate["faults"]) for world, rate in faulted.items()] == [("reasoning", 1, 1)]
    assert "worlds" not in pass_rates.pass_rate(made(), episodes(made(), [1.0] * 4), 10)


def test_constant_policies_by_hand():
    """Linear workflows want the write; a rule makes half of the tasks refusals; consent fails the impolite writer."""
    linear = made()
    assert all(task.legal for task in linear)
    assert pass_rates.constant_pass_rates(linear) == {
        "read_then_refuse": 0.0, "read_then_write": 1.0, "read_ask_confirm_write": 1.0
    }  # fmt: skip
    ruled = made(grown=["guard"])
    assert [task.legal for task in ruled].count(True) == 2
    assert pass_rates.constant_pass_rates(ruled) == {
        "read_then_refuse": 0.5, "read_then_write": 0.5, "read_ask_confirm_write": 0.5
    }  # fmt: skip
    consent = made(grown=["guard", "confirm"], legal_share=1.0)
    assert all(task.legal for task in consent)
    assert pass_rates.constant_pass_rates(consent) == {
        "read_then_refuse": 0.0, "read_then_write": 0.0, "read_ask_confirm_write": 1.0
    }  # fmt: skip


def test_constant_policies_are_below_the_oracle():
    """On an even mix of branches no constant policy comes near the oracle, which passes everything."""
    tasks = made(grown=["guard", "missing"], variants=4)
    assert all(world.reward(task, task.oracle) == 1.0 for task in tasks)
    assert max(pass_rates.constant_pass_rates(tasks).values()) <= 0.75


def test_derived_seeds_depend_on_every_part_and_its_place():
    seeds = {pass_rates.derive_seed(*parts) for parts in [(0, "a", 1), (1, "a", 0), (0, "b", 1), (0, "a", 2), (0, "a")]}
    assert len(seeds) == 5 and pass_rates.derive_seed(0, "a", 1) == pass_rates.derive_seed(0, "a", 1)
    assert all(0 <= seed < 2**31 for seed in seeds)
