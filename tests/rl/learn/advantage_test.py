"""Advantages against numbers worked out by hand and against float64 loops over single episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.learn import advantage, algorithms

NAN = float("nan")
CENTRED = ("grpo", "dr_grpo", "rloo")  # on the group


def test_grpo_by_hand():
    """mean 0.25, population std sqrt(3)/4: (1 - 1/4) / (sqrt(3)/4) = sqrt(3), (0 - 1/4) / ... = -1/sqrt(3)."""
    got = advantage.grpo(jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]), jnp.ones((2, 4)))
    expected = [[1.7320508, -0.5773503, -0.5773503, -0.5773503], [-1.0, 1.0, -1.0, 1.0]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.dtype == jnp.float32


def test_dr_grpo_by_hand():
    """Reward minus the group's mean, partial rewards included."""
    got = advantage.dr_grpo(jnp.array([[1.0, 0.5, 0.0, 0.1]]), jnp.ones((1, 4)))
    np.testing.assert_allclose(got, [[0.6, 0.1, -0.4, -0.3]], atol=1e-7)


def test_rloo_by_hand():
    """Reward minus the mean of the other two: 1 - 0.25, 0.5 - 0.5, 0 - 0.75; a pair; a single."""
    rewards = jnp.array([[1.0, 0.5, 0.0], [1.0, NAN, 0.0], [1.0, NAN, NAN]])
    got = advantage.rloo(rewards, ~jnp.isnan(rewards))
    np.testing.assert_allclose(got, [[0.75, 0.0, -0.75], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]], atol=1e-7)


def test_reinforce_plus_plus_by_hand():
    """Mean 0.5, std 0.5 over both groups: a group of equal rewards learns as well."""
    got = advantage.reinforce_plus_plus(jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.ones((2, 2)))
    np.testing.assert_allclose(got, [[1.0, 1.0], [-1.0, -1.0]], rtol=1e-5)


@st.composite
def batches(draw):
    """Rewards [B, G], some missing: whole groups at times, or equal throughout."""
    B, G = 3, 4  # one shape, to compile once
    values = draw(st.sampled_from([[0.0, 1.0], [0.9], [0.0, 0.1, 0.5, 1.0], [-2.5, 1e3]]))
    cells = st.one_of(st.sampled_from(values), st.none())
    rows = draw(st.lists(st.lists(cells, min_size=G, max_size=G), min_size=B, max_size=B))
    return np.array([[NAN if x is None else x for x in row] for row in rows], np.float64)


def _reference(name, rewards_BG):
    """Episode by episode, in Python's floats."""
    out = np.zeros_like(rewards_BG)
    everything = [float(r) for r in rewards_BG.ravel() if not np.isnan(r)]
    for b, i in np.argwhere(~np.isnan(rewards_BG)):
        r, group = float(rewards_BG[b, i]), [float(x) for x in rewards_BG[b] if not np.isnan(x)]
        others = [float(x) for j, x in enumerate(rewards_BG[b]) if j != i and not np.isnan(x)]
        if name == "rloo":
            out[b, i] = r - sum(others) / len(others) if others else 0.0
        elif name == "dr_grpo":
            out[b, i] = r - sum(group) / len(group)
        else:
            among = group if name == "grpo" else everything
            mean = sum(among) / len(among)
            std = (sum((x - mean) ** 2 for x in among) / len(among)) ** 0.5
            out[b, i] = (r - mean) / (std + advantage.EPSILON)
    return out


@settings(max_examples=60)
@given(batches(), st.sampled_from(sorted(algorithms.ADVANTAGES)), st.sampled_from([NAN, 0.0, 1e9, float("inf")]))
def test_every_advantage_equals_its_float64_version(rewards_BG, name, placeholder):
    """Whatever stands in the place of an episode without a reward; that episode's own advantage is exactly 0."""
    mask_BG = ~np.isnan(rewards_BG)
    with jax.enable_x64(True):
        got = algorithms.ADVANTAGES[name](jnp.asarray(np.where(mask_BG, rewards_BG, placeholder)), mask_BG)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, _reference(name, rewards_BG), rtol=1e-9, atol=1e-9)
        assert not np.asarray(got)[~mask_BG].any()
        silent = np.asarray(advantage.zero_variance(rewards_BG, mask_BG))
        assert silent.tolist() == [len(set(row[~np.isnan(row)])) < 2 for row in rewards_BG]
        if name in CENTRED:
            assert not np.asarray(got)[silent].any()


@pytest.mark.parametrize("name", CENTRED)
def test_groups_without_a_signal_are_exactly_zero(name):
    """0.9 three times: the float32 mean is an ulp off, which normalising would amplify."""
    rewards = jnp.array([[0.9, 0.9, 0.9], [1.0, NAN, NAN], [NAN, NAN, NAN], [0.7, 0.7, NAN]])
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(algorithms.ADVANTAGES[name](rewards, mask), np.zeros((4, 3)))
    np.testing.assert_array_equal(advantage.zero_variance(rewards, mask), [True] * 4)


def test_overlong_penalty_by_hand():
    """DAPO's own sizes: 16,384 tokens are free, the next 4,096 cost up to 1."""
    got = advantage.overlong_penalty(jnp.array([0, 16384, 17408, 20480, 30000]), 20480, 4096)
    np.testing.assert_allclose(got, [0.0, 0.0, -0.25, -1.0, -1.0], atol=1e-7)
