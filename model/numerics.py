"""What every part of the model shares: matrix products, norms and gates in the right precision.

Norms and gates keep their inputs alone for the backward pass and are computed again there: on a CPU, and with any
remat policy on an accelerator, the memory traffic of what they would keep costs more than they do.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def precision(x: Array) -> jax.lax.Precision | None:
    """Full float32 products of float32 inputs, which TPUs and GPUs would round; the default for anything else."""
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None


def einsum(equation: str, x: Array, w: Array, out: Any = None) -> Array:
    """jnp.einsum in full float32 where the inputs are float32; `out`: result dtype (default: x's).

    Each letter of an input must stand in the other input or in the output. Leading "..." of x is allowed.
    """
    out = x.dtype if out is None else out
    equation = equation.replace("...", "abcdefgh"[: x.ndim - w.ndim + 1])
    return _einsum(equation, x, w) if x.dtype == w.dtype == out else _product(equation, x, w, out)


def _product(equation: str, x: Array, w: Array, out: Any) -> Array:
    return jnp.einsum(equation, x, w, precision=precision(x), preferred_element_type=out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _einsum(equation: str, x: Array, w: Array) -> Array:
    """The product with its gradient written as two more.

    jax's own gradient for w is a product and a transposition. XLA's CPU backend turns that into a transposing copy of
    the larger operand and a slower product: the gradient of an mlp takes 1.4 times as long.
    """
    return _product(equation, x, w, x.dtype)


def _einsum_forward(equation: str, x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(equation, x, w, x.dtype), (x, w)  # not _einsum: remat policies look for the product itself


def _einsum_backward(equation: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (x, w), (inputs, y_letters) = saved, equation.split("->")
    x_letters, w_letters = inputs.split(",")
    return (
        _product(f"{y_letters},{w_letters}->{x_letters}", gradient, w, x.dtype),
        _product(f"{x_letters},{y_letters}->{w_letters}", x, gradient, x.dtype),
    )


_einsum.defvjp(_einsum_forward, _einsum_backward)


# prevent_cse: inside a scan, where all layers are, nothing can undo the recomputation.
_recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(_recomputed, static_argnums=2)
def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """RMSNorm (arXiv:1910.07467) over the last axis in float32, returned in x's dtype. scale: [last axis]."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


@_recomputed
def swiglu(gate: Array, up: Array) -> Array:
    """silu(gate) * up (arXiv:2002.05202)."""
    return jax.nn.silu(gate) * up
