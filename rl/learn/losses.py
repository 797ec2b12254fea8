"""Losses: pure functions of arrays.

Legend: B batch (rows), T sequence, V vocabulary, K tokens of a keep-set. Index t of every [B, T] array belongs to the
prediction made at position t, that is, to the token at t + 1 of the episode (packing.py shifts the record of an episode
accordingly). Several sequences may share a row; segment_ids_BT (0 to T) tells them apart.

A surrogate computes the loss of every token; `aggregate` combines these into one number. Common arguments, all [B, T]:
  - logprobs_BT: log-probabilities (nats) under the policy being trained; they carry the gradient.
  - old_logprobs_BT: log-probabilities under the policy in the denominator of the ratio r.
  - advantages_BT: one advantage per token.
  - mask_BT: 1 on the tokens that the policy sampled, else 0. Where it is 0 the other arrays may hold any value, even
    NaN, and the loss is 0.
float64 inputs give float64.
"""

import jax
import jax.numpy as jnp

AGGREGATIONS = ("token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum", "fixed")
KL_ESTIMATORS = ("k1", "k2", "k3")


# What a surrogate returns for every token, all [B, T]: the loss; the ratio (1 where the mask is 0); and two booleans,
# whether the clip removed the token's gradient (in CISPO: limited its weight) since the ratio was too low or too high.
Surrogate = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def token_statistics(
    logits_BTV: jax.Array, targets_BT: jax.Array, temperature: float, kept_BTK: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(log-probability of each target, entropy) under softmax(logits / temperature), in nats, at least float32 [B, T].

    kept_BTK: the ids of the tokens that truncated sampling kept, padded with -1. The softmax is over these tokens only,
    or over the whole vocabulary where no ids are given or kept_BTK is None.

    The sampler's log-probabilities are those of the distribution it drew from, with its temperature and truncation. The
    learner has to use the same temperature and the same tokens, so that the ratio of the two is 1 on-policy.
    """
    logits_BTV = _widened(logits_BTV) / temperature
    chosen_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    mass_BT, expected_BT = _mass(logits_BTV)
    if kept_BTK is not None:
        some_BT = jnp.any(kept_BTK >= 0, axis=-1)
        # Places without ids use token 0 as a stand-in, since a logsumexp over nothing would have a NaN gradient.
        within_BTK = (kept_BTK >= 0) | ~some_BT[..., None]
        kept_logits_BTK = jnp.take_along_axis(logits_BTV, jnp.maximum(kept_BTK, 0), axis=-1)
        kept_mass_BT, kept_expected_BT = _mass(kept_logits_BTK, within_BTK)
        mass_BT = jnp.where(some_BT, kept_mass_BT, mass_BT)
        expected_BT = jnp.where(some_BT, kept_expected_BT, expected_BT)
    return chosen_BT - mass_BT, mass_BT - expected_BT


def _mass(logits: jax.Array, within: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(logsumexp, mean logit under the softmax) over the last axis. within: use only the entries where it is True."""
    logits_or_out = logits if within is None else jnp.where(within, logits, -jnp.inf)
    probabilities = jax.nn.softmax(logits_or_out, axis=-1)
    return jax.nn.logsumexp(logits_or_out, axis=-1), jnp.sum(probabilities * logits, axis=-1)


def ppo(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    mask_BT: jax.Array,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Surrogate:
    """The loss -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), with r = exp(logprob - old_logprob) of the token.

    PPO, arXiv:1707.06347, equation 7; separate bounds for the two sides (clip-higher): DAPO, arXiv:2503.14476,
    equation 8. dual_clip: a number c > 1 limits the loss of a token with A < 0 to -c A; where r > c its gradient is 0,
    and the token counts as clipped because its ratio was too high (dual-clip PPO, arXiv:1912.09729).
    """
    log_ratio_BT, advantages_BT, _ = _log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT)
    return _clipped(jnp.exp(log_ratio_BT), advantages_BT, clip_low, clip_high, dual_clip)


def gspo(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    mask_BT: jax.Array,
    segment_ids_BT: jax.Array,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Surrogate:
    """`ppo` with one ratio per sequence: s = exp(mean of logprob - old_logprob over the sequence's sampled tokens).

    GSPO, arXiv:2507.18071, equations 5 to 7. Every token has the loss of its sequence, so that the aggregation
    "sequence-mean-token-mean" gives the paper's mean over sequences.
    """
    log_ratio_BT, advantages_BT, valid_BT = _log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT)
    log_ratio_BT = _sequence_mean(log_ratio_BT, valid_BT, segment_ids_BT)
    return _clipped(jnp.exp(log_ratio_BT), advantages_BT, clip_low, clip_high, dual_clip)


def gspo_token(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    mask_BT: jax.Array,
    segment_ids_BT: jax.Array,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Surrogate:
    """`gspo` with the ratio r = stop_gradient(s) * exp(logprob - stop_gradient(logprob)) for each token.

    The value of r is the sequence's ratio s; its gradient is that of the token alone (GSPO-token, arXiv:2507.18071,
    equations 13 and 14). Equal to `gspo` if all tokens of a sequence have the same advantage, and also defined if they
    have different ones.
    """
    log_ratio_BT, advantages_BT, valid_BT = _log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT)
    sequence_BT = jax.lax.stop_gradient(_sequence_mean(log_ratio_BT, valid_BT, segment_ids_BT))
    one_BT = jnp.exp(log_ratio_BT - jax.lax.stop_gradient(log_ratio_BT))
    return _clipped(jnp.exp(sequence_BT) * one_BT, advantages_BT, clip_low, clip_high, dual_clip)


def cispo(
    logprobs_BT: jax.Array,
    old_logprobs_BT: jax.Array,
    advantages_BT: jax.Array,
    mask_BT: jax.Array,
    clip_low: float,
    clip_high: float,
) -> Surrogate:
    """The loss -stop_gradient(clip(r, 1 - clip_low, 1 + clip_high)) A logprob.

    The clip limits the weight of a token but never removes its gradient. CISPO (MiniMax-M1, arXiv:2506.13585,
    equations 4 and 5). clip_low = 1 means no lower bound, as in the paper.
    """
    log_ratio_BT, advantages_BT, valid_BT = _log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT)
    ratio_BT = jnp.exp(log_ratio_BT)
    weight_BT = jax.lax.stop_gradient(jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high))
    loss_BT = -weight_BT * advantages_BT * jnp.where(valid_BT, logprobs_BT, 0.0)
    return loss_BT, ratio_BT, ratio_BT < 1.0 - clip_low, ratio_BT > 1.0 + clip_high


def aggregate(
    values_BT: jax.Array,
    mask_BT: jax.Array,
    segment_ids_BT: jax.Array,
    aggregation: str,
    tokens: jax.Array | float,
    sequences: jax.Array | float,
    length: float,
) -> jax.Array:
    """Combines the values of the masked tokens into one number, a scalar. Values must be 0 where the mask is 0.

    aggregation:
        "token-mean": the sum over tokens / tokens (DAPO, arXiv:2503.14476, section 3.3);
        "sequence-mean-token-mean": the mean over sequences of the mean over tokens (GRPO, arXiv:2402.03300,
            equation 3);
        "sequence-mean-token-sum": the sum over tokens / sequences;
        "fixed": the sum over tokens / (sequences * length) (Dr. GRPO, arXiv:2503.20783, section 3.2, where length is
            the generation budget).
    tokens, sequences: the number of masked tokens, and of sequences with a masked token, in the whole batch. Since each
    micro-batch divides by the counts of the whole batch, the results and gradients of the micro-batches add up to those
    of the batch, however it is divided.

    Raises ValueError for an unknown aggregation.
    """
    if aggregation == "token-mean":
        return jnp.sum(values_BT) / tokens
    if aggregation == "sequence-mean-token-mean":
        valid_BT = jnp.asarray(mask_BT, bool)
        return jnp.sum(values_BT / _sequence_length(valid_BT, segment_ids_BT, values_BT.dtype)) / sequences
    if aggregation == "sequence-mean-token-sum":
        return jnp.sum(values_BT) / sequences
    if aggregation == "fixed":
        return jnp.sum(values_BT) / (sequences * length)
    raise ValueError(f"aggregation: expected one of {AGGREGATIONS}, found {aggregation!r}")


def kl(logprobs_BT: jax.Array, reference_logprobs_BT: jax.Array, mask_BT: jax.Array, estimator: str) -> jax.Array:
    """Each token's estimate of KL(policy || reference), [B, T], in nats; 0 where the mask is 0.

    With d = reference_logprob - logprob: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d
    (http://joschu.net/blog/kl-approx.html). Used as a loss on tokens sampled from the policy, the expected gradient is
    that of KL(policy || reference) for k2, that of KL(reference || policy) for k3, and 0 for k1, which is therefore
    meant for the reward.

    Raises ValueError for an unknown estimator.
    """
    difference_BT = jnp.where(jnp.asarray(mask_BT, bool), reference_logprobs_BT - logprobs_BT, 0.0)
    if estimator == "k1":
        return -difference_BT
    if estimator == "k2":
        return difference_BT**2 / 2
    if estimator == "k3":
        return jnp.expm1(difference_BT) - difference_BT
    raise ValueError(f"KL estimator: expected one of {KL_ESTIMATORS}, found {estimator!r}")


def truncated_importance(
    old_logprobs_BT: jax.Array, sampler_logprobs_BT: jax.Array, mask_BT: jax.Array, high: float
) -> jax.Array:
    """Weights min(w, high), w = exp(old_logprob - sampler_logprob), [B, T], without gradient.

    w is 1 where the mask is 0. The weights correct for a sampler whose distribution differs from the learner's before
    the step's updates, because it computes differently or used older parameters: truncated importance sampling (TIS:
    Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training").
    """
    return jnp.minimum(_importance(old_logprobs_BT, sampler_logprobs_BT, mask_BT), high)


def masked_importance(
    old_logprobs_BT: jax.Array, sampler_logprobs_BT: jax.Array, mask_BT: jax.Array, low: float, high: float
) -> jax.Array:
    """Weights w as in `truncated_importance` if low <= w <= high, else 0; [B, T] (IcePop, arXiv:2510.18855)."""
    weight_BT = _importance(old_logprobs_BT, sampler_logprobs_BT, mask_BT)
    return jnp.where((weight_BT >= low) & (weight_BT <= high), weight_BT, 0.0)


def covariance(logprobs: jax.Array, advantages: jax.Array, mask: jax.Array) -> jax.Array:
    """Each token's (logprob - mean) * (advantage - mean), with the means over all masked tokens; 0 where the mask is 0.

    The arrays may have any one shape. Tokens of high covariance reduce the policy's entropy most (arXiv:2505.22617).
    """
    valid = jnp.asarray(mask, bool)
    count = jnp.maximum(jnp.sum(valid), 1)

    def centred(x: jax.Array) -> jax.Array:
        x = jnp.where(valid, x, 0.0)
        return jnp.where(valid, x - jnp.sum(x) / count, 0.0)

    return centred(logprobs) * centred(advantages)


def kl_cov(covariances: jax.Array, mask: jax.Array, share: float) -> jax.Array:
    """Which tokens KL-Cov penalises by a KL term, booleans of the shape of `covariances` (arXiv:2505.22617).

    They are the `share` of the masked tokens with the highest covariance, at least one token; ties with the last of
    them are included.
    """
    valid = jnp.asarray(mask, bool)
    return valid & _highest(covariances, valid, _share_count(valid, share))


def clip_cov(
    covariances: jax.Array, mask: jax.Array, share: float, low: float, high: float, key: jax.Array
) -> jax.Array:
    """Which tokens Clip-Cov excludes from the gradient, booleans of the shape of `covariances` (arXiv:2505.22617).

    They are drawn at random from the tokens with low < covariance < high. Their number is `share` of all masked tokens,
    at least one, or fewer if not so many tokens are between the bounds.
    """
    valid = jnp.asarray(mask, bool)
    eligible = valid & (covariances > low) & (covariances < high)
    return eligible & _highest(jax.random.uniform(key, valid.shape), eligible, _share_count(valid, share))


def cross_entropy(logprobs_BT: jax.Array, mask_BT: jax.Array, denominator: jax.Array | float) -> jax.Array:
    """The supervised loss: mean negative log-likelihood of the masked tokens, in nats per token.

    denominator: number of masked tokens in the whole batch, as in `aggregate`.
    """
    return -jnp.sum(jnp.where(jnp.asarray(mask_BT, bool), logprobs_BT, 0.0)) / denominator


def _widened(x: jax.Array) -> jax.Array:
    """x as float32, or as its own type if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _log_ratio(
    logprobs_BT: jax.Array, old_logprobs_BT: jax.Array, advantages_BT: jax.Array, mask_BT: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(log ratios, advantages, the mask as booleans); log ratios and advantages are 0 where the mask is 0."""
    valid_BT = jnp.asarray(mask_BT, bool)
    # Masked before the exponential, since a mask after it would not keep a NaN or infinity out of the gradient.
    log_ratio_BT = jnp.where(valid_BT, logprobs_BT - old_logprobs_BT, 0.0)
    return log_ratio_BT, jnp.where(valid_BT, advantages_BT, 0.0), valid_BT


def _clipped(
    ratio_BT: jax.Array, advantages_BT: jax.Array, clip_low: float, clip_high: float, dual_clip: float | None
) -> Surrogate:
    """The clipped surrogate for the given ratios. The advantages must be 0 where the mask is 0."""
    clipped_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    objective_BT = jnp.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    low_BT = (advantages_BT < 0) & (ratio_BT < 1.0 - clip_low)
    high_BT = (advantages_BT > 0) & (ratio_BT > 1.0 + clip_high)
    if dual_clip is not None:
        bounded_BT = (advantages_BT < 0) & (ratio_BT > dual_clip)
        objective_BT = jnp.where(bounded_BT, dual_clip * advantages_BT, objective_BT)
        high_BT = high_BT | bounded_BT
    return -objective_BT, ratio_BT, low_BT, high_BT


def _sequence_sum(values_BT: jax.Array, segment_ids_BT: jax.Array) -> jax.Array:
    """At every place the sum of the values of its sequence, [B, T]."""

    def row(values_T: jax.Array, ids_T: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values_T, ids_T, values_T.shape[0] + 1)[ids_T]

    return jax.vmap(row)(values_BT, segment_ids_BT)


def _sequence_length(valid_BT: jax.Array, segment_ids_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """At every place the number of masked tokens of its sequence, at least 1 (to divide by), [B, T]."""
    return jnp.maximum(_sequence_sum(valid_BT.astype(dtype), segment_ids_BT), 1.0)


def _sequence_mean(values_BT: jax.Array, valid_BT: jax.Array, segment_ids_BT: jax.Array) -> jax.Array:
    """At masked tokens the mean of their sequence's values, else 0; [B, T]. values_BT: 0 where the mask is 0."""
    length_BT = _sequence_length(valid_BT, segment_ids_BT, values_BT.dtype)
    return jnp.where(valid_BT, _sequence_sum(values_BT, segment_ids_BT) / length_BT, 0.0)


def _importance(old_logprobs_BT: jax.Array, sampler_logprobs_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """exp(old_logprob - sampler_logprob), without gradient; 1 where the mask is 0."""
    difference_BT = jnp.where(jnp.asarray(mask_BT, bool), old_logprobs_BT - sampler_logprobs_BT, 0.0)
    return jax.lax.stop_gradient(jnp.exp(difference_BT))


def _share_count(valid: jax.Array, share: float) -> jax.Array:
    """floor(share * masked tokens), at least 1."""
    return jnp.maximum(jnp.floor(share * jnp.sum(valid)).astype(jnp.int32), 1)


def _highest(values: jax.Array, among: jax.Array, count: jax.Array) -> jax.Array:
    """Booleans: the `count` highest of the values where `among` is True; ties with the last of them are included."""
    falling = jnp.sort(jnp.where(among, values, -jnp.inf), axis=None, descending=True)
    return values >= falling[jnp.minimum(count, falling.size) - 1]
