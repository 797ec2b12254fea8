"""The two operations every part of the model shares: matrix products and norms in the right precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def precision(x: Array) -> jax.lax.Precision | None:
    """Full float32 products of float32 inputs, which TPUs and GPUs would round; the default for anything else."""
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None


def einsum(equation: str, x: Array, w: Array, out: Any = None) -> Array:
    """jnp.einsum in full float32 where the inputs are float32; `out`: result dtype (default: x's)."""
    out = x.dtype if out is None else out
    return jnp.einsum(equation, x, w, precision=precision(x), preferred_element_type=out)


def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """RMSNorm (arXiv:1910.07467) over the last axis in float32, returned in x's dtype. scale: [last axis]."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)
