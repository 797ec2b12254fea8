"""Advantages against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rl import advantage

NAN = float("nan")


def test_grpo_by_hand():
    """mean 0.25, population std sqrt(3)/4: (1 - 1/4) / (sqrt(3)/4) = sqrt(3), (0 - 1/4) / ... = -1/sqrt(3)."""
    got = advantage.grpo(jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]), jnp.ones((2, 4)), normalise=True)
    expected = [[1.7320508, -0.5773503, -0.5773503, -0.5773503], [-1.0, 1.0, -1.0, 1.0]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.dtype == jnp.float32


def test_dr_grpo_by_hand():
    """Without normalisation: reward minus the group's mean, partial rewards included."""
    got = advantage.grpo(jnp.array([[1.0, 0.5, 0.0, 0.1]]), jnp.ones((1, 4)), normalise=False)
    np.testing.assert_allclose(got, [[0.6, 0.1, -0.4, -0.3]], atol=1e-7)


@pytest.mark.parametrize("placeholder", [NAN, 0.0, 1e9, float("inf")])
def test_masked_episodes_leave_the_baseline(placeholder):
    """Valid rewards 1, 0, 0.5: mean 0.5, variance (0.25 + 0.25 + 0) / 3, whatever stands in the masked place."""
    rewards, mask = jnp.array([[1.0, placeholder, 0.0, 0.5]]), jnp.array([[1, 0, 1, 1]])
    got = advantage.grpo(rewards, mask, normalise=False)
    np.testing.assert_allclose(got, [[0.5, 0.0, -0.5, 0.0]], atol=1e-7)
    got = advantage.grpo(rewards, mask, normalise=True)
    np.testing.assert_allclose(got, [[1.2247449, 0.0, -1.2247449, 0.0]], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("normalise", [True, False])
def test_groups_without_a_signal_are_exactly_zero(normalise):
    """0.9 three times: the float32 mean is an ulp off, which normalising would amplify."""
    rewards = jnp.array([[0.9, 0.9, 0.9], [1.0, NAN, NAN], [NAN, NAN, NAN], [0.7, 0.7, NAN]])
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(advantage.grpo(rewards, mask, normalise), np.zeros((4, 3)))
    np.testing.assert_array_equal(advantage.zero_variance(rewards, mask), [True] * 4)


def test_zero_variance_looks_at_valid_rewards_only():
    rewards = jnp.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.25], [NAN, 0.0, 1.0]])
    mask = jnp.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(advantage.zero_variance(rewards, mask), [False, True, False, False])
