"""The learner: one jit-compiled, sharded, donated update per batch.

    optimiser = learner.make_optimiser(learning_rate=1e-6, ...)
    state = learner.create(policy, optimiser, mesh)
    step = learner.make_train_step(policy, optimiser, mesh, loss="policy_gradient", temperature=1.0, ...)
    state, metrics = step(state, packing.pack(...))
    policy = nnx.merge(nnx.split(policy)[0], state.params)      # what the sampler gets

Gradients are accumulated in float32 over the micro-batches inside the step, in a loop whose trip count is data: a
batch's shape is fixed, its contents and the number of micro-batches in use may change without compiling again.

Legend: M micro-batches, R rows of a micro-batch, T row length (see packing.Batch).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from model import moe, sharding
from rl import losses, packing

Tree = Any
Scalars = dict[str, jax.Array]
Step = Callable[["TrainState", packing.Batch], tuple["TrainState", Scalars]]

LOSSES = ("policy_gradient", "sft")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes: the parameters (an nnx.State), the optimiser's state, updates done (int32 [])."""

    params: Tree
    opt_state: Tree
    step: jax.Array


def make_optimiser(
    learning_rate: float,
    warmup_updates: int = 0,
    decay_updates: tuple[int, int] = (0, 0),
    weight_decay: float = 0.0,
    adam_b2: float = 0.99,
    max_grad_norm: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101, algorithm 2) after clipping the gradient's global norm to `max_grad_norm`.

    After a linear warm-up (update n, from 0, uses learning_rate * (n + 1) / warmup_updates) the rate is constant, or,
    with decay_updates = (first, end), falls linearly from update `first` on to a tenth at update `end`, where it stays.
    Weight decay applies to every parameter.

    Raises:
        ValueError: naming the argument, if a value is out of range.
    """
    if not (learning_rate > 0 and warmup_updates >= 0 and weight_decay >= 0 and 0 <= adam_b2 < 1 and max_grad_norm > 0):
        raise ValueError(
            "optimiser: expected learning_rate > 0, warmup_updates >= 0, weight_decay >= 0, 0 <= adam_b2 < 1, "
            f"max_grad_norm > 0, found learning_rate={learning_rate}, warmup_updates={warmup_updates}, "
            f"weight_decay={weight_decay}, adam_b2={adam_b2}, max_grad_norm={max_grad_norm}"
        )
    first, end = decay_updates
    if decay_updates != (0, 0) and not warmup_updates <= first < end:
        raise ValueError(f"optimiser: expected warmup_updates <= first < end in decay_updates, found {decay_updates}")
    rate: optax.ScalarOrSchedule = learning_rate
    if warmup_updates or end:
        start, rising = learning_rate / max(warmup_updates, 1), max(warmup_updates - 1, 0)
        warmup = optax.linear_schedule(start, learning_rate, rising)
        rest = optax.linear_schedule(learning_rate, learning_rate / 10, end - first) if end else lambda _: learning_rate
        rate = optax.join_schedules([warmup, rest], [first or warmup_updates])
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.adamw(rate, b1=0.9, b2=adam_b2, weight_decay=weight_decay),
    )


def initialise(optimiser: optax.GradientTransformation, params: Tree) -> Tree:
    """The optimiser's state with float32 moments, whatever the parameters' dtype (the gradients are float32 too)."""
    return optimiser.init(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))


def state_shardings(policy: nnx.Module, optimiser: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A NamedSharding for every array of a TrainState: moments lie as their parameters do, counters are replicated.

    policy: a transformer.Transformer, of which only the structure is used.
    """
    params = sharding.param_shardings(policy.config, mesh)
    whole = sharding.replicated(mesh)
    abstract = jax.eval_shape(functools.partial(initialise, optimiser), nnx.state(policy))
    moments = optax.tree.map_params(
        optimiser, lambda _, placed: placed, abstract, params, transform_non_params=lambda _: whole
    )
    return TrainState(params, moments, whole)


def batch_shardings(mesh: Mesh) -> packing.Batch:
    """A NamedSharding for every array of a Batch: rows and their tokens are split as sharding.TRAIN says."""
    rows = NamedSharding(mesh, PartitionSpec(None, *sharding.activation_spec(sharding.TRAIN)))
    scalars = ("used", "denominator")
    fields = {field.name: rows for field in dataclasses.fields(packing.Batch)}
    return packing.Batch(**{**fields, **dict.fromkeys(scalars, sharding.replicated(mesh))})


def create(policy: nnx.Module, optimiser: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A fresh TrainState on the mesh with a copy of the policy's parameters (steps donate theirs, the policy stays)."""
    shardings = state_shardings(policy, optimiser, mesh)
    # Copied first: device_put keeps the buffers of a shard that is already in its place.
    params = jax.device_put(jax.tree.map(jnp.copy, nnx.state(policy)), shardings.params)
    opt_state = jax.jit(functools.partial(initialise, optimiser), out_shardings=shardings.opt_state)(params)
    return TrainState(params, opt_state, jax.device_put(jnp.zeros((), jnp.int32), shardings.step))


def token_statistics(
    policy: nnx.Module, x_RTD: jax.Array, targets_RT: jax.Array, temperature: float, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """(log-probabilities of the targets, entropies), both float32 [R, T], of hidden states.

    chunk: logits exist for that many tokens of a row at a time, forward and backward, because those of a whole batch
    would be the largest array of all (0: of all tokens at once). A row that is split over the mesh axis `context` is
    chunked within each part.
    """

    def of(x: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = policy.unembed(x)
        return losses.token_logprobs(logits, targets, temperature), losses.entropy(logits, temperature)

    mesh = jax.sharding.get_abstract_mesh()
    splits = 1 if mesh.empty else sharding.parts("sequence", mesh)
    R, T, D = x_RTD.shape
    length = T // splits
    if not 0 < chunk < length:
        return of(x_RTD, targets_RT)
    count = -(-length // chunk)

    def cut(x: jax.Array) -> jax.Array:
        """[R, T, ...] -> [count, R, splits, chunk, ...], zeros at the end."""
        x = x.reshape(R, splits, length, *x.shape[2:])
        x = jnp.pad(x, [(0, 0), (0, 0), (0, count * chunk - length)] + [(0, 0)] * (x.ndim - 3))
        return jnp.moveaxis(x.reshape(R, splits, count, chunk, *x.shape[3:]), 2, 0)

    def join(x: jax.Array) -> jax.Array:
        """The inverse, [count, R, splits, chunk] -> [R, T]."""
        return jnp.moveaxis(x, 0, 2).reshape(R, splits, count * chunk)[:, :, :length].reshape(R, T)

    body = jax.checkpoint(lambda _, xs: (None, of(*xs)), prevent_cse=False)
    _, (logprobs, entropies) = jax.lax.scan(body, None, (cut(x_RTD), cut(targets_RT)))
    return join(logprobs), join(entropies)


def _objective(
    params: Tree,
    micro: packing.Batch,
    graphdef: nnx.GraphDef,
    loss: str,
    temperature: float,
    clip_low: float,
    clip_high: float,
    logits_chunk: int,
    router_coef: float,
) -> tuple[jax.Array, tuple[Scalars, Scalars]]:
    """(loss, (sums over the loss tokens, maxima over them)) of one micro-batch, a Batch of [R, T] arrays."""
    policy = nnx.merge(graphdef, params)
    x_RTD, router = policy.hidden_and_router(micro.tokens, micro.positions, micro.segment_ids)
    logprobs_RT, entropy_RT = token_statistics(policy, x_RTD, micro.targets, temperature, logits_chunk)
    denominator = jnp.maximum(micro.denominator, 1.0)
    sums, maxima = {}, {}
    if loss == "sft":
        value = losses.cross_entropy(logprobs_RT, micro.loss_mask, denominator)
    else:
        value, sums = losses.policy_gradient(
            logprobs_RT, micro.sampler_logprobs, micro.advantages, micro.loss_mask, clip_low, clip_high, denominator
        )
        mismatch_RT = jnp.abs(logprobs_RT - micro.sampler_logprobs)
        maxima["mismatch_max"] = jnp.max(jnp.where(micro.loss_mask > 0, mismatch_RT, 0.0))
    if router is not None:
        # Weighted by the micro-batch's loss tokens, so that the batch's is their mean.
        balance = moe.balance_loss(router) * jnp.sum(micro.loss_mask)
        value = value + router_coef * balance / denominator
        load_E = router.pairs_E.sum(axis=0)
        sums["router_balance"] = balance
        maxima["router_load_max"] = jnp.max(load_E) / jnp.maximum(jnp.mean(load_E), 1.0)
    sums |= {"loss": value, "entropy": jnp.sum(jnp.where(micro.loss_mask > 0, entropy_RT, 0.0))}
    return value, jax.lax.stop_gradient((sums, maxima))


def gradients(
    params: Tree,
    batch: packing.Batch,
    graphdef: nnx.GraphDef,
    shardings: Tree,
    loss: str = "policy_gradient",
    temperature: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    logits_chunk: int = 0,
    router_coef: float = 0.0,
) -> tuple[Tree, Scalars, Scalars]:
    """The loss's gradient over the micro-batches of `batch` that are in use. Traceable; to be jitted by the caller.

    Args:
        params: an nnx.State. graphdef: the policy's structure. shardings: of the parameters, and so of the gradient.
        loss: one of LOSSES. temperature: that the batch was sampled at. clip_low, clip_high: see losses.py.
        logits_chunk: see `token_statistics`. router_coef: weight of a mixture of experts' balance loss.

    Returns:
        (float32 gradients in the structure of params, sums, maxima): "loss" is the batch's token mean; the other sums
        are over its loss tokens.
    """
    objective = functools.partial(
        _objective, graphdef=graphdef, loss=loss, temperature=temperature, clip_low=clip_low, clip_high=clip_high,
        logits_chunk=logits_chunk, router_coef=router_coef,
    )  # fmt: skip

    def one(index: jax.Array) -> tuple[Tree, Scalars, Scalars]:
        arrays = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        micro = packing.Batch(**{name: x[index] if x.ndim else x for name, x in arrays.items()})
        grads, (sums, maxima) = jax.grad(objective, has_aux=True)(params, micro)
        return jax.tree.map(lambda g: g.astype(jnp.float32), grads), sums, maxima

    def body(index: jax.Array, total: tuple[Tree, Scalars, Scalars]) -> tuple[Tree, Scalars, Scalars]:
        new = one(index)
        grads, sums = jax.tree.map(jnp.add, total[:2], new[:2])
        maxima = jax.tree.map(jnp.maximum, total[2], new[2])
        return jax.lax.with_sharding_constraint(grads, shardings), sums, maxima

    if batch.tokens.shape[0] == 1:  # nothing to add up; an empty batch has no loss token and gives zeros
        grads, sums, maxima = one(jnp.zeros((), jnp.int32))
        return jax.lax.with_sharding_constraint(grads, shardings), sums, maxima
    shapes = jax.eval_shape(one, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.fori_loop(0, batch.used, body, zeros)


def _metrics(sums: Scalars, maxima: Scalars, tokens: jax.Array) -> Scalars:
    """Per-token means of the sums (the loss is one already), and the maxima."""
    means = {name: value / jnp.maximum(tokens, 1.0) for name, value in sums.items() if name != "loss"}
    names = {"clipped_low": "clip_fraction_low", "clipped_high": "clip_fraction_high", "ratio": "ratio_mean"}
    means = {names.get(name, name): value for name, value in means.items()}
    return {"loss": sums["loss"], "tokens": tokens, **means, **maxima}


def make_train_step(
    policy: nnx.Module,
    optimiser: optax.GradientTransformation,
    mesh: Mesh,
    loss: str = "policy_gradient",
    temperature: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    logits_chunk: int = 0,
    router_coef: float = 0.0,
) -> Step:
    """Compiles (once) the update of a TrainState by a Batch.

    Args:
        policy: a transformer.Transformer, of which only the structure is used. optimiser, mesh: as for `create`.
        loss: "policy_gradient" or "sft". temperature: that the batches are sampled at (1 for sft).
        clip_low, clip_high: the ratio's clip, see losses.policy_gradient; unused for sft.
        logits_chunk: see `token_statistics`. router_coef: weight of a mixture of experts' balance loss.

    Returns:
        step(state, batch) -> (state, metrics). The old state is donated. An update whose gradient or loss is not
        finite, or whose batch has no loss token, is skipped: the state stays as it is. Metrics are float32 scalars on
        the devices: loss, tokens, entropy (nats), grad_norm (before clipping), param_norm, update_ratio (norm of the
        update over that of the parameters), skipped_updates (0 or 1); and for policy_gradient clip_fraction_low,
        clip_fraction_high, ratio_mean, mismatch_kl (k1), mismatch_max (largest |logprob difference| to the sampler);
        and for a mixture of experts router_balance (see moe.balance_loss) and router_load_max (tokens of the busiest
        expert over those of the mean one, the largest of any micro-batch).
        `step.compiled` is the jitted function underneath, for ahead-of-time lowering and for counting its programs.
        step raises ValueError if the batch's rows do not divide among the devices that share them.

    Raises:
        ValueError: for an unknown loss or a temperature that is not positive.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {LOSSES}, found {loss!r}")
    if not temperature > 0:
        raise ValueError(f"temperature: the learner needs a positive one, found {temperature}")
    shardings = state_shardings(policy, optimiser, mesh)
    gradient = functools.partial(
        gradients, graphdef=nnx.split(policy)[0], shardings=shardings.params, loss=loss, temperature=temperature,
        clip_low=clip_low, clip_high=clip_high, logits_chunk=logits_chunk, router_coef=router_coef,
    )  # fmt: skip

    def update(state: TrainState, batch: packing.Batch) -> tuple[TrainState, Scalars]:
        grads, sums, maxima = gradient(state.params, batch)
        grad_norm, param_norm = optax.tree.norm(grads), optax.tree.norm(state.params)
        ok = jnp.isfinite(grad_norm) & jnp.isfinite(sums["loss"]) & (batch.denominator > 0)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        new = TrainState(optax.apply_updates(state.params, updates), opt_state, state.step + 1)
        new = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, state)
        metrics = _metrics(sums, maxima, batch.denominator) | {
            "grad_norm": grad_norm,
            "param_norm": param_norm,
            "update_ratio": jnp.where(ok, optax.tree.norm(updates) / param_norm, 0.0),
            "skipped_updates": 1.0 - ok.astype(jnp.float32),
        }
        return new, metrics

    whole = sharding.replicated(mesh)
    compiled = jax.jit(
        update, donate_argnums=0, in_shardings=(shardings, batch_shardings(mesh)), out_shardings=(shardings, whole)
    )
    parts, splits = sharding.parts("rows", mesh), sharding.parts("sequence", mesh)

    def place(x: np.ndarray, placed: NamedSharding) -> jax.Array:
        """A host array, the same in every process, on the devices: each process hands over what its own ones hold."""
        return jax.make_array_from_callback(np.shape(x), placed, lambda index: np.asarray(x)[index])

    def step(state: TrainState, batch: packing.Batch) -> tuple[TrainState, Scalars]:
        if batch.tokens.shape[1] % parts:
            raise ValueError(
                f"rl.rows: {batch.tokens.shape[1]} rows of a micro-batch do not divide among the {parts} devices of "
                f"the mesh axes {sharding.TRAIN['rows']}"
            )
        if batch.tokens.shape[2] % splits:
            raise ValueError(
                f"rl.row_length: {batch.tokens.shape[2]} tokens do not divide among the {splits} devices of the mesh "
                f"axis {sharding.TRAIN['sequence']}"
            )
        with jax.set_mesh(mesh):  # the model constrains its activations to the mesh in force
            return compiled(state, jax.tree.map(place, batch, batch_shardings(mesh)))

    step.compiled = compiled
    return step
