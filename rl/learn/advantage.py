"""Advantages of a group's episodes, and the length penalty that is added to rewards before.

Legend: B tasks in the batch, G group size (episodes of the same task).

Rewards come with a mask: 1 (or True) where the episode has a reward, 0 where the infrastructure failed. Masked rewards
are ignored and may be NaN: they do not enter the baseline, and the advantage of such an episode is 0. float64 inputs
give float64, all others float32.
"""

import jax
import jax.numpy as jnp

# Added to the standard deviation, so that rounding errors in a nearly constant group do not become large advantages.
EPSILON = 1e-6


def zero_variance(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """Whether all valid rewards of a group are equal, so that nothing can be learned from it; booleans [B].

    True also for a group with fewer than two valid episodes. Dynamic sampling drops these groups (DAPO,
    arXiv:2503.14476, section 3.2).
    """
    rewards_BG, valid_BG = _valid(rewards_BG, mask_BG)
    high_B = jnp.max(jnp.where(valid_BG, rewards_BG, -jnp.inf), axis=1)
    low_B = jnp.min(jnp.where(valid_BG, rewards_BG, jnp.inf), axis=1)
    return high_B <= low_B  # a group without valid rewards compares -inf <= inf


def grpo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = (r_i - mean(r)) / (std(r) + EPSILON) over the group's valid episodes, [B, G].

    Outcome supervision of GRPO (DeepSeekMath, arXiv:2402.03300, section 4.1.2), with the population standard deviation.
    Exactly 0 for all episodes of a zero-variance group.
    """
    valid_BG = jnp.asarray(mask_BG, bool)
    centred_BG = dr_grpo(rewards_BG, mask_BG)
    variance_B1 = jnp.sum(centred_BG**2, axis=1, keepdims=True) / _count(valid_BG, axis=1)
    return centred_BG / (jnp.sqrt(variance_B1) + EPSILON)


def dr_grpo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = r_i - mean(r) over the group's valid episodes, [B, G] (Dr. GRPO, arXiv:2503.20783, section 3.2).

    Exactly 0 for all episodes of a zero-variance group.
    """
    centred_BG = _centred(*_valid(rewards_BG, mask_BG), axis=1)
    # The mean of equal rewards may have a rounding error, which must not become a gradient.
    return jnp.where(zero_variance(rewards_BG, mask_BG)[:, None], 0.0, centred_BG)


def rloo(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = r_i - the mean of the other valid episodes' rewards, [B, G] (RLOO, arXiv:2402.14740).

    With n valid episodes in the group this is n / (n - 1) times the advantage of Dr. GRPO; 0 if n = 1.
    """
    count_B1 = _count(jnp.asarray(mask_BG, bool), axis=1)
    return dr_grpo(rewards_BG, mask_BG) * count_B1 / jnp.maximum(count_B1 - 1, 1)


def reinforce_plus_plus(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """A_i = (r_i - mean) / (std + EPSILON), mean and std over all valid episodes of the batch, [B, G].

    The global normalisation of REINFORCE++ (arXiv:2501.03262), which ignores groups: a group whose rewards are all
    equal still has advantages if other groups did better or worse. Exactly 0 if all rewards of the batch are equal.
    """
    rewards_BG, valid_BG = _valid(rewards_BG, mask_BG)
    centred_BG = _centred(rewards_BG, valid_BG, axis=(0, 1))
    variance_11 = jnp.sum(centred_BG**2, axis=(0, 1), keepdims=True) / _count(valid_BG, axis=(0, 1))
    equal = jnp.all(zero_variance(rewards_BG.reshape(1, -1), valid_BG.reshape(1, -1)))
    return jnp.where(equal, 0.0, centred_BG / (jnp.sqrt(variance_11) + EPSILON))


def overlong_penalty(lengths: jax.Array, max_length: int, buffer: int) -> jax.Array:
    """The penalty added to the reward of an episode that comes near the length limit; of the shape of `lengths`.

    lengths, max_length, buffer: tokens. The penalty is 0 up to max_length - buffer, falls linearly to -1 at max_length,
    and is -1 beyond (soft overlong punishment: DAPO, arXiv:2503.14476, equation 13, with L_max = max_length and
    L_cache = buffer).
    """
    lengths = jnp.asarray(lengths)
    return -jnp.clip((lengths - (max_length - buffer)) / buffer, 0.0, 1.0)


def _valid(rewards_BG: jax.Array, mask_BG: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rewards with 0 in place of masked ones, at least float32; the mask as booleans)."""
    rewards_BG, valid_BG = jnp.asarray(rewards_BG), jnp.asarray(mask_BG, bool)
    rewards_BG = rewards_BG.astype(jnp.promote_types(rewards_BG.dtype, jnp.float32))
    return jnp.where(valid_BG, rewards_BG, 0.0), valid_BG


def _count(valid_BG: jax.Array, axis: int | tuple[int, int]) -> jax.Array:
    """The number of valid episodes along `axis`, which is kept as a dimension of size 1; at least 1, to divide by."""
    return jnp.maximum(jnp.sum(valid_BG, axis=axis, keepdims=True), 1)


def _centred(rewards_BG: jax.Array, valid_BG: jax.Array, axis: int | tuple[int, int]) -> jax.Array:
    """Rewards minus their mean along `axis`; 0 where the mask is 0. rewards_BG: 0 where the mask is 0."""
    mean = jnp.sum(rewards_BG, axis=axis, keepdims=True) / _count(valid_BG, axis)
    return jnp.where(valid_BG, rewards_BG - mean, 0.0)
