"""The learner: gradient truth over packing, micro-batches and meshes; the optimiser against torch; skipped updates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from envs.base import Score
from model.network import moe, sharding, transformer
from rl import trajectory
from rl.learn import learner, losses, packing
from rl.learn import optimiser as optimisers
from rl.learn.objective import Objective

ROW, TEMPERATURE, LOW, HIGH = 24, 0.8, 0.2, 0.28
CONFIG = transformer.Config(
    vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, tie_word_embeddings=True
)  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def episodes(policy):
    """13 episodes of 3 to 24 tokens and their advantages; logprobs are off-policy so that both clips are at work."""
    rng = np.random.default_rng(0)
    out = []
    for index, length in enumerate(rng.integers(3, ROW + 1, 13)):
        tokens, mask = rng.integers(0, 48, length), [0, 1, *rng.integers(0, 2, length - 2)]
        logprobs = _logprobs(policy, tokens) + np.where(mask, rng.choice([-0.5, 0.0, 0.5], length), 0.0)
        out.append((_episode(index, tokens, mask, logprobs), [-1.0, 0.4, 1.3][index % 3]))
    return out


def _episode(index, tokens, mask, logprobs):
    return trajectory.Trajectory(
        task_id=f"t{index // 4}", member=index % 4, tokens=[int(t) for t in tokens], loss_mask=[int(m) for m in mask],
        logprobs=[float(x) if m else 0.0 for x, m in zip(logprobs, mask)], policy_version=0, reason=trajectory.ENDED,
        score=Score(1.0, {}, []), messages=[], tools=[], turns=1
    )  # fmt: skip


def _logprobs(policy, tokens):
    """Log-probability of each token given the ones before it (0 for the first), padded to one shape to compile once."""
    padded = np.zeros((1, ROW), np.int32)
    padded[0, : len(tokens)] = tokens
    logits, targets = _logits(*nnx.split(policy), padded), jnp.roll(padded, -1, axis=1)
    got, _ = losses.token_statistics(logits, targets, TEMPERATURE)
    return np.concatenate([[0.0], np.asarray(got)[0, : len(tokens) - 1]])


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, params, tokens_BT, segment_ids_BT=None):
    return nnx.merge(graphdef, params)(tokens_BT, segment_ids_BT=segment_ids_BT)


def _pack(episodes, rows, micro_batches=13):
    return packing.pack([e for e, _ in episodes], [a for _, a in episodes], ROW, rows, micro_batches)


def _gradients(policy, batch, mesh, **settings):
    """learner.gradients compiled for the mesh, with the step's shardings, brought to the host by name."""
    placed = sharding.param_shardings(policy.config, mesh)
    function = functools.partial(
        learner.gradients,
        graphdef=nnx.split(policy)[0],
        shardings=placed,
        o=Objective(temperature=TEMPERATURE, **settings),
    )
    params = jax.device_put(nnx.state(policy), placed)
    with jax.set_mesh(mesh):
        grads, sums, _ = jax.jit(function)(params, learner.place(batch, mesh), jnp.zeros((), jnp.int32))
    return _named(grads), float(sums["loss"])


def _named(tree):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _assert_close(got, expected, tolerance=1e-5):
    """Relative L2 distance of every tensor; none of them is trivially zero."""
    assert set(got) == set(expected)
    for name in expected:
        norm = np.linalg.norm(expected[name])
        assert norm > 1e-6, name
        assert np.linalg.norm(got[name] - expected[name]) <= tolerance * norm, name


def _mesh(**sizes):
    return sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values()), dtype=int))])


@pytest.fixture(scope="module")
def reference(policy, episodes):
    """Gradient and loss of one device on rows of the packed batch."""
    return _gradients(policy, _pack(episodes, 8), _mesh())


def test_packed_gradient_is_the_unpacked_one(policy, episodes, reference):
    """Each episode alone in its own row without segments, logprobs by log_softmax, added up in Python."""
    graphdef, params = nnx.split(policy)
    count = sum(sum(e.loss_mask) for e, _ in episodes)

    @jax.jit
    def one(params, tokens_1T, old_T, mask_T, advantage):
        logits_TV = nnx.merge(graphdef, params)(tokens_1T)[0] / TEMPERATURE
        new_T = jnp.take_along_axis(jax.nn.log_softmax(logits_TV)[:-1], tokens_1T[0, 1:, None], axis=1)[:, 0]
        ratio_T = jnp.exp(jnp.where(mask_T[1:] > 0, new_T - old_T[1:], 0.0))
        surrogate_T = jnp.minimum(ratio_T * advantage, jnp.clip(ratio_T, 1 - LOW, 1 + HIGH) * advantage)
        return -jnp.sum(surrogate_T * mask_T[1:]) / count

    total, loss = jax.tree.map(jnp.zeros_like, params), 0.0
    for e, advantage in episodes:
        arrays = [np.pad(np.asarray(x, np.float32), (0, ROW - len(x))) for x in (e.tokens, e.logprobs, e.loss_mask)]
        value, grads = jax.value_and_grad(one)(params, arrays[0][None].astype(np.int32), *arrays[1:], advantage)
        total, loss = jax.tree.map(jnp.add, total, grads), loss + float(value)
    _assert_close(reference[0], _named(total))
    assert reference[1] == pytest.approx(loss, rel=1e-5)


def test_micro_batches_do_not_change_the_gradient(policy, episodes, reference):
    batch = _pack(episodes, 2)
    assert batch.used > 2
    grads, loss = _gradients(policy, batch, _mesh())
    _assert_close(grads, reference[0])
    assert loss == pytest.approx(reference[1], rel=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 2, "context": 2}, {"expert": 8}],
    ids=str,
)
def test_sharded_gradient_is_the_one_device_gradient(policy, episodes, reference, sizes):
    """Per tensor, before the optimiser."""
    grads, loss = _gradients(policy, _pack(episodes, 8), _mesh(**sizes))
    _assert_close(grads, reference[0])
    assert loss == pytest.approx(reference[1], rel=1e-5)


@pytest.mark.parametrize(("chunk", "sizes"), [(7, {}), (5, {"data": 2, "context": 2, "tensor": 2})], ids=str)
def test_chunks_of_logits_give_the_same_gradient_and_never_a_whole_row(policy, episodes, reference, chunk, sizes):
    batch, mesh = _pack(episodes, 8), _mesh(**sizes)
    grads, loss = _gradients(policy, batch, mesh, logits_chunk=chunk)
    _assert_close(grads, reference[0])
    assert loss == pytest.approx(reference[1], rel=1e-5)

    def program(chunk):
        wide = transformer.Transformer(dataclasses.replace(CONFIG, vocab_size=56), rngs=nnx.Rngs(0))
        placed = sharding.param_shardings(wide.config, mesh)
        function = functools.partial(
            learner.gradients, graphdef=nnx.split(wide)[0], shardings=placed, o=Objective(logits_chunk=chunk)
        )
        return str(jax.make_jaxpr(function)(nnx.state(wide), batch, jnp.zeros((), jnp.int32)))

    assert f"8,{ROW},56]" in program(0) and f"8,{ROW},56]" not in program(chunk)


def test_balance_loss_is_that_of_the_batch_and_moves_the_router(episodes):
    config = dataclasses.replace(
        CONFIG, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    )
    mixture = transformer.Transformer(config, rngs=nnx.Rngs(0))
    mixture.layers["router"][...] = 20 * mixture.layers["router"][...]  # far from even, so that there is a way down
    mesh, optimiser = _mesh(expert=4), optax.sgd(0.01)
    state = optimisers.create(mixture, optimiser, mesh)
    plain, weighted = (
        learner.make_train_step(mixture, optimiser, mesh, Objective(temperature=TEMPERATURE, router_coef=coef))
        for coef in (0, 0.5)
    )
    batch = _pack(episodes, 8)
    _, stats = mixture.hidden_and_router(batch.tokens[0], batch.positions[0], batch.segment_ids[0])
    unmoved, without = plain(jax.tree.map(jnp.copy, state), batch)
    after, metrics = weighted(state, batch)
    assert batch.used == 1
    assert float(metrics["router_balance"]) == pytest.approx(float(moe.balance_loss(stats)), rel=1e-5)
    difference = float(metrics["loss"]) - float(without["loss"])
    assert difference == pytest.approx(0.5 * float(metrics["router_balance"]), rel=1e-4)
    load_E = np.asarray(stats.pairs_E).sum(axis=0)
    assert float(metrics["router_load_max"]) == pytest.approx(load_E.max() / load_E.mean(), rel=1e-5)

    def balance(state):
        policy = nnx.merge(nnx.graphdef(mixture), jax.device_get(state.params))
        _, stats = policy.hidden_and_router(batch.tokens[0], batch.positions[0], batch.segment_ids[0])
        return float(moe.balance_loss(stats))

    assert balance(after) < balance(unmoved)


@pytest.fixture(scope="module")
def trainer(policy):
    """(step, optimiser, mesh) that the next tests share: one compilation is all there may be."""
    mesh, optimiser = _mesh(fsdp=4), optimisers.make(1e-3, warmup_updates=2)
    return learner.make_train_step(policy, optimiser, mesh, Objective(temperature=TEMPERATURE)), optimiser, mesh


@pytest.mark.slow
def test_twice_the_devices_or_micro_batches_are_the_same_training(policy, episodes, reference, trainer):
    """The gradient that the first moment of step 1 holds is that of one device, and five steps come to the same update.

    Eight devices and rows of 8 against four and rows of 4, which is twice the micro-batches.
    """
    _, optimiser, _ = trainer
    eight = _mesh(fsdp=4, tensor=2)
    wide = learner.make_train_step(policy, optimiser, eight, Objective(temperature=TEMPERATURE))
    batches, updates, used = _shuffled(episodes), [], []
    for step, mesh, rows in ((trainer[0], trainer[2], 4), (wide, eight, 8)):
        state = optimisers.create(policy, optimiser, mesh)
        assert not state.params["layers"]["query"][...].sharding.is_fully_replicated
        for number, some in enumerate(batches):
            state, metrics = step(state, _pack(some, rows))
            if number == 0:
                norm = np.sqrt(sum(np.sum(g**2) for g in reference[0].values()))
                assert float(metrics["loss"]) == pytest.approx(reference[1], rel=1e-5)
                assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
                moment = optax.tree.get(state.opt_state, "mu")
                clipped = {name: 0.1 * g / max(norm, 1.0) for name, g in reference[0].items()}
                _assert_close(_named(moment), clipped)
        used.append(int(_pack(some, rows).used))
        before, after = _named(nnx.state(policy)), _named(state.params)
        updates.append({name: after[name] - before[name] for name in before})
    assert used[0] == 2 * used[1] and int(state.step) == 5
    _assert_close(*updates, tolerance=1e-3)


def _shuffled(episodes):
    """Five batches: the episodes, then four more with their advantages dealt out anew."""
    return [episodes, *([(e, a) for (e, _), (_, a) in zip(episodes, episodes[n:] + episodes[:n])] for n in range(1, 5))]


def test_one_program_serves_all_contents_and_metrics_are_right(policy, episodes, trainer):
    """On-policy: ratio 1, no mismatch, nothing clipped. Then other contents and counts without compiling again."""
    step, optimiser, mesh = trainer
    state = optimisers.create(policy, optimiser, mesh)
    onpolicy = [
        (dataclasses.replace(e, logprobs=[float(x) * m for x, m in zip(_logprobs(policy, e.tokens), e.loss_mask)]), a)
        for e, a in episodes
    ]
    batch = _pack(onpolicy, 4)
    state, metrics = step(state, batch)
    tokens = sum(sum(e.loss_mask) for e, _ in episodes)
    assert float(metrics["tokens"]) == tokens
    assert float(metrics["ratio_mean"]) == pytest.approx(1.0, abs=1e-5)
    assert float(metrics["mismatch_max"]) < 1e-5 and abs(float(metrics["mismatch_kl"])) < 1e-6
    assert float(metrics["clip_fraction_low"]) == float(metrics["clip_fraction_high"]) == 0.0
    assert float(metrics["loss"]) == pytest.approx(-sum(sum(e.loss_mask) * a for e, a in episodes) / tokens, rel=1e-4)
    assert 0.9 * np.log(48) < float(metrics["entropy"]) <= np.log(48)
    assert float(metrics["grad_norm"]) > 0 and 0 < float(metrics["update_ratio"]) < 0.1
    used = [int(batch.used)]
    for count in (1, 5, 13):
        many = [(dataclasses.replace(e, task_id=f"{e.task_id}/{i}"), a) for i in range(3) for e, a in episodes[:count]]
        batch = _pack(many, 4)
        used.append(int(batch.used))
        state, metrics = step(state, batch)
    assert len(set(used)) > 2 and int(state.step) == 4 and step.compiled._cache_size() == 1
    assert float(metrics["clip_fraction_low"]) > 0 and float(metrics["clip_fraction_high"]) > 0
    assert float(metrics["mismatch_max"]) > 0.4
    assert np.isfinite(_logprobs(policy, [1, 2])).all()  # its parameters were not donated


def test_an_update_that_is_not_finite_or_empty_is_skipped(policy, episodes, trainer):
    step, optimiser, mesh = trainer
    state, good = optimisers.create(policy, optimiser, mesh), _pack(episodes[:4], 4)
    state, metrics = step(state, good)
    assert float(metrics["skipped_updates"]) == 0 and int(state.step) == 1
    before = _named((state.params, state.opt_state, state.step))
    bad = dataclasses.replace(good, sampler_logprobs=np.where(good.loss_mask > 0, np.nan, 0.0).astype(np.float32))
    for batch, skipped in ((bad, 1), (_pack([], 4), 1), (bad, 2)):  # the empty one is no failure
        state, metrics = step(state, batch)
        assert float(metrics["skipped_updates"]) == 1 and float(metrics["update_ratio"]) == 0
        assert int(state.skipped) == skipped
        after = _named((state.params, state.opt_state, state.step))
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
    optimisers.check_finite(state, 3)
    with pytest.raises(RuntimeError, match=r"2 updates in a row .* \(rl.max_skipped_updates\)"):
        optimisers.check_finite(state, 2)
    state, metrics = step(state, good)
    assert float(metrics["skipped_updates"]) == 0 and int(state.step) == 2 and step.compiled._cache_size() == 1
    assert int(state.skipped) == 0


def test_supervised_steps_start_at_torch_cross_entropy_and_memorise(policy, episodes):
    """The loss equals torch's on the same logits with unmasked tokens ignored; updates bring it close to 0."""
    mesh, optimiser, batch = _mesh(), optimisers.make(2e-2), _pack(episodes[:3], 3, 1)
    targets = torch.tensor(np.where(batch.loss_mask > 0, batch.targets, -100)[0].reshape(-1)).long()
    logits = torch.tensor(np.asarray(_logits(*nnx.split(policy), batch.tokens[0], batch.segment_ids[0])))
    step = learner.make_train_step(policy, optimiser, mesh, Objective("sft"))
    state, metrics = step(optimisers.create(policy, optimiser, mesh), batch)
    expected = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets))
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    for _ in range(40):
        state, metrics = step(state, batch)
    assert expected > 3.5 and float(metrics["loss"]) < 0.5


def test_state_keeps_its_dtypes(episodes):
    """bfloat16 parameters, float32 masters and moments, before a step and (abstractly) after it."""
    mesh, optimiser = _mesh(), optimisers.make(1e-3)

    def small():
        return transformer.Transformer(CONFIG, dtype=jnp.bfloat16, remat="full", rngs=nnx.Rngs(1))

    state = jax.eval_shape(lambda: optimisers.create(small(), optimiser, mesh))
    step = learner.make_train_step(nnx.eval_shape(small), optimiser, mesh)
    with jax.set_mesh(mesh):
        after, _ = jax.eval_shape(step.compiled, state, _pack(episodes, 2), step.base)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {"bfloat16"}
    assert {str(x.dtype) for x in jax.tree.leaves(state.master)} == {"float32"}
    assert {str(x.dtype) for x in jax.tree.leaves(state.opt_state)} == {"float32", "int32"}


def test_optimiser_equals_torch_adamw():
    """Clipping, decoupled weight decay, warm-up and the rate's decay, with gradients of very different size."""
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(8, 3, 4)).astype(np.float32)
    grads *= np.array([0.01, 10.0, 1.0, 0.1, 3.0, 1.0, 0.3, 2.0], np.float32)[:, None, None]
    weight = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([weight], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    rates = [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 0.55, 0.1, 0.1, 0.1]
    schedule = torch.optim.lr_scheduler.LambdaLR(reference, rates.__getitem__)
    optimiser = optimisers.make(
        1e-2, warmup_updates=3, decay_updates=(4, 6), weight_decay=0.1, adam_b2=0.95, max_grad_norm=1.0
    )
    params = jnp.asarray(start)
    state = optimiser.init(params)
    for gradient in grads:
        weight.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        reference.step()
        schedule.step()
        updates, state = optimiser.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_errors_name_what_is_wrong(policy, episodes):
    mesh, optimiser = _mesh(data=2, fsdp=2), optimisers.make(1e-3)
    step = learner.make_train_step(policy, optimiser, mesh)
    with pytest.raises(ValueError, match="rl.rows: 3 rows of a micro-batch do not divide among the 4 devices"):
        step(optimisers.create(policy, optimiser, mesh), _pack(episodes, 3))
    with pytest.raises(ValueError, match="loss: expected one of .* found 'dpo'"):
        Objective("dpo")
    with pytest.raises(ValueError, match="temperature"):
        Objective(temperature=0.0)
    for field, settings in (("old_logprobs", {"importance": "tis"}), ("reference_logprobs", {"kl_coef": 0.1})):
        step = learner.make_train_step(policy, optimiser, mesh, Objective(**settings))
        with pytest.raises(ValueError, match=f"the batch has no {field}"):
            step(optimisers.create(policy, optimiser, mesh), _pack(episodes, 4))
    with pytest.raises(ValueError, match="adam_b2=1.5"):
        optimisers.make(1e-3, adam_b2=1.5)
    with pytest.raises(ValueError, match=r"first < end in decay_updates, found \(5, 5\)"):
        optimisers.make(1e-3, decay_updates=(5, 5))
