"""First weights of a small Qwen3 that can copy before it has learned anything: induction heads, put there by hand.

What a context repeats is continued by two attention heads in a row (Olsson et al., arXiv:2209.11895): one in the first
layer that looks at the token before, and one in the second that looks for places behind what equals the current token,
and says what stands there. From random weights a model of this size needs hundreds of steps to find them, and
nothing that a transcript asks for can be learned earlier. Everything is trained afterwards.

Legend: D width, H query heads, K kv heads, N head size, F mlp width, V vocabulary; matrices as HF has them, [out, in].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

STD = 0.02  # of random weights, as everywhere
BEFORE = 3.0  # norm weights of the first layer's heads, the higher the more they see only the token before
MATCH = 2.2  # ... of the second layer's, the higher the more they see only equal tokens
COPY = 6.0  # how loud the second layer says what it has seen, in shares of a token's own embedding
LOUD = 6.0  # weight of the last norm: as sure as heads that are right two times in three should be
FAST_PAIRS = 4  # rotary pairs that tell places next to each other apart
SLOW = 0.005  # radians a place by which pairs may rotate that compare tokens hundreds of places apart


def weights(architecture: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """float32 tensors by HF name, for a config.json with tied embeddings and at least two layers.

    Raises ValueError where the kv heads together are narrower than the model, so that they cannot pass on a token.
    """
    a, rng = architecture, np.random.default_rng(seed)
    D, H, K, N = (a[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
    if K * N < D:
        raise ValueError(f"num_key_value_heads * head_dim = {K * N}, expected at least hidden_size = {D}")
    embed = rng.normal(0, STD, (a["vocab_size"], D))
    embed[:, 0] = 0.5 * STD * np.sqrt(D)  # the same in every token, for heads that do not care which one it is
    found = {"model.embed_tokens.weight": embed, "model.norm.weight": np.full(D, LOUD)}
    for layer in range(a["num_hidden_layers"]):
        shapes = {"q": (H * N, D), "k": (K * N, D), "v": (K * N, D), "o": (D, H * N)}
        attention = {name: rng.normal(0, STD, shape) for name, shape in shapes.items()}
        norm = np.ones(N)
        theta = a["rope_theta"] ** (-np.arange(N // 2) / (N // 2))
        slow = np.flatnonzero(theta < SLOW)
        compared = np.concatenate([slow, slow + N // 2])  # the rotary pairs are (i, i + N / 2)
        if layer == 0:
            told = _look_before(attention, norm, theta, len(compared), H // K, rng)
        elif layer == 1:
            _look_for_equals(attention, norm, compared, told, H // K)
        prefix, mlp = f"model.layers.{layer}", a["intermediate_size"]
        found |= {f"{prefix}.self_attn.{name}_proj.weight": value for name, value in attention.items()}
        found |= {f"{prefix}.self_attn.{name}_norm.weight": norm for name in "qk"}
        found |= {f"{prefix}.{name}_layernorm.weight": np.ones(D) for name in ("input", "post_attention")}
        found |= {f"{prefix}.mlp.{name}_proj.weight": rng.normal(0, STD, (mlp, D)) for name in ("gate", "up")}
        found[f"{prefix}.mlp.down_proj.weight"] = rng.normal(0, STD / 4, (D, mlp))
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def _look_before(
    attention: dict[str, np.ndarray], norm: np.ndarray, theta: np.ndarray, size: int, share: int,
    rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Makes the first layer's heads write a projection of the token before into a subspace of their kv head's own.

    The score of a key at distance d is the sum of cos(theta_i (d - 1)) over the fast pairs. Returns (projection
    [size, D], subspace [D, size]) per kv head; share: query heads of each.
    """
    q, k, v, o = (attention[name] for name in "qkvo")
    N, half, D = len(norm), len(theta), q.shape[1]
    fast = np.arange(FAST_PAIRS)
    query, key = np.zeros(N), np.zeros(N)
    query[fast], key[fast], key[fast + half] = 1, np.cos(theta[fast]), np.sin(theta[fast])
    norm[[*fast, *fast + half]] = BEFORE
    q[:], k[:], v[:] = 0, 0, 0
    q[:, 0], k[:, 0] = np.tile(query, len(q) // N), np.tile(key, len(k) // N)
    told, taken = [], np.zeros((D, 0))
    for head in range(len(k) // N):
        projection = rng.normal(0, 1 / np.sqrt(D), (size, D))
        projection[:, 0] = 0
        subspace = rng.normal(size=(D, size))
        subspace = np.linalg.qr(subspace - taken @ (taken.T @ subspace))[0]
        taken = np.concatenate([taken, subspace], 1)
        v[head * N : head * N + size] = projection
        for one in range(head * share, (head + 1) * share):
            o[:, one * N : one * N + size] = STD / share * subspace
        told.append((projection, subspace))
    return told


def _look_for_equals(
    attention: dict[str, np.ndarray], norm: np.ndarray, compared: np.ndarray,
    told: list[tuple[np.ndarray, np.ndarray]], share: int
) -> None:
    """Makes the second layer's heads compare the current token with what the first has told of the one before each
    place, and say the token that stands there: each kv head a part of its embedding."""
    q, k, v, o = (attention[name] for name in "qkvo")
    N, D = len(norm), q.shape[1]
    norm[compared] = MATCH
    parts = np.array_split(np.arange(D), len(told))
    for head, (projection, subspace) in enumerate(told):
        part, rows = parts[head], slice(head * N, (head + 1) * N)
        k[rows], v[rows] = 0, 0
        k[head * N + compared] = subspace.T
        v[head * N : head * N + len(part)] = np.eye(D)[part]
        for one in range(head * share, (head + 1) * share):
            q[one * N : (one + 1) * N] = 0
            q[one * N + compared] = projection
            o[:, one * N : one * N + len(part)] = COPY * STD / share * np.eye(D)[:, part]
    o[0] = 0  # which every token has
