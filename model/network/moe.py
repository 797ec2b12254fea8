"""The mixture of experts of Qwen3-MoE (arXiv:2505.09388, section 2), without dropped tokens.

Every token goes to its top-k experts; experts have no capacity limit. The (token, expert) pairs are sorted by expert,
and each expert's rows are multiplied by its weights (grouped matrix product). Shapes are static because there are
always exactly tokens x k pairs.

Shapes: B batch, T sequence, D model width, E experts, k experts per token, P = B T k pairs, F expert width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm, tgmm
from jax.sharding import PartitionSpec

from model.network import sharding
from model.network.numerics import einsum, precision, swiglu

Array = jax.Array
# (rows_PD, weights_EDF, sizes_E) -> [P, F]: the first sizes[0] rows times weights[0], the next sizes[1] rows times
# weights[1], and so on. Rows beyond the sum of the sizes have undefined results and gradients.
Product = Callable[[Array, Array, Array], Array]

TILE = (512, 1024, 1024)  # of the TPU kernel: (rows, inner width, outer width)


class Routing(NamedTuple):
    """The router's decision for each token.

    experts_BTk: int32, the chosen experts. weights_BTk: their weights, in the tokens' dtype. probabilities_BTE: the
    router's softmax over all experts, float32.
    """

    experts_BTk: Array
    weights_BTk: Array
    probabilities_BTE: Array


class RouterStats(NamedTuple):
    """Sums over the counted tokens of a sparse layer, float32. Stacked over layers they have another leading axis.

    pairs_E: number of tokens sent to each expert. probabilities_E: sum of the router's probabilities. tokens: number of
    counted tokens.
    """

    pairs_E: Array
    probabilities_E: Array
    tokens: Array


def route(x_BTD: Array, router_DE: Array, experts_per_token: int, normalise: bool) -> Routing:
    """Chooses the top-k experts of each token. Their weights are the softmax over all experts.

    normalise: rescale the weights of a token's k experts to sum to 1.
    """
    probabilities_BTE = jax.nn.softmax(einsum("BTD,DE->BTE", x_BTD, router_DE, jnp.float32), axis=-1)
    weights_BTk, experts_BTk = jax.lax.top_k(probabilities_BTE, experts_per_token)
    if normalise:
        weights_BTk = weights_BTk / weights_BTk.sum(axis=-1, keepdims=True)
    return Routing(experts_BTk, weights_BTk.astype(x_BTD.dtype), probabilities_BTE)


def ragged(rows_PD: Array, weights_EDF: Array, sizes_E: Array) -> Array:
    """The grouped product (see `Product`) by XLA, for any platform."""
    return jax.lax.ragged_dot(
        rows_PD, weights_EDF, sizes_E, precision=precision(rows_PD), preferred_element_type=rows_PD.dtype
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def megablox(rows_PD: Array, weights_EDF: Array, sizes_E: Array, interpret: bool = False) -> Array:
    """The grouped product for TPU: XLA's own in the forward pass, JAX's megablox kernels in the backward pass.

    XLA's gradient for the weights would multiply every row with every expert. In the forward pass XLA's kernel is
    better: in decode, with few rows, megablox took twice the memory traffic. interpret: run the kernels on any
    platform, slowly.
    """
    return ragged(rows_PD, weights_EDF, sizes_E)


def _megablox_forward(rows_PD: Array, weights_EDF: Array, sizes_E: Array, interpret: bool) -> tuple[Array, tuple]:
    return ragged(rows_PD, weights_EDF, sizes_E), (rows_PD, weights_EDF, sizes_E)


def _megablox_backward(interpret: bool, saved: tuple[Array, Array, Array], gradient_PF: Array) -> tuple:
    rows_PD, weights_EDF, sizes_E = saved
    P, (E, D, F) = rows_PD.shape[0], weights_EDF.shape
    tile = min(TILE[0], -(-P // 8) * 8)
    rows_PD, gradient_PF = (jnp.pad(x, ((0, -P % tile), (0, 0))) for x in (rows_PD, gradient_PF))  # rows of no expert
    back_PD = gmm(
        gradient_PF, weights_EDF, sizes_E, rows_PD.dtype, (tile, min(TILE[2], F), min(TILE[1], D)),
        transpose_rhs=True, interpret=interpret,
    )  # fmt: skip
    back_EDF = tgmm(
        rows_PD.T, gradient_PF, sizes_E, weights_EDF.dtype, (tile, min(TILE[1], D), min(TILE[2], F)),
        num_actual_groups=E, interpret=interpret,
    )  # fmt: skip
    return back_PD[:P], back_EDF, None


megablox.defvjp(_megablox_forward, _megablox_backward)


def experts(
    x_BTD: Array,
    routing: Routing,
    gate_EDF: Array,
    up_EDF: Array,
    down_EFD: Array,
    rules: sharding.Rules,
    product: Product = ragged,
) -> Array:
    """The weighted sum of each token's experts, [B, T, D]. product: `ragged` or `megablox`.

    Under `jax.set_mesh` experts are split over the mesh axis `expert` and their width over `tensor`. Each device
    gathers the tokens of all devices along `expert`, applies its own experts to them, and the sums over devices are
    scattered back to each token's device. This moves every token once whatever the routing is, so no buffer can
    overflow.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return _experts(x_BTD, routing.experts_BTk, routing.weights_BTk, gate_EDF, up_EDF, down_EFD, 0, product)
    split = sharding.activation_spec(rules)
    rows = tuple(axis for axis in rules["rows"] if axis != "expert")
    gathered = PartitionSpec(rows, *split[1:])  # entering shard_map with this spec gathers the tokens
    wide, narrow = PartitionSpec("expert", None, "tensor"), PartitionSpec("expert", "tensor", None)

    in_specs = (gathered, gathered, gathered, wide, wide, narrow)
    checked = product is ragged  # kernels do not declare over which axes their results vary

    @functools.partial(jax.shard_map, in_specs=in_specs, out_specs=split, check_vma=checked)
    def local(x: Array, chosen: Array, weights: Array, gate: Array, up: Array, down: Array) -> Array:
        # Explicit, because otherwise the gather in _experts would lose the sum over `expert` in the gradient of x.
        x = jax.lax.pcast(x, ("expert", "tensor"), to="varying") if checked else x
        first = jax.lax.axis_index("expert") * gate.shape[0]
        partial = jax.lax.psum(_experts(x, chosen, weights, gate, up, down, first, product), "tensor")
        return jax.lax.psum_scatter(partial, "expert", scatter_dimension=0, tiled=True)

    return local(x_BTD, routing.experts_BTk, routing.weights_BTk, gate_EDF, up_EDF, down_EFD)


def _experts(
    x_BTD: Array,
    experts_BTk: Array,
    weights_BTk: Array,
    gate_EDF: Array,
    up_EDF: Array,
    down_EFD: Array,
    first: int | Array,
    product: Product,
) -> Array:
    """`experts` on one device, which holds experts first to first + E - 1: the part of the sum that is due to them."""
    E, k = gate_EDF.shape[0], experts_BTk.shape[-1]
    local_P = experts_BTk.reshape(-1) - first
    held_P = (local_P >= 0) & (local_P < E)
    # Pairs of experts on other devices are sorted to the end, into a group without weights.
    group_P = jnp.where(held_P, local_P, E)
    order_P = jnp.argsort(group_P, stable=True)
    sizes_E = jnp.bincount(group_P, length=E).astype(jnp.int32)

    # Rows without weights have undefined results and gradients, so they are set to zero before and after.
    ours_P1 = (jnp.arange(group_P.size) < sizes_E.sum())[:, None]
    rows_PD = jnp.where(ours_P1, x_BTD.reshape(-1, x_BTD.shape[-1])[order_P // k], 0)
    hidden_PF = swiglu(product(rows_PD, gate_EDF, sizes_E), product(rows_PD, up_EDF, sizes_E))
    out_PD = jnp.where(ours_P1, product(hidden_PF, down_EFD, sizes_E), 0)
    # Tokens' order is restored by a gather: unlike a scatter-add it has the same order of additions everywhere.
    out_BTkD = out_PD[jnp.argsort(order_P)].reshape(*experts_BTk.shape, -1)
    return jnp.einsum("BTkD,BTk->BTD", out_BTkD, weights_BTk, precision=precision(x_BTD))


def router_stats(routing: Routing, counted_BT: Array) -> RouterStats:
    """The statistics of one layer over the tokens where counted_BT is not 0. Its B may be 1: the same for all rows."""
    pairs_BTE = jax.nn.one_hot(routing.experts_BTk, routing.probabilities_BTE.shape[-1], dtype=jnp.float32).sum(axis=2)
    counted_BT1 = jnp.broadcast_to(counted_BT, pairs_BTE.shape[:2]).astype(jnp.float32)[..., None]
    pairs_E, probabilities_E = ((counted_BT1 * x).sum(axis=(0, 1)) for x in (pairs_BTE, routing.probabilities_BTE))
    return RouterStats(pairs_E, probabilities_E, counted_BT1.sum())


def balance_loss(stats: RouterStats) -> Array:
    """The load-balancing loss over all sparse layers, a scalar: k for even routing, up to E if all tokens choose alike.

    E sum_e f_e p_e, where f_e is the number of tokens sent to expert e per token and p_e its mean probability, both
    over all layers (Switch Transformer, arXiv:2101.03961, eq. 4 to 6, generalised to top-k as in transformers).
    stats: stacked over layers.
    """
    tokens = jnp.maximum(stats.tokens.sum(), 1.0)
    return stats.pairs_E.shape[-1] * jnp.sum(stats.pairs_E.sum(axis=0) * stats.probabilities_E.sum(axis=0)) / tokens**2
