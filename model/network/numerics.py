"""Matrix products, norms and gates in the right precision, for all parts of the model.

Norms and gates save only their inputs for the backward pass, which computes them again. On a CPU, and with any remat
policy on an accelerator, the memory traffic of saving more would cost more time than computing them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=("a", "b"), meta_fields=("scale",))
@dataclasses.dataclass(frozen=True)
class Adapter:
    """A low-rank change of a weight: scale * a b. a: [..., inputs..., r], b: [..., r, outputs...], float32."""

    a: Array
    b: Array
    scale: float


class Adapted(NamedTuple):
    """A weight with its adapter's change added, and the adapter, which gets the gradient instead of the weight."""

    merged: Array
    adapter: Adapter


def precision(x: Array) -> jax.lax.Precision | None:
    """HIGHEST for float32 inputs, which TPUs and GPUs would round; None, the default, for others."""
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None


def einsum(equation: str, x: Array, w: Array | Adapted, out: Any = None) -> Array:
    """jnp.einsum, in full float32 precision if the inputs are float32. out: dtype of the result; None: x's.

    Each letter of an input must also occur in the other input or in the output. x may have a leading "...", but not if
    w is Adapted; then `out` is ignored, too.
    """
    if isinstance(w, Adapted):
        return _adapted(equation, w.adapter.scale, x, w.merged, w.adapter.a, w.adapter.b)
    out = x.dtype if out is None else out
    equation = equation.replace("...", "abcdefgh"[: x.ndim - w.ndim + 1])
    return _einsum(equation, x, w) if x.dtype == w.dtype == out else _product(equation, x, w, out)


def _product(equation: str, x: Array, w: Array, out: Any) -> Array:
    return jnp.einsum(equation, x, w, precision=precision(x), preferred_element_type=out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _einsum(equation: str, x: Array, w: Array) -> Array:
    """The product, with a gradient that consists of two products.

    JAX's own gradient for w is a product and a transposition. XLA's CPU backend turns that into a transposing copy of
    the larger operand and a slower product; the gradient of an mlp would take 1.4 times as long.
    """
    return _product(equation, x, w, x.dtype)


def _einsum_forward(equation: str, x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(equation, x, w, x.dtype), (x, w)  # not _einsum: remat policies recognise only the product itself


def _einsum_backward(equation: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (x, w), (inputs, y_letters) = saved, equation.split("->")
    x_letters, w_letters = inputs.split(",")
    return (
        _product(f"{y_letters},{w_letters}->{x_letters}", gradient, w, x.dtype),
        _product(f"{x_letters},{y_letters}->{w_letters}", x, gradient, x.dtype),
    )


_einsum.defvjp(_einsum_forward, _einsum_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _adapted(equation: str, scale: float, x: Array, merged: Array, a: Array, b: Array) -> Array:
    """The product with merged = W0 + scale a b, where W0 is frozen. The gradient goes to x, a and b.

    The gradient of the whole weight, which would be as large as the weight, is never computed:
    dL/da = x^T (dL/dy b^T) scale and dL/db = (x a)^T dL/dy scale, with the products in brackets first.
    """
    return _product(equation, x, merged, x.dtype)


def _adapted_forward(
    equation: str, scale: float, x: Array, merged: Array, a: Array, b: Array
) -> tuple[Array, tuple[Array, ...]]:
    return _product(equation, x, merged, x.dtype), (x, merged, a, b)


def _adapted_backward(
    equation: str, scale: float, saved: tuple[Array, ...], gradient: Array
) -> tuple[Array, None, Array, Array]:
    (x, merged, a, b), (inputs, y_letters) = saved, equation.split("->")
    x_letters, w_letters = inputs.split(",")
    ins = "".join(letter for letter in w_letters if letter in x_letters)
    outs = "".join(letter for letter in w_letters if letter in y_letters)
    low = "".join(letter for letter in x_letters if letter not in ins) + "r"  # axes of x a and of dL/dy b^T
    narrow = _product(f"{x_letters},{ins}r->{low}", x, a.astype(x.dtype), x.dtype)
    back = _product(f"{y_letters},r{outs}->{low}", gradient, b.astype(x.dtype), x.dtype)
    return (
        _product(f"{y_letters},{w_letters}->{x_letters}", gradient, merged, x.dtype),
        None,
        scale * _product(f"{x_letters},{low}->{ins}r", x, back, jnp.float32),
        scale * _product(f"{low},{y_letters}->r{outs}", narrow, gradient, jnp.float32),
    )


_adapted.defvjp(_adapted_forward, _adapted_backward)


# prevent_cse=False: all layers are inside a scan, where the compiler's CSE cannot undo the recomputation.
_recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(_recomputed, static_argnums=2)
def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """RMSNorm (arXiv:1910.07467) over the last axis, computed in float32, returned in x's dtype. scale: [last axis]."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


@_recomputed
def swiglu(gate: Array, up: Array) -> Array:
    """silu(gate) * up (arXiv:2002.05202)."""
    return jax.nn.silu(gate) * up
