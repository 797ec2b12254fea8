"""Rotary position embedding, plain and with YaRN scaling.

Shapes: B batch, T sequence, H heads, N head size.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Yarn:
    """YaRN (arXiv:2309.00071), with the key names and defaults of HF's rope_parameters.

    original_max_position_embeddings: context length of pretraining, in tokens.
    factor: by how much the context is extended beyond that.
    beta_fast, beta_slow: rotations over the original context. Dimensions that rotate more often than beta_fast are left
        unchanged, those that rotate less often than beta_slow are interpolated, the ones between are mixed.
    attention_factor: scale of cos and sin; None: derived from factor, or from mscale and mscale_all_dim.
    truncate: whether the bounds of the mixed range are rounded to whole dimensions.
    Raises ValueError if a value is not positive.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self):
        for name in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"YaRN rope scaling: {name} must be positive, found {value}")

    def scale(self) -> float:
        """The factor of cos and sin: the square root of 1/t in section 3.4, since queries and keys both get it."""

        def of(mscale: float) -> float:
            return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0

        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return of(self.mscale) / of(self.mscale_all_dim)
        return of(1.0)

    def frequencies(self, head_dim: int, theta: float) -> Array:
        """Angle per token in radians, [N/2] float32, by "NTK-by-parts" interpolation (section 3.2)."""

        def dimension(rotations: float) -> float:
            """The (fractional) index of the dimension pair that rotates this often over the original context."""
            context = self.original_max_position_embeddings
            return head_dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low, high = dimension(self.beta_fast), dimension(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        high = high + 0.001 if low == high else high
        interpolated = jnp.clip((jnp.arange(head_dim // 2, dtype=jnp.float32) - low) / (high - low), 0, 1)
        plain = frequencies(head_dim, theta)
        return plain / self.factor * interpolated + plain * (1 - interpolated)


def frequencies(head_dim: int, theta: float) -> Array:
    """Angle per token in radians, theta^(-2i/N), [N/2] float32 (RoFormer, arXiv:2104.09864, eq. 15)."""
    return theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)


def tables(positions_BT: Array, head_dim: int, theta: float, scaling: Yarn | None = None) -> tuple[Array, Array]:
    """(cos, sin), each [B, T, 1, N/2] float32, of the rotary angles: position times frequency."""
    turns = frequencies(head_dim, theta) if scaling is None else scaling.frequencies(head_dim, theta)
    angles = positions_BT.astype(jnp.float32)[:, :, None, None] * turns.reshape(1, 1, 1, -1)
    if scaling is None:
        return jnp.cos(angles), jnp.sin(angles)
    return jnp.cos(angles) * scaling.scale(), jnp.sin(angles) * scaling.scale()


def rotate(x_BTHN: Array, cos_sin: tuple[Array, Array]) -> Array:
    """Rotates the pairs (i, i + N/2) of each head (HF's convention). Computed in float32, returned in x's dtype."""
    cos, sin = cos_sin
    a, b = jnp.split(x_BTHN.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BTHN.dtype)
