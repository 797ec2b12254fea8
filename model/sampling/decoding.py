"""The sampler's compiled programs: prefill a piece, copy a prompt's cache, draw first tokens, run several decode steps.

All shapes are static and all rows are computed independently, so a slot's result is bitwise the same whichever other
slots are in use. Only the part of the cache that some slot uses is read, see attention.cached.

`params` is the result of `transformer.unstack`.

Shapes: B slots, P slots of a prefill call, T tokens of a piece, S cache length, M token budget of a turn,
D model width, K kv heads (or kept tokens, see model/sampling/draw.py), N head size, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from model.network import sharding, transformer
from model.sampling import draw

Array = jax.Array
Layers = list[tuple[Array, Array]]  # (k_BKSN, v_BKSN) of every layer

STOP, LENGTH, CONTEXT = "stop", "length", "context"
REASONS = (STOP, LENGTH, CONTEXT)  # indexed by TurnState.reason_B


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TurnState:
    """The state, on the devices, of the turns under way.

    lengths_B: number of tokens in the cache.
    last_B: the token sampled last, which is not in the cache yet.
    count_B, budget_B: number of tokens sampled in the turn, and the most there may be.
    active_B: whether the turn is still being sampled.
    reason_B: why an inactive turn ended, an index into REASONS.
    tokens_BM, logprobs_BM, kept_BMK: the sampled tokens, their logprobs and keep-sets (see draw.tokens).
    keys_B2 (uint32), temperature_B: as requested.
    """

    lengths_B: Array
    last_B: Array
    count_B: Array
    budget_B: Array
    active_B: Array
    reason_B: Array
    tokens_BM: Array
    logprobs_BM: Array
    kept_BMK: Array
    keys_B2: Array
    temperature_B: Array


class Program(NamedTuple):
    """The static arguments of the compiled functions; hashable. context: most tokens in a slot."""

    graphdef: Any
    context: int
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    truncation: draw.Truncation


def _rows(x: Array) -> Array:
    """Keeps an array split by slots over the current mesh."""
    return jax.lax.with_sharding_constraint(x, PartitionSpec(sharding.DECODE["rows"]))


def _split_layers(layers: Layers) -> Layers:
    """Keeps the cache split by slots and kv heads over the current mesh."""
    spec = PartitionSpec(sharding.DECODE["rows"], sharding.DECODE["kv_heads"])
    return jax.tree.map(lambda x_BKSN: jax.lax.with_sharding_constraint(x_BKSN, spec), layers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def empty(
    config: transformer.Config, slots: int, length: int, max_new_tokens: int, dtype: Any, most_kept: int
) -> tuple[Layers, Array, Array, TurnState]:
    """The initial state: (layers, x_BD, end_BD, state).

    layers: an empty cache with `length` entries per slot. x_BD, end_BD: zeros, for the hidden states of each slot's
    last prefilled token and of its prompt's last token. state: no turn in any slot. most_kept: size K of a recorded
    keep-set.
    """
    layers = transformer.init_cache(config, slots, length, dtype).layers
    int_B, float_B = jnp.zeros((slots,), jnp.int32), jnp.zeros((slots,), jnp.float32)
    state = TurnState(
        lengths_B=int_B, last_B=int_B, count_B=int_B, budget_B=int_B, active_B=int_B > 0, reason_B=int_B,
        tokens_BM=jnp.zeros((slots, max_new_tokens), jnp.int32),
        logprobs_BM=jnp.zeros((slots, max_new_tokens), jnp.float32),
        kept_BMK=jnp.zeros((slots, max_new_tokens, most_kept), jnp.int32),
        keys_B2=jnp.zeros((slots, 2), jnp.uint32), temperature_B=float_B,
    )  # fmt: skip
    x_BD = _rows(jnp.zeros((slots, config.hidden_size), dtype))
    return _split_layers(layers), x_BD, x_BD, jax.tree.map(_rows, state)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def prefill(
    program: Program,
    params: Any,
    layers: Layers,
    x_BD: Array,
    slots_P: Array,
    lengths_P: Array,
    tokens_PT: Array,
    valid_P: Array,
) -> tuple[Layers, Array]:
    """Appends the first valid_P[p] of tokens_PT[p] to slot slots_P[p], which has lengths_P[p] tokens, for every row p.

    Returns (layers, x_BD); x_BD gets the hidden state of each slot's last appended token. A row with valid_P = 0 does
    nothing; its slot should be B, which does not exist. If P = B, row i must be slot i, so that no cache moves between
    devices.
    """
    policy, B = nnx.merge(program.graphdef, params[0]), x_BD.shape[0]
    every = slots_P.shape[0] == B
    cache = transformer.Cache(layers, lengths_P)
    x_PTD, cache = policy.extend(tokens_PT, valid_P, cache, params[1], None if every else slots_P)
    last_P11 = jnp.maximum(valid_P - 1, 0)[:, None, None]
    last_PD = jnp.take_along_axis(x_PTD, last_P11, axis=1)[:, 0].astype(x_BD.dtype)
    if every:
        x_BD = jnp.where(valid_P[:, None] > 0, last_PD, x_BD)
    else:
        x_BD = x_BD.at[slots_P].set(last_PD, mode="drop")
    return _split_layers(cache.layers), _rows(x_BD)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3))
def copy(
    mesh: Mesh, layers: Layers, x_BD: Array, end_BD: Array, sources_P: Array, targets_P: Array
) -> tuple[Layers, Array, Array]:
    """Copies the caches of slots sources_P, and the hidden states of their prompts' last tokens, to slots targets_P.

    If slots are split over devices, no cache moves between devices: sources_P and targets_P have an equally long part
    for each device, with slot numbers that count from the device's first slot. A target beyond a device's last slot is
    ignored.
    """

    def local(
        layers: Layers, x_BD: Array, end_BD: Array, sources_P: Array, targets_P: Array
    ) -> tuple[Layers, Array, Array]:
        layers = jax.tree.map(lambda x: x.at[targets_P].set(x[sources_P], mode="drop"), layers)
        end_PD = end_BD[sources_P]
        x_BD, end_BD = (x.at[targets_P].set(end_PD, mode="drop") for x in (x_BD, end_BD))
        return layers, x_BD, end_BD

    axes = sharding.DECODE["rows"]
    rows = PartitionSpec(axes)
    if sharding.parts("rows", mesh, sharding.DECODE) > 1:
        local = jax.shard_map(local, mesh=mesh, in_specs=(rows,) * 5, out_specs=(rows,) * 3, axis_names=frozenset(axes))
    return local(layers, x_BD, end_BD, sources_P, targets_P)


def _append(program: Program, state: TurnState, logits_BV: Array, allowed_BW: Array | None = None) -> TurnState:
    """Draws the next token of every active slot and determines which turns have ended.

    allowed_BW: uint32 bitmasks of the tokens that may be drawn, 32 tokens per word, lowest bit first; None: all tokens.
    """
    active_B, count_B = state.active_B, state.count_B
    if allowed_BW is not None:
        ids_1V = jnp.arange(logits_BV.shape[1], dtype=jnp.uint32)[None]
        words_BV = jnp.take_along_axis(allowed_BW, ids_1V // 32, axis=1)
        logits_BV = jnp.where((words_BV >> (ids_1V % 32)) & 1 == 1, logits_BV, -jnp.inf)
    rows = (logits_BV, state.keys_B2, count_B, state.temperature_B)
    tokens_B, logprobs_B, kept_BK = draw.tokens(*rows, program.truncation)
    slots_B, M = jnp.arange(active_B.shape[0]), program.max_new_tokens
    place_B = jnp.where(active_B, count_B, M)  # M is out of range, so nothing is stored
    count_B = count_B + active_B.astype(jnp.int32)
    stopped_B = (tokens_B[:, None] == jnp.asarray(program.stop_ids, jnp.int32)[None]).any(axis=1)
    full_B = state.lengths_B + 1 >= program.context  # the token just drawn needs an entry, too
    reason_B = jnp.where(full_B, REASONS.index(CONTEXT), REASONS.index(LENGTH))
    reason_B = jnp.where(stopped_B, REASONS.index(STOP), reason_B)
    state = dataclasses.replace(
        state,
        last_B=jnp.where(active_B, tokens_B, state.last_B),
        count_B=count_B,
        active_B=active_B & ~(stopped_B | full_B | (count_B >= state.budget_B)),
        reason_B=jnp.where(active_B, reason_B, state.reason_B),
        tokens_BM=state.tokens_BM.at[slots_B, place_B].set(tokens_B, mode="drop"),
        logprobs_BM=state.logprobs_BM.at[slots_B, place_B].set(logprobs_B, mode="drop"),
        kept_BMK=state.kept_BMK.at[slots_B, place_B].set(kept_BK, mode="drop"),
    )
    return jax.tree.map(_rows, state)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def begin(
    program: Program,
    params: Any,
    x_BD: Array,
    end_BD: Array,
    state: TurnState,
    starting_B: Array,
    first_B: Array,
    lengths_B: Array,
    budget_B: Array,
    keys_B2: Array,
    temperature_B: Array,
    allowed_BW: Array | None = None,
) -> tuple[Array, TurnState]:
    """Draws the first token of the turns in the slots starting_B, from the hidden states x_BD of `prefill`.

    Returns (end_BD, state). first_B: slots where this is the episode's first turn, so that x_BD belongs to the end of
    the prompt and is stored in end_BD. Other slots do not change. allowed_BW: see `_append`.
    """
    turns = dataclasses.replace(
        state,
        lengths_B=jnp.where(starting_B, lengths_B, state.lengths_B),
        count_B=jnp.where(starting_B, 0, state.count_B),
        budget_B=jnp.where(starting_B, budget_B, state.budget_B),
        active_B=starting_B,
        keys_B2=jnp.where(starting_B[:, None], keys_B2, state.keys_B2),
        temperature_B=jnp.where(starting_B, temperature_B, state.temperature_B),
    )
    turns = _append(program, turns, nnx.merge(program.graphdef, params[0]).unembed(x_BD), allowed_BW)
    turns = dataclasses.replace(turns, active_B=_rows(jnp.where(starting_B, turns.active_B, state.active_B)))
    return _rows(jnp.where(first_B[:, None], x_BD, end_BD)), turns


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def decode(
    program: Program, steps: int, params: Any, layers: Layers, state: TurnState, allowed_BW: Array | None = None
) -> tuple[Layers, TurnState, Array]:
    """Decodes up to `steps` tokens in every active slot; stops early when all turns have ended.

    Returns (layers, state, number of steps made). allowed_BW: see `_append`. It holds for all steps; since it usually
    changes after each token, use steps = 1 with it.
    """
    policy = nnx.merge(program.graphdef, params[0])

    def goes_on(carry: tuple[Layers, TurnState, Array]) -> Array:
        return (carry[2] < steps) & carry[1].active_B.any()

    def step(carry: tuple[Layers, TurnState, Array]) -> tuple[Layers, TurnState, Array]:
        layers, state, done = carry
        cache = transformer.Cache(layers, state.lengths_B)
        x_BTD, cache = policy.extend(state.last_B[:, None], state.active_B.astype(jnp.int32), cache, params[1])
        state = dataclasses.replace(state, lengths_B=cache.lengths_B)
        return cache.layers, _append(program, state, policy.unembed(x_BTD[:, 0]), allowed_BW), done + 1

    layers, state, done = jax.lax.while_loop(goes_on, step, (layers, state, jnp.zeros((), jnp.int32)))
    return _split_layers(layers), state, done


@jax.jit
def kept(state: TurnState, slot: Array) -> Array:
    """The keep-sets [M, K] of one slot's turn; those of all slots may be too large to copy to the host."""
    return state.kept_BMK[slot]


def trace(
    program: Program, config: transformer.Config, mesh: Mesh, slots: int, rows: int, length: int, piece: int, dtype: Any
) -> dict[str, Any]:
    """Traces {"prefill", "decode"} from shapes alone, for ahead-of-time compilation on any mesh.

    "prefill" appends a piece of `piece` tokens in each of `rows` slots. "decode" is a loop whose body decodes one token
    in every slot. length: entries of a slot's cache.
    """
    split = sharding.batch_sharding(mesh, sharding.DECODE)
    heads = NamedSharding(mesh, PartitionSpec(*split.spec, sharding.DECODE["kv_heads"]))

    def array(x: Any, placed: NamedSharding = split) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed)

    stacked = jax.tree.map(
        array,
        jax.eval_shape(lambda: nnx.state(transformer.Transformer(config, dtype=dtype, rngs=nnx.Rngs(0)), nnx.Param)),
        sharding.param_shardings(config, mesh, sharding.DECODE),
    )
    rest, layers = jax.eval_shape(functools.partial(transformer.unstack, config), stacked)
    whole = sharding.replicated(mesh)
    rest = jax.tree.map(lambda x, y: array(x, y.sharding if x.shape == y.shape else whole), rest, stacked)
    held = {name: x.get_value().sharding.spec for (name,), x in nnx.to_flat_state(stacked["layers"])}
    params = (
        rest,
        [
            {name: array(x, NamedSharding(mesh, PartitionSpec(*held[name][1:]))) for name, x in layer.items()}
            for layer in layers
        ],
    )
    with jax.set_mesh(mesh):
        layers, x_BD, _, state = empty.eval_shape(
            config, slots, length, program.max_new_tokens, dtype, program.truncation.top_k
        )
        layers = jax.tree.map(lambda x: array(x, heads), layers)
        x_BD, state = array(x_BD), jax.tree.map(array, state)
        int_P, tokens_PT = (
            array(jax.ShapeDtypeStruct(shape, jnp.int32), split if rows == slots else sharding.replicated(mesh))
            for shape in ((rows,), (rows, piece))
        )
        return {
            "prefill": prefill.trace(program, params, layers, x_BD, int_P, int_P, tokens_PT, int_P),
            "decode": decode.trace(program, program.max_new_tokens, params, layers, state),
        }


def compilations() -> int:
    """The number of programs that the sampler has compiled in this process; constant after every shape has occurred."""
    return sum(function._cache_size() for function in (empty, prefill, copy, begin, decode, kept))
