"""The sampler: continuous batching in a fixed number of cache slots, where nothing is prefilled twice.

An episode holds one slot from its first prompt to its end and keeps its keys and values across turns, so a turn costs
the prefill of the new tokens (tool results, user messages) and the decoding of the answer, never of the conversation.
Turns begin and end in each slot on their own: `submit` asks for one, `step` does a little work for all that are under
way and returns those that have ended, so a slot that waits for its environment holds up no other.

Prompts are cut into pieces. A slot remembers the pieces of its prompt for as long as they lie in its cache, also after
its release, and a new prompt takes over the longest equal beginning from the slot that has it: the G members of a
group pay their prompt once, and tasks with the same system prompt and tools pay that once.

What is drawn, and with which keys, is in draw.py, the compiled programs are in decoding.py. A turn's
tokens and logprobs are the same to the bit whatever the other slots do, for the same number of slots: programs have
static shapes, rows are computed apart, and how a slot's tokens are cut depends on nothing else.
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

GENERATE_SLOTS, GENERATE_CHUNK, GENERATE_ROWS = 64, 128, 8  # of `generate`
IDLE, PREFILL, READY, DECODE = "idle", "prefill", "ready", "decode"  # what a slot is doing


@dataclasses.dataclass(frozen=True)
class Request:
    """One turn to sample in one slot.

    slot: 0 <= slot < slots. tokens: ids to append before sampling (prompt, tool results, user messages), without
    anything sampled before. key: uint32[2], see `draw.turn_keys`. temperature: None for the engine's, 0.0 for greedy.
    max_new_tokens: None for the engine's, and at most that. constraint: which tokens may be drawn; then all slots
    decode a token at a time, and recorded logprobs are those of what was allowed.
    """

    slot: int
    tokens: Sequence[int]
    key: np.ndarray
    temperature: float | None = None
    max_new_tokens: int | None = None
    constraint: constrain.Turn | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sampled turn. A stop token that ended it is the last of tokens and has its logprob.

    finish_reason: "stop" (a stop id), "length" (max_new_tokens) or "context" (the slot is full). kept: for each token
    the ids it was drawn from, best first, [] if greedily; no lists at all without top_k, see `draw.tokens`.
    """

    tokens: list[int]
    logprobs: list[float]
    finish_reason: str
    kept: list[list[int]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Stats:
    """Running totals of an engine: tokens, slot-steps (places for a token in decode calls), seconds of wall clock.

    turns: begun. prefill_tokens: computed. shared_tokens: taken over from another slot instead.
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
    """The host side of a slot.

    length: tokens in the cache. last: the token sampled last, which is not in the cache yet. pieces: tokens to prefill.
    keys: a key for each piece of the prompt that stands for it and all before it; held: how many of them the cache
    holds; ended: whether it holds the hidden state of the prompt's end. first: whether the turn's tokens are the
    prompt, until it has begun. order: of submission.
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
    """Slots, their cache, and the turns under way in them.

    graphdef, config: of the policy (`nnx.split(policy)[0]`, `policy.config`). slots: episodes held side by side; a
    multiple of the size of the mesh axes that sharding.DECODE splits rows over. context: tokens per slot, prompt and
    all turns together. prefill_chunk: tokens of a large piece; a small one has a quarter. prefill_rows: slots that
    prefill a piece in one call. decode_steps: tokens per decode call.
    max_new_tokens: budget of a turn. stop_ids: ids that end a turn. temperature, truncation: see draw.py.
    mesh: made by `sharding.make_mesh`; None is the first device alone. dtype: of the cache. share_prompts: whether
    equal beginnings are computed once. Raises ValueError for an impossible value, naming the key.

    Where slots are split over several devices, all of them prefill in one call, and a prompt is taken over from slots
    of the same device only, because caches would have to move otherwise.

    Parameters are an argument of `step` and `turn`; `place` makes it of the policy's.
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
        self._parts, self._copies = shards, min(prefill_rows, slots // shards)  # copies per call and part
        # (tokens of a piece, slots that prefill such a piece in one call)
        self._large = (prefill_chunk, rows_per_call(slots, prefill_rows, self.mesh))
        self._small = (max(1, prefill_chunk // 4), rows_per_call(slots, prefill_rows, self.mesh))
        self._lengths_B = np.zeros((slots,), np.int32)  # of the slots with a turn, as the devices know them
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
        """The parameters (`nnx.split(policy)[1]`) as `step` and `turn` want them: split for decoding, device to device,
        and with every layer's in arrays of their own.

        Prompts in the cache belong to the parameters they were computed with: call `forget` when they change.
        """
        return self._unstack(jax.device_put(params, self._params))

    def forget(self) -> None:
        """Lets no later prompt take over what slots hold now; for new parameters."""
        for slot in self._slots:
            slot.keys, slot.held, slot.ended = [], 0, False

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return any(slot.status != IDLE for slot in self._slots)

    def room(self, slot: int) -> int:
        """How many tokens may be appended to the slot so that at least one can still be sampled; may be negative."""
        return self.context - 1 - self._slots[slot].length - len(self._slots[slot].last)

    def release(self, slot: int) -> None:
        """Empties a slot for another episode; a turn under way there is dropped."""
        held = self._slots[slot]
        if held.status == DECODE:
            active_B = np.array(self._state.active_B)
            active_B[slot] = False
            self._state = dataclasses.replace(self._state, active_B=self._put(active_B))
        held.status, held.length, held.last, held.pieces, held.request = IDLE, 0, [], [], None

    def submit(self, requests: Sequence[Request]) -> None:
        """Asks for turns. Raises ValueError, before anything is changed, for a slot that does not exist, is busy or is
        asked for twice, an empty slot with nothing to append, or tokens that leave no room to sample (see `room`)."""
        self._check(requests)
        for request in requests:
            slot = self._slots[request.slot]
            tokens = [*slot.last, *request.tokens]
            slot.pieces, slot.request, slot.status, slot.first = self._cut(tokens), request, PREFILL, slot.length == 0
            slot.order = self._submitted = self._submitted + 1
            if slot.first:
                keys = _chain(slot.pieces)
                # The slot's own last prompt may begin like this one; the hidden state of its end is gone.
                kept = min(_shared(keys, slot), len(keys) - 1) if self._shares else 0
                slot.keys, slot.ended = keys, False
                self._take_over(slot, kept)

    def step(self, params: Any) -> list[tuple[int, Sample]]:
        """Prefills whatever slots have to append, then makes a decode call for the slots with a turn.

        Prefill comes first because a decode call costs nearly the same for few slots as for many.

        params: what `place` returned. Returns (slot, sample) of the turns that ended.
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
        """`step` in a thread of its own, so that the event loop goes on meanwhile.

        A cancellation waits for the thread, because nobody may touch the engine while it is at work.
        """
        work = asyncio.ensure_future(asyncio.to_thread(self.step, params))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def partial(self) -> dict[int, tuple[list[int], list[float]]]:
        """Slot -> (tokens, logprobs) sampled so far, of the turns under way that have begun; between two steps only."""
        running = [i for i, slot in enumerate(self._slots) if slot.status == DECODE]
        if not running:
            return {}
        tokens_BM, logprobs_BM = jax.device_get((self._state.tokens_BM, self._state.logprobs_BM))
        counts_B = self._counts_B
        return {i: (tokens_BM[i, : counts_B[i]].tolist(), logprobs_BM[i, : counts_B[i]].tolist()) for i in running}

    def turn(self, params: Any, requests: Sequence[Request]) -> list[Sample]:
        """Appends each request's tokens to its slot and samples a turn there; returns a Sample per request, in order.

        Raises ValueError as `submit` does.
        """
        self.submit(requests)
        samples: dict[int, Sample] = {}
        while len(samples) < len(requests):
            samples.update(self.step(params))
        return [samples[request.slot] for request in requests]

    def _check(self, requests: Sequence[Request]) -> None:
        """Raises ValueError as `submit` says."""
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
        """The tokens in large pieces, and small ones for the rest where these are no more than two."""
        pieces, small = [], self._small[0]
        while tokens:
            size = small if len(tokens) <= 2 * small else self._large[0]
            pieces, tokens = [*pieces, tokens[:size]], tokens[size:]
        return pieces

    def _take_over(self, slot: _Slot, count: int) -> None:
        """Counts the first pieces of the slot's prompt as done, because its cache holds them."""
        tokens = sum(map(len, slot.pieces[:count]))
        slot.pieces, slot.held, slot.length = slot.pieces[count:], count, tokens
        self.stats.shared_tokens += tokens
        slot.status = PREFILL if slot.pieces else READY

    def _share(self) -> set[int]:
        """Copies what prompts have in common from the slots that hold it.

        Returns the slots that wait, because a slot before them is about to compute their next piece.
        """
        waiting, copies, size = set(), [], self.slots // self._parts
        todo = [i for i, s in enumerate(self._slots) if s.status == PREFILL and s.first and not s.held]
        if size == 1:
            return waiting
        for index in sorted(todo, key=lambda i: self._slots[i].order):
            slot, start = self._slots[index], index - index % size
            beside = self._slots[start : start + size]  # on the same devices
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
        """Copies caches between slots of the same devices: (source, target, ...) each."""
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
        """Prefills a piece in as many slots as one call takes; leaves their last hidden states in self._x_BD.

        False if no slot has anything that can be done now: a prompt that waits for another's end can be taken over
        once that one's turn has begun.
        """
        waiting = self._share() if self._shares else set()
        ready = [i for i, slot in enumerate(self._slots) if slot.status == PREFILL and i not in waiting]
        if not ready:
            return False
        ready.sort(key=lambda i: self._slots[i].order)
        small = [len(self._slots[i].pieces[0]) <= self._small[0] for i in ready]
        T, P = self._small if small[0] else self._large
        chosen = [i for i, is_small in zip(ready, small) if is_small == small[0]][:P]
        # In a call for all slots each has its own row.
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
        self._x_BD.block_until_ready()  # so that the two phases' seconds are their own
        self.stats.prefill_tokens += int(valid_P.sum())
        return True

    def _begin(self, params: Any) -> None:
        """Draws the first token in every slot whose tokens are all appended."""
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
        """Some tokens for every slot with a turn; the turns that have ended."""
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
            slot.status, slot.length, slot.last, slot.request = IDLE, int(lengths_B[i]), sample.tokens[-1:], None
            samples.append((i, sample))
        return samples

    def _consume(self, running: Sequence[int]) -> None:
        """Tells the turns' constraints the one token that was drawn since."""
        constrained = [i for i in running if self._slots[i].request.constraint is not None]
        if constrained:
            last_B = jax.device_get(self._state.last_B)
            for i in constrained:
                self._slots[i].request.constraint.consume(int(last_B[i]))

    def _allowed(self, slots: Sequence[int]) -> jax.Array | None:
        """What may be drawn next in the slots, as decoding.decode wants it; None if none of them has a constraint."""
        constraints = {i: self._slots[i].request.constraint for i in slots}
        if not any(constraints.values()):
            return None
        allowed_BW = np.full((self.slots, -(-self._vocab_size // 32)), 2**32 - 1, np.uint32)
        for i, constraint in constraints.items():
            bits_W = constraint.allowed() if constraint is not None else None
            allowed_BW[i] = allowed_BW[i] if bits_W is None else bits_W
        return self._put(allowed_BW)


def rows_per_call(slots: int, rows: int, mesh: Mesh) -> int:
    """Slots that prefill in one call: all of them where they are split over devices."""
    return slots if sharding.parts("rows", mesh, sharding.DECODE) > 1 else min(rows, slots)


def cache_length(context: int, mesh: Mesh) -> int:
    """Entries of the cache for slots of so many tokens: whole blocks, as attention.CACHE_BLOCKS says."""
    block = attention.CACHE_BLOCKS[sharding.platform(mesh)].keys
    return -(-context // block) * block


def _chain(pieces: Sequence[Sequence[int]]) -> list[bytes]:
    """A key for each piece that stands for its tokens and all pieces before it."""
    keys, digest = [], b""
    for piece in pieces:
        digest = hashlib.blake2b(digest + np.asarray(piece, np.int32).tobytes(), digest_size=16).digest()
        keys.append(digest)
    return keys


def _common(keys: Sequence[bytes], slot: _Slot) -> int:
    """How many pieces of a prompt the slot's prompt begins with, too; all of them only if it ends there as well,
    because what follows a prompt needs the hidden state of its last token."""
    count = next((i for i, (a, b) in enumerate(zip(keys, slot.keys)) if a != b), min(len(keys), len(slot.keys)))
    return count - 1 if count == len(keys) and len(slot.keys) > count else count


def _shared(keys: Sequence[bytes], slot: _Slot) -> int:
    """How many pieces of a prompt can be taken over from the slot now."""
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
    playing: dict[int, int] = {}  # slot -> prompt
    while len(samples) < len(prompts):
        while free and todo:
            playing[free[0]] = todo[0]
            engine.submit([Request(free.pop(0), list(prompts[todo[0]]), keys[todo.pop(0)])])
        for slot, sample in engine.step(params):
            samples[playing.pop(slot)] = sample
            engine.release(slot)
            free.append(slot)
    return [samples[i] for i in range(len(prompts))]
