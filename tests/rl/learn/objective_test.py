"""Every part of an objective: one gradient packed or not, with shared prefixes, in micro-batches, on devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from envs.base import Score
from model.network import attention, sharding, transformer
from rl import trajectory
from rl.learn import learner, losses, objective, packing
from rl.learn import optimiser as optimisers
from rl.learn.objective import Objective

ROW, TEMPERATURE = 32, 0.8
CONFIG = transformer.Config(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, tie_word_embeddings=True
)  # fmt: skip
OBJECTIVES = {
    "gspo": Objective(
        "gspo", TEMPERATURE, "sequence-mean-token-mean", clip_low=0.02, clip_high=0.02, dual_clip=3.0, kl_coef=0.1,
        entropy_coef=0.05, covariance="kl", covariance_share=0.2, importance="tis", importance_high=1.2,
    ),
    "cispo": Objective(
        "cispo", TEMPERATURE, "fixed", 24.0, clip_low=1.0, clip_high=0.1, covariance="clip", covariance_share=0.1,
        importance="icepop", importance_low=0.6, importance_high=1.5, kl_coef=0.1, kl_estimator="k2",
    ),
}  # fmt: skip
TOKENS = Objective(
    "gspo_token", TEMPERATURE, "sequence-mean-token-sum", clip_low=0.02, clip_high=0.02, covariance="kl",
    covariance_share=0.2, importance="tis", importance_high=1.2,
)  # fmt: skip


@functools.cache
def _policy():
    """A policy whose predictions depend on what it reads."""
    policy = transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))
    for x in jax.tree.leaves(nnx.state(policy), is_leaf=lambda x: isinstance(x, nnx.Param)):
        x[...] = x[...] + 0.05 * jax.random.normal(jax.random.key(x.size), x.shape)
    return policy


def _moved(seed):
    """Other parameters than the policy's."""
    leaves, tree = jax.tree.flatten(nnx.state(_policy()))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])


def _episodes():
    """Three groups of four whose prompts of 4 to 8 tokens are the same; what follows is sampled only in part."""
    rng, out = np.random.default_rng(0), []
    for group, prompt in enumerate((4, 6, 8)):
        head = rng.integers(0, 40, prompt).tolist()
        for member in range(4):
            count = int(rng.integers(4, 20))
            mask = [0] * prompt + [1, *rng.integers(0, 2, count - 1).tolist()]
            logprobs = [float(-3.7 + 0.5 * rng.normal()) * m for m in mask]
            out.append(
                trajectory.Trajectory(
                    f"t{group}",
                    member,
                    head + rng.integers(0, 40, count).tolist(),
                    mask,
                    logprobs,
                    0,
                    trajectory.ENDED,
                    Score(1.0, {}, []),
                    [],
                    [],
                    1,
                )  # fmt: skip
            )
    return out, [[-1.0, 0.4, 1.3][i % 3] for i in range(12)]


def _alone(rows, micro_batches):
    """Each episode in a row of its own."""
    batches = [packing.pack([e], [a], ROW, 1, 1) for e, a in zip(*_episodes())]
    shape = (micro_batches, rows, ROW)
    joined = jax.tree.map(lambda *x: np.concatenate(x).reshape(shape) if np.ndim(x[0]) else sum(x), *batches)
    return dataclasses.replace(joined, used=np.int32(micro_batches))


def _together(rows, micro_batches, share_prefix=False):
    return packing.pack(*_episodes(), ROW, rows, micro_batches, share_prefix)


@functools.cache
def _scorer(mesh):
    return learner.make_scorer(_policy(), mesh, TEMPERATURE)


def _gradients(batch, o, mesh):
    """Gradient by name, loss and other sums; the batch gets the log-probabilities that the objective asks for."""
    policy = _policy()
    placed = sharding.param_shardings(CONFIG, mesh)
    score = _scorer(mesh)
    if o.importance != "none":
        batch = dataclasses.replace(batch, old_logprobs=score(jax.device_put(_moved(1), placed), batch))
    if o.kl_coef:
        batch = dataclasses.replace(batch, reference_logprobs=score(jax.device_put(_moved(2), placed), batch))
    function = functools.partial(learner.gradients, graphdef=nnx.split(policy)[0], shardings=placed, o=o)
    with jax.set_mesh(mesh):
        grads, sums, maxima = jax.jit(function)(
            jax.device_put(nnx.state(policy), placed), learner.place(batch, mesh), jnp.zeros((), jnp.int32)
        )
    return _named(grads), {name: float(x) for name, x in (sums | maxima).items()}


def _named(tree):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _mesh(**sizes):
    return sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values()), dtype=int))])


@pytest.mark.parametrize("name", [pytest.param("gspo", marks=pytest.mark.slow), "cispo"])
def test_one_gradient_however_the_batch_is_cut(name):
    """Rows of their own on devices in micro-batches, and shared prefixes, against packed rows in one micro-batch;
    for cispo packed rows throughout, because which tokens Clip-Cov draws depends on where they stand."""
    o, one = OBJECTIVES[name], _mesh()
    together = _together(12, 1)
    expected, sums = _gradients(together, o, one)
    assert sums["clip_fraction_high"] + sums["clip_fraction_low"] > 0
    others = [(_together(2, 6) if name == "cispo" else _alone(4, 3), _mesh(fsdp=2))]
    if name == "gspo":
        others = [(_alone(4, 3), _mesh(fsdp=2, context=2))]
        shared = _together(2, 6, share_prefix=True)
        assert (shared.segment_ids > 0).sum() < (together.segment_ids > 0).sum() - 20 and shared.used > 1
        others.append((shared, one))
    for batch, mesh in others:
        grads, found = _gradients(batch, o, mesh)
        assert batch.used > 1 and batch.denominator == together.denominator and batch.sequences == 12
        for part, tensor in expected.items():
            norm = np.linalg.norm(tensor)
            assert norm > 1e-6 and np.linalg.norm(grads[part] - tensor) <= 1e-5 * norm, part
        assert found == pytest.approx(sums, rel=1e-4, abs=1e-5)


def test_a_batch_of_its_own_or_in_parts_gives_the_value_of_the_losses():
    """The objective's loss against losses.py on the arrays of the whole batch, term by term."""
    batch, score = _together(12, 1), _scorer(_mesh())
    new, old = (score(params, batch)[0] for params in (nnx.state(_policy()), _moved(1)))
    arrays = (new, old, batch.advantages[0], batch.loss_mask[0])
    loss, ratio, *_ = losses.gspo_token(*arrays, batch.segment_ids[0], 0.02, 0.02)
    loss *= losses.truncated_importance(old, batch.sampler_logprobs[0], batch.loss_mask[0], 1.2)
    held = losses.kl_cov(losses.covariance(old, *arrays[2:]), batch.loss_mask[0], 0.2)
    assert held.sum() == int(0.2 * batch.denominator)
    value = float(jnp.sum(loss + jnp.abs(jnp.where(held, new - old, 0.0)))) / 12
    batch_with_old = dataclasses.replace(batch, old_logprobs=old[None])
    micro = jax.tree.map(lambda x: x[0] if np.ndim(x) else x, batch_with_old)
    held_RT = objective.held_back(batch_with_old, TOKENS, jnp.zeros((), jnp.int32))[0]
    _, (sums, maxima) = jax.jit(lambda policy: objective.micro_batch(policy, micro, held_RT, TOKENS))(_policy())
    assert float(sums["loss"]) == pytest.approx(value, rel=1e-5)
    found = objective.metrics(sums, maxima, batch.denominator)
    ratio = np.asarray(ratio)[batch.loss_mask[0] > 0]
    assert float(found["ratio_std"]) == pytest.approx(ratio.std(), rel=1e-3)
    assert float(found["ess"]) == pytest.approx(ratio.sum() ** 2 / (ratio**2).sum() / len(ratio), rel=1e-4)
    mismatch = np.asarray(batch.sampler_logprobs[0] - old)[batch.loss_mask[0] > 0]
    assert float(found["mismatch_kl"]) == pytest.approx(mismatch.mean(), rel=1e-3)


def test_layers_with_a_window_refuse_shared_prefixes():
    q, ids = jnp.zeros((1, 8, 2, 4)), jnp.ones((1, 8), jnp.int32)
    for attend in (attention.plain, attention.cudnn, attention.splash):
        with pytest.raises(ValueError, match="sliding window cannot share prefixes .rl.share_prefix."):
            attend(q, q, q, ids, 4, ids)


def test_masters_keep_what_bfloat16_cannot_hold():
    """Updates of 1e-4 are below bfloat16's step at weights near 1: the masters are those of a float32 run to the bit,
    and the parameters their rounding."""
    transformation = optimisers.make(1e-4)
    wide = {"w": jnp.asarray(np.random.default_rng(0).uniform(0.5, 2, (4, 4)).astype(np.float32))}
    wide = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), wide)
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide)
    states = [optimisers.fresh(params, transformation) for params in (wide, narrow)]
    yes = jnp.ones((), bool)
    for _ in range(5):
        grads = {"w": jnp.ones((4, 4))}
        states = [optimisers.apply(state, grads, yes, yes, transformation)[0] for state in states]
    exact, rounded = states
    np.testing.assert_array_equal(rounded.master["w"], exact.params["w"])
    np.testing.assert_array_equal(rounded.params["w"], exact.params["w"].astype(jnp.bfloat16))
    moved = np.asarray(wide["w"] - rounded.master["w"])
    np.testing.assert_allclose(moved, 5e-4, rtol=1e-2)
    assert exact.master is None and int(rounded.step) == 5


@pytest.mark.parametrize(("rate", "made"), [(1e-3, True), (1e17, True), (1e38, False)])
def test_an_update_whose_norm_overflows_is_skipped_and_counted(rate, made):
    """Weights of 1e38 are finite, but their logits are useless, and without a reward no update would ever follow."""
    transformation = optimisers.make(rate)
    state = optimisers.fresh({"w": jnp.ones((4, 4))}, transformation)
    yes = jnp.ones((), bool)
    for number in (1, 2):
        state, norm, ok = optimisers.apply(state, {"w": jnp.ones((4, 4))}, yes, yes, transformation)
        assert (bool(ok), bool(jnp.isfinite(norm)), int(state.skipped)) == (made, made, 0 if made else number)
    assert int(state.step) == (2 if made else 0) and bool(jnp.all(state.params["w"] == 1)) == (not made)
    optimisers.check_finite(state, 3)
    if not made:
        with pytest.raises(RuntimeError, match=r"2 updates in a row .* \(rl.max_skipped_updates\)"):
            optimisers.check_finite(state, 2)
    _, _, ok = optimisers.apply(state, {"w": jnp.ones((4, 4))}, yes, ~yes, transformation)
    assert not ok  # not wanted, and no failure
