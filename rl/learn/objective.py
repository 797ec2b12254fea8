"""The training objective: the loss of one micro-batch and the metrics that are computed with it.

Legend: M micro-batches, R rows of a micro-batch, T row length (see packing.Batch).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from model.network import moe, sharding
from model.network.numerics import Adapter
from rl.learn import losses, packing

Scalars = dict[str, jax.Array]

LOSSES = ("ppo", "gspo", "gspo_token", "cispo", "sft")
COVARIANCES = ("none", "clip", "kl")
IMPORTANCES = ("none", "tis", "icepop")
CLIP_COV_BOUNDS = (1.0, 5.0)  # arXiv:2505.22617: Clip-Cov draws tokens whose covariance is between these


@dataclasses.dataclass(frozen=True)
class Objective:
    """The settings of a loss; the config keys of the same names explain them.

    loss: one of LOSSES, see losses.py; "sft" uses only temperature, logits_chunk and router_coef. length: tokens, for
    aggregation "fixed". dual_clip: 0 for none. importance other than "none" needs batches with old_logprobs; kl_coef
    other than 0 needs batches with reference_logprobs.
    Raises ValueError, naming the field, for an impossible value.
    """

    loss: str = "ppo"
    temperature: float = 1.0
    aggregation: str = "token-mean"
    length: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 0.0
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    entropy_coef: float = 0.0
    covariance: str = "none"
    covariance_share: float = 2e-4
    covariance_kl_coef: float = 1.0
    importance: str = "none"
    importance_low: float = 0.5
    importance_high: float = 2.0
    logits_chunk: int = 0
    router_coef: float = 0.0

    def __post_init__(self):
        for name, known in (
            ("loss", LOSSES), ("aggregation", losses.AGGREGATIONS), ("kl_estimator", losses.KL_ESTIMATORS),
            ("covariance", COVARIANCES), ("importance", IMPORTANCES),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {known}, found {getattr(self, name)!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: the learner needs a positive one, found {self.temperature}")


def token_statistics(
    policy: nnx.Module,
    x_RTD: jax.Array,
    targets_RT: jax.Array,
    temperature: float,
    chunk: int,
    kept_RTK: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(log-probabilities of the targets, entropies), both float32 [R, T], in nats, from hidden states.

    x_RTD: the policy's last hidden states [R, T, D]. kept_RTK: see losses.token_statistics. chunk: compute the logits
    of so many tokens of a row at a time, forward and backward, since the logits of a whole batch would be the largest
    array of all; 0 for all tokens at once. A row that is split over the mesh axis `context` is chunked within each
    part.
    """

    def of(x: jax.Array, targets: jax.Array, kept: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        return losses.token_statistics(policy.unembed(x), targets, temperature, kept)

    mesh = jax.sharding.get_abstract_mesh()
    splits = 1 if mesh.empty else sharding.parts("sequence", mesh)
    R, T, D = x_RTD.shape
    length = T // splits
    if not 0 < chunk < length:
        return of(x_RTD, targets_RT, kept_RTK)
    count = -(-length // chunk)

    def cut(x: jax.Array) -> jax.Array:
        """[R, T, ...] -> [count, R, splits, chunk, ...], padded with zeros."""
        x = x.reshape(R, splits, length, *x.shape[2:])
        x = jnp.pad(x, [(0, 0), (0, 0), (0, count * chunk - length)] + [(0, 0)] * (x.ndim - 3))
        return jnp.moveaxis(x.reshape(R, splits, count, chunk, *x.shape[3:]), 2, 0)

    def join(x: jax.Array) -> jax.Array:
        """The inverse of `cut`, [count, R, splits, chunk] -> [R, T]."""
        return jnp.moveaxis(x, 0, 2).reshape(R, splits, count * chunk)[:, :, :length].reshape(R, T)

    body = jax.checkpoint(lambda _, xs: (None, of(*xs)), prevent_cse=False)
    inputs = (cut(x_RTD), cut(targets_RT), None if kept_RTK is None else cut(kept_RTK))
    _, (logprobs, entropies) = jax.lax.scan(body, None, inputs)
    return join(logprobs), join(entropies)


def held_back(batch: packing.Batch, o: Objective, step: jax.Array) -> jax.Array | None:
    """The tokens that Clip-Cov or KL-Cov holds back, booleans [M, R, T]; None for covariance "none".

    The covariance is taken over the whole batch, so that it does not depend on the division into micro-batches. Its
    log-probabilities are those in the denominator of the ratio. step: updates done, int32 [], the seed of Clip-Cov's
    random draw.
    """
    if o.covariance == "none":
        return None
    found = losses.covariance(_old(batch), batch.advantages, batch.loss_mask)
    if o.covariance == "kl":
        return losses.kl_cov(found, batch.loss_mask, o.covariance_share)
    key = jax.random.fold_in(jax.random.key(0), step)
    return losses.clip_cov(found, batch.loss_mask, o.covariance_share, *CLIP_COV_BOUNDS, key)


def micro_batch(
    policy: nnx.Module,
    micro: packing.Batch,
    held_RT: jax.Array | None,
    o: Objective,
    adapters: Mapping[str, Adapter] | None = None,
) -> tuple[jax.Array, tuple[Scalars, Scalars]]:
    """(loss, (sums, maxima)) of one micro-batch, a Batch of [R, T] arrays; sums and maxima are over its loss tokens.

    held_RT: the micro-batch's part of the result of `held_back`. adapters: of the policy's weights, see lora.py. The
    losses of a batch's micro-batches, and likewise their gradients, add up to those of the batch.
    """
    rows = (micro.tokens, micro.positions, micro.segment_ids, micro.parent_ids)
    x_RTD, router = policy.hidden_and_router(*rows, adapters)
    settings = (o.temperature, o.logits_chunk, micro.kept)
    logprobs_RT, entropy_RT = token_statistics(policy, x_RTD, micro.targets, *settings)
    tokens, maxima = jnp.maximum(micro.denominator, 1.0), {}
    sums = {"entropy": jnp.sum(jnp.where(micro.loss_mask > 0, entropy_RT, 0.0))}
    if o.loss == "sft":
        value = losses.cross_entropy(logprobs_RT, micro.loss_mask, tokens)
    else:
        value, found, maxima = _policy_gradient(logprobs_RT, micro, held_RT, o)
        sums |= found
        if o.entropy_coef:
            value = value - o.entropy_coef * sums["entropy"] / tokens
    if router is not None:
        # Weighted by loss tokens: the batch's balance loss is the weighted mean over its micro-batches. The tokens of
        # a shared prefix count once.
        balance = moe.balance_loss(router) * jnp.sum(micro.loss_mask)
        value = value + o.router_coef * balance / tokens
        load_E = router.pairs_E.sum(axis=0)
        sums["router_balance"] = balance
        maxima["router_load_max"] = jnp.max(load_E) / jnp.maximum(jnp.mean(load_E), 1.0)
    return value, jax.lax.stop_gradient((sums | {"loss": value}, maxima))


def metrics(sums: Scalars, maxima: Scalars, tokens: jax.Array) -> Scalars:
    """The metrics of a batch, float32 scalars by name, from the results of `micro_batch` for all its micro-batches.

    sums: added up over the micro-batches. maxima: the largest over the micro-batches. tokens: the batch's loss tokens.
    All results but the loss, the number of tokens and the maxima are means over the loss tokens. ess: effective sample
    size as a share of the tokens, (sum of ratios)^2 / (tokens * sum of squared ratios) (Kong 1992).
    """
    mean = {name: value / jnp.maximum(tokens, 1.0) for name, value in sums.items()}
    mean |= {"loss": sums["loss"], "tokens": tokens}
    for name in ("ratio", "advantage"):
        if f"{name}_mean" in mean:
            square = mean.pop(f"{name}_square")
            mean[f"{name}_std"] = jnp.sqrt(jnp.maximum(square - mean[f"{name}_mean"] ** 2, 0.0))
            if name == "ratio":
                mean["ess"] = mean["ratio_mean"] ** 2 / jnp.maximum(square, jnp.finfo(jnp.float32).tiny)
    return mean | maxima


def _policy_gradient(
    logprobs_RT: jax.Array, micro: packing.Batch, held_RT: jax.Array | None, o: Objective
) -> tuple[jax.Array, Scalars, Scalars]:
    """(loss, sums, maxima) of a policy-gradient loss, without the terms for entropy and router."""
    mask_RT, old_RT, sampler_RT = micro.loss_mask, _old(micro), micro.sampler_logprobs
    valid_RT = mask_RT > 0
    loss_RT, ratio_RT, low_RT, high_RT = _surrogate(logprobs_RT, old_RT, micro, o)

    def total(x_RT: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(valid_RT, x_RT, 0.0))

    sums = {
        "clip_fraction_low": jnp.sum(low_RT & valid_RT, dtype=jnp.float32),
        "clip_fraction_high": jnp.sum(high_RT & valid_RT, dtype=jnp.float32),
        "ratio_mean": total(ratio_RT),
        "ratio_square": total(ratio_RT**2),
        "advantage_mean": total(micro.advantages),
        "advantage_square": total(micro.advantages**2),
    }
    if o.importance != "none":
        if o.importance == "tis":
            weight_RT = losses.truncated_importance(old_RT, sampler_RT, mask_RT, o.importance_high)
        else:
            weight_RT = losses.masked_importance(old_RT, sampler_RT, mask_RT, o.importance_low, o.importance_high)
        loss_RT = loss_RT * weight_RT
        sums["importance_mean"] = total(weight_RT)
    if o.covariance == "clip":
        loss_RT = jnp.where(held_RT, 0.0, loss_RT)
    elif o.covariance == "kl":  # |log ratio| as the KL, as in the authors' code; unlike there, the clip stays in place
        penalty_RT = o.covariance_kl_coef * jnp.abs(jnp.where(held_RT, logprobs_RT - old_RT, 0.0))
        loss_RT = loss_RT + penalty_RT
    if micro.reference_logprobs is not None:
        kl_RT = losses.kl(logprobs_RT, micro.reference_logprobs, mask_RT, o.kl_estimator)
        sums["reference_kl"] = jnp.sum(kl_RT)
        loss_RT = loss_RT + o.kl_coef * kl_RT
    # Log-probabilities of the learner's policy before the step's updates if the batch has them, else the current ones.
    learner_RT = logprobs_RT if micro.old_logprobs is None else old_RT
    sums["mismatch_kl"] = jnp.sum(losses.kl(sampler_RT, learner_RT, mask_RT, "k1"))
    sums["mismatch_kl_k3"] = jnp.sum(losses.kl(sampler_RT, learner_RT, mask_RT, "k3"))
    value = losses.aggregate(
        loss_RT, mask_RT, micro.segment_ids, o.aggregation, jnp.maximum(micro.denominator, 1.0),
        jnp.maximum(micro.sequences, 1.0), o.length,
    )  # fmt: skip
    maxima = {
        "ratio_max": jnp.max(jnp.where(valid_RT, ratio_RT, 0.0)),
        "mismatch_max": jnp.max(jnp.where(valid_RT, jnp.abs(learner_RT - sampler_RT), 0.0)),
    }
    return value, sums, maxima


def _surrogate(logprobs_RT: jax.Array, old_RT: jax.Array, micro: packing.Batch, o: Objective) -> losses.Surrogate:
    """The result of the surrogate loss that `o.loss` names."""
    arrays = (logprobs_RT, old_RT, micro.advantages, micro.loss_mask)
    if o.loss == "cispo":
        return losses.cispo(*arrays, o.clip_low, o.clip_high)
    clip = (o.clip_low, o.clip_high, o.dual_clip or None)
    if o.loss == "ppo":
        return losses.ppo(*arrays, *clip)
    return {"gspo": losses.gspo, "gspo_token": losses.gspo_token}[o.loss](*arrays, micro.segment_ids, *clip)


def _old(batch: packing.Batch) -> jax.Array:
    """The log-probabilities in the denominator of the ratio: the learner's before the step's updates if the batch has
    them, else the sampler's."""
    return batch.sampler_logprobs if batch.old_logprobs is None else batch.old_logprobs
