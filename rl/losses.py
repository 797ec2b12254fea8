"""Losses: pure functions of arrays.

Legend: B batch (rows), T sequence, V vocabulary. Index t of every [B, T] array is the prediction made at position t,
that is, of the token that follows it (rl/packing.py shifts the record of an episode accordingly).
"""

import jax
import jax.numpy as jnp


def token_logprobs(logits_BTV: jax.Array, targets_BT: jax.Array, temperature: float) -> jax.Array:
    """Log-probability of each target under softmax(logits / temperature), float32 [B, T].

    The sampler records log-probabilities of the distribution it drew from, which is the tempered one, so the learner
    has to divide by the same temperature for the ratio of the two to be 1 on-policy.
    """
    logits_BTV = logits_BTV.astype(jnp.float32) / temperature
    chosen_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return chosen_BT - jax.nn.logsumexp(logits_BTV, axis=-1)


def entropy(logits_BTV: jax.Array, temperature: float) -> jax.Array:
    """Entropy of softmax(logits / temperature) in nats, float32 [B, T]."""
    logits_BTV = logits_BTV.astype(jnp.float32) / temperature
    expected_BT = jnp.sum(jax.nn.softmax(logits_BTV, axis=-1) * logits_BTV, axis=-1)
    return jax.nn.logsumexp(logits_BTV, axis=-1) - expected_BT


def policy_gradient(
    logprobs_BT: jax.Array,
    sampler_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    mask_BT: jax.Array,
    clip_low: float,
    clip_high: float,
    denominator: jax.Array | float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The clipped policy-gradient loss with clip-higher and a token mean.

    loss = -1/denominator * sum_t mask_t * min(r_t A_t, clip(r_t, 1 - clip_low, 1 + clip_high) A_t),
    r_t = exp(logprob_t - sampler_logprob_t)
    (PPO, arXiv:1707.06347, equation 7; the two-sided clip and the mean over all tokens of the batch: DAPO,
    arXiv:2503.14476, equation 8, sections 3.1 and 3.3).

    Args:
        logprobs_BT: of the policy being trained; what carries the gradient.
        sampler_logprobs_BT: of the distribution that the tokens were drawn from.
        advantages_BT: per-token advantages.
        mask_BT: 1 on the tokens the policy sampled. Anything may stand elsewhere in the other arrays, NaN included.
        clip_low, clip_high: how far the ratio may go below and above 1 before the gradient stops.
        denominator: number of loss tokens in the whole batch, so that losses (and gradients) of its parts add up to
            the whole's however it is cut.

    Returns:
        (loss, sums): sums over the masked tokens of "clipped_low" and "clipped_high" (tokens whose gradient the clip
        removed), "ratio" and "mismatch_kl", the k1 estimate sampler_logprob - logprob of KL(sampler || learner)
        (http://joschu.net/blog/kl-approx.html). All are float32 scalars.
    """
    valid_BT = jnp.asarray(mask_BT, bool)
    # Masked before the exponential: a NaN or infinity there would reach the gradient even through a later mask.
    log_ratio_BT = jnp.where(valid_BT, logprobs_BT - sampler_logprobs_BT, 0.0)
    advantages_BT = jnp.where(valid_BT, advantages_BT, 0.0)
    ratio_BT = jnp.exp(log_ratio_BT)
    clipped_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    objective_BT = jnp.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    sums = {
        "clipped_low": jnp.sum((advantages_BT < 0) & (ratio_BT < 1.0 - clip_low), dtype=jnp.float32),
        "clipped_high": jnp.sum((advantages_BT > 0) & (ratio_BT > 1.0 + clip_high), dtype=jnp.float32),
        "ratio": jnp.sum(jnp.where(valid_BT, ratio_BT, 0.0)),
        "mismatch_kl": -jnp.sum(log_ratio_BT),
    }
    return -jnp.sum(objective_BT) / denominator, jax.lax.stop_gradient(sums)


def cross_entropy(
    logprobs_BT: jax.Array, mask_BT: jax.Array, denominator: jax.Array | float
) -> jax.Array:
    """The supervised loss: mean negative log-likelihood of the masked tokens.

    Args:
        logprobs_BT: of the target tokens. mask_BT: 1 on the tokens to imitate; elsewhere anything may stand.
        denominator: number of loss tokens in the whole batch, as in `policy_gradient`.

    Returns:
        A float32 scalar in nats per token.
    """
    return -jnp.sum(jnp.where(jnp.asarray(mask_BT, bool), logprobs_BT, 0.0)) / denominator
