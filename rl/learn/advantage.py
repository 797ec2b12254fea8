"""Advantages of a group's episodes, and what becomes of rewards before.

Legend: B tasks in the batch, G group size (episodes of the same task). Rewards come with a mask: 1 (or True) where the
episode has a reward, 0 where the infrastructure failed; what stands there is ignored and may be NaN. An episode without
a reward neither moves a baseline nor learns: its advantage is 0. float64 stays float64, all else becomes float32.
"""

import jax
import jax.numpy as jnp

# Keeps a nearly constant group's standard deviation from blowing rounding noise up to an advantage.
EPSILON = 1e-6


def zero_variance(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """Which groups say nothing about what is better: all their valid rewards are equal.

    Returns booleans [B]; True also for a group with fewer than two valid episodes. These are the groups that dynamic
    sampling drops (DAPO, arXiv:2503.14476, section 3.2).
    """
    rewards_BG, valid_BG = _valid(rewards_BG, mask_BG)
    high_B = jnp.max(jnp.where(valid_BG, rewards_BG, -jnp.inf), axis=1)
    low_B = jnp.min(jnp.where(valid_BG, rewards_BG, jnp.inf), axis=1)
    return high_B <= low_B  # -inf <= inf where nothing is valid


def grpo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = (r_i - mean(r)) / (std(r) + EPSILON) over the group's valid episodes, [B, G].

    Outcome supervision of GRPO (DeepSeekMath, arXiv:2402.03300, section 4.1.2), std over the population. Exactly 0
    throughout a zero-variance group.
    """
    valid_BG = jnp.asarray(mask_BG, bool)
    centred_BG = dr_grpo(rewards_BG, mask_BG)
    variance_B1 = jnp.sum(centred_BG**2, axis=1, keepdims=True) / _count(valid_BG, axis=1)
    return centred_BG / (jnp.sqrt(variance_B1) + EPSILON)


def dr_grpo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = r_i - mean(r) over the group's valid episodes, [B, G] (Dr. GRPO, arXiv:2503.20783, section 3.2).

    Exactly 0 throughout a zero-variance group.
    """
    centred_BG = _centred(*_valid(rewards_BG, mask_BG), axis=1)
    # A mean of equal rewards may be an ulp off; that must not become a gradient.
    return jnp.where(zero_variance(rewards_BG, mask_BG)[:, None], 0.0, centred_BG)


def rloo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = r_i - the mean of the other valid episodes' rewards, [B, G] (RLOO, arXiv:2402.14740).

    With n valid episodes that is n / (n - 1) times Dr. GRPO's; 0 for an episode that has no other beside it.
    """
    count_B1 = _count(jnp.asarray(mask_BG, bool), axis=1)
    return dr_grpo(rewards_BG, mask_BG) * count_B1 / jnp.maximum(count_B1 - 1, 1)


def reinforce_plus_plus(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = (r_i - mean) / (std + EPSILON), mean and std over all valid episodes of the batch, [B, G].

    The global normalisation of REINFORCE++ (arXiv:2501.03262), which knows no groups: a group whose rewards
    are all equal learns from others having fared better or worse.
    """
    rewards_BG, valid_BG = _valid(rewards_BG, mask_BG)
    centred_BG = _centred(rewards_BG, valid_BG, axis=(0, 1))
    variance_11 = jnp.sum(centred_BG**2, axis=(0, 1), keepdims=True) / _count(valid_BG, axis=(0, 1))
    equal = jnp.all(zero_variance(rewards_BG.reshape(1, -1), valid_BG.reshape(1, -1)))
    return jnp.where(equal, 0.0, centred_BG / (jnp.sqrt(variance_11) + EPSILON))


def overlong_penalty(lengths: jax.Array, max_length: int, buffer: int) -> jax.Array:
    """What is added to the reward of an episode that comes near the limit, of the shape of `lengths`.

    0 up to max_length - buffer tokens, then falling linearly to -1 at max_length, and -1 beyond (soft overlong
    punishment: DAPO, arXiv:2503.14476, equation 13, with L_max = max_length and L_cache = buffer).
    """
    lengths = jnp.asarray(lengths)
    return -jnp.clip((lengths - (max_length - buffer)) / buffer, 0.0, 1.0)


def _valid(rewards_BG: jax.Array, mask_BG: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rewards, zeros where there is none; booleans)."""
    rewards_BG, valid_BG = jnp.asarray(rewards_BG), jnp.asarray(mask_BG, bool)
    rewards_BG = rewards_BG.astype(jnp.promote_types(rewards_BG.dtype, jnp.float32))
    return jnp.where(valid_BG, rewards_BG, 0.0), valid_BG


def _count(valid_BG: jax.Array, axis: int | tuple[int, int]) -> jax.Array:
    """Valid episodes along `axis`, kept as a dimension; at least 1, to divide by."""
    return jnp.maximum(jnp.sum(valid_BG, axis=axis, keepdims=True), 1)


def _centred(rewards_BG: jax.Array, valid_BG: jax.Array, axis: int | tuple[int, int]) -> jax.Array:
    """Rewards less their mean along `axis`, 0 where there is none."""
    mean = jnp.sum(rewards_BG, axis=axis, keepdims=True) / _count(valid_BG, axis)
    return jnp.where(valid_BG, rewards_BG - mean, 0.0)
