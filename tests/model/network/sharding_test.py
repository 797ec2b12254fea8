"""The mesh, the sharding table and its checks, and the sharded forward and gradient on 8 CPU devices."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from model.network import moe, sharding, transformer

CONFIG = transformer.Config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    attention_bias=True,
)


def test_mesh_sizes():
    mesh = sharding.make_mesh({"data": 2, "fsdp": -1, "tensor": 2})
    assert mesh.axis_names == ("data", "fsdp", "expert", "context", "tensor")
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "expert": 1, "context": 1, "tensor": 2}
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)
    assert sharding.make_mesh({}, jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fsdp": 3}, "do not fit 8 devices"),
        ({"fsdp": 3, "tensor": -1}, "do not fit 8 devices"),
        ({"fsdp": 4}, "do not fit 8 devices"),
        ({"fsdp": 16}, "do not fit 8 devices"),
        ({"fsdp": -1, "data": -1}, "at most one axis"),
        ({"fsdp": 0}, "positive.*fsdp"),
        ({"model": 8}, "unknown axes.*model"),
    ],
    ids=str,
)
def test_impossible_mesh_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(sizes)


def test_collisions_and_indivisible_sizes_are_refused():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    with pytest.raises(ValueError, match="layers.gate.*'tensor'.*twice"):
        rules = {**sharding.TRAIN, "embed": ("tensor",), "heads": (), "vocab": (), "kv_heads": ()}
        sharding.param_shardings(CONFIG, mesh, rules)
    with pytest.raises(ValueError, match="layers.key .*'tensor'.*size 4 do not divide axis 'kv_heads' of size 2"):
        sharding.param_shardings(CONFIG, sharding.make_mesh({"fsdp": 2, "tensor": 4}))
    with pytest.raises(ValueError, match="x: no rule.*'colour'"):
        sharding.partition_spec("x", (4,), ("colour",), mesh)
    with pytest.raises(ValueError, match="twice"):  # within one dimension
        sharding.partition_spec("x", (16,), ("both",), mesh, {"both": ("fsdp", "fsdp")})


def test_axes_of_size_one_never_collide():
    mesh = sharding.make_mesh({"fsdp": 8})
    rules = {"a": ("tensor",), "b": ("tensor", "fsdp")}
    assert sharding.partition_spec("x", (3, 8), ("a", "b"), mesh, rules) == PartitionSpec(None, "fsdp")


def test_param_shardings_have_the_structure_of_the_parameters():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    params = nnx.state(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), nnx.Param)
    shardings = sharding.param_shardings(CONFIG, mesh)
    assert jax.tree.structure(shardings) == jax.tree.structure(params)
    assert shardings["layers"]["query"].get_value() == NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor", None))
    assert shardings["layers"]["down"].get_value() == NamedSharding(mesh, PartitionSpec(None, "tensor", "fsdp"))
    assert shardings["embed"].get_value() == NamedSharding(mesh, PartitionSpec("tensor", "fsdp"))


MIXED = dataclasses.replace(
    CONFIG,
    model_type="qwen3_moe",
    num_hidden_layers=3,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=24,
    norm_topk_prob=True,
    mlp_only_layers=(1,),
)
MESHES = [
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "context": 2, "tensor": 2},
    {"fsdp": 2, "expert": 2, "context": 2},
    {"data": 2, "expert": 2, "tensor": 2},
    {"expert": 4, "context": 2},
]


@functools.cache
def reference(config):
    """(compiled function of (params, tokens_BT, segment_ids_BT), its arguments, its results on one device).

    The results are (gradient, (logits, router statistics)).
    """
    graphdef, params = nnx.split(transformer.Transformer(config, rngs=nnx.Rngs(0)))
    tokens_BT = jax.random.randint(jax.random.key(0), (8, 16), 0, config.vocab_size)
    segment_ids_BT = jnp.array([[1] * 5 + [2] * 9 + [0] * 2] * 8)

    @jax.jit
    def run(params, tokens_BT, segment_ids_BT):
        def loss(params):
            policy = nnx.merge(graphdef, params)
            x_BTD, stats = policy.hidden_and_router(tokens_BT, segment_ids_BT=segment_ids_BT)
            logits_BTV = policy.unembed(x_BTD)
            balance = 0.0 if stats is None else moe.balance_loss(stats)
            return jnp.mean(jax.nn.logsumexp(8 * logits_BTV, axis=-1)) + 0.1 * balance, (logits_BTV, stats)

        return jax.grad(loss, has_aux=True)(params)

    arguments = (params, tokens_BT, segment_ids_BT)
    return run, arguments, run(*arguments)


@pytest.mark.parametrize("config", [pytest.param(CONFIG, marks=pytest.mark.slow), MIXED], ids=["dense", "moe"])
@pytest.mark.parametrize(("sizes", "in_context"), [*((sizes, True) for sizes in MESHES), (MESHES[0], False)], ids=str)
def test_sharded_forward_and_gradient_equal_one_device(sizes, config, in_context):
    run, (params, *batch), (expected_gradient, (expected_BTV, expected_stats)) = reference(config)
    mesh = sharding.make_mesh(sizes)
    split = NamedSharding(mesh, sharding.activation_spec(sharding.TRAIN))
    arguments = (jax.device_put(params, sharding.param_shardings(config, mesh)), *jax.device_put(batch, split))
    with jax.set_mesh(mesh) if in_context else contextlib.nullcontext():
        gradient, (logits_BTV, stats) = run(*arguments)
    assert len(logits_BTV.sharding.device_set) == 8
    np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), stats, expected_stats)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("config", [pytest.param(CONFIG, marks=pytest.mark.slow), MIXED], ids=["dense", "moe"])
@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_sharded_decoding_equals_one_device(sizes, config):
    graphdef, params = nnx.split(transformer.Transformer(config, rngs=nnx.Rngs(0)))
    tokens_BT = jax.random.randint(jax.random.key(0), (8, 6), 0, config.vocab_size)

    @jax.jit
    def run(params, tokens_BT, cache):
        policy = nnx.merge(graphdef, params)
        x_BTD, cache = policy.extend(tokens_BT, jnp.full((8,), 5), cache)
        y_BTD, cache = policy.extend(tokens_BT[:, 5:], jnp.full((8,), 1), cache)
        return policy.unembed(jnp.concatenate([x_BTD[:, :5], y_BTD], axis=1))

    expected_BTV = run(params, tokens_BT, transformer.init_cache(config, 8, 8))
    mesh = sharding.make_mesh(sizes)
    placed = jax.device_put(params, sharding.param_shardings(config, mesh, sharding.DECODE))
    rows = jax.device_put(tokens_BT, sharding.batch_sharding(mesh, sharding.DECODE))
    with jax.set_mesh(mesh):
        logits_BTV = run(placed, rows, transformer.init_cache(config, 8, 8))
    np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-5)


def test_activations_stay_split_by_rows_in_the_mesh_context():
    mesh = sharding.make_mesh({"data": 2, "fsdp": 4})
    policy = transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))
    params = jax.device_put(nnx.state(policy), sharding.param_shardings(CONFIG, mesh))
    tokens_BT = jax.device_put(jnp.zeros((8, 4), jnp.int32), sharding.batch_sharding(mesh))
    hidden = jax.jit(lambda params, tokens_BT: nnx.merge(nnx.graphdef(policy), params).hidden(tokens_BT))
    with jax.set_mesh(mesh):
        x_BTD = hidden(params, tokens_BT)
    assert x_BTD.sharding.is_equivalent_to(sharding.batch_sharding(mesh), 3)


def test_replicated_is_whole_everywhere():
    x = jax.device_put(jnp.arange(3), sharding.replicated(sharding.make_mesh({"fsdp": 8})))
    assert all(shard.data.shape == (3,) for shard in x.addressable_shards) and len(x.addressable_shards) == 8
