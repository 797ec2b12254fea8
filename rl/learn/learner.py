"""The learner: one jit-compiled, sharded, donated update per batch.

    optimiser = optimiser.make(learning_rate=1e-6, ...)
    state = optimiser.create(policy, optimiser, mesh)
    step = learner.make_train_step(policy, optimiser, mesh, objective.Objective(temperature=1.0, ...))
    state, metrics = step(state, packing.pack(...))
    policy = nnx.merge(nnx.split(policy)[0], state.params)      # the trained policy, for the sampler

Inside the step a loop accumulates the gradients of the micro-batches in float32. Its trip count is read from the batch,
so the number of micro-batches in use may change without compiling again; only the batch's shape is fixed.

Legend: M micro-batches, R rows of a micro-batch, T row length (see packing.Batch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from model.checkpoints import lora
from model.network import sharding
from rl.learn import objective, optimiser, packing
from rl.learn.objective import Objective, Scalars
from rl.learn.optimiser import TrainState

Tree = Any
Step = Callable[[TrainState, packing.Batch], tuple[TrainState, Scalars]]
Scorer = Callable[[Tree, packing.Batch], jax.Array]


def batch_shardings(batch: packing.Batch, mesh: Mesh) -> packing.Batch:
    """A NamedSharding for every array of a Batch. Rows and their tokens are split over the mesh by sharding.TRAIN;
    scalars are replicated."""
    rows = NamedSharding(mesh, PartitionSpec(None, *sharding.activation_spec(sharding.TRAIN)))
    whole = sharding.replicated(mesh)
    return jax.tree.map(lambda x: rows if np.ndim(x) else whole, batch)


def check_shape(rows: int, row_length: int, mesh: Mesh) -> None:
    """Raises ValueError if the rows of a micro-batch, or the tokens of a row, do not divide evenly among the devices
    that share them."""
    parts, splits = sharding.parts("rows", mesh), sharding.parts("sequence", mesh)
    if rows % parts:
        raise ValueError(
            f"rl.rows: {rows} rows of a micro-batch do not divide among the {parts} devices of the mesh axes "
            f"{sharding.TRAIN['rows']}; take a multiple of {parts}"
        )
    if row_length % splits:
        raise ValueError(
            f"rl.row_length: {row_length} tokens do not divide among the {splits} devices of the mesh axis "
            f"{sharding.TRAIN['sequence']}; take a multiple of {splits}"
        )


def place(batch: packing.Batch, mesh: Mesh) -> packing.Batch:
    """The batch sharded over the mesh.

    numpy arrays must be the same in every process; each process copies the part that its devices hold.
    Raises ValueError as `check_shape` does.
    """
    check_shape(*batch.tokens.shape[1:], mesh)

    def one(x: np.ndarray | jax.Array, placed: NamedSharding) -> jax.Array:
        if isinstance(x, jax.Array):  # computed on the devices, for example by a scorer
            return x if x.sharding.is_equivalent_to(placed, x.ndim) else jax.device_put(x, placed)
        return jax.make_array_from_callback(np.shape(x), placed, lambda index: np.asarray(x)[index])

    return jax.tree.map(one, batch, batch_shardings(batch, mesh))


def gradients(
    params: Tree,
    batch: packing.Batch,
    step: jax.Array,
    graphdef: nnx.GraphDef,
    shardings: Tree,
    o: Objective,
    adapters: lora.Adapters | None = None,
) -> tuple[Tree, Scalars, Scalars]:
    """The gradient of the batch's loss, over the micro-batches in use. Traceable; the caller is to jit it.

    Args:
        params: an nnx.State. step: updates done, int32 []. graphdef: the policy's structure. shardings: of the
            gradients. o: the objective. adapters: if given, the gradient is taken with respect to them instead of
            params, into which they have been merged.

    Returns:
        (gradients, sums, maxima). Gradients are float32, in the structure of params or adapters. sums["loss"] is the
        batch's loss; the other sums and the maxima are over the batch's loss tokens.

    Raises:
        ValueError: if the batch lacks the log-probabilities that the objective needs.
    """
    for field, needed in (("old_logprobs", o.importance != "none"), ("reference_logprobs", bool(o.kl_coef))):
        if needed and getattr(batch, field) is None:
            raise ValueError(f"the batch has no {field}, which the objective needs: {o}")
    held = objective.held_back(batch, o, step)

    def loss(trained: Tree, index: jax.Array) -> tuple[jax.Array, tuple[Scalars, Scalars]]:
        micro, held_RT = _part((batch, held), index)
        if adapters is not None:
            return objective.micro_batch(nnx.merge(graphdef, params), micro, held_RT, o, trained)
        return objective.micro_batch(nnx.merge(graphdef, trained), micro, held_RT, o)

    def one(index: jax.Array) -> tuple[Tree, Scalars, Scalars]:
        grads, (sums, maxima) = jax.grad(loss, has_aux=True)(params if adapters is None else adapters, index)
        return jax.tree.map(lambda g: g.astype(jnp.float32), grads), sums, maxima

    def body(index: jax.Array, total: tuple[Tree, Scalars, Scalars]) -> tuple[Tree, Scalars, Scalars]:
        new = one(index)
        grads, sums = jax.tree.map(jnp.add, total[:2], new[:2])
        maxima = jax.tree.map(jnp.maximum, total[2], new[2])
        return jax.lax.with_sharding_constraint(grads, shardings), sums, maxima

    if batch.tokens.shape[0] == 1:  # no loop needed; a batch without loss tokens gives zeros
        grads, sums, maxima = one(jnp.zeros((), jnp.int32))
        return jax.lax.with_sharding_constraint(grads, shardings), sums, maxima
    shapes = jax.eval_shape(one, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.fori_loop(0, batch.used, body, zeros)


def _part(arrays: Tree, index: jax.Array) -> Tree:
    """The index-th micro-batch of arrays [M, ...]; scalars are kept as they are."""
    return jax.tree.map(lambda x: x[index] if x.ndim else x, arrays)


def make_train_step(
    policy: nnx.Module,
    transformation: optax.GradientTransformation,
    mesh: Mesh,
    o: Objective = Objective(),
    settings: lora.Lora | None = None,
    offload: bool = False,
) -> Step:
    """Makes the function that updates a TrainState by a Batch. It is compiled once, on its first call.

    Args:
        policy: a transformer.Transformer. Only its structure is used; with adapters also its weights, as their base.
        transformation: the optimiser, from optimiser.make.
        o: the objective.
        mesh, settings, offload: as for optimiser.create.

    Returns:
        step(state, batch) -> (state, metrics). The old state is donated. An update is skipped if its loss, its gradient
        or the norm of the update or of the parameters is not finite (in float32), or if its batch has no loss token;
        parameters and optimiser state then stay as they are, see optimiser.TrainState. step raises ValueError as
        `place` and `gradients` do.

        Metrics are float32 scalars on the devices:
          - loss, tokens, entropy (nats), grad_norm (before clipping), param_norm, skipped_updates (0 or 1);
          - update_ratio: norm of the update over norm of the parameters (of the adapters, if these are trained);
          - for a policy-gradient loss: clip_fraction_low, clip_fraction_high, ratio_mean, ratio_std, ratio_max, ess,
            advantage_mean, advantage_std, mismatch_kl (k1), mismatch_kl_k3, mismatch_max (largest absolute difference
            of log-probability to the sampler);
          - if the objective uses them: importance_mean, reference_kl;
          - for a mixture of experts: router_balance (see moe.balance_loss), router_load_max (tokens of the busiest
            expert over the mean of all experts, the largest value of any micro-batch).

        `step.compiled` is the jitted function, for ahead-of-time lowering and for counting its programs. Its last
        argument is `step.base`, the base weights of the adapters.

    Raises:
        ValueError: as optimiser.state_shardings does.
    """
    shardings = optimiser.state_shardings(policy, transformation, mesh, settings, offload)
    graphdef = nnx.split(policy)[0]
    on_devices = jax.tree.map(lambda placed: placed.with_memory_kind(optimiser.DEVICE), shardings)
    placed = shardings.params if settings is None else shardings.adapters
    base, base_placed = None, None
    if settings is not None:
        base, base_placed = (lora.base(tree, shardings.adapters) for tree in (nnx.state(policy), shardings.params))

    def update(state: TrainState, batch: packing.Batch, base: Tree | None) -> tuple[TrainState, Scalars]:
        grads, sums, maxima = gradients(state.params, batch, state.step, graphdef, placed, o, state.adapters)
        if offload:  # masters and moments are on the devices only during the update
            state = jax.device_put(state, on_devices)
        grad_norm, param_norm = optax.tree.norm(grads), optax.tree.norm(state.trained)
        finite = jnp.isfinite(grad_norm) & jnp.isfinite(sums["loss"]) & jnp.isfinite(param_norm)
        state, update_norm, ok = optimiser.apply(state, grads, finite, batch.denominator > 0, transformation, base)
        return state, objective.metrics(sums, maxima, batch.denominator) | {
            "grad_norm": grad_norm,
            "param_norm": param_norm,
            "update_ratio": jnp.where(ok, update_norm / param_norm, 0.0),
            "skipped_updates": 1.0 - ok.astype(jnp.float32),
        }

    compiled = jax.jit(
        update,
        donate_argnums=0,
        in_shardings=(shardings, None, base_placed),  # None: the batch keeps the sharding that `place` gave it
        out_shardings=(shardings, sharding.replicated(mesh)),
    )

    def step(state: TrainState, batch: packing.Batch) -> tuple[TrainState, Scalars]:
        with jax.set_mesh(mesh):  # the model constrains the sharding of its activations on the current mesh
            return compiled(state, place(batch, mesh), base)

    step.compiled, step.base = compiled, base
    return step


def make_scorer(policy: nnx.Module, mesh: Mesh, temperature: float = 1.0, logits_chunk: int = 0) -> Scorer:
    """Makes score(params, batch) -> log-probabilities of the batch's targets, float32 [M, R, T].

    They are sharded like the batch's arrays, and 0 in micro-batches that are not in use. Used for the policies that a
    loss compares with: the learner's before a step's updates, a frozen reference, a teacher.

    policy, mesh: as for `make_train_step`. temperature, logits_chunk: as in Objective. score raises ValueError as
    `place` does.
    """
    graphdef = nnx.split(policy)[0]

    def score(params: Tree, batch: packing.Batch) -> jax.Array:
        model = nnx.merge(graphdef, params)

        def body(index: jax.Array, total: jax.Array) -> jax.Array:
            micro = _part(batch, index)
            x_RTD, _ = model.hidden_and_router(micro.tokens, micro.positions, micro.segment_ids, micro.parent_ids)
            settings = (temperature, logits_chunk, micro.kept)
            logprobs, _ = objective.token_statistics(model, x_RTD, micro.targets, *settings)
            return total.at[index].set(logprobs)

        return jax.lax.fori_loop(0, batch.used, body, jnp.zeros(batch.tokens.shape, jnp.float32))

    rows = NamedSharding(mesh, PartitionSpec(None, *sharding.activation_spec(sharding.TRAIN)))
    compiled = jax.jit(score, out_shardings=rows)

    def run(params: Tree, batch: packing.Batch) -> jax.Array:
        with jax.set_mesh(mesh):
            return compiled(params, place(batch, mesh))

    return run
