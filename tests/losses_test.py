"""Losses against torch, float64 loops, numbers by hand and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rl import losses

LOW, HIGH = 0.2, 0.28


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
def test_logprobs_and_entropy_equal_torch(temperature):
    """torch.distributions.Categorical is the reference."""
    rng = np.random.default_rng(0)
    logits_BTV, targets_BT = rng.normal(0, 4, (2, 5, 11)).astype(np.float32), rng.integers(0, 11, (2, 5))
    reference = torch.distributions.Categorical(logits=torch.tensor(logits_BTV) / temperature)
    got = losses.token_logprobs(jnp.asarray(logits_BTV), jnp.asarray(targets_BT), temperature)
    np.testing.assert_allclose(got, reference.log_prob(torch.tensor(targets_BT)), atol=1e-5)
    got = losses.entropy(jnp.asarray(logits_BTV), temperature)
    np.testing.assert_allclose(got, reference.entropy(), atol=1e-5)


def test_logits_of_any_width_are_summed_in_float32():
    logits_BTV = jnp.full((1, 1, 4096), 3.0, jnp.bfloat16)
    got = losses.token_logprobs(logits_BTV, jnp.zeros((1, 1), jnp.int32), 1.0)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [[-np.log(4096)]], rtol=1e-6)


def test_policy_gradient_by_hand():
    """One token per case. ratio 1.5 and 0.5 lie outside [0.8, 1.28], 1.1 inside; denominator 10."""
    ratio = np.array([[1.5, 0.5, 1.5, 0.5, 1.1, 1.1]])
    advantages = np.array([[2.0, -2.0, -2.0, 2.0, 1.0, 1.0]])
    mask = np.array([[1, 1, 1, 1, 1, 0]])
    # min(1.5*2, 1.28*2) = 2.56; min(0.5*-2, 0.8*-2) = -1.6; min(-3, -2.56) = -3; min(1, 1.6) = 1; 1.1
    expected = -(2.56 - 1.6 - 3.0 + 1.0 + 1.1) / 10
    old = np.full((1, 6), -1.25)
    loss, sums = losses.policy_gradient(
        jnp.asarray(np.log(ratio) + old, jnp.float32), jnp.asarray(old, jnp.float32), jnp.asarray(advantages),
        jnp.asarray(mask), LOW, HIGH, 10.0
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert float(sums["clipped_high"]) == 1 and float(sums["clipped_low"]) == 1
    np.testing.assert_allclose(sums["ratio"], ratio[0, :5].sum(), rtol=1e-6)
    np.testing.assert_allclose(sums["mismatch_kl"], -np.log(ratio[0, :5]).sum(), rtol=1e-5)


def test_on_policy_gradient_is_reinforce():
    """At ratio 1 the gradient with respect to the logprobs is -A/denominator on the mask and 0 elsewhere."""
    advantages, mask = jnp.array([[1.0, -2.0, 3.0]]), jnp.array([[1, 1, 0]])
    logprobs = jnp.array([[-1.0, -2.0, -3.0]])
    gradient = jax.grad(lambda x: losses.policy_gradient(x, logprobs, advantages, mask, LOW, HIGH, 4.0)[0])(logprobs)
    np.testing.assert_allclose(gradient, [[-0.25, 0.5, 0.0]], rtol=1e-6)


def _reference(logits_BTV, targets_BT, old_BT, advantages_BT, mask_BT, temperature, denominator):
    """The loss in float64 loops, straight from equation 7 of PPO with DAPO's two-sided clip."""
    total = 0.0
    for b, t in np.argwhere(mask_BT):
        row = logits_BTV[b, t].astype(np.float64) / temperature
        logprob = row[targets_BT[b, t]] - np.log(np.exp(row).sum())
        ratio = np.exp(logprob - old_BT[b, t])
        clipped = min(max(ratio, 1 - LOW), 1 + HIGH)
        total += min(ratio * advantages_BT[b, t], clipped * advantages_BT[b, t])
    return -total / denominator


def test_policy_gradient_and_its_gradient_against_float64():
    """Value and central finite differences through softmax, temperature and both sides of the clip."""
    rng = np.random.default_rng(1)
    shape, temperature, denominator = (3, 6), 0.8, 17.0
    logits, targets = rng.normal(0, 1, (*shape, 5)), rng.integers(0, 5, shape)
    scaled = logits / temperature
    log_softmax = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    logprobs = np.take_along_axis(log_softmax, targets[..., None], -1)[..., 0]
    old = logprobs + rng.choice([-0.6, -0.1, 0.1, 0.6], shape)
    advantages, mask = rng.choice([-1.3, 0.7], shape), rng.integers(0, 2, shape)

    def loss(x):
        new = losses.token_logprobs(x, jnp.asarray(targets), temperature)
        arrays = [jnp.asarray(array, jnp.float32) for array in (old, advantages, mask)]
        return losses.policy_gradient(new, *arrays, LOW, HIGH, denominator)

    (value, sums), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(logits, jnp.float32))
    assert sums["clipped_low"] > 0 and sums["clipped_high"] > 0  # both clips are in the sample
    reference = lambda x: _reference(x, targets, old, advantages, mask, temperature, denominator)  # noqa: E731
    np.testing.assert_allclose(value, reference(logits), rtol=1e-5)
    differences = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        differences[index] = (reference(logits + step) - reference(logits - step)) / 2e-5
    np.testing.assert_allclose(gradient, differences, atol=1e-6)


def test_clipped_tokens_have_no_gradient():
    old = jnp.zeros((1, 4))
    new = jnp.log(jnp.array([[1.3, 0.79, 1.27, 0.81]]))  # the first two lie outside [0.8, 1.28]
    advantages = jnp.array([[1.0, -1.0, 1.0, -1.0]])
    gradient = jax.grad(lambda x: losses.policy_gradient(x, old, advantages, jnp.ones((1, 4)), LOW, HIGH, 1.0)[0])(new)
    np.testing.assert_allclose(gradient, [[0.0, 0.0, -1.27, 0.81]], rtol=1e-5)


def test_what_is_masked_may_be_nan():
    nan = float("nan")
    new, old, advantages = jnp.array([[-1.0, nan]]), jnp.array([[-1.0, -jnp.inf]]), jnp.array([[1.0, nan]])
    mask = jnp.array([[1.0, 0.0]])
    function = lambda x: losses.policy_gradient(x, old, advantages, mask, LOW, HIGH, 1.0)  # noqa: E731
    (value, sums), gradient = jax.value_and_grad(function, has_aux=True)(new)
    assert float(value) == -1.0 and all(np.isfinite(v) for v in sums.values())
    np.testing.assert_array_equal(gradient, [[-1.0, 0.0]])
    assert float(losses.cross_entropy(new, mask, 1.0)) == 1.0


def test_cross_entropy_equals_torch():
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(0, 2, (2, 7, 9)).astype(np.float32), rng.integers(0, 9, (2, 7))
    mask = rng.integers(0, 2, (2, 7))
    ignored = torch.tensor(np.where(mask, targets, -100)).flatten()
    reference = torch.nn.functional.cross_entropy(torch.tensor(logits).flatten(0, 1), ignored, ignore_index=-100)
    logprobs = losses.token_logprobs(jnp.asarray(logits), jnp.asarray(targets), 1.0)
    np.testing.assert_allclose(losses.cross_entropy(logprobs, jnp.asarray(mask), mask.sum()), reference, rtol=1e-5)
