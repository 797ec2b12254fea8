"""The Qwen3 dense transformer (Qwen3 Technical Report, arXiv:2505.09388, section 2) in Flax NNX.

One module serves the learner (`policy(tokens_BT, ...)`) and the sampler (`policy.extend(...)`) on the same parameters.
Each parameter's shape, logical axes and initialiser stand in `Config.parameters`, from which initialisation, the
sharding table (model/sharding.py) and the checkpoint mapping (model/load.py) are derived.

Functions to be jitted take the module apart and put it together again:

    policy, config = load.from_pretrained(path)
    graphdef, params = nnx.split(policy)

    @functools.partial(jax.jit, static_argnums=0)
    def loss(graphdef, params, tokens_BT):
        policy = nnx.merge(graphdef, params)
        return policy(tokens_BT).mean()

    grads = jax.grad(loss, argnums=1)(graphdef, params, tokens_BT)      # the same pytree as params

`graphdef` is hashable and static; `params` is an nnx.State (`params["layers"]["query"][...]` is an array), an ordinary
pytree for optax, orbax, jax.tree.map and donation.

Shapes: B batch, T sequence, S keys (T, or the cache length), D model width, L layers, H query heads, K kv heads,
G query heads per kv head (H = K G), N head size, F mlp width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from model import sharding

Array = jax.Array
Layer = dict[str, Array]  # the parameters of one layer, by their name in `Config.parameters` less "layers."

REMAT = ("none", "full")
QUERY_BLOCK = 192  # queries per attention block of a row: 128 to 288 are alike on CPU, none at all is a quarter slower


class Parameter(NamedTuple):
    """One row of the parameter table: the shape, a logical axis for each dimension, and the initialiser."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: jax.nn.initializers.Initializer


@dataclasses.dataclass(frozen=True)
class Config:
    """The architecture, under the key names of an HF config.json; the defaults are those of HF's Qwen3Config.

    Raises ValueError when a size is not positive, the kv heads do not divide the query heads or the head size is odd.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 128
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    max_position_embeddings: int = 32768

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.type in ("int", "float") and getattr(self, field.name) <= 0:
                raise ValueError(f"model config: {field.name} must be positive, found {getattr(self, field.name)}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"model config: num_key_value_heads ({self.num_key_value_heads}) must divide "
                f"num_attention_heads ({self.num_attention_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"model config: head_dim must be even for rotary embeddings, found {self.head_dim}")

    def parameters(self) -> dict[str, Parameter]:
        """The parameter table: dotted path in the parameter pytree -> `Parameter`. Layers are stacked on a leading L.

        Initialisers are HF's: normal(0.02) for matrices, ones for norms, zeros for biases.
        """
        L, D, F, V = self.num_hidden_layers, self.hidden_size, self.intermediate_size, self.vocab_size
        H, K, N = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        normal, one, zero = jax.nn.initializers.normal(0.02), jax.nn.initializers.ones, jax.nn.initializers.zeros
        table = {
            "embed": Parameter((V, D), ("vocab", "embed"), normal),
            "layers.attention_norm": Parameter((L, D), ("layers", "norm"), one),
            "layers.query": Parameter((L, D, H, N), ("layers", "embed", "heads", "head"), normal),
            "layers.key": Parameter((L, D, K, N), ("layers", "embed", "kv_heads", "head"), normal),
            "layers.value": Parameter((L, D, K, N), ("layers", "embed", "kv_heads", "head"), normal),
            "layers.query_norm": Parameter((L, N), ("layers", "norm"), one),
            "layers.key_norm": Parameter((L, N), ("layers", "norm"), one),
            "layers.output": Parameter((L, H, N, D), ("layers", "heads", "head", "embed"), normal),
            "layers.mlp_norm": Parameter((L, D), ("layers", "norm"), one),
            "layers.gate": Parameter((L, D, F), ("layers", "embed", "mlp"), normal),
            "layers.up": Parameter((L, D, F), ("layers", "embed", "mlp"), normal),
            "layers.down": Parameter((L, F, D), ("layers", "mlp", "embed"), normal),
            "final_norm": Parameter((D,), ("norm",), one),
        }
        if self.attention_bias:
            table["layers.query_bias"] = Parameter((L, H, N), ("layers", "heads", "head"), zero)
            table["layers.key_bias"] = Parameter((L, K, N), ("layers", "kv_heads", "head"), zero)
            table["layers.value_bias"] = Parameter((L, K, N), ("layers", "kv_heads", "head"), zero)
            table["layers.output_bias"] = Parameter((L, D), ("layers", "norm"), zero)
        if not self.tie_word_embeddings:
            table["head"] = Parameter((D, V), ("embed", "vocab"), normal)
        return table


@functools.partial(jax.tree_util.register_dataclass, data_fields=("layers", "lengths_B"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values of every slot.

    layers: a list over layers of (k_BSKN, v_BSKN). lengths_B: the tokens each slot holds, int32.
    Entries at or beyond a slot's length are never read, so a slot is emptied by setting its length to 0.
    """

    layers: list[tuple[Array, Array]]
    lengths_B: Array


def init_cache(config: Config, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache of `batch` slots of `length` tokens each."""
    shape = (batch, length, config.num_key_value_heads, config.head_dim)
    layers = [(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(config.num_hidden_layers)]
    return Cache(layers, jnp.zeros((batch,), jnp.int32))


def segment_positions(segment_ids_BT: Array) -> Array:
    """Positions [B, T] int32 that count from 0 at the start of each run of equal segment ids."""
    T = segment_ids_BT.shape[1]
    index_1T = jnp.arange(T, dtype=jnp.int32)[None]
    starts_BT = jnp.pad(segment_ids_BT[:, 1:] != segment_ids_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return index_1T - jax.lax.cummax(jnp.where(starts_BT, index_1T, 0), axis=1)


def einsum(equation: str, x: Array, w: Array, out: Any = None) -> Array:
    """jnp.einsum in full float32 where the inputs are float32 (TPUs and GPUs would round them); `out`: result dtype."""
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, w, precision=precision, preferred_element_type=x.dtype if out is None else out)


def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """RMSNorm (arXiv:1910.07467) over the last axis in float32, returned in x's dtype. scale: [last axis]."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


def rope_tables(positions_BT: Array, head_dim: int, theta: float) -> tuple[Array, Array]:
    """cos and sin [B, T, 1, N/2] float32 of the rotary angles p theta^(-2i/N) (RoFormer, arXiv:2104.09864, eq. 15)."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions_BT.astype(jnp.float32)[:, :, None, None] * frequencies.reshape(1, 1, 1, -1)
    return jnp.cos(angles), jnp.sin(angles)


def rope(x_BTHN: Array, tables: tuple[Array, Array]) -> Array:
    """Rotates the pairs (i, i + N/2) of each head, HF's half-rotation convention; computed in float32."""
    cos, sin = tables
    a, b = jnp.split(x_BTHN.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BTHN.dtype)


def attention(q_BTHN: Array, k_BSKN: Array, v_BSKN: Array, mask_BTS: Array) -> Array:
    """Grouped-query softmax attention -> [B, T, H, N]; query head h reads kv head h // G. mask_BTS: B may be 1.

    Every query must be allowed at least one key. Scores and softmax are float32.
    """
    B, T, H, N = q_BTHN.shape
    K = k_BSKN.shape[2]
    q_BTKGN = q_BTHN.reshape(B, T, K, H // K, N)
    scores_BKGTS = einsum("BTKGN,BSKN->BKGTS", q_BTKGN, k_BSKN, jnp.float32)
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKGTS * N**-0.5, jnp.finfo(jnp.float32).min)
    probs_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BSKN.dtype)
    return einsum("BKGTS,BSKN->BTKGN", probs_BKGTS, v_BSKN).reshape(B, T, H, N)


def causal_attention(q_BTHN: Array, k_BTKN: Array, v_BTKN: Array, segment_ids_BT: Array | None) -> Array:
    """Attention of a row on itself -> [B, T, H, N]: causal by index, and only among equal segment ids if given.

    Queries go in blocks of QUERY_BLOCK, each against the keys up to its own end: half the scores of a long row lie above
    the diagonal and are never computed, and a block's scores stay in cache.
    """
    T, blocks = q_BTHN.shape[1], []
    for start in range(0, T, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, T)
        mask_BTS = jnp.arange(start, stop)[None, :, None] >= jnp.arange(stop)[None, None, :]
        if segment_ids_BT is not None:
            mask_BTS = mask_BTS & (segment_ids_BT[:, start:stop, None] == segment_ids_BT[:, None, :stop])
        blocks.append(attention(q_BTHN[:, start:stop], k_BTKN[:, :stop], v_BTKN[:, :stop], mask_BTS))
    return jnp.concatenate(blocks, axis=1)


class Transformer(nnx.Module):
    """The policy: a causal language model. See the top of the file for use under jit.

    config: the architecture. dtype: of parameters and activations; norms, softmax and logits are float32 whatever it
    is. remat: "full" recomputes each layer in the backward pass, "none" keeps its activations. rngs: initial weights.
    Raises ValueError for an unknown remat.
    """

    def __init__(self, config: Config, *, dtype: Any = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        if remat not in REMAT:
            raise ValueError(f"model.remat: expected one of {REMAT}, found {remat!r}")
        self.config, self.dtype, self.remat = config, jnp.dtype(dtype), remat
        self.layers = nnx.Dict({})
        for path, (shape, _, init) in config.parameters().items():
            owner, name = (self.layers, path.removeprefix("layers.")) if path.startswith("layers.") else (self, path)
            setattr(owner, name, nnx.Param(init(rngs.params(), shape, self.dtype)))

    def __call__(
        self, tokens_BT: Array, positions_BT: Array | None = None, segment_ids_BT: Array | None = None
    ) -> Array:
        """Logits [B, T, V] float32. The arguments are those of `hidden`."""
        return self.unembed(self.hidden(tokens_BT, positions_BT, segment_ids_BT))

    def hidden(self, tokens_BT: Array, positions_BT: Array | None = None, segment_ids_BT: Array | None = None) -> Array:
        """Hidden states [B, T, D] after the final norm.

        segment_ids_BT: packed rows; attention is causal by index within the row and only among equal ids; 0 is padding.
        positions_BT: rotary positions; by default 0..T-1, restarting where a segment starts.
        """
        if positions_BT is None:
            ids = jnp.zeros((1, tokens_BT.shape[1]), jnp.int32) if segment_ids_BT is None else segment_ids_BT
            positions_BT = segment_positions(ids)
        tables = rope_tables(positions_BT, self.config.head_dim, self.config.rope_theta)

        def body(x_BTD: Array, layer: Layer) -> tuple[Array, None]:
            q_BTHN, k_BTKN, v_BTKN = self._project(layer, x_BTD, tables)
            return self._finish(layer, x_BTD, causal_attention(q_BTHN, k_BTKN, v_BTKN, segment_ids_BT)), None

        if self.remat == "full":
            body = jax.checkpoint(body, prevent_cse=False)  # a scan body is safe from the CSE that would undo it
        stacked = {name: parameter[...] for name, parameter in self.layers.items()}
        x_BTD, _ = jax.lax.scan(body, self._embed(tokens_BT), stacked)
        return rms_norm(x_BTD, self.final_norm[...], self.config.rms_norm_eps)

    def unembed(self, x: Array) -> Array:
        """Logits [..., V] float32 of hidden states x [..., D]."""
        if self.config.tie_word_embeddings:
            return einsum("...D,VD->...V", x, self.embed[...], jnp.float32)
        return einsum("...D,DV->...V", x, self.head[...], jnp.float32)

    def extend(self, tokens_BT: Array, valid_B: Array, cache: Cache) -> tuple[Array, Cache]:
        """Appends the first valid_B[b] of the T tokens of each slot b; T = 1 is decode, T = chunk is chunked prefill.

        Returns hidden states [B, T, D] after the final norm, meaningless beyond a slot's valid tokens, and the
        new cache. Slots with valid 0 stay as they are. The caller sees to lengths_B + valid_B <= S: what is beyond is not stored.
        """
        B, T = tokens_BT.shape
        S = cache.layers[0][0].shape[1]
        offset_1T = jnp.arange(T, dtype=jnp.int32)[None]
        positions_BT = cache.lengths_B[:, None] + offset_1T
        # Invalid tokens are written at index S, that is nowhere.
        writes_BT = jnp.where(offset_1T < valid_B[:, None], positions_BT, S)
        slots_B1 = jnp.arange(B)[:, None]
        mask_BTS = jnp.arange(S)[None, None] <= positions_BT[:, :, None]
        tables = rope_tables(positions_BT, self.config.head_dim, self.config.rope_theta)
        x_BTD, layers = self._embed(tokens_BT), []
        # Unrolled: a cache stacked over layers and carried through a scan would be copied in every layer.
        for index, (k_BSKN, v_BSKN) in enumerate(cache.layers):
            layer = {name: parameter[...][index] for name, parameter in self.layers.items()}
            q_BTHN, k_BTKN, v_BTKN = self._project(layer, x_BTD, tables)
            k_BSKN = k_BSKN.at[slots_B1, writes_BT].set(k_BTKN.astype(k_BSKN.dtype), mode="drop")
            v_BSKN = v_BSKN.at[slots_B1, writes_BT].set(v_BTKN.astype(v_BSKN.dtype), mode="drop")
            x_BTD = self._finish(layer, x_BTD, attention(q_BTHN, k_BSKN, v_BSKN, mask_BTS))
            layers.append((k_BSKN, v_BSKN))
        x_BTD = rms_norm(x_BTD, self.final_norm[...], self.config.rms_norm_eps)
        return x_BTD, Cache(layers, cache.lengths_B + valid_B.astype(jnp.int32))

    def _embed(self, tokens_BT: Array) -> Array:
        return sharding.constrain_rows(self.embed[...][tokens_BT])

    def _project(self, layer: Layer, x_BTD: Array, tables: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        """Queries [B, T, H, N], keys and values [B, T, K, N] of a layer: norm, projections, QK-norm, rotary."""
        epsilon = self.config.rms_norm_eps
        x_BTD = rms_norm(x_BTD, layer["attention_norm"], epsilon)
        q_BTHN = einsum("BTD,DHN->BTHN", x_BTD, layer["query"])
        k_BTKN = einsum("BTD,DKN->BTKN", x_BTD, layer["key"])
        v_BTKN = einsum("BTD,DKN->BTKN", x_BTD, layer["value"])
        if self.config.attention_bias:
            q_BTHN += layer["query_bias"][None, None]
            k_BTKN += layer["key_bias"][None, None]
            v_BTKN += layer["value_bias"][None, None]
        q_BTHN = rope(rms_norm(q_BTHN, layer["query_norm"], epsilon), tables)
        k_BTKN = rope(rms_norm(k_BTKN, layer["key_norm"], epsilon), tables)
        return q_BTHN, k_BTKN, v_BTKN

    def _finish(self, layer: Layer, x_BTD: Array, heads_BTHN: Array) -> Array:
        """The rest of a layer: output projection and SwiGLU mlp (arXiv:2002.05202), both residual."""
        attended_BTD = einsum("BTHN,HND->BTD", heads_BTHN, layer["output"])
        if self.config.attention_bias:
            attended_BTD += layer["output_bias"][None, None]
        x_BTD = x_BTD + attended_BTD
        y_BTD = rms_norm(x_BTD, layer["mlp_norm"], self.config.rms_norm_eps)
        gate_BTF = jax.nn.silu(einsum("BTD,DF->BTF", y_BTD, layer["gate"]))
        up_BTF = einsum("BTD,DF->BTF", y_BTD, layer["up"])
        return sharding.constrain_rows(x_BTD + einsum("BTF,FD->BTD", gate_BTF * up_BTF, layer["down"]))
