"""The transformer against transformers' torch Qwen3, and against itself packed, cached, rematerialised and sharded."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoints import load
from model.network import transformer

CONFIG = transformer.Config(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    rope_theta=1e6,
)


@functools.cache
def make_policy(config=CONFIG, dtype=jnp.float32, remat="none"):
    """A policy whose every parameter is random, norms and biases included, and large enough for sharp attention."""
    init = functools.partial(transformer.Transformer, config, dtype=dtype, remat=remat)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: init(rngs=nnx.Rngs(0))))
    rng, norms = np.random.default_rng(0), ("attention_norm", "query_norm", "key_norm", "mlp_norm", "final_norm")

    def draw(path, x):
        with jax.ensure_compile_time_eval():  # the first caller may be under jit, and the policy is kept
            return jnp.asarray(rng.normal(path[-2].key in norms, 0.2, x.shape), dtype)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(draw, params))


def make_tokens(batch, length, seed=0):
    """Random token ids [batch, length]."""
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, CONFIG.vocab_size)


@pytest.mark.parametrize(
    ("heads", "tied", "bias"),
    [((4, 2), False, False), ((4, 2), True, False), ((4, 4), False, True), ((6, 1), True, True)],
    ids=str,
)
def test_logits_equal_transformers(tmp_path, heads, tied, bias):
    config = dataclasses.replace(
        CONFIG,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        tie_word_embeddings=tied,
        attention_bias=bias,
    )
    policy = make_policy(config)
    load.save_pretrained(policy, config, tmp_path)
    torch_model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens_BT = make_tokens(2, 33)
    with torch.no_grad():
        expected_BTV = torch_model(torch.tensor(np.asarray(tokens_BT))).logits.numpy()
    logits_BTV = jax.jit(policy.__call__)(tokens_BT)
    assert logits_BTV.dtype == jnp.float32
    assert np.abs(expected_BTV).max() > 1  # the comparison would be idle among zeros
    np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-4)


def test_explicit_positions_equal_transformers(tmp_path):
    policy = make_policy()
    load.save_pretrained(policy, CONFIG, tmp_path)
    torch_model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens_BT = make_tokens(1, 9)
    positions_BT = jnp.array([[0, 1, 2, 7, 8, 9, 20, 21, 400]])
    with torch.no_grad():
        expected_BTV = torch_model(
            torch.tensor(np.asarray(tokens_BT)),
            position_ids=torch.tensor(np.asarray(positions_BT)),
            attention_mask=torch.ones(1, 9),  # else transformers takes the gaps for packing
            use_cache=False,
        ).logits.numpy()
    np.testing.assert_allclose(policy(tokens_BT, positions_BT), expected_BTV, atol=1e-4)
    assert np.abs(policy(tokens_BT) - expected_BTV).max() > 1e-2


@jax.jit
def call(tokens_BT, segment_ids_BT=None):
    """Logits of the default policy."""
    return make_policy()(tokens_BT, segment_ids_BT=segment_ids_BT)


@jax.jit
def full_hidden(tokens_BT):
    """Hidden states of the default policy."""
    return make_policy().hidden(tokens_BT)


@jax.jit
def extend(tokens_BT, valid_B, cache):
    """`extend` of the default policy."""
    return make_policy().extend(tokens_BT, valid_B, cache)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 3))
def test_packed_segments_equal_separate_rows(lengths, padding):
    T = 32
    lead = [0] * padding  # padding may stand anywhere; trailing padding fills the row
    ids = lead + [i + 1 for i, length in enumerate(lengths) for _ in range(length)]
    segment_ids_BT = jnp.array([ids + [0] * (T - len(ids))])
    tokens_BT = make_tokens(1, T)
    packed_BTV = call(tokens_BT, segment_ids_BT)
    assert np.isfinite(packed_BTV).all()
    start = padding
    for length in lengths:  # what follows a segment's own tokens cannot matter: see the gradient test below
        alone_BTV = call(jnp.roll(tokens_BT, -start, axis=1))
        np.testing.assert_allclose(packed_BTV[:, start : start + length], alone_BTV[:, :length], atol=1e-5)
        start += length


def test_segment_positions_by_hand():
    segment_ids_BT = jnp.array([[1, 1, 1, 2, 3, 3, 0, 0], [0, 5, 5, 4, 4, 4, 4, 4]])
    expected_BT = [[0, 1, 2, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 2, 3, 4]]
    np.testing.assert_array_equal(transformer.segment_positions(segment_ids_BT), expected_BT)


def test_no_gradient_from_later_tokens_or_other_segments():
    policy = make_policy()
    T, t = 12, 7
    tokens_BT = jnp.arange(T, dtype=jnp.int32)[None]  # all different: a row of the embedding is a token of the sequence
    segment_ids_BT = jnp.array([[1] * 3 + [2] * 9])
    graphdef, params = nnx.split(policy)

    def logits_at_t(params):
        hidden_BTD = nnx.merge(graphdef, params).hidden(tokens_BT, segment_ids_BT=segment_ids_BT)
        return jnp.sum(jnp.sin(hidden_BTD[0, t]))

    gradient_TD = jax.grad(logits_at_t)(params)["embed"][...][:T]
    norms_T = np.abs(gradient_TD).sum(axis=1)
    assert (norms_T[t + 1 :] == 0).all() and (norms_T[:3] == 0).all()
    assert (norms_T[3 : t + 1] > 0).all()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 4]), st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_extend_in_uneven_chunks_equals_call(chunks):
    B, length, S = 2, 11, 16
    tokens_BT = np.asarray(make_tokens(B, length))
    expected_BTD = np.asarray(full_hidden(tokens_BT))
    cache = transformer.init_cache(CONFIG, B, S)
    # Stale entries of an earlier episode must not matter.
    cache = transformer.Cache(jax.tree.map(lambda x: x + 3.0, cache.layers), cache.lengths_B)
    done_B = np.zeros(B, np.int32)
    for chunk, *valid in [*chunks, *[(4, 4, 4)] * 3]:  # the last three finish what the drawn chunks left
        valid_B = np.minimum(np.minimum(valid, chunk), length - done_B).astype(np.int32)
        chunk_BT = np.full((B, chunk), CONFIG.vocab_size - 1, np.int32)
        for b, (done, valid) in enumerate(zip(done_B, valid_B, strict=True)):
            chunk_BT[b, :valid] = tokens_BT[b, done : done + valid]
        before = cache
        x_BTD, cache = extend(chunk_BT, valid_B, cache)
        for b, (done, valid) in enumerate(zip(done_B, valid_B, strict=True)):
            np.testing.assert_allclose(x_BTD[b, :valid], expected_BTD[b, done : done + valid], atol=1e-4)
            untouched = np.r_[0:done, done + valid : S]
            for old, new in zip(jax.tree.leaves(before.layers), jax.tree.leaves(cache.layers), strict=True):
                np.testing.assert_array_equal(np.asarray(new)[b][:, untouched], np.asarray(old)[b][:, untouched])
        done_B += valid_B
        np.testing.assert_array_equal(cache.lengths_B, done_B)
    assert (done_B == length).all()


def test_extend_fills_the_cache_to_its_end_and_no_further():
    tokens_BT = make_tokens(2, 6)
    expected_BTD = full_hidden(tokens_BT)
    cache = transformer.init_cache(CONFIG, 2, 6)
    _, cache = extend(tokens_BT[:, :4], jnp.array([4, 4]), cache)
    # The chunk reaches past the cache; its valid tokens end with it.
    x_BTD, cache = extend(jnp.pad(tokens_BT[:, 4:], ((0, 0), (0, 2))), jnp.array([2, 2]), cache)
    np.testing.assert_allclose(x_BTD[:, :2], expected_BTD[:, 4:], atol=1e-4)
    np.testing.assert_array_equal(cache.lengths_B, [6, 6])


@pytest.mark.parametrize("remat", [name for name in transformer.REMAT if name != "none"])
def test_remat_changes_no_gradient(remat):
    def gradient(remat):
        graphdef, params = nnx.split(make_policy(remat=remat))
        function = jax.jit(jax.grad(lambda p: jnp.mean(nnx.merge(graphdef, p)(make_tokens(2, 8)) ** 2)))
        return function(params), str(function.trace(params).jaxpr)

    (none, none_program), (again, program) = gradient("none"), gradient(remat)
    for a, b in zip(jax.tree.leaves(none), jax.tree.leaves(again), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)
    assert program.count("remat") > none_program.count("remat")  # norms and gates always are


def test_remat_policies_keep_less_and_less():
    """Bytes between the forward and the backward pass, in the order of the table."""

    def kept(remat):
        graphdef, params = nnx.split(make_policy(remat=remat))
        residuals = jax.eval_shape(
            lambda p: jax.vjp(lambda p: nnx.merge(graphdef, p).hidden(make_tokens(2, 64)), p)[1], params
        )
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals))

    sizes = [kept(remat) for remat in transformer.REMAT]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)


def test_gradient_equals_finite_differences():
    graphdef, params = nnx.split(make_policy())
    tokens_BT = make_tokens(2, 8)
    segment_ids_BT = jnp.array([[1, 1, 1, 2, 2, 2, 2, 0]] * 2)

    @jax.jit
    def loss(params):
        return jnp.mean(jnp.tanh(nnx.merge(graphdef, params)(tokens_BT, segment_ids_BT=segment_ids_BT)))

    leaves, treedef = jax.tree.flatten(jax.grad(loss)(params))
    for index, leaf in enumerate(leaves):  # along each parameter's own gradient, where the change is largest
        step = 1e-2 / jnp.sqrt(jnp.sum(leaf**2))
        move = jax.tree.unflatten(treedef, [step * x if i == index else 0 * x for i, x in enumerate(leaves)])
        up, down = (loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, move)) for s in (1, -1))
        np.testing.assert_allclose((up - down) / 2, step * jnp.sum(leaf**2), rtol=2e-2)


def test_bfloat16_parameters_give_float32_logits_near_those_of_float32():
    policy, tokens_BT = make_policy(dtype=jnp.bfloat16), make_tokens(2, 8)
    exact = nnx.merge(nnx.graphdef(make_policy()), jax.tree.map(lambda x: x.astype(jnp.float32), nnx.state(policy)))
    logits_BTV, expected_BTV = jax.jit(policy.__call__)(tokens_BT), jax.jit(exact.__call__)(tokens_BT)
    assert logits_BTV.dtype == jnp.float32 and policy.hidden(tokens_BT).dtype == jnp.bfloat16
    assert (logits_BTV != logits_BTV.astype(jnp.bfloat16)).any()  # never rounded to bfloat16
    assert np.abs(logits_BTV - expected_BTV).mean() < 0.05 * np.abs(expected_BTV).mean()
    cache = transformer.init_cache(CONFIG, 2, 8, jnp.bfloat16)
    x_BTD, _ = jax.jit(policy.extend)(tokens_BT, jnp.array([8, 8]), cache)
    assert np.abs(policy.unembed(x_BTD) - logits_BTV).mean() < 0.05 * np.abs(expected_BTV).mean()


def test_initial_weights_are_hf_like():
    config = dataclasses.replace(CONFIG, hidden_size=64, intermediate_size=256, attention_bias=True)
    params = nnx.state(transformer.Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
    for path in ("embed", "head"):
        assert abs(float(jnp.std(params[path][...])) - 0.02) < 1e-3
    layers = params["layers"]
    assert abs(float(jnp.std(layers["gate"][...])) - 0.02) < 1e-3
    assert not np.allclose(layers["gate"][...][0], layers["gate"][...][1])
    assert (layers["query_norm"][...] == 1).all() and (layers["query_bias"][...] == 0).all()


def test_impossible_config_and_remat_are_refused():
    with pytest.raises(ValueError, match="num_key_value_heads"):
        dataclasses.replace(CONFIG, num_key_value_heads=3)
    with pytest.raises(ValueError, match="head_dim"):
        dataclasses.replace(CONFIG, head_dim=15)
    with pytest.raises(ValueError, match="hidden_size"):
        dataclasses.replace(CONFIG, hidden_size=0)
    with pytest.raises(ValueError, match="remat"):
        transformer.Transformer(CONFIG, remat="some", rngs=nnx.Rngs(0))
