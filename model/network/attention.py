"""Grouped-query attention within rows (the learner) and on a KV cache (the sampler).

Shapes: B batch, T queries, S keys, H query heads, K kv heads, G query heads per kv head (H = K G), N head size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash_kernel
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jax.sharding import NamedSharding, PartitionSpec

from model.network import sharding
from model.network.numerics import einsum

Array = jax.Array

SPLASH_BLOCKS = (1024, 512, 256, 128)  # tokens per block of the TPU kernel; the largest that divides a row is used
LANES = 128  # width of a TPU's vector registers

CACHE_LOOP = "cache_blocks"  # name scope of the loop over a cache, whose length is dynamic
QUERY_BLOCK = 128  # queries per block of a row; on CPU 64 to 192 are equally fast, no blocks half slower


class Blocks(NamedTuple):
    """How a cache is read. keys: number of keys at a time. rows: number of slots together; None: all."""

    keys: int
    rows: int | None


# By platform. On CPU a block's scores should fit into the CPU's cache, and short slots should not wait for long ones.
# On GPU and TPU large products are faster, and each block costs a read and a write of the running sums.
CACHE_BLOCKS = {"cpu": Blocks(128, 8), "gpu": Blocks(512, None), "tpu": Blocks(512, None)}


def masked(q_BTHN: Array, k_BKSN: Array, v_BKSN: Array, mask_BTS: Array) -> Array:
    """Softmax attention, [B, T, H, N]; query head h reads kv head h // G.

    mask_BTS: which keys a query sees, at least one; its B may be 1. Scores and softmax are float32. Keys and values
    have the head axis before the token axis, as the products need it. The division by the sum of the weights comes
    after the product with the values, where there are N numbers per query to divide and not S.
    """
    B, T, H, N = q_BTHN.shape
    K = k_BKSN.shape[1]
    q_BKTGN = (q_BTHN * N**-0.5).astype(q_BTHN.dtype).reshape(B, T, K, H // K, N).transpose(0, 2, 1, 3, 4)
    scores_BKTGS = einsum("BKTGN,BKSN->BKTGS", q_BKTGN, k_BKSN, jnp.float32)
    scores_BKTGS = jnp.where(mask_BTS[:, None, :, None], scores_BKTGS, jnp.finfo(jnp.float32).min)
    # Subtracting the maximum only keeps exp in range; it does not change the result, so it needs no gradient.
    weights_BKTGS = jnp.exp(scores_BKTGS - jax.lax.stop_gradient(scores_BKTGS.max(axis=-1, keepdims=True)))
    sums_BKTG1 = weights_BKTGS.sum(axis=-1, keepdims=True)
    heads_BKTGN = einsum("BKTGS,BKSN->BKTGN", weights_BKTGS.astype(v_BKSN.dtype), v_BKSN, jnp.float32) / sums_BKTG1
    return heads_BKTGN.transpose(0, 2, 1, 3, 4).reshape(B, T, H, N).astype(q_BTHN.dtype)


def cached(
    q_BTHN: Array,
    k_BKSN: Array,
    v_BKSN: Array,
    positions_BT: Array,
    used_B: Array,
    window: int | None,
    rows_B: Array | None = None,
    blocks: Blocks = CACHE_BLOCKS["cpu"],
) -> Array:
    """Attention on a cache, [B, T, H, N]: a query sees the keys up to its own position, as in `plain`.

    rows_B: for each row of queries its row of the cache, which may have more rows; None: row i reads row i.
    used_B: number of cache entries that each row needs; 0 for a row whose result is not needed.
    window: as for `plain`.

    Rows are processed in groups of blocks.rows, unless they are split over devices. A group reads blocks.keys keys at a
    time, up to the last key that one of its rows uses, with a running maximum and sum (FlashAttention,
    arXiv:2205.14135, algorithm 1). A block beyond a row's own position multiplies its sums by one and adds zero, so a
    row's result is bitwise the same whatever the other rows use.
    """
    B = q_BTHN.shape[0]
    if rows_B is not None:  # one row at a time, read in place

        def one(inputs: tuple[Array, ...]) -> Array:
            row, q, positions, used = inputs
            return _cached_rows(q[None], k_BKSN, v_BKSN, positions[None], used, row, window, blocks.keys)[0]

        return jax.lax.map(one, (rows_B, q_BTHN, positions_BT, used_B))
    mesh = jax.sharding.get_abstract_mesh()
    split = not mesh.empty and sharding.parts("rows", mesh, sharding.DECODE) > 1
    if split or blocks.rows is None or B % blocks.rows:
        first = jnp.zeros((), jnp.int32)
        return _cached_rows(q_BTHN, k_BKSN, v_BKSN, positions_BT, used_B.max(), first, window, blocks.keys)

    def group(inputs: tuple[Array, ...]) -> Array:
        index, q, positions, used = inputs
        return _cached_rows(q, k_BKSN, v_BKSN, positions, used.max(), index * blocks.rows, window, blocks.keys)

    grouped = [x.reshape(-1, blocks.rows, *x.shape[1:]) for x in (q_BTHN, positions_BT, used_B)]
    return jax.lax.map(group, (jnp.arange(B // blocks.rows), *grouped)).reshape(q_BTHN.shape)


def _cached_rows(
    q_RTHN: Array,
    k_BKSN: Array,
    v_BKSN: Array,
    positions_RT: Array,
    used: Array,
    first: Array,
    window: int | None,
    keys: int,
) -> Array:
    """`cached` for R rows, which read the cache's rows from `first` on, each its first `used` entries."""
    (R, T, H, N), (K, S) = q_RTHN.shape, k_BKSN.shape[1:3]
    block = keys if S % keys == 0 else S
    q_RKTGN = (q_RTHN * N**-0.5).astype(q_RTHN.dtype).reshape(R, T, K, H // K, N).transpose(0, 2, 1, 3, 4)
    least = jnp.finfo(jnp.float32).min

    def attend(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        high_RKTG1, sums_RKTG1, heads_RKTGN = carry
        start = (first, 0, index * block, 0)
        k, v = (jax.lax.dynamic_slice(x, start, (R, K, block, N)) for x in (k_BKSN, v_BKSN))
        keys_11S = (index * block + jnp.arange(block))[None, None]
        mask_RTS = visible(positions_RT[:, :, None], keys_11S, window)
        scores_RKTGS = einsum("RKTGN,RKSN->RKTGS", q_RKTGN, k, jnp.float32)
        scores_RKTGS = jnp.where(mask_RTS[:, None, :, None], scores_RKTGS, least)
        new_RKTG1 = jnp.maximum(high_RKTG1, scores_RKTGS.max(axis=-1, keepdims=True))
        weights_RKTGS, scale_RKTG1 = jnp.exp(scores_RKTGS - new_RKTG1), jnp.exp(high_RKTG1 - new_RKTG1)
        sums_RKTG1 = sums_RKTG1 * scale_RKTG1 + weights_RKTGS.sum(axis=-1, keepdims=True)
        added_RKTGN = einsum("RKTGS,RKSN->RKTGN", weights_RKTGS.astype(v.dtype), v, jnp.float32)
        return new_RKTG1, sums_RKTG1, heads_RKTGN * scale_RKTG1 + added_RKTGN

    zero = jnp.zeros((R, K, T, H // K, 1), jnp.float32)
    carry = (zero + least, zero, jnp.zeros(q_RKTGN.shape, jnp.float32))
    with jax.named_scope(CACHE_LOOP):
        _, sums_RKTG1, heads_RKTGN = jax.lax.fori_loop(0, -(-used // block), attend, carry)
    # A row with used = 0 has seen no key: the result is zeros instead of 0 / 0.
    heads_RKTGN = heads_RKTGN / jnp.maximum(sums_RKTG1, jnp.finfo(jnp.float32).tiny)
    return heads_RKTGN.transpose(0, 2, 1, 3, 4).reshape(R, T, H, N).astype(q_RTHN.dtype)


def plain(
    q_BTHN: Array,
    k_BTKN: Array,
    v_BTKN: Array,
    segment_ids_BT: Array | None,
    window: int | None,
    parent_ids_BT: Array | None = None,
) -> Array:
    """Attention within rows, [B, T, H, N], in plain XLA. `splash` and `cudnn` take the same arguments.

    A query sees keys at its own and earlier indices, with segment ids only those with its own id.
    window: a query sees itself and the window - 1 tokens before it; None: all tokens before it.
    parent_ids_BT: a query also sees the keys of the segment with this id (a shared prefix, see rl/learn/packing.py).

    Raises ValueError for a window with parents: indices do not tell how far a shared prefix is from its reader.

    Queries are processed in blocks of QUERY_BLOCK, each against the keys that it can see. So the half of the scores
    above the diagonal is never computed, and a block's scores stay in the processor's cache. The backward pass computes
    the scores again, so memory grows with T and not with its square.
    """
    if window is not None and parent_ids_BT is not None:
        raise ValueError("attention: layers with a sliding window cannot share prefixes (rl.share_prefix)")
    T, blocks = q_BTHN.shape[1], []
    k_BKTN, v_BKTN = k_BTKN.transpose(0, 2, 1, 3), v_BTKN.transpose(0, 2, 1, 3)
    for start in range(0, T, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, T)
        first = 0 if window is None else max(0, start - window + 1)

        # Takes whole arrays, so that the backward pass keeps these once instead of a slice for every block.
        def block(
            q: Array, k: Array, v: Array, at: slice = slice(start, stop), seen: slice = slice(first, stop)
        ) -> Array:
            index = jnp.arange(T)
            mask_BTS = visible(index[None, at, None], index[None, None, seen], window)
            if segment_ids_BT is not None:
                mask_BTS = mask_BTS & _together(segment_ids_BT, parent_ids_BT, at, seen)
            return masked(q[:, at], k[:, :, seen], v[:, :, seen], mask_BTS)

        blocks.append(jax.checkpoint(block, prevent_cse=False)(q_BTHN, k_BKTN, v_BKTN))
    return jnp.concatenate(blocks, axis=1)


def cudnn(
    q_BTHN: Array,
    k_BTKN: Array,
    v_BTKN: Array,
    segment_ids_BT: Array | None,
    window: int | None,
    parent_ids_BT: Array | None = None,
    implementation: str = "cudnn",
) -> Array:
    """`plain` by cuDNN's flash attention, for GPUs. cuDNN takes 16-bit inputs only, so float32 inputs use `plain`.

    Segments become a boolean mask [B, 1, T, T]. implementation: of jax.nn.dot_product_attention.
    Raises ValueError as `plain` does.
    """
    if q_BTHN.dtype == jnp.float32 or (window is not None and parent_ids_BT is not None):
        return plain(q_BTHN, k_BTKN, v_BTKN, segment_ids_BT, window, parent_ids_BT)
    mask_B1TT = None
    if segment_ids_BT is not None:
        everything = slice(None)
        mask_B1TT = _together(segment_ids_BT, parent_ids_BT, everything, everything)[:, None]
    return jax.nn.dot_product_attention(
        q_BTHN, k_BTKN, v_BTKN, mask=mask_B1TT, is_causal=True, implementation=implementation,
        local_window_size=None if window is None else (window - 1, 0),
    )  # fmt: skip


def splash(
    q_BTHN: Array,
    k_BTKN: Array,
    v_BTKN: Array,
    segment_ids_BT: Array | None,
    window: int | None,
    parent_ids_BT: Array | None = None,
    interpret: bool = False,
) -> Array:
    """`plain` by JAX's splash attention kernel for TPU, which never writes scores to memory.

    The kernel supports segments only as equal ids, so rows with parent_ids_BT use `plain`.

    Under `jax.set_mesh` each device computes its own rows and heads. If rows are split over the mesh axis `context`, a
    device gathers the keys of the whole row for its own queries. interpret: run on any platform, slowly.
    Raises ValueError if a device's part of a row is not a multiple of 128 tokens.
    """
    if parent_ids_BT is not None:
        return plain(q_BTHN, k_BTKN, v_BTKN, segment_ids_BT, window, parent_ids_BT)
    (T, H, N), K = q_BTHN.shape[1:], k_BTKN.shape[2]
    mesh = jax.sharding.get_abstract_mesh()
    parts = 1 if mesh.empty else sharding.parts("sequence", mesh)
    block = next((size for size in SPLASH_BLOCKS if T % (size * parts) == 0), None)
    if block is None:
        raise ValueError(
            f"attention on TPU: a device's part of a row must be a multiple of {SPLASH_BLOCKS[-1]} tokens, found rows "
            f"of {T} tokens (rl.row_length) in {parts} parts (mesh.context)"
        )
    inner = min(block, 512)
    sizes = splash_kernel.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=inner, block_q_dkv=block, block_kv_dkv=block,
        block_kv_dkv_compute=inner, use_fused_bwd_kernel=True,
    )  # fmt: skip
    if window is None:
        mask = splash_mask.CausalMask((T, T), shard_count=parts)
    else:
        mask = splash_mask.LocalMask((T, T), (window - 1, 0), 0, shard_count=parts)
    # For one kv head and its G query heads; vmapped below over kv heads and rows.
    attend = splash_kernel.make_splash_mqa(
        splash_mask.MultiHeadMask([mask] * (H // K)), block_sizes=sizes, head_shards=1, q_seq_shards=parts,
        interpret=interpret,
    )  # fmt: skip

    def local(attend: Any, q: Array, k: Array, v: Array, ids_q: Array, ids_k: Array) -> Array:
        B, T, H, N = q.shape
        q = q.reshape(B, T, k.shape[2], -1, N).transpose(0, 2, 3, 1, 4)
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        heads = jax.vmap(attend, in_axes=(0, 0, 0, None))
        out = jax.vmap(heads)(q, k, v, splash_kernel.SegmentIds(ids_q, ids_k))
        return out.transpose(0, 3, 1, 2, 4).reshape(B, T, H, N).astype(q.dtype)

    if not mesh.empty:
        rows, sequence = sharding.activation_spec(sharding.TRAIN)
        query = PartitionSpec(rows, sequence, sharding.TRAIN["heads"])
        key = PartitionSpec(rows, None, sharding.TRAIN["kv_heads"])
        split = attend.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, sequence)))
        specs = (split, query, key, key, PartitionSpec(rows, sequence), PartitionSpec(rows))
        # check_vma=False: the kernel does not declare over which axes its results vary.
        local = jax.shard_map(local, in_specs=specs, out_specs=query, check_vma=False)
    # The kernel does not scale queries and needs heads as wide as the lanes; padding with zeros changes no product.
    q_BTHN = (q_BTHN * N**-0.5).astype(q_BTHN.dtype)
    q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, -N % LANES))) for x in (q_BTHN, k_BTKN, v_BTKN))
    ids_BT = jnp.ones(q.shape[:2], jnp.int32) if segment_ids_BT is None else segment_ids_BT
    return local(attend, q, k, v, ids_BT, ids_BT)[..., :N]


def visible(query: Array, key: Array, window: int | None) -> Array:
    """Whether the token at index `query` may attend to that at index `key` of the same sequence; both broadcast."""
    return query >= key if window is None else (query >= key) & (query < key + window)


def _together(segment_ids_BT: Array, parent_ids_BT: Array | None, at: slice, seen: slice) -> Array:
    """Booleans [B, queries, keys]: whether a key (in the slice `seen`) belongs to the segment of a query (in the slice
    `at`) or to the query's parent segment."""
    keys_B1S = segment_ids_BT[:, None, seen]
    own_BTS = segment_ids_BT[:, at, None] == keys_B1S
    return own_BTS if parent_ids_BT is None else own_BTS | (parent_ids_BT[:, at, None] == keys_B1S)
