"""The mesh, the sharding table and its checks, and the sharded forward and gradient on 8 CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from model import sharding, transformer

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
        rules = {**sharding.RULES, "embed": ("tensor",), "heads": (), "vocab": (), "kv_heads": ()}
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


@pytest.mark.parametrize(
    ("sizes", "in_context"),
    [({"fsdp": 4, "tensor": 2}, True), ({"data": 2, "fsdp": 2, "tensor": 2}, False)],
    ids=["set_mesh", "no_mesh"],
)
def test_sharded_forward_and_gradient_equal_one_device(sizes, in_context):
    graphdef, params = nnx.split(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)))
    tokens_BT = jax.random.randint(jax.random.key(0), (8, 16), 0, CONFIG.vocab_size)
    segment_ids_BT = jnp.array([[1] * 5 + [2] * 9 + [0] * 2] * 8)

    @jax.jit
    def run(params, tokens_BT, segment_ids_BT):
        def loss(params):
            logits_BTV = nnx.merge(graphdef, params)(tokens_BT, segment_ids_BT=segment_ids_BT)
            return jnp.mean(jax.nn.logsumexp(8 * logits_BTV, axis=-1)), logits_BTV

        return jax.grad(loss, has_aux=True)(params)

    expected_gradient, expected_BTV = run(params, tokens_BT, segment_ids_BT)
    mesh = sharding.make_mesh(sizes)
    rows, shardings = sharding.batch_sharding(mesh), sharding.param_shardings(CONFIG, mesh)
    arguments = (jax.device_put(params, shardings), *jax.device_put((tokens_BT, segment_ids_BT), rows))
    if in_context:
        with jax.set_mesh(mesh):
            gradient, logits_BTV = run(*arguments)
    else:
        gradient, logits_BTV = run(*arguments)
    assert len(logits_BTV.sharding.device_set) == 8
    np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


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
