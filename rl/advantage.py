"""Advantages of a group's episodes.

Legend: B tasks in the batch, G group size (episodes of the same task).
"""

import jax
import jax.numpy as jnp

# Keeps a nearly constant group's standard deviation from blowing rounding noise up to an advantage.
EPSILON = 1e-6


def zero_variance(rewards_BG: jax.Array, mask_BG: jax.Array) -> jax.Array:
    """Which groups say nothing about what is better: all their valid rewards are equal.

    Args:
        rewards_BG: rewards; what stands where the mask is 0 is ignored and may be NaN.
        mask_BG: 1 (or True) where the episode has a reward, 0 where the infrastructure failed.

    Returns:
        Booleans [B]; True also for a group with fewer than two valid episodes. These are the groups that dynamic
        sampling drops (DAPO, arXiv:2503.14476, section 3.2).
    """
    valid_BG = jnp.asarray(mask_BG, bool)
    rewards_BG = jnp.asarray(rewards_BG, jnp.float32)
    high_B = jnp.max(jnp.where(valid_BG, rewards_BG, -jnp.inf), axis=1)
    low_B = jnp.min(jnp.where(valid_BG, rewards_BG, jnp.inf), axis=1)
    return high_B <= low_B  # -inf <= inf where nothing is valid


def grpo(rewards_BG: jax.Array, mask_BG: jax.Array, normalise: bool) -> jax.Array:
    """Group-relative advantages.

    With `normalise`, A_i = (r_i - mean(r)) / (std(r) + epsilon), the outcome-supervision advantage of GRPO
    (DeepSeekMath, arXiv:2402.03300, section 4.1.2; std over the population of the group). Without,
    A_i = r_i - mean(r) (Dr. GRPO, arXiv:2503.20783, section 3.2). Mean and std are over the group's valid episodes
    only: an episode without a reward neither moves the baseline nor learns.

    Args:
        rewards_BG: rewards; what stands where the mask is 0 is ignored and may be NaN.
        mask_BG: 1 (or True) where the episode has a reward.
        normalise: divide by the group's standard deviation.

    Returns:
        float32 [B, G]; 0 where the mask is 0, and exactly 0 throughout a zero-variance group.
    """
    valid_BG = jnp.asarray(mask_BG, bool)
    rewards_BG = jnp.where(valid_BG, jnp.asarray(rewards_BG, jnp.float32), 0.0)
    count_B1 = jnp.maximum(jnp.sum(valid_BG, axis=1, keepdims=True), 1)
    mean_B1 = jnp.sum(rewards_BG, axis=1, keepdims=True) / count_B1
    centred_BG = jnp.where(valid_BG, rewards_BG - mean_B1, 0.0)
    if normalise:
        variance_B1 = jnp.sum(centred_BG**2, axis=1, keepdims=True) / count_B1
        centred_BG = centred_BG / (jnp.sqrt(variance_B1) + EPSILON)
    # A mean of equal rewards may be an ulp off; that must not become a gradient.
    return jnp.where(zero_variance(rewards_BG, mask_BG)[:, None], 0.0, centred_BG)
