"""AdamW with its schedule, and the state that training changes.

    optimiser = optimiser.make(learning_rate=1e-6, ...)
    state = optimiser.create(policy, optimiser, mesh)

Parameters narrower than float32 have float32 masters: updates of 1e-6 of a weight are below bfloat16's resolution and
would be lost one by one. With adapters (lora.py) only these are trained, and the parameters are the base merged
with them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from model.checkpoints import lora
from model.network import sharding, transformer

Tree = Any
HOST, DEVICE = "pinned_host", "device"  # jax's names of kinds of memory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes.

    params: the parameters as the model computes with them (an nnx.State). master: the same in float32, of which params
    are the rounding; None if params are float32 themselves, or only adapters are trained. opt_state: the optimiser's,
    with float32 moments. step: updates done (int32 []). skipped: updates in a row that were skipped because they were
    not finite (int32 []). adapters: those that params are merged with, float32; None without.
    """

    params: Tree
    master: Tree | None
    opt_state: Tree
    step: jax.Array
    skipped: jax.Array
    adapters: lora.Adapters | None = None

    @property
    def trained(self) -> Tree:
        """What the optimiser moves, float32."""
        if self.adapters is not None:
            return self.adapters
        return self.params if self.master is None else self.master


def make(
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


def fresh(
    params: Tree,
    optimiser: optax.GradientTransformation,
    config: transformer.Config | None = None,
    settings: lora.Lora | None = None,
) -> TrainState:
    """The TrainState at the beginning of training. Traceable; its moments are float32 as the gradients are.

    settings: of adapters of the architecture `config`, which alone are trained; None: the parameters are.
    """
    zero = jnp.zeros((), jnp.int32)
    if settings is not None:
        adapters = lora.create(config, settings)  # they change nothing yet
        return TrainState(params, None, optimiser.init(adapters), zero, zero, adapters)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    return TrainState(params, wide if _narrow(params) else None, optimiser.init(wide), zero, zero)


def apply(
    state: TrainState,
    grads: Tree,
    ok: jax.Array,
    finite: jax.Array,
    optimiser: optax.GradientTransformation,
    base: dict[str, jax.Array] | None = None,
) -> tuple[TrainState, Tree]:
    """(the state after an update by float32 gradients of what is trained, the update of that). Traceable.

    base: of the adapters, see lora.merge. Unless `ok` (boolean []) the update is skipped, and if that is because it is
    not `finite`, counted.
    """
    updates, opt_state = optimiser.update(grads, state.opt_state, state.trained)
    moved = optax.apply_updates(state.trained, updates)
    if state.adapters is not None:
        new = dataclasses.replace(state, params=lora.merge(state.params, base, moved), adapters=moved)
    else:
        params = jax.tree.map(lambda new, old: new.astype(old.dtype), moved, state.params)
        new = dataclasses.replace(state, params=params, master=None if state.master is None else moved)
    new = dataclasses.replace(new, opt_state=opt_state, step=state.step + 1)
    new = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, state)
    skipped = jnp.where(ok, 0, state.skipped + (~finite).astype(jnp.int32))
    return dataclasses.replace(new, skipped=skipped), updates


def check_finite(state: TrainState, limit: int) -> None:
    """Raises RuntimeError if `limit` updates in a row were not finite: training is not going to recover."""
    if int(state.skipped) >= limit:
        raise RuntimeError(
            f"{int(state.skipped)} updates in a row had a loss or gradient that is not finite and were skipped "
            "(rl.max_skipped_updates); nothing has been learned since: lower the learning rate, or start from an "
            "earlier checkpoint"
        )


def abstract_state(
    policy: nnx.Module, optimiser: optax.GradientTransformation, settings: lora.Lora | None = None
) -> TrainState:
    """The shapes of a fresh TrainState; of the policy only the structure is used."""
    make_state = functools.partial(fresh, optimiser=optimiser, config=policy.config, settings=settings)
    return jax.eval_shape(make_state, nnx.state(policy))


def state_shardings(
    policy: nnx.Module,
    optimiser: optax.GradientTransformation,
    mesh: Mesh,
    settings: lora.Lora | None = None,
    offload: bool = False,
) -> TrainState:
    """A NamedSharding for every array of a TrainState: masters and moments lie as their parameters do, counters are
    replicated.

    policy: a transformer.Transformer, of which only the structure is used. settings: of adapters; None: the parameters
    are trained. offload: masters and moments lie in the host's memory, each device's part on its own host. Raises
    ValueError as lora.shardings does.
    """
    params = sharding.param_shardings(policy.config, mesh)
    whole = sharding.replicated(mesh)
    adapters = None if settings is None else lora.shardings(policy.config, settings, mesh)
    abstract = abstract_state(policy, optimiser, settings)
    kept = params if settings is None else adapters
    kept = jax.tree.map(lambda placed: placed.with_memory_kind(HOST), kept) if offload else kept
    moments = optax.tree.map_params(
        optimiser, lambda _, placed: placed, abstract.opt_state, kept, transform_non_params=lambda _: whole
    )
    return TrainState(params, None if abstract.master is None else kept, moments, whole, whole, adapters)


def create(
    policy: nnx.Module,
    optimiser: optax.GradientTransformation,
    mesh: Mesh,
    settings: lora.Lora | None = None,
    offload: bool = False,
) -> TrainState:
    """A fresh TrainState on the mesh with a copy of the policy's parameters (steps donate theirs, the policy stays).

    settings, offload: as for `state_shardings`. Raises ValueError for offload where jax cannot reach the host's memory.
    """
    if offload and HOST not in {memory.kind for memory in mesh.local_devices[0].addressable_memories()}:
        raise ValueError(f"rl.offload_optimiser must be False: these devices have no memory of the kind {HOST!r}")
    shardings = state_shardings(policy, optimiser, mesh, settings, offload)
    # Copied first: device_put keeps the buffers of a shard that is already in its place.
    params = jax.device_put(jax.tree.map(jnp.copy, nnx.state(policy)), shardings.params)
    make_state = functools.partial(fresh, optimiser=optimiser, config=policy.config, settings=settings)
    return jax.jit(make_state, out_shardings=shardings, donate_argnums=0)(params)


def _narrow(params: Tree) -> bool:
    """Whether any parameter has less than float32."""
    return any(p.dtype != jnp.float32 for p in jax.tree.leaves(params))
