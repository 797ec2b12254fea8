"""Losses against torch, float64 loops over single tokens, numbers by hand and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.learn import losses

LOW, HIGH = 0.2, 0.28


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
def test_logprobs_and_entropy_equal_torch(temperature):
    """torch.distributions.Categorical is the reference."""
    rng = np.random.default_rng(0)
    logits_BTV, targets_BT = rng.normal(0, 4, (2, 5, 11)).astype(np.float32), rng.integers(0, 11, (2, 5))
    reference = torch.distributions.Categorical(logits=torch.tensor(logits_BTV) / temperature)
    logprobs, entropy = losses.token_statistics(jnp.asarray(logits_BTV), jnp.asarray(targets_BT), temperature)
    np.testing.assert_allclose(logprobs, reference.log_prob(torch.tensor(targets_BT)), atol=1e-5)
    np.testing.assert_allclose(entropy, reference.entropy(), atol=1e-5)


def test_statistics_over_a_keep_set_are_those_of_the_renormalised_distribution():
    """torch's Categorical over the kept tokens alone; without a set all count; gradients are finite and torch's."""
    rng, temperature = np.random.default_rng(3), 0.7
    logits = rng.normal(0, 4, (1, 4, 9))
    kept = np.array([[[2, 5, 0, -1], [8, -1, -1, -1], [-1, -1, -1, -1], [1, 2, 3, 4]]])
    targets = np.array([[5, 8, 3, 1]])

    def total(logits):
        logprobs, entropy = losses.token_statistics(logits, jnp.asarray(targets), temperature, jnp.asarray(kept))
        return logprobs.sum() + 2 * entropy.sum(), (logprobs, entropy)

    with jax.enable_x64(True):
        (_, (logprobs, entropy)), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(logits))
    there, summed = torch.tensor(logits, requires_grad=True), 0.0
    for t in range(4):
        ids = [i for i in kept[0, t] if i >= 0] or list(range(9))
        reference = torch.distributions.Categorical(logits=there[0, t, ids] / temperature)
        expected = reference.log_prob(torch.tensor(ids.index(targets[0, t])))
        np.testing.assert_allclose(logprobs[0, t], expected.item(), atol=1e-9)
        np.testing.assert_allclose(entropy[0, t], reference.entropy().item(), atol=1e-9)
        summed = summed + expected + 2 * reference.entropy()
    summed.backward()
    np.testing.assert_allclose(gradient, there.grad.numpy(), atol=1e-9)


def test_logits_of_any_width_are_summed_in_float32():
    logits_BTV = jnp.full((1, 1, 4096), 3.0, jnp.bfloat16)
    got, _ = losses.token_statistics(logits_BTV, jnp.zeros((1, 1), jnp.int32), 1.0)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [[-np.log(4096)]], rtol=1e-6)


def test_ppo_by_hand():
    """One token per case. ratio 1.5 and 0.5 lie outside [0.8, 1.28], 1.1 inside; 12 is beyond the dual clip of 3."""
    ratio = np.array([[1.5, 0.5, 1.5, 0.5, 1.1, 1.1, 12.0]])
    advantages = np.array([[2.0, -2.0, -2.0, 2.0, 1.0, 1.0, -1.0]])
    mask = np.array([[1, 1, 1, 1, 1, 0, 1]])
    old = np.full((1, 7), -1.25)
    arrays = [jnp.asarray(x, jnp.float32) for x in (np.log(ratio) + old, old, advantages, mask)]
    # min(1.5*2, 1.28*2) = 2.56; min(0.5*-2, 0.8*-2) = -1.6; min(-3, -2.56) = -3; min(1, 1.6) = 1; 1.1; -; -12 or -3
    loss_BT, ratio_BT, low_BT, high_BT = losses.ppo(*arrays, LOW, HIGH)
    np.testing.assert_allclose(loss_BT, [[-2.56, 1.6, 3.0, -1.0, -1.1, 0.0, 12.0]], rtol=1e-5)
    assert high_BT.tolist() == [[True] + [False] * 6]
    assert low_BT.tolist() == [[False, True] + [False] * 5]
    np.testing.assert_allclose(ratio_BT, np.where(mask, ratio, 1.0), rtol=1e-6)
    loss_BT, _, _, high_BT = losses.ppo(*arrays, LOW, HIGH, 3.0)
    np.testing.assert_allclose(loss_BT, [[-2.56, 1.6, 3.0, -1.0, -1.1, 0.0, 3.0]], rtol=1e-5)
    assert high_BT.tolist() == [[True] + [False] * 5 + [True]]


SURROGATES = ("ppo", "dual", "gspo", "gspo_token", "cispo")
SURROGATE = {"gspo": losses.gspo, "gspo_token": losses.gspo_token, "cispo": losses.cispo}


def _surrogate(name, new, old, advantages, mask, ids, low, high):
    arrays = (new, old, advantages, mask)
    if name in ("ppo", "dual"):
        return losses.ppo(*arrays, low, high, 3.0 if name == "dual" else None)
    return SURROGATE[name](*arrays, *(() if name == "cispo" else (ids,)), low, high)


def _members(mask_BT, ids_BT):
    """The sequences of a batch: lists of their sampled places."""
    keys = {(int(b), int(ids_BT[b, t])) for b, t in np.argwhere(ids_BT > 0)}
    return [[(b, t) for t in range(mask_BT.shape[1]) if ids_BT[b, t] == i and mask_BT[b, t]] for b, i in sorted(keys)]


def _reference(name, new, old, advantages, mask, ids, low, high, aggregation, length):
    """Sequence by sequence and token by token, straight from the papers; CISPO's weight is held at its value."""
    sequences, per_sequence = [places for places in _members(mask, ids) if places], []
    for places in sequences:
        mean = sum(new[p] - old[p] for p in places) / len(places)
        tokens = []
        for p in places:
            ratio = np.exp(mean if name.startswith("gspo") else new[p] - old[p])
            if name == "cispo":
                tokens.append(-min(max(ratio, 1 - low), 1 + high) * advantages[p] * new[p])
                continue
            value = min(ratio * advantages[p], min(max(ratio, 1 - low), 1 + high) * advantages[p])
            if name == "dual" and advantages[p] < 0:
                value = max(value, 3.0 * advantages[p])
            tokens.append(-value)
        per_sequence.append(tokens)
    count, everything = len(sequences), sum(sum(tokens) for tokens in per_sequence)
    return {
        "token-mean": everything / max(sum(map(len, sequences)), 1),
        "sequence-mean-token-mean": sum(sum(tokens) / len(tokens) for tokens in per_sequence) / max(count, 1),
        "sequence-mean-token-sum": everything / max(count, 1),
        "fixed": everything / (max(count, 1) * length),
    }[aggregation]


@st.composite
def batches(draw):
    """Rows of packed sequences of 1 to 7 tokens: unsampled stretches, empty members, rows and batches without any
    sampled token, padding."""
    B, T = 3, 7  # one shape, to compile once
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    ids = np.sort(rng.integers(0, 4, (B, T)), axis=1)[:, ::-1].copy()  # 0, the padding, comes last
    mask = rng.random((B, T)) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    mask &= (ids != draw(st.integers(0, 3))) & (ids > 0)  # one segment may be empty
    scale = draw(st.sampled_from([0.01, 0.5, 1.5]))
    new = rng.normal(-2, 1, (B, T))
    old = new - rng.choice([-1.0, 1.0], (B, T)) * scale * rng.uniform(0.05, 1.0, (B, T))
    advantages = rng.choice([-1.3, 0.4, 1.0], (B, 4))[np.arange(B)[:, None], ids]  # one for each sequence
    return [np.asarray(x, np.float64) for x in (new, old, advantages)], mask, ids


def _near_a_kink(new, old, mask, ids, low, high):
    """Whether any ratio, of a token or a sequence, lies within finite differences of a kink."""
    log_ratios = list((new - old)[mask])
    log_ratios += [np.mean([new[p] - old[p] for p in places]) for places in _members(mask, ids) if places]
    kinks = [np.log(max(1 - low, 1e-9)), np.log(1 + high), np.log(3.0)]
    return any(abs(x - kink) < 1e-3 for x in log_ratios for kink in kinks)


@settings(max_examples=80)
@given(batches(), st.sampled_from(SURROGATES), st.sampled_from(losses.AGGREGATIONS))
def test_every_loss_and_its_gradient_equal_the_float64_versions(batch, name, aggregation):
    """Values to 1e-9; gradients against central differences, for gspo_token those of gspo, for cispo with the weight
    held: a difference quotient of it would move the weight as well."""
    (new, old, advantages), mask, ids = batch
    low, high = (1.0, 0.5) if name == "cispo" else (LOW, HIGH)
    length, tokens = 5.0, max(mask.sum(), 1)
    sequences = max(sum(bool(places) for places in _members(mask, ids)), 1)
    with jax.enable_x64(True):

        def loss(x):
            arrays = (x, jnp.asarray(old), jnp.asarray(advantages), mask, jnp.asarray(ids))
            values = _surrogate(name, *arrays, low, high)[0]
            return losses.aggregate(values, mask, arrays[-1], aggregation, tokens, sequences, length)

        value, gradient = jax.value_and_grad(loss)(jnp.asarray(new))
        assert value.dtype == jnp.float64
    settings_of = (advantages, mask, ids, low, high, aggregation, length)
    np.testing.assert_allclose(value, _reference(name, new, old, *settings_of), rtol=1e-9, atol=1e-12)
    if _near_a_kink(new, old, mask, ids, low, high):
        return
    differences = np.zeros_like(new)
    for place in map(tuple, np.argwhere(mask)):
        ends = []
        for step in (1e-6, -1e-6):
            moved, base = new.copy(), old.copy()
            moved[place] += step
            if name == "cispo":
                base[place] += step
            ends.append(_reference(name, moved, base, *settings_of))
        differences[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


def test_gspo_token_gives_each_token_its_own_advantage():
    """Where advantages differ within a sequence, a token's gradient is -s A_t and no other's: ratio s, value -s A_t."""
    new, old = jnp.array([[-1.0, -2.0]]), jnp.array([[-1.1, -2.1]])
    advantages, ones, ids = jnp.array([[1.0, -3.0]]), jnp.ones((1, 2)), jnp.ones((1, 2), jnp.int32)
    function = lambda x: losses.gspo_token(x, old, advantages, ones, ids, LOW, HIGH)[0].sum()  # noqa: E731
    s = np.exp(0.1)
    np.testing.assert_allclose(function(new), -s * 1.0 + s * 3.0, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(function)(new), [[-s, 3.0 * s]], rtol=1e-6)


@pytest.mark.parametrize("name", SURROGATES)
def test_what_is_masked_may_be_nan(name):
    nan = float("nan")
    new, old, advantages = jnp.array([[-1.0, nan]]), jnp.array([[-1.0, -jnp.inf]]), jnp.array([[1.0, nan]])
    mask, ids = jnp.array([[1.0, 0.0]]), jnp.ones((1, 2), jnp.int32)
    low, high = (1.0, 1.0) if name == "cispo" else (LOW, HIGH)

    def function(x):
        found = _surrogate(name, x, old, advantages, mask, ids, low, high)
        return losses.aggregate(found[0], mask, ids, "token-mean", 1.0, 1.0, 1.0), found[1:]

    (value, (ratio, low_clipped, high_clipped)), gradient = jax.value_and_grad(function, has_aux=True)(new)
    assert float(value) == (1.0 if name == "cispo" else -1.0)  # -A logprob, or -A r
    assert np.isfinite(ratio).all() and not (low_clipped | high_clipped).any()
    np.testing.assert_array_equal(gradient, [[-1.0, 0.0]])
    assert float(losses.cross_entropy(new, mask, 1.0)) == 1.0
    for array in (losses.kl(new, old, mask, "k3"), losses.covariance(new, advantages, mask)):
        assert np.isfinite(array).all()


def test_kl_estimators_equal_torch_and_have_its_gradient():
    """On the whole distribution: the means of k1 and k3 over the policy's samples are KL, k2's gradient is KL's."""
    rng = np.random.default_rng(0)
    logits, reference = rng.normal(size=(5,)), torch.log_softmax(torch.tensor(rng.normal(size=(5,))), 0)
    with jax.enable_x64(True):

        def expected(estimator, held):
            def mean(x):
                logprobs = jax.nn.log_softmax(x)
                weights = jnp.exp(jax.lax.stop_gradient(logprobs) if held else logprobs)
                ones, other = jnp.ones((1, 5)), jnp.asarray(reference.numpy())[None]
                return jnp.sum(weights[None] * losses.kl(logprobs[None], other, ones, estimator))

            return mean

        leaf = torch.tensor(logits, requires_grad=True)
        exact = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=leaf), torch.distributions.Categorical(logits=reference)
        )
        exact.backward()
        for estimator in ("k1", "k3"):
            np.testing.assert_allclose(expected(estimator, False)(jnp.asarray(logits)), exact.detach(), rtol=1e-9)
        np.testing.assert_allclose(jax.grad(expected("k2", True))(jnp.asarray(logits)), leaf.grad, atol=1e-12)
        np.testing.assert_allclose(jax.grad(expected("k1", True))(jnp.asarray(logits)), np.zeros(5), atol=1e-12)
    with pytest.raises(ValueError, match="KL estimator: expected one of .* found 'k4'"):
        losses.kl(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1)), "k4")


def test_a_teachers_advantages_give_the_gradient_of_reverse_kl():
    """All 5 tokens, weighted as the policy draws them, the advantage log teacher - log policy; against torch."""
    rng = np.random.default_rng(1)
    logits, teacher = rng.normal(size=(5,)), torch.log_softmax(torch.tensor(rng.normal(size=(5,))), 0)
    leaf = torch.tensor(logits, requires_grad=True)
    policy = torch.distributions.Categorical(logits=leaf)
    torch.distributions.kl_divergence(policy, torch.distributions.Categorical(logits=teacher)).backward()
    old, ones = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))[None], jnp.ones((1, 5))
    advantages = jnp.asarray(teacher.numpy())[None] - old

    def loss(x):
        values, *_ = losses.ppo(jax.nn.log_softmax(x)[None], old, advantages, ones, LOW, HIGH)
        return jnp.sum(jnp.exp(old) * values)

    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(logits, jnp.float32)), leaf.grad, atol=1e-6)


def test_importance_weights_by_hand():
    """Learner over sampler 4, 2, 1, 0.25, and a masked NaN."""
    ratio = jnp.array([[4.0, 2.0, 1.0, 0.25, float("nan")]])
    sampler, mask = jnp.full((1, 5), -1.0), jnp.array([[1, 1, 1, 1, 0]])
    old = sampler + jnp.log(ratio)
    np.testing.assert_allclose(losses.truncated_importance(old, sampler, mask, 3.0), [[3, 2, 1, 0.25, 1]], rtol=1e-6)
    np.testing.assert_allclose(losses.masked_importance(old, sampler, mask, 0.5, 3.0), [[0, 2, 1, 0, 1]], rtol=1e-6)
    gradient = jax.grad(lambda x: losses.truncated_importance(x, sampler, mask, 3.0).sum())(old)
    assert not np.asarray(gradient).any()


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.01, 0.25, 0.6]), st.sampled_from([0.0, 0.5, 1.0]))
def test_covariance_and_who_is_held_back(seed, share, filled):
    rng = np.random.default_rng(seed)
    logprobs, advantages = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    mask = rng.random((2, 3, 5)) < filled
    with jax.enable_x64(True):
        got = losses.covariance(jnp.asarray(logprobs), jnp.asarray(advantages), mask)
        held = np.asarray(losses.kl_cov(got, mask, share))
        drawn = [np.asarray(losses.clip_cov(got, mask, share, 0.1, 2.0, jax.random.key(k))) for k in (0, 0, 1)]
    if not mask.any():
        assert not held.any() and not drawn[0].any()
        return
    x, a = logprobs[mask], advantages[mask]
    expected = (x - x.mean()) * (a - a.mean())
    np.testing.assert_allclose(np.asarray(got)[mask], expected, atol=1e-12)
    np.testing.assert_allclose(expected.mean(), np.cov(x, a, bias=True)[0, 1], atol=1e-12)
    count = max(int(share * mask.sum()), 1)
    np.testing.assert_allclose(np.sort(np.asarray(got)[held]), np.sort(expected)[-count:], atol=1e-12)
    eligible = mask & (np.asarray(got) > 0.1) & (np.asarray(got) < 2.0)
    assert all(d.sum() == min(count, eligible.sum()) and not (d & ~eligible).any() for d in drawn)
    assert (drawn[0] == drawn[1]).all()


def test_cross_entropy_equals_torch():
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(0, 2, (2, 7, 9)).astype(np.float32), rng.integers(0, 9, (2, 7))
    mask = rng.integers(0, 2, (2, 7))
    ignored = torch.tensor(np.where(mask, targets, -100)).flatten()
    reference = torch.nn.functional.cross_entropy(torch.tensor(logits).flatten(0, 1), ignored, ignore_index=-100)
    logprobs, _ = losses.token_statistics(jnp.asarray(logits), jnp.asarray(targets), 1.0)
    np.testing.assert_allclose(losses.cross_entropy(logprobs, jnp.asarray(mask), mask.sum()), reference, rtol=1e-5)


def test_unknown_aggregations_are_refused():
    with pytest.raises(ValueError, match="aggregation: expected one of .* found 'mean'"):
        losses.aggregate(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1), jnp.int32), "mean", 1, 1, 1)
