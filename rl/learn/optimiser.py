"""AdamW with its learning rate schedule, and the train state.

    optimiser = optimiser.make(learning_rate=1e-6, ...)
    state = optimiser.create(policy, optimiser, mesh)

Parameters narrower than float32 have a master copy in float32: an update of 1e-6 of a weight is below the resolution of
bfloat16 and would be lost. With adapters (lora.py) only the adapters are trained, and the parameters are the base
weights merged with the adapters.
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
HOST, DEVICE = "pinned_host", "device"  # jax's names for kinds of memory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes.

    params: the parameters that the model computes with (an nnx.State).
    master: the float32 copy that params are rounded from; None if params are float32 or only adapters are trained.
    opt_state: the optimiser's state, with float32 moments.
    step: updates done, int32 [].
    skipped: the latest updates in a row that were skipped because they were not finite, int32 [].
    adapters: float32 adapters that are merged into params; None without.
    """

    params: Tree
    master: Tree | None
    opt_state: Tree
    step: jax.Array
    skipped: jax.Array
    adapters: lora.Adapters | None = None

    @property
    def trained(self) -> Tree:
        """The arrays that the optimiser updates, float32: adapters, masters or parameters."""
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

    The learning rate rises linearly: update n, counted from 0, uses learning_rate * (n + 1) / warmup_updates. After the
    warm-up the rate is constant. With decay_updates = (first, end) it falls linearly from update `first` to a tenth at
    update `end`, and stays there. Weight decay applies to every parameter.

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
    """The TrainState at the beginning of training. Traceable. The moments are float32, as the gradients are.

    settings: of the adapters to train, for the architecture `config`; None to train the parameters themselves.
    """
    zero = jnp.zeros((), jnp.int32)
    if settings is not None:
        adapters = lora.create(config, settings)  # initialised so that they do not change the model
        return TrainState(params, None, optimiser.init(adapters), zero, zero, adapters)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    return TrainState(params, wide if _narrow(params) else None, optimiser.init(wide), zero, zero)


def apply(
    state: TrainState,
    grads: Tree,
    finite: jax.Array,
    wanted: jax.Array,
    optimiser: optax.GradientTransformation,
    base: dict[str, jax.Array] | None = None,
) -> tuple[TrainState, jax.Array, jax.Array]:
    """(the state after one update, the global norm of the update of `state.trained`, whether it was made). Traceable.

    grads: float32, in the structure of `state.trained`. base: the base weights under the adapters, see lora.merge.
    finite, wanted: booleans []. If either is false, or the update's norm overflows, the state keeps its arrays. What is
    not finite is added to `state.skipped`. The norm counts because an update of 1e38 a weight leaves a policy of finite
    weights and useless logits, which no later update would mend: without a reward there is none.
    """
    updates, opt_state = optimiser.update(grads, state.opt_state, state.trained)
    update_norm = optax.tree.norm(updates)
    finite &= jnp.isfinite(update_norm)
    ok = finite & wanted
    moved = optax.apply_updates(state.trained, updates)
    if state.adapters is not None:
        new = dataclasses.replace(state, params=lora.merge(state.params, base, moved), adapters=moved)
    else:
        params = jax.tree.map(lambda new, old: new.astype(old.dtype), moved, state.params)
        new = dataclasses.replace(state, params=params, master=None if state.master is None else moved)
    new = dataclasses.replace(new, opt_state=opt_state, step=state.step + 1)
    new = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, state)
    skipped = jnp.where(ok, 0, state.skipped + (~finite).astype(jnp.int32))
    return dataclasses.replace(new, skipped=skipped), update_norm, ok


def check_finite(state: TrainState, limit: int) -> None:
    """Raises RuntimeError if the latest `limit` updates were all not finite, since training will not recover then."""
    if int(state.skipped) >= limit:
        raise RuntimeError(
            f"{int(state.skipped)} updates in a row had a loss, gradient or size that is not finite and were skipped "
            "(rl.max_skipped_updates); nothing has been learned since: lower the learning rate, or start from an "
            "earlier checkpoint"
        )


def abstract_state(
    policy: nnx.Module, optimiser: optax.GradientTransformation, settings: lora.Lora | None = None
) -> TrainState:
    """The TrainState of `fresh` with shapes and dtypes in place of arrays. Of the policy only the structure is used."""
    make_state = functools.partial(fresh, optimiser=optimiser, config=policy.config, settings=settings)
    return jax.eval_shape(make_state, nnx.state(policy))


def state_shardings(
    policy: nnx.Module,
    optimiser: optax.GradientTransformation,
    mesh: Mesh,
    settings: lora.Lora | None = None,
    offload: bool = False,
) -> TrainState:
    """A NamedSharding for every array of a TrainState.

    Masters and moments are sharded like their parameters; counters are replicated.

    policy: a transformer.Transformer, of which only the structure is used. settings: of the adapters to train; None if
    the parameters are trained. offload: keep masters and moments in host memory, each device's part on its own host.
    Raises ValueError as lora.shardings does.
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
    """A TrainState at the beginning of training, sharded over the mesh.

    It has a copy of the policy's parameters: steps donate the state's arrays, and the policy must keep its own.
    settings, offload: as for `state_shardings`. Raises ValueError for offload if jax cannot use the host's memory.
    """
    if offload and HOST not in {memory.kind for memory in mesh.local_devices[0].addressable_memories()}:
        raise ValueError(f"rl.offload_optimiser must be False: these devices have no memory of the kind {HOST!r}")
    shardings = state_shardings(policy, optimiser, mesh, settings, offload)
    # Copied first, because device_put reuses the buffers of arrays that are already in place.
    params = jax.device_put(jax.tree.map(jnp.copy, nnx.state(policy)), shardings.params)
    make_state = functools.partial(fresh, optimiser=optimiser, config=policy.config, settings=settings)
    return jax.jit(make_state, out_shardings=shardings, donate_argnums=0)(params)


def _narrow(params: Tree) -> bool:
    """Whether any parameter is not float32."""
    return any(p.dtype != jnp.float32 for p in jax.tree.leaves(params))
