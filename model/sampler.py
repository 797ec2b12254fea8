"""The sampler: a fixed number of cache slots, chunked prefill and a decode loop, each compiled once per shape.

An episode holds one slot from its first prompt to its end and keeps its keys and values across turns, so a turn costs
the prefill of the new tokens (tool results, user messages) and the decoding of the answer, never of the conversation.

What is drawn, and with which keys, is in model/draw.py: nothing of it depends on the other slots, their order or the
time a turn was started. The compiled shapes do follow the longest slot, so logits may differ in their last bits (some
1e-7) between runs in different company.

Shapes: B slots, T tokens of a prefill chunk, S cache length, W window (the part of S in use), M token budget of a turn,
D model width, K kv heads, N head size, V vocabulary.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from model import draw, sharding, transformer

Array = jax.Array
Layers = list[tuple[Array, Array]]  # (k_BKSN, v_BKSN) of every layer

STOP, LENGTH, CONTEXT = "stop", "length", "context"
REASONS = (STOP, LENGTH, CONTEXT)  # indexed by TurnState.reason_B

GENERATE_SLOTS, GENERATE_CHUNK = 64, 128  # of `generate`
MIN_WINDOW = 128  # tokens; a smaller window would save less than its compilation costs


@dataclasses.dataclass(frozen=True)
class Request:
    """One turn to sample in one slot.

    slot: 0 <= slot < slots. tokens: ids to append before sampling (prompt, tool results, user messages), without
    anything sampled before. key: uint32[2], see `draw.turn_keys`. temperature: None for the engine's, 0.0 for greedy.
    """

    slot: int
    tokens: Sequence[int]
    key: np.ndarray
    temperature: float | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sampled turn. A stop token that ended it is the last of tokens and has its logprob.

    finish_reason: "stop" (a stop id), "length" (max_new_tokens) or "context" (the slot is full).
    """

    tokens: list[int]
    logprobs: list[float]
    finish_reason: str


@dataclasses.dataclass
class Stats:
    """Running totals of an engine: tokens, and seconds of wall clock."""

    prefill_tokens: int = 0
    sampled_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TurnState:
    """The device side of a turn in progress.

    lengths_B: tokens in the cache. last_B: the token sampled last, not yet in the cache. count_B: tokens sampled.
    active_B: still sampling. reason_B: index into REASONS once not active. tokens_BM, logprobs_BM: what was sampled.
    keys_B2 (uint32) and temperature_B as requested.
    """

    lengths_B: Array
    last_B: Array
    count_B: Array
    active_B: Array
    reason_B: Array
    tokens_BM: Array
    logprobs_BM: Array
    keys_B2: Array
    temperature_B: Array

    def sample(self, slot: int) -> Sample:
        """The turn of one slot; for a state whose arrays are on the host."""
        tokens, logprobs = (x[slot, : self.count_B[slot]].tolist() for x in (self.tokens_BM, self.logprobs_BM))
        return Sample(tokens, logprobs, REASONS[self.reason_B[slot]])


class Program(NamedTuple):
    """What the compiled functions are specialised to, besides shapes; hashable. The fields are `Engine`'s arguments."""

    graphdef: Any
    context: int
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    top_k: int
    top_p: float


def _rows(x: Array) -> Array:
    """Keeps an array split by slots over the mesh in context."""
    return jax.lax.with_sharding_constraint(x, PartitionSpec(sharding.DECODE["rows"]))


def _split_layers(layers: Layers) -> Layers:
    """Keeps the cache split by slots and by kv heads over the mesh in context."""
    spec = PartitionSpec(sharding.DECODE["rows"], sharding.DECODE["kv_heads"])
    return jax.tree.map(lambda x_BKSN: jax.lax.with_sharding_constraint(x_BKSN, spec), layers)


def _open_window(layers: Layers, window: int) -> Layers:
    """The first `window` entries of every slot, [B, K, W, N]."""
    return jax.tree.map(lambda x_BKSN: x_BKSN[:, :, :window], layers)


def _close_window(layers: Layers, part: Layers) -> Layers:
    """The cache with its first W entries replaced by `part`."""
    return _split_layers(jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice(x, y, (0, 0, 0, 0)), layers, part))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _empty(config: transformer.Config, slots_context: tuple[int, int], dtype: Any) -> tuple[Layers, Array]:
    """An empty cache and zeros for the hidden states [B, D]."""
    layers = transformer.init_cache(config, *slots_context, dtype).layers
    return _split_layers(layers), _rows(jnp.zeros((slots_context[0], config.hidden_size), dtype))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _prefill(
    program: Program, window: int, params: Any, layers: Layers, x_BD: Array, lengths_B: Array, tokens_BT: Array,
    valid_B: Array
) -> tuple[Layers, Array]:
    """Appends the first valid_B tokens to each slot; x_BD holds the hidden state of each slot's last appended token."""
    policy = nnx.merge(program.graphdef, params)
    cache = transformer.Cache(_open_window(layers, window), lengths_B)
    x_BTD, cache = policy.extend(tokens_BT, valid_B, cache)
    last_B11 = jnp.maximum(valid_B - 1, 0)[:, None, None]
    last_BD = jnp.take_along_axis(x_BTD, last_B11, axis=1)[:, 0].astype(x_BD.dtype)
    return _close_window(layers, cache.layers), _rows(jnp.where(valid_B[:, None] > 0, last_BD, x_BD))


def _append(program: Program, state: TurnState, logits_BV: Array) -> TurnState:
    """Draws the next token of every active slot and decides which slots have finished their turn."""
    active_B, count_B = state.active_B, state.count_B
    rows = (logits_BV, state.keys_B2, count_B, state.temperature_B)
    tokens_B, logprobs_B = draw.tokens(*rows, program.top_k, program.top_p)
    slots_B, M = jnp.arange(active_B.shape[0]), program.max_new_tokens
    place_B = jnp.where(active_B, count_B, M)  # M is nowhere
    count_B = count_B + active_B.astype(jnp.int32)
    stopped_B = (tokens_B[:, None] == jnp.asarray(program.stop_ids, jnp.int32)[None]).any(axis=1)
    full_B = state.lengths_B + 1 >= program.context  # the token just drawn needs a place as well
    reason_B = jnp.where(full_B, REASONS.index(CONTEXT), REASONS.index(LENGTH))
    reason_B = jnp.where(stopped_B, REASONS.index(STOP), reason_B)
    state = dataclasses.replace(
        state,
        last_B=jnp.where(active_B, tokens_B, state.last_B),
        count_B=count_B,
        active_B=active_B & ~(stopped_B | full_B | (count_B >= M)),
        reason_B=jnp.where(active_B, reason_B, state.reason_B),
        tokens_BM=state.tokens_BM.at[slots_B, place_B].set(tokens_B, mode="drop"),
        logprobs_BM=state.logprobs_BM.at[slots_B, place_B].set(logprobs_B, mode="drop"),
    )
    return jax.tree.map(_rows, state)


@functools.partial(jax.jit, static_argnums=0)
def _begin(
    program: Program, params: Any, x_BD: Array, lengths_B: Array, requested_B: Array, keys_B2: Array,
    temperature_B: Array
) -> TurnState:
    """Draws the first token of each requested slot's turn from the hidden states that prefill left."""
    B, M = lengths_B.shape[0], program.max_new_tokens
    zero_B = jnp.zeros((B,), jnp.int32)
    tokens_BM, logprobs_BM = jnp.zeros((B, M), jnp.int32), jnp.zeros((B, M), jnp.float32)
    state = TurnState(lengths_B, zero_B, zero_B, requested_B, zero_B, tokens_BM, logprobs_BM, keys_B2, temperature_B)
    return _append(program, state, nnx.merge(program.graphdef, params).unembed(x_BD))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _decode(program: Program, window: int, params: Any, layers: Layers, state: TurnState) -> tuple[Layers, TurnState]:
    """Decodes until every turn has ended or a slot that is still active has filled the window."""
    policy = nnx.merge(program.graphdef, params)

    def goes_on(carry: tuple[Layers, TurnState]) -> Array:
        state = carry[1]
        return state.active_B.any() & (jnp.where(state.active_B, state.lengths_B, 0).max() < window)

    def step(carry: tuple[Layers, TurnState]) -> tuple[Layers, TurnState]:
        part, state = carry
        cache = transformer.Cache(part, state.lengths_B)
        x_BTD, cache = policy.extend(state.last_B[:, None], state.active_B.astype(jnp.int32), cache)
        state = dataclasses.replace(state, lengths_B=cache.lengths_B)
        return cache.layers, _append(program, state, policy.unembed(x_BTD[:, 0]))

    part, state = jax.lax.while_loop(goes_on, step, (_open_window(layers, window), state))
    return _close_window(layers, part), state


def trace(
    program: Program, config: transformer.Config, mesh: Mesh, slots: int, prefill_chunk: int, dtype: Any
) -> dict[str, Any]:
    """The sampler's programs "prefill" (one chunk in every slot) and "decode" over the whole cache, traced from shapes.

    For ahead-of-time compilation on any mesh. Decode is a loop whose body is one token in every slot.
    """
    rows = sharding.batch_sharding(mesh, sharding.DECODE)
    heads = NamedSharding(mesh, PartitionSpec(*rows.spec, sharding.DECODE["kv_heads"]))

    def array(shape: Sequence[int], dtype: Any, placed: NamedSharding = rows) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=placed)

    params = jax.tree.map(
        lambda x, placed: array(x.shape, x.dtype, placed),
        jax.eval_shape(lambda: nnx.state(transformer.Transformer(config, dtype=dtype, rngs=nnx.Rngs(0)), nnx.Param)),
        sharding.param_shardings(config, mesh, sharding.DECODE),
    )
    cache = jax.eval_shape(lambda: transformer.init_cache(config, slots, program.context, dtype).layers)
    layers = jax.tree.map(lambda x: array(x.shape, x.dtype, heads), cache)
    B, M = (slots,), program.max_new_tokens
    int_B, bool_B, float_B = (array(B, kind) for kind in (jnp.int32, jnp.bool_, jnp.float32))
    state = TurnState(
        lengths_B=int_B, last_B=int_B, count_B=int_B, active_B=bool_B, reason_B=int_B,
        tokens_BM=array((slots, M), jnp.int32), logprobs_BM=array((slots, M), jnp.float32),
        keys_B2=array((slots, 2), jnp.uint32), temperature_B=float_B,
    )  # fmt: skip
    x_BD, chunk_BT = array((slots, config.hidden_size), dtype), array((slots, prefill_chunk), jnp.int32)
    with jax.set_mesh(mesh):
        return {
            "prefill": _prefill.trace(program, program.context, params, layers, x_BD, int_B, chunk_BT, int_B),
            "decode": _decode.trace(program, program.context, params, layers, state),
        }


def compilations() -> int:
    """How many programs the sampler has compiled in this process; constant once every shape has been seen."""
    return sum(function._cache_size() for function in (_empty, _prefill, _begin, _decode))


class Engine:
    """Slots, their cache, and the turns sampled in them.

    graphdef, config: of the policy (`nnx.split(policy)[0]`, `policy.config`). slots: episodes held side by side; a
    multiple of the size of the mesh axes that sharding.DECODE splits rows over. context: tokens per slot, prompt and
    all turns together. prefill_chunk: tokens per slot and prefill call; short appends use a quarter of it.
    max_new_tokens: budget of a turn. stop_ids: ids that end a turn. temperature, top_p, top_k: see model/draw.py. mesh: made by `sharding.make_mesh`; None is the
    first device alone. dtype: of the cache. Raises ValueError for an impossible value, naming the key.

    Parameters are an argument of `turn`; `place` lays the learner's out for decoding.
    """

    def __init__(
        self,
        graphdef: Any,
        config: transformer.Config,
        *,
        slots: int,
        context: int,
        prefill_chunk: int,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        mesh: Mesh | None = None,
        dtype: Any = jnp.float32,
    ):
        self.mesh = sharding.make_mesh({}, jax.devices()[:1]) if mesh is None else mesh
        shards = sharding.parts("rows", self.mesh, sharding.DECODE)
        if slots < 1 or slots % shards:
            raise ValueError(
                f"sampler.slots: expected a multiple of {shards}, the product of the mesh axes "
                f"{sharding.DECODE['rows']}, found {slots}"
            )
        for name, value in (("prefill_chunk", prefill_chunk), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise ValueError(f"sampler.{name}: must be positive, found {value}")
        if context < 2:
            raise ValueError(f"sampler.context: must hold a prompt token and a sampled one, found {context}")
        if temperature < 0 or not 0 < top_p <= 1 or top_k < 0:
            raise ValueError(
                "sampler: expected temperature >= 0, 0 < top_p <= 1 and top_k >= 0, found "
                f"temperature {temperature}, top_p {top_p}, top_k {top_k}"
            )
        self._put = functools.partial(jax.device_put, device=sharding.batch_sharding(self.mesh, sharding.DECODE))
        self.slots, self.context, self.temperature = slots, context, float(temperature)
        self.stats = Stats()
        self._program = Program(
            graphdef, context, max_new_tokens, tuple(sorted(int(token) for token in stop_ids)), top_k, float(top_p)
        )
        self._chunks = (max(1, prefill_chunk // 4), prefill_chunk)
        # Attention costs as much as the cache is long: prefill and decode run on the first quarters of it that suffice.
        quarters = {-(-context * quarter // 4) for quarter in (1, 2, 3)}
        self._windows = sorted({context} | {window for window in quarters if window >= MIN_WINDOW})
        self._lengths_B = np.zeros((slots,), np.int32)  # tokens in the cache
        self._pending: list[list[int]] = [[] for _ in range(slots)]  # sampled last, not in the cache yet
        self._params = sharding.param_shardings(config, self.mesh, sharding.DECODE)
        with jax.set_mesh(self.mesh):
            self._layers, self._x_BD = _empty(config, (slots, context), jnp.dtype(dtype))

    def place(self, params: Any) -> Any:
        """The parameters split as decoding wants them, device to device; the same buffers where nothing changes."""
        return jax.device_put(params, self._params)

    def room(self, slot: int) -> int:
        """How many tokens may be appended to the slot so that at least one can still be sampled; may be negative."""
        return self.context - 1 - int(self._lengths_B[slot]) - len(self._pending[slot])

    def release(self, slot: int) -> None:
        """Empties a slot for another episode."""
        self._lengths_B[slot] = 0
        self._pending[slot] = []

    def turn(self, params: Any, requests: Sequence[Request]) -> list[Sample]:
        """Appends each request's tokens to its slot and samples a turn there; the other slots stay as they are.

        params: the policy's parameters, `nnx.split(policy)[1]`. Returns a Sample per request, in order. Raises
        ValueError, before anything is changed, for a slot that does not exist or is asked for twice, an empty slot with
        nothing to append, or tokens that leave no room to sample (see `room`).
        """
        self._check(requests)
        if not requests:
            return []
        keys_B2, temperature_B = np.zeros((self.slots, 2), np.uint32), np.ones((self.slots,), np.float32)
        requested_B = np.isin(np.arange(self.slots), [request.slot for request in requests])
        for request in requests:
            keys_B2[request.slot] = request.key
            temperature_B[request.slot] = self.temperature if request.temperature is None else request.temperature
        with jax.set_mesh(self.mesh):
            self._append_tokens(params, {r.slot: [*self._pending[r.slot], *r.tokens] for r in requests})
            start = time.perf_counter()
            arrays = self._put((self._lengths_B, requested_B, keys_B2, temperature_B))
            state = self._finish_turns(params, _begin(self._program, params, self._x_BD, *arrays))
        samples = [state.sample(request.slot) for request in requests]
        for request, sample in zip(requests, samples, strict=True):
            self._pending[request.slot] = sample.tokens[-1:]
        self._lengths_B = np.array(state.lengths_B)  # a copy: `release` writes to it
        self.stats.sampled_tokens += sum(len(sample.tokens) for sample in samples)
        self.stats.decode_seconds += time.perf_counter() - start
        return samples

    def _check(self, requests: Sequence[Request]) -> None:
        """Raises ValueError as `turn` says."""
        slots = [request.slot for request in requests]
        if len(set(slots)) < len(slots) or not all(0 <= slot < self.slots for slot in slots):
            raise ValueError(f"sampler: expected distinct slots from 0 to {self.slots - 1}, found {slots}")
        for request in requests:
            if not request.tokens and not self._pending[request.slot]:
                raise ValueError(f"sampler: slot {request.slot} is empty and the request appends nothing")
            if len(request.tokens) > self.room(request.slot):
                raise ValueError(
                    f"sampler: slot {request.slot} has room for {self.room(request.slot)} tokens of "
                    f"{self.context}, the request appends {len(request.tokens)}"
                )
            if request.temperature is not None and request.temperature < 0:
                raise ValueError(f"sampler: temperature must not be negative, found {request.temperature}")

    def _append_tokens(self, params: Any, tokens: dict[int, list[int]]) -> None:
        """Prefills tokens[slot] into each slot, chunk by chunk; leaves the last hidden states in self._x_BD."""
        start = time.perf_counter()
        done, longest = 0, max(len(ids) for ids in tokens.values())
        while done < longest:
            small, large = self._chunks
            T = small if longest - done <= 2 * small else large
            tokens_BT, valid_B = np.zeros((self.slots, T), np.int32), np.zeros((self.slots,), np.int32)
            for slot, ids in tokens.items():
                part = ids[done : done + T]
                tokens_BT[slot, : len(part)], valid_B[slot] = part, len(part)
            after_B = self._lengths_B + valid_B
            window = self._windows[bisect.bisect_left(self._windows, after_B[valid_B > 0].max())]
            arrays = self._put((self._lengths_B, tokens_BT, valid_B))
            self._layers, self._x_BD = _prefill(self._program, window, params, self._layers, self._x_BD, *arrays)
            self._lengths_B, done = after_B, done + T
        self._x_BD.block_until_ready()  # so that the two phases' seconds are their own
        self.stats.prefill_tokens += sum(len(ids) for ids in tokens.values())
        self.stats.prefill_seconds += time.perf_counter() - start

    def _finish_turns(self, params: Any, state: TurnState) -> TurnState:
        """Decodes until no slot is active, in windows as small as the longest allows. Returns arrays on the host."""
        while (active_B := np.asarray(state.active_B)).any():
            longest = int(np.asarray(state.lengths_B)[active_B].max()) + 1
            window = self._windows[bisect.bisect_left(self._windows, longest)]
            self._layers, state = _decode(self._program, window, params, self._layers, state)
        return jax.device_get(state)


def generate(
    policy: transformer.Transformer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
) -> list[Sample]:
    """Samples one continuation of each prompt (a non-empty list of token ids), in order; for notebooks.

    Sample i is a function of (policy, prompt i, i, seed). Works on a policy on one device or split over a mesh. Raises
    ValueError for an empty prompt or an impossible value.
    """
    if not prompts:
        return []
    graphdef, params = nnx.split(policy)
    layout = jax.tree.leaves(params)[0].sharding
    mesh = layout.mesh if isinstance(layout, NamedSharding) else None
    shards = 1 if mesh is None else sharding.parts("rows", mesh, sharding.DECODE)
    slots = -(-min(len(prompts), GENERATE_SLOTS) // shards) * shards
    engine = Engine(
        graphdef,
        policy.config,
        slots=slots,
        context=max(len(prompt) for prompt in prompts) + max_new_tokens + 1,
        prefill_chunk=GENERATE_CHUNK,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        temperature=temperature,
        top_p=top_p,
        mesh=mesh,
        dtype=policy.dtype,
    )
    keys = draw.turn_keys(seed, ["generate"] * len(prompts), range(len(prompts)), [0] * len(prompts))
    samples, params = [], engine.place(params)
    for first in range(0, len(prompts), slots):
        batch = range(first, min(first + slots, len(prompts)))
        samples += engine.turn(params, [Request(i - first, list(prompts[i]), keys[i]) for i in batch])
        for slot in range(slots):
            engine.release(slot)
    return samples
