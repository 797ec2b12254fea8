"""Initial weights of a small Qwen3 with induction heads set by hand, so that it can copy before any training.

Two attention heads in consecutive layers can continue a sequence that occurred before (Olsson et al.,
arXiv:2209.11895). The head in the first layer attends to the previous token. The head in the second layer attends to
the positions after earlier occurrences of the current token, and predicts the tokens there. From random weights a model
of this size needs hundreds of steps to form such heads, and cannot learn the skills of a transcript before. All weights
are trained afterwards.

Legend: D width, H query heads, K kv heads, N head size; matrices as in Hugging Face checkpoints, [out, in].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

STD = 0.02  # standard deviation of random weights
BEFORE = 3.0  # norm weights of the first layer's heads; higher: attention more exclusively to the previous token
MATCH = 2.2  # norm weights of the second layer's heads; higher: attention more exclusively to equal tokens
COPY = 6.0  # scale of the second layer's output, relative to a token's own embedding
LOUD = 6.0  # weight of the final norm; makes predictions as confident as heads that are right 2 times in 3 should be
FAST_PAIRS = 4  # number of rotary pairs that distinguish neighbouring positions
SLOW = 0.005  # most radians per position of the rotary pairs that compare tokens hundreds of positions apart


def weights(architecture: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Hugging Face name -> float32 tensor.

    architecture: the content of a config.json with tied embeddings and at least two layers. Raises ValueError if the kv
    heads together are narrower than the model, since they could then not pass on a whole embedding.
    """
    a, rng = architecture, np.random.default_rng(seed)
    D, H, K, N = (a[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
    if K * N < D:
        raise ValueError(f"num_key_value_heads * head_dim = {K * N}, expected at least hidden_size = {D}")
    embed = rng.normal(0, STD, (a["vocab_size"], D))
    embed[:, 0] = 0.5 * STD * np.sqrt(D)  # a constant component, for heads whose scores must not depend on the token
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
    attention: dict[str, np.ndarray],
    norm: np.ndarray,
    theta: np.ndarray,
    size: int,
    share: int,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sets the first layer's heads: they attend to the previous token and write a projection of it into the residual
    stream, each kv head into a subspace of its own.

    The score of a key at distance d is the sum of cos(theta_i (d - 1)) over the fast rotary pairs. share: query heads
    per kv head. Returns (projection [size, D], subspace [D, size]) per kv head.
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
    attention: dict[str, np.ndarray],
    norm: np.ndarray,
    compared: np.ndarray,
    told: list[tuple[np.ndarray, np.ndarray]],
    share: int,
) -> None:
    """Sets the second layer's heads: they attend to the positions whose previous token equals the current token, and
    output the embedding of the token there.

    The first layer has written the previous token into the subspaces `told`. Each kv head outputs a part of the
    embedding.
    """
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
    o[0] = 0  # the component that is the same in every embedding is not copied
