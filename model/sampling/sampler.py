"""The sampler: continuous batching in a fixed number of cache slots; no token is prefilled twice.

An episode occupies one slot from its first prompt to its end, and the slot's KV cache is kept across turns. So a turn
costs the prefill of the new tokens (tool results, user messages) and the decoding of the answer; the conversation so
far costs nothing again. `submit` asks for turns. `step` does a little work for all turns under way and returns those
that have ended. Slots are independent: one that waits for its environment does not delay the others.

Prompts are cut into pieces. A slot remembers the pieces of its prompt as long as they are in its cache, even after its
release. A new prompt copies its longest prefix that some slot's cache holds. So the prompt of a group of G episodes is
computed once, and so are a system prompt and tools that several tasks share.

Random draws and their keys are in draw.py, the compiled programs in decoding.py. For a given number of slots a turn's
tokens and logprobs are bitwise the same whatever the other slots do, for three reasons: the programs have static
shapes, rows are computed independently, and how a slot's tokens are cut into pieces depends on these tokens alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from model.network import attention, sharding, transformer
from model.sampling import constrain, decoding, draw
from model.sampling.decoding import CONTEXT, LENGTH, compilations  # noqa: F401  for callers

GENERATE_SLOTS, GENERATE_CHUNK, GENERATE_ROWS = 64, 128, 8  # slots, prefill_chunk and prefill_rows of `generate`
IDLE, PREFILL, READY, DECODE = "idle", "prefill", "ready", "decode"  # what a slot is doing


@dataclasses.dataclass(frozen=True)
class Request:
    """One turn to sample in one slot.

    slot: 0 <= slot < the engine's slots.
    tokens: ids to append before sampling (prompt, tool results, user messages), without tokens sampled earlier.
    key: uint32[2], see `draw.turn_keys`.
    temperature: 0.0 is greedy; None: the engine's.
    max_new_tokens: at most the engine's; None: the engine's.
    constraint: which tokens may be drawn. While one is present, all slots decode one token per call. Recorded logprobs
        are those of the distribution over the allowed tokens.
    """

    slot: int
    tokens: Sequence[int]
    key: np.ndarray
    temperature: float | None = None
    max_new_tokens: int | None = None
    constraint: constrain.Turn | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sampled turn.

    tokens, logprobs: of the turn, one logprob per token. A stop token that ended the turn is included.
    finish_reason: "stop" (a stop id), "length" (max_new_tokens) or "context" (the slot is full).
    kept: for each token the candidate ids that it was drawn from, most probable first; [] for a greedy token. The whole
        list is empty if top_k is off, see `draw.tokens`.
    """

    tokens: list[int]
    logprobs: list[float]
    finish_reason: str
    kept: list[list[int]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Stats:
    """Running totals of an engine; seconds are wall-clock time.

    turns: number of turns begun. prefill_tokens: tokens prefilled. shared_tokens: tokens copied from another slot
    instead. slot_steps: tokens that decode calls had room for (steps * slots); sampled_tokens of these were used.
    """

    turns: int = 0
    prefill_tokens: int = 0
    shared_tokens: int = 0
    sampled_tokens: int = 0
    slot_steps: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclasses.dataclass
class _Slot:
    """What the host knows of a slot.

    length: number of tokens in the cache.
    last: the token sampled last, which is not in the cache yet; [] if there is none.
    pieces: tokens still to prefill.
    keys: a key for each piece of the prompt, which identifies it together with all pieces before it.
    held: how many of these pieces the cache holds.
    ended: whether the hidden state of the prompt's last token is stored.
    first: whether the turn to begin is the first of its episode, so that its tokens are the prompt.
    order: the number of the submission.
    """

    status: str = IDLE
    length: int = 0
    last: list[int] = dataclasses.field(default_factory=list)
    pieces: list[list[int]] = dataclasses.field(default_factory=list)
    keys: list[bytes] = dataclasses.field(default_factory=list)
    held: int = 0
    ended: bool = False
    first: bool = False
    order: int = 0
    request: Request | None = None


class Engine:
    """Slots, their KV cache, and the turns under way in them.

    Args:
      graphdef, config: of the policy (`nnx.split(policy)[0]`, `policy.config`).
      slots: episodes held in parallel; a multiple of the number of parts that sharding.DECODE splits rows into.
      context: most tokens per slot, prompt and all turns together.
      prefill_chunk: tokens of a large piece; a small piece has a quarter of that.
      prefill_rows: slots that prefill a piece in one call.
      decode_steps: tokens per slot in one decode call.
      max_new_tokens: most tokens sampled in a turn.
      stop_ids: token ids that end a turn.
      temperature, truncation: see draw.py.
      mesh: made by `sharding.make_mesh`; None: the first device alone.
      dtype: of the cache.
      share_prompts: whether equal prefixes of prompts are computed once.

    Raises ValueError for an impossible value, naming the config key.

    If slots are split over several devices, all slots prefill in one call, and a prompt's prefix is copied only from
    slots of the same device, so that no cache moves between devices.

    The parameters are not kept: pass what `place` returns to `step` and `turn`.
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
        prefill_rows: int = 8,
        decode_steps: int = 8,
        temperature: float = 1.0,
        truncation: draw.Truncation = draw.Truncation(),
        mesh: Mesh | None = None,
        dtype: Any = jnp.float32,
        share_prompts: bool = True,
    ):
        self.mesh = sharding.make_mesh({}, jax.devices()[:1]) if mesh is None else mesh
        shards = sharding.parts("rows", self.mesh, sharding.DECODE)
        if slots < 1 or slots % shards:
            raise ValueError(
                f"sampler.slots: expected a multiple of {shards}, the product of the mesh axes "
                f"{sharding.DECODE['rows']}, found {slots}"
            )
        for name, value in (
            ("prefill_chunk", prefill_chunk), ("max_new_tokens", max_new_tokens), ("prefill_rows", prefill_rows),
            ("decode_steps", decode_steps),
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"sampler.{name}: must be positive, found {value}")
        if context < 2:
            raise ValueError(f"sampler.context: must hold a prompt token and a sampled one, found {context}")
        if temperature < 0:
            raise ValueError(f"sampler.temperature: must not be negative, found {temperature}")
        truncation = truncation._replace(top_k=min(truncation.top_k, config.vocab_size))
        truncation.check()
        self._put = functools.partial(jax.device_put, device=sharding.batch_sharding(self.mesh, sharding.DECODE))
        self.slots, self.context, self.temperature = slots, context, float(temperature)
        self._vocab_size = config.vocab_size
        self.stats = Stats()
        stops = tuple(sorted(int(token) for token in stop_ids))
        self._program = decoding.Program(graphdef, context, max_new_tokens, stops, truncation)
        self._shares, self._decode_steps = share_prompts, decode_steps
        self._parts, self._copies = shards, min(prefill_rows, slots // shards)  # copies per call and part of the slots
        # (tokens of a piece, slots that prefill a piece of this size in one call)
        self._large = (prefill_chunk, rows_per_call(slots, prefill_rows, self.mesh))
        self._small = (max(1, prefill_chunk // 4), rows_per_call(slots, prefill_rows, self.mesh))
        self._lengths_B = np.zeros((slots,), np.int32)  # of slots with a turn, as the device has them
        self._counts_B = np.zeros((slots,), np.int32)  # tokens sampled in these turns
        self._slots = [_Slot() for _ in range(slots)]
        self._submitted = 0
        self._params = sharding.param_shardings(config, self.mesh, sharding.DECODE)
        self._unstack = jax.jit(functools.partial(transformer.unstack, config))
        with jax.set_mesh(self.mesh):
            self._layers, self._x_BD, self._end_BD, self._state = decoding.empty(
                config, slots, cache_length(context, self.mesh), max_new_tokens, jnp.dtype(dtype), truncation.top_k
            )

    def place(self, params: Any) -> Any:
        """Returns the parameters (`nnx.split(policy)[1]`) in the form that `step` and `turn` take.

        They are resharded for decoding, directly between devices, and each layer's parameters get arrays of their own.
        Call `forget` when the parameters change: cached prompts are only valid for those that computed them.
        """
        return self._unstack(jax.device_put(params, self._params))

    def forget(self) -> None:
        """Makes later prompts copy nothing that slots hold now. To be called when the parameters change."""
        for slot in self._slots:
            slot.keys, slot.held, slot.ended = [], 0, False

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return any(slot.status != IDLE for slot in self._slots)

    def room(self, slot: int) -> int:
        """The number of tokens that fit into the slot and leave room to sample at least one; may be negative."""
        return self.context - 1 - self._slots[slot].length - len(self._slots[slot].last)

    def release(self, slot: int) -> None:
        """Empties a slot for another episode. A turn under way in it is dropped."""
        held = self._slots[slot]
        if held.status == DECODE:
            active_B = np.array(self._state.active_B)
            active_B[slot] = False
            self._state = dataclasses.replace(self._state, active_B=self._put(active_B))
        held.status, held.length, held.last, held.pieces, held.request = IDLE, 0, [], [], None

    def submit(self, requests: Sequence[Request]) -> None:
        """Asks for turns, which the following calls of `step` work on.

        Raises ValueError, before anything changes, if

        - a slot does not exist, has a turn under way or is requested twice;
        - a slot is empty and its request has no tokens;
        - the tokens leave no room to sample (see `room`);
        - max_new_tokens or temperature is out of range.
        """
        self._check(requests)
        for request in requests:
            slot = self._slots[request.slot]
            tokens = [*slot.last, *request.tokens]
            slot.pieces, slot.request, slot.status, slot.first = self._cut(tokens), request, PREFILL, slot.length == 0
            slot.order = self._submitted = self._submitted + 1
            if slot.first:
                keys = _chain(slot.pieces)
                # The slot's own last prompt may share a prefix, but the hidden state of its last token is gone.
                kept = min(_shared(keys, slot), len(keys) - 1) if self._shares else 0
                slot.keys, slot.ended = keys, False
                self._take_over(slot, kept)

    def step(self, params: Any) -> list[tuple[int, Sample]]:
        """Prefills everything that slots have to append, then makes one decode call for all slots with a turn.

        Prefill comes first because a decode call costs nearly the same for few slots as for many.

        params: what `place` returned. Returns (slot, sample) of each turn that has ended.
        """
        start = time.perf_counter()
        with jax.set_mesh(self.mesh):
            while self._prefill(params):
                pass
            self.stats.prefill_seconds += time.perf_counter() - start
            start = time.perf_counter()
            self._begin(params)
            finished = self._decode(params)
            self.stats.decode_seconds += time.perf_counter() - start
        return finished

    async def step_in_thread(self, params: Any) -> list[tuple[int, Sample]]:
        """Runs `step` in a thread, so that it does not block the event loop.

        If cancelled, it first waits for the thread to end, because the engine must not be used while `step` runs.
        """
        work = asyncio.ensure_future(asyncio.to_thread(self.step, params))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def partial(self) -> dict[int, tuple[list[int], list[float]]]:
        """Slot -> (tokens, logprobs) sampled so far, of turns that have begun. Must not run during `step`."""
        running = [i for i, slot in enumerate(self._slots) if slot.status == DECODE]
        if not running:
            return {}
        tokens_BM, logprobs_BM = jax.device_get((self._state.tokens_BM, self._state.logprobs_BM))
        counts_B = self._counts_B
        return {i: (tokens_BM[i, : counts_B[i]].tolist(), logprobs_BM[i, : counts_B[i]].tolist()) for i in running}

    def turn(self, params: Any, requests: Sequence[Request]) -> list[Sample]:
        """Runs the requests to their ends and returns a Sample for each, in order.

        Raises ValueError as `submit` does.
        """
        self.submit(requests)
        samples: dict[int, Sample] = {}
        while len(samples) < len(requests):
            samples.update(self.step(params))
        return [samples[request.slot] for request in requests]

    def _check(self, requests: Sequence[Request]) -> None:
        """Raises ValueError as `submit` does."""
        slots = [request.slot for request in requests]
        if len(set(slots)) < len(slots) or not all(0 <= slot < self.slots for slot in slots):
            raise ValueError(f"sampler: expected distinct slots from 0 to {self.slots - 1}, found {slots}")
        for request in requests:
            if self._slots[request.slot].status != IDLE:
                raise ValueError(f"sampler: slot {request.slot} has a turn under way")
            if not request.tokens and not self._slots[request.slot].last:
                raise ValueError(f"sampler: slot {request.slot} is empty and the request appends nothing")
            if len(request.tokens) > self.room(request.slot):
                raise ValueError(
                    f"sampler: slot {request.slot} has room for {self.room(request.slot)} tokens of "
                    f"{self.context}, the request appends {len(request.tokens)}"
                )
            budget, most = request.max_new_tokens, self._program.max_new_tokens
            if budget is not None and not 0 < budget <= most:
                raise ValueError(f"sampler: max_new_tokens of a request must be from 1 to {most}, found {budget}")
            if request.temperature is not None and request.temperature < 0:
                raise ValueError(f"sampler: temperature must not be negative, found {request.temperature}")

    def _cut(self, tokens: list[int]) -> list[list[int]]:
        """Cuts tokens into large pieces; the end is cut into small pieces if one or two of them are enough."""
        pieces, small = [], self._small[0]
        while tokens:
            size = small if len(tokens) <= 2 * small else self._large[0]
            pieces, tokens = [*pieces, tokens[:size]], tokens[size:]
        return pieces

    def _take_over(self, slot: _Slot, count: int) -> None:
        """Marks the first `count` pieces of the slot's prompt as prefilled: its cache holds them."""
        tokens = sum(map(len, slot.pieces[:count]))
        slot.pieces, slot.held, slot.length = slot.pieces[count:], count, tokens
        self.stats.shared_tokens += tokens
        slot.status = PREFILL if slot.pieces else READY

    def _share(self) -> set[int]:
        """Copies prefixes of new prompts from slots that hold them.

        Returns the slots that must wait: another slot is about to compute the next piece of their prompt, too.
        """
        waiting, copies, size = set(), [], self.slots // self._parts
        todo = [i for i, s in enumerate(self._slots) if s.status == PREFILL and s.first and not s.held]
        if size == 1:
            return waiting
        for index in sorted(todo, key=lambda i: self._slots[i].order):
            slot, start = self._slots[index], index - index % size
            beside = self._slots[start : start + size]  # the slots on the same devices
            count, donor = max((_shared(slot.keys, s), -i) for i, s in enumerate(beside, start) if i != index)
            ahead = any(
                s.first and s.status in (PREFILL, READY) and s.order < slot.order and _common(slot.keys, s) > count
                for s in beside
            )
            if ahead:
                waiting.add(index)
            elif count:
                copies.append((-donor, index, count))
        self._copy(copies)
        for _, index, count in copies:
            slot = self._slots[index]
            slot.ended = count == len(slot.keys)
            self._take_over(slot, count)
        return waiting

    def _copy(self, copies: Sequence[tuple[int, int, int]]) -> None:
        """Copies caches between slots on the same devices. copies: (source slot, target slot, pieces) of each."""
        size, rows = self.slots // self._parts, self._copies
        queues = [[copy for copy in copies if copy[1] // size == part] for part in range(self._parts)]
        for first in range(0, max(map(len, queues)), rows):
            sources_P = np.zeros((self._parts * rows,), np.int32)
            targets_P = np.full_like(sources_P, size)
            for part, queue in enumerate(queues):
                for row, (source, target, _) in enumerate(queue[first : first + rows], part * rows):
                    sources_P[row], targets_P[row] = source % size, target % size
            arrays = (sources_P, targets_P)
            arrays = self._put(arrays) if self._parts > 1 else arrays
            self._layers, self._x_BD, self._end_BD = decoding.copy(
                self.mesh, self._layers, self._x_BD, self._end_BD, *arrays
            )

    def _prefill(self, params: Any) -> bool:
        """Prefills one piece each in as many slots as one call takes. Puts their last hidden states into self._x_BD.

        Returns False if there is nothing to do now. Prompts may still be waiting then: one that equals another slot's
        whole prompt can be copied only once that slot's turn has begun.
        """
        waiting = self._share() if self._shares else set()
        ready = [i for i, slot in enumerate(self._slots) if slot.status == PREFILL and i not in waiting]
        if not ready:
            return False
        ready.sort(key=lambda i: self._slots[i].order)
        small = [len(self._slots[i].pieces[0]) <= self._small[0] for i in ready]
        T, P = self._small if small[0] else self._large
        chosen = [i for i, is_small in zip(ready, small) if is_small == small[0]][:P]
        # In a call for all slots, row i is slot i.
        place = {i: i if P == self.slots else row for row, i in enumerate(chosen)}
        slots_P, tokens_PT = np.full((P,), self.slots, np.int32), np.zeros((P, T), np.int32)
        lengths_P, valid_P = np.zeros((P,), np.int32), np.zeros((P,), np.int32)
        for i, row in place.items():
            piece = self._slots[i].pieces.pop(0)
            slots_P[row], lengths_P[row], valid_P[row] = i, self._slots[i].length, len(piece)
            tokens_PT[row, : len(piece)] = piece
        arrays = (slots_P, lengths_P, tokens_PT, valid_P)
        arrays = self._put(arrays) if P == self.slots else arrays
        self._layers, self._x_BD = decoding.prefill(self._program, params, self._layers, self._x_BD, *arrays)
        for i, row in place.items():
            slot = self._slots[i]
            slot.length += int(valid_P[row])
            slot.held += slot.first
            slot.status = PREFILL if slot.pieces else READY
        self._x_BD.block_until_ready()  # so that prefill and decode time are measured apart
        self.stats.prefill_tokens += int(valid_P.sum())
        return True

    def _begin(self, params: Any) -> None:
        """Draws the first token of the turn in every slot whose prefill is complete."""
        starting = [i for i, slot in enumerate(self._slots) if slot.status == READY]
        if not starting:
            return
        starting_B, first_B = np.zeros((2, self.slots), bool)
        keys_B2, temperature_B = np.zeros((self.slots, 2), np.uint32), np.ones((self.slots,), np.float32)
        budget_B = np.full((self.slots,), self._program.max_new_tokens, np.int32)
        for i in starting:
            slot = self._slots[i]
            budget_B[i] = slot.request.max_new_tokens or budget_B[i]
            starting_B[i], first_B[i], keys_B2[i] = True, slot.first, slot.request.key
            temperature_B[i] = self.temperature if slot.request.temperature is None else slot.request.temperature
            slot.status, slot.ended, slot.first = DECODE, slot.ended or slot.first, False
            self._lengths_B[i], self._counts_B[i] = slot.length, 1
        self.stats.turns += len(starting)
        self.stats.sampled_tokens += len(starting)
        arrays = self._put((starting_B, first_B, self._lengths_B, budget_B, keys_B2, temperature_B))
        self._end_BD, self._state = decoding.begin(
            self._program, params, self._x_BD, self._end_BD, self._state, *arrays, self._allowed(starting)
        )

    def _decode(self, params: Any) -> list[tuple[int, Sample]]:
        """Makes one decode call for the slots with a turn. Returns (slot, sample) of each turn that has ended."""
        running = [i for i, slot in enumerate(self._slots) if slot.status == DECODE]
        if not running:
            return []
        self._consume(running)
        allowed_BW = self._allowed(running)
        decode_steps = self._decode_steps if allowed_BW is None else 1
        self._layers, self._state, steps = decoding.decode(
            self._program, decode_steps, params, self._layers, self._state, allowed_BW
        )
        active_B, lengths_B, counts_B = jax.device_get(
            (self._state.active_B, self._state.lengths_B, self._state.count_B)
        )
        self.stats.sampled_tokens += int(counts_B[running].sum() - self._counts_B[running].sum())
        self.stats.slot_steps += int(steps) * self.slots
        self._lengths_B, self._counts_B = lengths_B.copy(), counts_B.copy()
        ended = [i for i in running if not active_B[i]]
        if not ended:
            return []
        tokens_BM, logprobs_BM, reason_B = jax.device_get(
            (self._state.tokens_BM, self._state.logprobs_BM, self._state.reason_B)
        )
        samples = []
        for i in ended:
            count, slot = counts_B[i], self._slots[i]
            reason = decoding.REASONS[reason_B[i]]
            kept_MK = jax.device_get(decoding.kept(self._state, np.int32(i))) if self._program.truncation.top_k else ()
            kept = [ids[ids != draw.NOTHING].tolist() for ids in kept_MK[:count]]
            sample = Sample(tokens_BM[i, :count].tolist(), logprobs_BM[i, :count].tolist(), reason, kept)
            if not np.isfinite(sample.logprobs).all():
                raise FloatingPointError(
                    "the policy's logits are not finite, so what it samples means nothing: its parameters have grown "
                    "beyond what their type can hold; lower rl.learning_rate, or start from an earlier checkpoint"
                )
            slot.status, slot.length, slot.last, slot.request = IDLE, int(lengths_B[i]), sample.tokens[-1:], None
            samples.append((i, sample))
        return samples

    def _consume(self, running: Sequence[int]) -> None:
        """Passes the token drawn last to each turn's constraint; with constraints a call draws one token."""
        constrained = [i for i in running if self._slots[i].request.constraint is not None]
        if constrained:
            last_B = jax.device_get(self._state.last_B)
            for i in constrained:
                self._slots[i].request.constraint.consume(int(last_B[i]))

    def _allowed(self, slots: Sequence[int]) -> jax.Array | None:
        """Bitmasks [B, W] of the tokens that may be drawn next, for `decoding`; None if no slot has a constraint."""
        constraints = {i: self._slots[i].request.constraint for i in slots}
        if not any(constraints.values()):
            return None
        allowed_BW = np.full((self.slots, -(-self._vocab_size // 32)), 2**32 - 1, np.uint32)
        for i, constraint in constraints.items():
            bits_W = constraint.allowed() if constraint is not None else None
            allowed_BW[i] = allowed_BW[i] if bits_W is None else bits_W
        return self._put(allowed_BW)


def rows_per_call(slots: int, rows: int, mesh: Mesh) -> int:
    """The number of slots that prefill in one call: all of them if slots are split over devices, else `rows`."""
    return slots if sharding.parts("rows", mesh, sharding.DECODE) > 1 else min(rows, slots)


def cache_length(context: int, mesh: Mesh) -> int:
    """`context` rounded up to whole blocks of attention.CACHE_BLOCKS: the length of a slot's cache in tokens."""
    block = attention.CACHE_BLOCKS[sharding.platform(mesh)].keys
    return -(-context // block) * block


def _chain(pieces: Sequence[Sequence[int]]) -> list[bytes]:
    """A key for each piece: a hash of its tokens and of all pieces before it."""
    keys, digest = [], b""
    for piece in pieces:
        digest = hashlib.blake2b(digest + np.asarray(piece, np.int32).tobytes(), digest_size=16).digest()
        keys.append(digest)
    return keys


def _common(keys: Sequence[bytes], slot: _Slot) -> int:
    """How many pieces the prompt and the slot's prompt have in common at their beginning.

    It counts all pieces of the prompt only if the slot's prompt ends there, too: to sample after a prompt, the hidden
    state of its last token is needed, which is stored only at the end of the slot's prompt.
    """
    count = next((i for i, (a, b) in enumerate(zip(keys, slot.keys)) if a != b), min(len(keys), len(slot.keys)))
    return count - 1 if count == len(keys) and len(slot.keys) > count else count


def _shared(keys: Sequence[bytes], slot: _Slot) -> int:
    """How many pieces of a prompt can be copied from the slot now."""
    count = min(_common(keys, slot), slot.held)
    return count - 1 if count == len(keys) and not slot.ended else count


def generate(
    policy: transformer.Transformer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
) -> list[Sample]:
    """Samples one continuation of each prompt (a non-empty list of token ids); returns them in order. For notebooks.

    Sample i is a function of (policy, prompt i, i, seed). The policy may be on one device or split over a mesh.
    Raises ValueError for an empty prompt or an impossible value.
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
        prefill_rows=GENERATE_ROWS,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        temperature=temperature,
        truncation=draw.Truncation(top_p=top_p),
        mesh=mesh,
        dtype=policy.dtype,
    )
    keys = draw.turn_keys(seed, ["generate"] * len(prompts), range(len(prompts)), [0] * len(prompts))
    params, free, todo = engine.place(params), list(range(slots)), list(range(len(prompts)))
    samples: dict[int, Sample] = {}
    playing: dict[int, int] = {}  # slot -> index of its prompt
    while len(samples) < len(prompts):
        while free and todo:
            playing[free[0]] = todo[0]
            engine.submit([Request(free.pop(0), list(prompts[todo[0]]), keys[todo.pop(0)])])
        for slot, sample in engine.step(params):
            samples[playing.pop(slot)] = sample
            engine.release(slot)
            free.append(slot)
    return [samples[i] for i in range(len(prompts))]
