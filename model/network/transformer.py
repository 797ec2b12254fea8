"""The Qwen transformers in Flax NNX: Qwen2 and Qwen2.5 (arXiv:2407.10671, 2412.15115), Qwen3 dense and Qwen3-MoE
(arXiv:2505.09388, section 2).

The learner calls `policy(tokens_BT, ...)`, the sampler calls `policy.extend(...)`; both use the same parameters.
`Config.parameters` lists each parameter's shape, logical axes and initialiser. Initialisation, sharding (sharding.py)
and the checkpoint mapping (model/checkpoints/load.py) are derived from it. Attention is in attention.py, rotary
embedding in rope.py, the mixture of experts in moe.py.

A function to be jitted takes the module's graph and its parameters apart and merges them inside:

    policy, config = load.from_pretrained(path)
    graphdef, params = nnx.split(policy)

    @functools.partial(jax.jit, static_argnums=0)
    def loss(graphdef, params, tokens_BT):
        policy = nnx.merge(graphdef, params)
        return policy(tokens_BT).mean()

    grads = jax.grad(loss, argnums=1)(graphdef, params, tokens_BT)      # a pytree of the structure of params

`graphdef` is hashable, so it can be a static argument. `params` is an nnx.State; `params["layers"]["query"][...]` is an
array. It is an ordinary pytree for optax, orbax, jax.tree.map and donation.

Shapes: B batch, T sequence, S keys (T, or the cache length), D model width, L layers, H query heads, K kv heads,
N head size, F mlp width, E experts, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from model.network import attention, moe, rope, sharding
from model.network.numerics import Adapted, Adapter, einsum, rms_norm, swiglu

Array = jax.Array
# The parameters of one layer: name in `Config.parameters` without "layers." -> array, or with a LoRA adapter (lora.py).
Layer = dict[str, Array | Adapted]

# Which activations of a layer are kept for the backward pass, which recomputes the others. From most memory to least.
REMAT = {
    "none": "keeps everything",
    "dots": "keeps the results of the projections",
    "attention": "keeps the attention's inputs and output, so that only the projections and the mlp are repeated",
    "full": "keeps the layer's input alone",
}
# Platform -> (self-attention over whole rows, grouped matrix product of a mixture of experts).
KERNELS = {
    "cpu": (attention.plain, moe.ragged),
    "gpu": (attention.cudnn, moe.ragged),
    "tpu": (attention.splash, moe.megablox),
}
FAMILIES = ("qwen2", "qwen3", "qwen3_moe")  # HF's model_type
FULL, SLIDING = "full_attention", "sliding_attention"  # HF's layer_types


class Parameter(NamedTuple):
    """One row of the parameter table: the shape, a logical axis for each dimension, and the initialiser.

    layers: indices of the layers that are stacked on the leading axis, in order; () for a parameter outside the layers.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: jax.nn.initializers.Initializer
    layers: tuple[int, ...] = ()


class Run(NamedTuple):
    """Consecutive layers, start to stop - 1, with the same attention window (None: full) and kind of mlp."""

    start: int
    stop: int
    window: int | None
    sparse: bool


@dataclasses.dataclass(frozen=True)
class Config:
    """The architecture, with the key names of an HF config.json and the defaults of HF's Qwen3Config.

    model_type: one of FAMILIES.
    attention_bias: whether Qwen3's attention projections have biases. Qwen2 ignores it: queries, keys and values always
        have biases, the output projection never has.
    layer_types: FULL or SLIDING for each layer; () means FULL for all.
    sliding_window: number of tokens that a query of a sliding layer sees, itself included.

    The keys from num_experts on are used by qwen3_moe only. Layer i is sparse (a mixture of experts) if it is not in
    mlp_only_layers and decoder_sparse_step divides i + 1. router_aux_loss_coef is not used; it is kept so that it can
    be written back to config.json.

    Raises ValueError, naming the key, if a value is impossible.
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
    rope_scaling: rope.Yarn | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    max_position_embeddings: int = 32768
    model_type: str = "qwen3"
    layer_types: tuple[str, ...] = ()
    sliding_window: int | None = None
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    router_aux_loss_coef: float = 0.001

    def __post_init__(self):
        def check(ok: bool, name: str, expected: str) -> None:
            if not ok:
                raise ValueError(f"model config: {name} must be {expected}, found {getattr(self, name)!r}")

        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "max_position_embeddings",
        ):  # fmt: skip
            check(getattr(self, name) > 0, name, "positive")
        H, L = self.num_attention_heads, self.num_hidden_layers
        check(H % self.num_key_value_heads == 0, "num_key_value_heads", f"a divisor of num_attention_heads ({H})")
        check(self.head_dim % 2 == 0, "head_dim", "even for rotary embeddings")
        check(self.model_type in FAMILIES, "model_type", f"one of {FAMILIES}")
        known = len(self.layer_types) in (0, L) and set(self.layer_types) <= {FULL, SLIDING}
        check(known, "layer_types", f"{L} times {FULL!r} or {SLIDING!r}")
        if SLIDING in self.layer_types:
            check((self.sliding_window or 0) > 0, "sliding_window", "positive, because layer_types has sliding layers")
        else:  # unused here; cleared so that equal architectures have equal configs
            object.__setattr__(self, "layer_types", ())
            object.__setattr__(self, "sliding_window", None)
        if self.model_type == "qwen3_moe":
            check(self.num_experts > 0, "num_experts", "positive")
            limit = f"from 1 to num_experts ({self.num_experts})"
            check(0 < self.num_experts_per_tok <= self.num_experts, "num_experts_per_tok", limit)
            check(self.moe_intermediate_size > 0, "moe_intermediate_size", "positive")
            check(self.decoder_sparse_step > 0, "decoder_sparse_step", "positive")

    @property
    def qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.attention_bias or self.model_type == "qwen2"

    @property
    def output_bias(self) -> bool:
        """Whether the attention's output projection has a bias."""
        return self.attention_bias and self.model_type != "qwen2"

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head."""
        return self.model_type != "qwen2"

    def sparse(self, layer: int) -> bool:
        """Whether the layer's mlp is a mixture of experts."""
        mixed = self.model_type == "qwen3_moe" and layer not in self.mlp_only_layers
        return mixed and (layer + 1) % self.decoder_sparse_step == 0

    def window(self, layer: int) -> int | None:
        """Number of tokens that a query of the layer sees, itself included; None: itself and all before it."""
        return self.sliding_window if self.layer_types and self.layer_types[layer] == SLIDING else None

    def runs(self) -> list[Run]:
        """The layers grouped into the longest runs of layers of the same kind; each run is computed by one scan."""
        kinds = [(self.window(layer), self.sparse(layer)) for layer in range(self.num_hidden_layers)]
        bounds = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
        return [Run(a, b, *kinds[a]) for a, b in zip([0, *bounds], [*bounds, len(kinds)], strict=True)]

    def parameters(self) -> dict[str, Parameter]:
        """The parameter table: dotted path in the parameter pytree -> `Parameter`.

        The layers' parameters are stacked on a leading axis, dense and sparse mlps separately. Initialisers are HF's:
        normal(0.02) for matrices, ones for norms, zeros for biases.
        """
        D, F, V, E, X = (
            self.hidden_size, self.intermediate_size, self.vocab_size, self.num_experts, self.moe_intermediate_size
        )  # fmt: skip
        H, K, N = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        normal, one, zero = jax.nn.initializers.normal(0.02), jax.nn.initializers.ones, jax.nn.initializers.zeros
        attention = {
            "attention_norm": Parameter((D,), ("norm",), one),
            "query": Parameter((D, H, N), ("embed", "heads", "head"), normal),
            "key": Parameter((D, K, N), ("embed", "kv_heads", "head"), normal),
            "value": Parameter((D, K, N), ("embed", "kv_heads", "head"), normal),
            "output": Parameter((H, N, D), ("heads", "head", "embed"), normal),
            "mlp_norm": Parameter((D,), ("norm",), one),
        }
        if self.qk_norm:
            attention["query_norm"] = Parameter((N,), ("norm",), one)
            attention["key_norm"] = Parameter((N,), ("norm",), one)
        if self.qkv_bias:
            attention["query_bias"] = Parameter((H, N), ("heads", "head"), zero)
            attention["key_bias"] = Parameter((K, N), ("kv_heads", "head"), zero)
            attention["value_bias"] = Parameter((K, N), ("kv_heads", "head"), zero)
        if self.output_bias:
            attention["output_bias"] = Parameter((D,), ("norm",), zero)
        dense = {
            "gate": Parameter((D, F), ("embed", "mlp"), normal),
            "up": Parameter((D, F), ("embed", "mlp"), normal),
            "down": Parameter((F, D), ("mlp", "embed"), normal),
        }
        sparse = {
            "router": Parameter((D, E), ("embed", "router"), normal),
            "expert_gate": Parameter((E, D, X), ("experts", "expert_embed", "mlp"), normal),
            "expert_up": Parameter((E, D, X), ("experts", "expert_embed", "mlp"), normal),
            "expert_down": Parameter((E, X, D), ("experts", "mlp", "expert_embed"), normal),
        }
        layers = range(self.num_hidden_layers)
        table = {"embed": Parameter((V, D), ("vocab", "embed"), normal)}
        for group, held in (
            (attention, tuple(layers)),
            (dense, tuple(i for i in layers if not self.sparse(i))),
            (sparse, tuple(i for i in layers if self.sparse(i))),
        ):
            for name, (shape, axes, init, _) in group.items() if held else ():
                table[f"layers.{name}"] = Parameter((len(held), *shape), ("layers", *axes), init, held)
        table["final_norm"] = Parameter((D,), ("norm",), one)
        if not self.tie_word_embeddings:
            table["head"] = Parameter((D, V), ("embed", "vocab"), normal)
        return table


@functools.partial(jax.tree_util.register_dataclass, data_fields=("layers", "lengths_B"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Cache:
    """The KV cache: keys and values of every slot.

    layers: (k_BKSN, v_BKSN) of each layer. lengths_B: number of tokens in each slot, int32 [B].
    Entries at or beyond a slot's length are never read, so setting the length to 0 empties a slot.
    """

    layers: list[tuple[Array, Array]]
    lengths_B: Array


def init_cache(config: Config, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache with `batch` slots of `length` tokens each."""
    shape = (batch, config.num_key_value_heads, length, config.head_dim)
    layers = [(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(config.num_hidden_layers)]
    return Cache(layers, jnp.zeros((batch,), jnp.int32))


def unstack(config: Config, params: Any) -> tuple[Any, list[Layer]]:
    """Returns (the parameters with empty arrays in place of the layers' parameters, the parameters of each layer).

    Decoding needs it: with stacked arrays it would copy every layer's parameters for every token. Can be traced by jit.
    """
    layers: list[Layer] = [{} for _ in range(config.num_hidden_layers)]
    for name, x in nnx.to_flat_state(params["layers"]):
        for place, layer in enumerate(config.parameters()[f"layers.{name[0]}"].layers):
            layers[layer][name[0]] = x[...][place]
    rest = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros((0,), x.dtype) if path[0].key == "layers" else x, params
    )
    return rest, layers


def segment_positions(segment_ids_BT: Array) -> Array:
    """Positions [B, T] int32 that count from 0 at the start of each run of equal segment ids."""
    T = segment_ids_BT.shape[1]
    index_1T = jnp.arange(T, dtype=jnp.int32)[None]
    starts_BT = jnp.pad(segment_ids_BT[:, 1:] != segment_ids_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return index_1T - jax.lax.cummax(jnp.where(starts_BT, index_1T, 0), axis=1)


def _remat_policy(remat: str) -> Any:
    """The policy for jax.checkpoint of a key of REMAT other than "none"."""
    policies = jax.checkpoint_policies
    return {
        "dots": policies.dots_with_no_batch_dims_saveable,
        "attention": policies.save_only_these_names("attention"),
        "full": policies.nothing_saveable,
    }[remat]


class Transformer(nnx.Module):
    """The policy: a causal language model. See the top of the file for use under jit.

    config: the architecture. dtype: of parameters and activations; norms, softmax and logits are always float32.
    remat: a key of REMAT. platform: a key of KERNELS. rngs: source of the initial weights.
    Raises ValueError for an unknown remat or platform.
    """

    def __init__(
        self,
        config: Config,
        *,
        dtype: Any = jnp.float32,
        remat: str = "none",
        platform: str = "cpu",
        rngs: nnx.Rngs,
    ):
        if remat not in REMAT:
            raise ValueError(f"model.remat: expected one of {tuple(REMAT)}, found {remat!r}")
        if platform not in KERNELS:
            raise ValueError(f"platform: expected one of {tuple(KERNELS)}, found {platform!r}")
        self.config, self.dtype, self.remat, self.platform = config, jnp.dtype(dtype), remat, platform
        self.layers = nnx.Dict({})
        for path, (shape, _, init, _) in config.parameters().items():
            owner, name = (self.layers, path.removeprefix("layers.")) if path.startswith("layers.") else (self, path)
            setattr(owner, name, nnx.Param(init(rngs.params(), shape, self.dtype)))

    def __call__(
        self, tokens_BT: Array, positions_BT: Array | None = None, segment_ids_BT: Array | None = None
    ) -> Array:
        """Logits [B, T, V] float32. Arguments as for `hidden`."""
        return self.unembed(self.hidden(tokens_BT, positions_BT, segment_ids_BT))

    def hidden(self, tokens_BT: Array, positions_BT: Array | None = None, segment_ids_BT: Array | None = None) -> Array:
        """Hidden states [B, T, D] after the final norm.

        segment_ids_BT: int32, for rows that hold several sequences: a token attends to tokens at its own and earlier
            indices with the same id; 0 marks padding. None: each row is one sequence.
        positions_BT: rotary positions, int32. None: they count from 0 at the start of each segment.
        """
        return self.hidden_and_router(tokens_BT, positions_BT, segment_ids_BT)[0]

    def hidden_and_router(
        self,
        tokens_BT: Array,
        positions_BT: Array | None = None,
        segment_ids_BT: Array | None = None,
        parent_ids_BT: Array | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> tuple[Array, moe.RouterStats | None]:
        """Returns (`hidden`, the router's statistics of the sparse layers, stacked and without padding tokens).

        The statistics are None if there are no sparse layers.
        parent_ids_BT: see attention.plain; with them positions_BT must be given.
        adapters: parameter name -> its LoRA adapter. The parameters are already merged with them; they are passed so
            that they receive the gradient, see model/checkpoints/lora.py.
        """
        ids_BT = jnp.ones((1, tokens_BT.shape[1]), jnp.int32) if segment_ids_BT is None else segment_ids_BT
        positions_BT = segment_positions(ids_BT) if positions_BT is None else positions_BT
        angles, rules = self._angles(positions_BT), sharding.TRAIN
        x_BTD, found = self._embed(tokens_BT, rules), []
        for run in self.config.runs():

            def body(x_BTD: Array, layer: Layer, run: Run = run) -> tuple[Array, moe.RouterStats | None]:
                q_BTHN, k_BTKN, v_BTKN = self._project(layer, x_BTD, angles)
                q_BTHN, k_BTKN, v_BTKN = (checkpoint_name(x, "attention") for x in (q_BTHN, k_BTKN, v_BTKN))
                attend, _ = KERNELS[self.platform]
                heads_BTHN = attend(q_BTHN, k_BTKN, v_BTKN, segment_ids_BT, run.window, parent_ids_BT)
                heads_BTHN = checkpoint_name(heads_BTHN, "attention")
                x_BTD, routing = self._finish(layer, x_BTD, heads_BTHN, rules)
                return x_BTD, None if routing is None else moe.router_stats(routing, ids_BT != 0)

            if self.remat != "none":  # prevent_cse=False: within a scan the compiler's CSE cannot undo the remat
                body = jax.checkpoint(body, prevent_cse=False, policy=_remat_policy(self.remat))
            x_BTD, stats = jax.lax.scan(body, x_BTD, self._stacked(run, adapters or {}))
            found += [] if stats is None else [stats]
        stats = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found) if found else None
        return rms_norm(x_BTD, self.final_norm[...], self.config.rms_norm_eps), stats

    def unembed(self, x: Array) -> Array:
        """Logits [..., V] float32 for hidden states x [..., D]."""
        if self.config.tie_word_embeddings:
            return einsum("...D,VD->...V", x, self.embed[...], jnp.float32)
        return einsum("...D,DV->...V", x, self.head[...], jnp.float32)

    def extend(
        self,
        tokens_BT: Array,
        valid_B: Array,
        cache: Cache,
        layers: Sequence[Layer] | None = None,
        rows_B: Array | None = None,
    ) -> tuple[Array, Cache]:
        """Appends the first valid_B[b] of the T tokens of each slot b. T = 1 decodes; a larger T prefills a chunk.

        Returns (hidden states [B, T, D] after the final norm, the new cache). Hidden states beyond a slot's valid
        tokens are meaningless. Slots with valid_B = 0 do not change. The caller must ensure lengths_B + valid_B <= S:
        tokens beyond are not stored.

        layers: the parameters of each layer, from `unstack`. None: slices of the stacked parameters.
        rows_B: for a cache of more than B rows, the row of each slot; a row number beyond the last means no slot.
            cache.lengths_B then has an entry for each of the B slots, not for each row.
        """
        B, T = tokens_BT.shape
        S = cache.layers[0][0].shape[2]
        offset_1T = jnp.arange(T, dtype=jnp.int32)[None]
        positions_BT = cache.lengths_B[:, None] + offset_1T
        used_B = jnp.minimum(jnp.where(valid_B > 0, cache.lengths_B + valid_B, 0), S)
        # Invalid tokens are written at index S, which is out of range and therefore dropped.
        writes_BT = jnp.where(offset_1T < valid_B[:, None], positions_BT, S)
        slots_B11 = (jnp.arange(B) if rows_B is None else rows_B)[:, None, None]
        heads_1K1 = jnp.arange(self.config.num_key_value_heads)[None, :, None]
        angles, rules, blocks = self._angles(positions_BT), sharding.DECODE, attention.CACHE_BLOCKS[self.platform]
        x_BTD, extended = self._embed(tokens_BT, rules), []
        # A Python loop, not a scan: a scan would copy the cache, stacked over layers, in every layer.
        for index, (k_BKSN, v_BKSN) in enumerate(cache.layers):
            layer = self._layer(index) if layers is None else layers[index]
            q_BTHN, k_BTKN, v_BTKN = self._project(layer, x_BTD, angles)
            k_BKSN, v_BKSN = (
                cached.at[slots_B11, heads_1K1, writes_BT[:, None]].set(
                    new_BTKN.transpose(0, 2, 1, 3).astype(cached.dtype), mode="drop"
                )
                for cached, new_BTKN in ((k_BKSN, k_BTKN), (v_BKSN, v_BTKN))
            )
            window = self.config.window(index)
            heads_BTHN = attention.cached(q_BTHN, k_BKSN, v_BKSN, positions_BT, used_B, window, rows_B, blocks)
            x_BTD, _ = self._finish(layer, x_BTD, heads_BTHN, rules)
            extended.append((k_BKSN, v_BKSN))
        x_BTD = rms_norm(x_BTD, self.final_norm[...], self.config.rms_norm_eps)
        return x_BTD, Cache(extended, cache.lengths_B + valid_B.astype(jnp.int32))

    def _stacked(self, run: Run, adapters: Mapping[str, Adapter] = {}) -> Layer:
        """The stacked parameters of a run of layers."""
        table, chosen = self.config.parameters(), {}
        for name, parameter in self.layers.items():
            held = table[f"layers.{name}"].layers
            if run.start in held:
                first = held.index(run.start)
                last = first + run.stop - run.start
                whole = Adapted(parameter[...], adapters[name]) if name in adapters else parameter[...]
                # No slice if the run is all of the stack: a slice would be a copy.
                part = operator.itemgetter(slice(first, last))
                chosen[name] = whole if last - first == len(held) else jax.tree.map(part, whole)
        return chosen

    def _layer(self, index: int) -> Layer:
        """The parameters of one layer."""
        stacked = self._stacked(Run(index, index + 1, None, False))
        return {name: x[0] for name, x in stacked.items()}

    def _angles(self, positions_BT: Array) -> tuple[Array, Array]:
        """(cos, sin) of the rotary angles."""
        return rope.tables(positions_BT, self.config.head_dim, self.config.rope_theta, self.config.rope_scaling)

    def _embed(self, tokens_BT: Array, rules: sharding.Rules) -> Array:
        return sharding.constrain(self.embed[...][tokens_BT], rules)

    def _project(self, layer: Layer, x_BTD: Array, angles: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        """Queries [B, T, H, N], keys and values [B, T, K, N] of a layer: norm, projections, QK-norm, RoPE."""
        epsilon = self.config.rms_norm_eps
        x_BTD = rms_norm(x_BTD, layer["attention_norm"], epsilon)
        q_BTHN = einsum("BTD,DHN->BTHN", x_BTD, layer["query"])
        k_BTKN = einsum("BTD,DKN->BTKN", x_BTD, layer["key"])
        v_BTKN = einsum("BTD,DKN->BTKN", x_BTD, layer["value"])
        if self.config.qkv_bias:
            q_BTHN += layer["query_bias"][None, None]
            k_BTKN += layer["key_bias"][None, None]
            v_BTKN += layer["value_bias"][None, None]
        if self.config.qk_norm:
            q_BTHN = rms_norm(q_BTHN, layer["query_norm"], epsilon)
            k_BTKN = rms_norm(k_BTKN, layer["key_norm"], epsilon)
        return rope.rotate(q_BTHN, angles), rope.rotate(k_BTKN, angles), v_BTKN

    def _finish(
        self, layer: Layer, x_BTD: Array, heads_BTHN: Array, rules: sharding.Rules
    ) -> tuple[Array, moe.Routing | None]:
        """The rest of a layer after attention: output projection and mlp, each with its residual connection.

        The mlp is SwiGLU or, if the layer has a router, a mixture of SwiGLU experts. Returns (x_BTD, the routing, which
        is None for a dense layer).
        """
        attended_BTD = einsum("BTHN,HND->BTD", heads_BTHN, layer["output"])
        if self.config.output_bias:
            attended_BTD += layer["output_bias"][None, None]
        x_BTD = x_BTD + attended_BTD
        y_BTD = rms_norm(x_BTD, layer["mlp_norm"], self.config.rms_norm_eps)
        if "router" in layer:
            c = self.config
            routing = moe.route(y_BTD, layer["router"], c.num_experts_per_tok, c.norm_topk_prob)
            weights = (layer["expert_gate"], layer["expert_up"], layer["expert_down"])
            _, product = KERNELS[self.platform]
            return sharding.constrain(x_BTD + moe.experts(y_BTD, routing, *weights, rules, product), rules), routing
        gate_BTF = einsum("BTD,DF->BTF", y_BTD, layer["gate"])
        up_BTF = einsum("BTD,DF->BTF", y_BTD, layer["up"])
        mlp_BTD = einsum("BTF,FD->BTD", swiglu(gate_BTF, up_BTF), layer["down"])
        return sharding.constrain(x_BTD + mlp_BTD, rules), None
