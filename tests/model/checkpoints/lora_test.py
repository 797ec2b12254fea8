"""Adapters: forward, gradient and files against peft, one gradient whatever the mesh, the base left as it is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from flax import nnx

from envs.base import Score
from model.checkpoints import load, lora
from model.network import sharding, transformer
from rl import trajectory
from rl.learn import learner, packing
from rl.learn import optimiser as optimisers
from rl.learn.objective import Objective

CONFIG = transformer.Config(
    vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, tie_word_embeddings=True,
)  # fmt: skip
SETTINGS = lora.Lora(rank=3, alpha=6.0)
ROW = 16


@pytest.fixture(scope="module")
def policy():
    return transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def adapters():
    """With a B that is not zero any more: else A would have no gradient."""
    fresh = lora.create(CONFIG, SETTINGS)
    keys = jax.random.split(jax.random.key(1), len(fresh))
    return {
        name: dataclasses.replace(x, b=0.1 * jax.random.normal(key, x.b.shape))
        for (name, x), key in zip(fresh.items(), keys)
    }


@pytest.fixture(scope="module")
def batch():
    """Twelve episodes in rows of four, more than one micro-batch."""
    rng, items = np.random.default_rng(0), []
    for member, length in enumerate(rng.integers(5, ROW + 1, 12)):
        mask = [0, 0, *[1] * (length - 2)]
        record = (rng.integers(0, 48, length).tolist(), mask, [-4.0 * m for m in mask])
        items.append(trajectory.Trajectory("t", member, *record, 0, trajectory.ENDED, Score(1.0, {}, []), [], [], 1))
    return packing.pack(items, rng.normal(size=12).tolist(), ROW, rows=4, micro_batches=3)


def merged(policy, adapters):
    params = nnx.state(policy)
    return lora.merge(params, lora.base(params, adapters), adapters)


def named(tree):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_close(got, expected, tolerance=1e-5):
    """Relative L2 distance of every tensor; none of them is trivially zero."""
    got, expected = named(got), named(expected)
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        norm = np.linalg.norm(x)
        assert norm > 1e-6 and np.linalg.norm(got[name] - x) <= tolerance * norm, name


def test_forward_gradient_and_files_are_those_of_peft(policy, adapters, tmp_path):
    """peft reads what `save` wrote onto the base; its logits, gradients of all adapters and merged weights are ours."""
    load.save_pretrained(policy, CONFIG, tmp_path / "base")
    lora.save(adapters, SETTINGS, str(tmp_path / "base"), tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    tokens_BT = np.random.default_rng(0).integers(0, 48, (2, 12))
    graphdef, params = nnx.graphdef(policy), merged(policy, adapters)

    def loss(adapters):
        model = nnx.merge(graphdef, params)
        x_BTD, _ = model.hidden_and_router(jnp.asarray(tokens_BT), adapters=adapters)
        logits_BTV = model.unembed(x_BTD)
        return jnp.mean(jax.nn.logsumexp(8 * logits_BTV, axis=-1)), logits_BTV

    grads, logits_BTV = jax.jit(jax.grad(loss, has_aux=True))(adapters)
    expected_BTV = theirs(torch.tensor(tokens_BT)).logits
    torch.logsumexp(8 * expected_BTV, dim=-1).mean().backward()
    np.testing.assert_allclose(logits_BTV, expected_BTV.detach(), atol=2e-6)
    found = {name: x.grad.numpy() for name, x in theirs.named_parameters() if x.requires_grad}
    assert len(found) == 2 * 7 * CONFIG.num_hidden_layers
    for target, (name, _) in lora.TARGETS.items():
        for layer in range(CONFIG.num_hidden_layers):
            (key,) = {k.split(".lora_")[0] for k in found if f"layers.{layer}." in k and f".{target}." in k}
            a, b = (found[f"{key}.lora_{part}.default.weight"].T for part in "AB")
            for ours, x in ((grads[name].a[layer].reshape(a.shape), a), (grads[name].b[layer].reshape(b.shape), b)):
                assert np.linalg.norm(ours - x) <= 2e-5 * np.linalg.norm(x) > 0, (target, layer)
    reference = theirs.merge_and_unload().state_dict()
    load.save_pretrained(nnx.merge(graphdef, params), CONFIG, tmp_path / "merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    for name, x in reference.items():
        np.testing.assert_allclose(again[name], x, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_gradients_are_split_like_the_weights_and_the_same_on_any_mesh(policy, adapters, batch):
    def gradients(**sizes):
        mesh = sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values()), dtype=int))])
        placed = lora.shardings(CONFIG, SETTINGS, mesh)
        function = functools.partial(
            learner.gradients, graphdef=nnx.graphdef(policy), shardings=placed, o=Objective(logits_chunk=5)
        )
        params = jax.device_put(merged(policy, adapters), sharding.param_shardings(CONFIG, mesh))
        with jax.set_mesh(mesh):
            arguments = (params, learner.place(batch, mesh), jnp.zeros((), jnp.int32))
            return jax.jit(function)(*arguments, adapters=jax.device_put(adapters, placed))[0]

    alone, split = gradients(), gradients(fsdp=2, context=2, tensor=2)
    assert batch.used > 1 and split["query"].a.sharding.spec[1] and split["down"].b.sharding.spec[2]
    assert_close(jax.device_get(split), jax.device_get(alone))


def test_steps_move_the_adapters_and_merge_them_into_the_base(policy, batch):
    """What is not adapted has no moments and stays to the bit. So do the updates with the moments in host memory."""
    settings, optimiser = dataclasses.replace(SETTINGS, targets=("q_proj", "down_proj")), optimisers.make(1e-2)
    mesh, before = sharding.make_mesh({"fsdp": 2}, jax.devices()[:2]), named(nnx.state(policy))
    states = []
    for offload in (False, True):
        state = optimisers.create(policy, optimiser, mesh, settings, offload)
        assert not any(x.b.any() for x in state.adapters.values()) and state.master is None
        sizes = [sum(x.size for x in jax.tree.leaves(tree) if x.ndim) for tree in (state.adapters, state.opt_state)]
        assert sizes[1] == 2 * sizes[0] < 4000
        step = learner.make_train_step(policy, optimiser, mesh, Objective(), settings, offload)
        for _ in range(3):
            state, metrics = step(state, batch)
        assert int(state.step) == 3 and float(metrics["update_ratio"]) > 0 and step.compiled._cache_size() == 1
        kinds = {x.sharding.memory_kind for x in jax.tree.leaves(state.opt_state) if x.ndim}
        assert kinds == {optimisers.HOST if offload else optimisers.DEVICE}
        states.append(state)
    expected = named(merged(policy, jax.device_get(state.adapters)))
    for name, x in named(state.params).items():
        assert (x != before[name]).any() == ("query']" in name or "down']" in name), name
        np.testing.assert_allclose(x, expected[name], rtol=1e-6, atol=1e-7)
    jax.tree.map(np.testing.assert_array_equal, named(nnx.state(policy)), before)
    jax.tree.map(np.testing.assert_array_equal, *map(named, states))


def test_devices_without_host_memory_are_named(policy, monkeypatch):
    monkeypatch.setattr(optimisers, "HOST", "tape")
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    with pytest.raises(ValueError, match="rl.offload_optimiser must be False: these devices have no memory"):
        optimisers.create(policy, optimisers.make(1e-3), mesh, offload=True)


def test_narrow_weights_are_merged_from_the_base_every_time(policy, adapters):
    """bfloat16: the rounding of the sum in float64, also where the earlier parameters have other adapters in them."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), nnx.state(policy))
    frozen = lora.base(params, adapters)
    params = lora.merge(params, frozen, jax.tree.map(jnp.negative, adapters))
    got = np.float64(lora.merge(params, frozen, adapters)["layers"]["output"][...])
    a, b, whole = (np.float64(x) for x in (adapters["output"].a, adapters["output"].b, frozen["output"]))
    expected = whole + 2 * np.einsum("lhnr,lrd->lhnd", a, b)
    assert (np.abs(got - expected) <= 2.0**-8 * np.abs(expected) + 1e-9).all() and not np.array_equal(got, whole)


def test_what_cannot_be_adapted_is_refused():
    mixture = dataclasses.replace(
        CONFIG, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    )
    with pytest.raises(ValueError, match="rl.lora_rank must be 0: the policy is a mixture of experts"):
        lora.shardings(mixture, SETTINGS, sharding.make_mesh({}, jax.devices()[:1]))
    with pytest.raises(ValueError, match=r"rl.lora_targets: unknown \['lm_head'\], expected 'all' or some of q_proj, "):
        lora.Lora(4, 8.0, ("q_proj", "lm_head"))
    with pytest.raises(ValueError, match="expected rank >= 1 and alpha > 0, found rank=0"):
        lora.Lora(0, 8.0)
