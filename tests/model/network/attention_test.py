"""The TPU kernel, interpreted, against the plain path: values and gradients, alone and on a mesh."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.network import attention, sharding

B, T, H, K = 4, 256, 4, 2


def arrays(head_dim):
    """(q, k, v, segment ids) with packed episodes and padding at the end."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(B, T, n, head_dim)), jnp.float32) for n in (H, K, K))
    ids_BT = np.sort(rng.integers(1, 4, (B, T)), axis=1)
    ids_BT[:, -20:] = 0
    return q, k, v, jnp.asarray(ids_BT, jnp.int32)


@pytest.mark.parametrize("sizes", [None, {"fsdp": 2, "context": 2, "tensor": 2}], ids=str)
@pytest.mark.parametrize(("window", "head_dim"), [(None, 16), (37, 16), (None, 128)], ids=str)
def test_splash_equals_plain(sizes, window, head_dim):
    *heads, ids_BT = arrays(head_dim)

    def run(compute):
        def loss(q, k, v):
            out_BTHN = compute(q, k, v, ids_BT, window)
            return jnp.sum(jnp.sin(out_BTHN)), out_BTHN

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*heads)

    expected, expected_BTHN = run(attention.plain)
    with contextlib.nullcontext() if sizes is None else jax.set_mesh(sharding.make_mesh(sizes)):
        gradients, out_BTHN = run(functools.partial(attention.splash, interpret=True))
    np.testing.assert_allclose(out_BTHN, expected_BTHN, atol=1e-5)
    for a, b in zip(gradients, expected, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_rows_that_the_kernel_cannot_cut_are_refused():
    q = jnp.zeros((1, 200, 2, 16))
    with pytest.raises(ValueError, match="multiple of 128 tokens, found rows of 200.*rl.row_length"):
        attention.splash(q, q, q, None, None)


@pytest.mark.parametrize("window", [None, 37])
def test_cudnn_asks_for_the_same_attention(window):
    """What is asked of cuDNN, computed by XLA instead, in 16 bits; float32 goes the plain way."""
    *heads, ids_BT = arrays(16)
    expected = attention.plain(*heads, ids_BT, window)
    np.testing.assert_array_equal(attention.cudnn(*heads, ids_BT, window), expected)
    half = [x.astype(jnp.bfloat16) for x in heads]
    for ids in (ids_BT, None):
        found = attention.cudnn(*half, ids, window, implementation="xla")
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), attention.plain(*heads, ids, window), atol=0.05)


def test_a_query_sees_its_prefix_and_itself():
    """Against float64 softmax under the mask written out: a prefix, two members of it, an episode alone, padding."""
    T = 160  # more than a block of queries
    ids = np.repeat([1, 2, 3, 4, 0], [50, 30, 30, 40, 10])
    parents = np.where((ids == 2) | (ids == 3), 1, ids)
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, T, n, 16)) for n in (H, K, K))
    place = np.arange(T)
    seen = (place[:, None] >= place) & ((ids[:, None] == ids) | (parents[:, None] == ids))
    assert seen[90].sum() == 50 + 11 and seen[120].sum() == 11
    keys, values = (np.repeat(x[0], H // K, axis=1) for x in (k, v))
    scores = np.where(seen[None], np.einsum("thn,shn->hts", q[0], keys) / 4, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("hts,shn->thn", weights / weights.sum(-1, keepdims=True), values)
    heads, rows = [jnp.asarray(x, jnp.float32) for x in (q, k, v)], [jnp.asarray(x[None]) for x in (ids, parents)]
    for attend in (attention.plain, attention.splash, attention.cudnn):
        np.testing.assert_allclose(attend(*heads, rows[0], None, rows[1])[0], expected, atol=1e-5)
    half = [x.astype(jnp.bfloat16) for x in heads]
    found = attention.cudnn(*half, rows[0], None, rows[1], implementation="xla")
    np.testing.assert_allclose(found[0].astype(jnp.float32), expected, atol=0.05)
