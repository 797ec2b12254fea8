"""The slot engine against the learner's forward pass, transformers' generate, and hand-computed distributions."""

import dataclasses
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model.checkpoints import load
from model.network import sharding, transformer
from model.sampling import draw, sampler
from tests.support import policies

V, CONTEXT = 61, 48
CONFIG = transformer.Config(
    vocab_size=V + 3, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8
)  # fmt: skip


def tiny():
    """(graphdef, params) of the policy under test."""
    return policies.sharp(CONFIG)


def make_engine(**changes):
    """An engine of four slots for the tiny policy."""
    sizes = dict(
        slots=4,
        context=CONTEXT,
        prefill_chunk=8,
        max_new_tokens=6,
        stop_ids=[3, 5, 7, 11, 13],
        prefill_rows=2,
        decode_steps=3,
    )
    return sampler.Engine(tiny()[0], CONFIG, **{**sizes, **changes})


@functools.partial(jax.jit, static_argnums=0)
def learner_logits(graphdef, params, tokens_BT):
    """The learner's logits of whole rows."""
    return nnx.merge(graphdef, params)(tokens_BT)


def learner_logprobs(tokens, temperature):
    """Log-probability of each token but the first under the learner's softmax(logits / temperature)."""
    row = np.zeros((1, CONTEXT), np.int32)
    row[0, : len(tokens)] = tokens
    logits = np.asarray(learner_logits(*tiny(), row), np.float64)[0, : len(tokens) - 1] / temperature
    logits -= logits.max(-1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logprobs[np.arange(len(tokens) - 1), tokens[1:]]


def prompt_of(length, seed=0):
    """Random token ids."""
    return np.random.default_rng(seed).integers(0, V, length).tolist()


# Per turn: slot -> (tokens to append, temperature, whether the slot is released first).
asks = st.tuples(st.integers(0, 14), st.sampled_from([1.0, 0.7, 1.3, 0.0]), st.booleans())
turns_of_slots = st.lists(st.dictionaries(st.integers(0, 3), asks, min_size=1), min_size=2, max_size=6)


@settings(max_examples=8)
@given(turns_of_slots, st.integers(0, 2**31))
def test_logprobs_equal_the_learners(schedule, seed):
    """Whatever slots are asked, parked and released in between, over several turns of uneven lengths."""
    engine, episodes = make_engine(), {slot: [] for slot in range(4)}
    for turn, asked in enumerate(schedule):
        requests, temperatures = [], []
        for slot, (length, temperature, release) in asked.items():
            if release:
                engine.release(slot)
                episodes[slot] = []
            length = max(length, 0 if episodes[slot] else 1)
            if length > engine.room(slot):
                continue
            tokens = prompt_of(length, seed + 10 * turn + slot)
            key = draw.turn_keys(seed, [f"task {slot}"], [0], [turn])[0]
            requests.append(sampler.Request(slot, tokens, key, temperature))
            temperatures.append(temperature)
        samples = engine.turn(engine.place(tiny()[1]), requests)
        for request, sample in zip(requests, samples, strict=True):
            episode = episodes[request.slot]
            episode += [*request.tokens, *sample.tokens]
            n = len(sample.tokens)
            assert 1 <= n <= 6 and len(sample.logprobs) == n and len(episode) <= CONTEXT
            expected = learner_logprobs(episode, request.temperature or 1.0)[-n:]
            np.testing.assert_allclose(sample.logprobs, expected, atol=1e-4)
            stopped = [token in (3, 5, 7, 11, 13) for token in sample.tokens]
            assert not any(stopped[:-1]) and stopped[-1] == (sample.finish_reason == "stop")
            assert (len(episode) == CONTEXT and not stopped[-1]) == (sample.finish_reason == "context")
            assert sample.finish_reason != "length" or n == 6


@pytest.mark.parametrize("tied", [True, False])
def test_greedy_equals_transformers_generate(tmp_path, tied):
    """Prompts of uneven lengths, more of them than slots would be needed, in one call."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=tied, initializer_range=0.2
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    policy, _ = load.from_pretrained(tmp_path)
    prompts = [np.random.default_rng(i).integers(0, 97, 1 + 9 * i).tolist() for i in range(5)]
    samples = sampler.generate(policy, prompts, 10, temperature=0.0, stop_ids=[2])
    assert len({tuple(sample.tokens) for sample in samples}) > 2  # the model says different things
    for prompt, sample in zip(prompts, samples, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, eos_token_id=2, pad_token_id=2
        )[0, len(prompt) :].tolist()
        assert sample.tokens == expected
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + expected])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        np.testing.assert_allclose(sample.logprobs, logprobs[np.arange(len(expected)), expected], atol=1e-4)


LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


@pytest.mark.parametrize(
    "temperature, truncation, kept",
    [
        (1.0, (0, 1.0, 0.0), 6), (0.7, (0, 1.0, 0.0), 6), (1.3, (4, 1.0, 0.0), 4), (1.0, (0, 0.8, 0.0), 3),
        (1.0, (0, 0.5, 0.0), 1), (2.0, (3, 0.7, 0.0), 2), (1.0, (0, 1.0, 0.13), 4), (1.0, (5, 0.9, 0.3), 2),
    ],
)  # fmt: skip
def test_draws_follow_the_truncated_softmax(temperature, truncation, kept):
    """Chi-square of 4,000 draws. `kept` by hand: softmax(LOGITS) = .560 .206 .125 .076 .028 .004, so .135 and .223 of
    the first are the fourth and third; for temperature 2 exp(LOGITS/2) = 2.718 1.649 1.284, shares .481 .292 .227."""
    n = 4000
    keys = draw.turn_keys(7, ["task"] * n, range(n), [0] * n)
    logits_BV = jnp.tile(jnp.asarray(LOGITS, jnp.float32)[None], (n, 1))
    temperature_B = jnp.full((n,), temperature)
    truncation = draw.Truncation(*truncation)
    tokens, logprobs, recorded = draw.tokens(logits_BV, keys, jnp.zeros((n,), jnp.int32), temperature_B, truncation)
    weights = np.exp(LOGITS / temperature) * (np.arange(6) < kept)
    expected = weights / weights.sum()
    np.testing.assert_allclose(logprobs, np.log(expected[:kept])[np.asarray(tokens)], atol=1e-5)
    counts = np.bincount(np.asarray(tokens), minlength=6)
    assert counts[kept:].sum() == 0
    ids = list(range(kept)) + [draw.NOTHING] * (truncation.top_k - kept) if truncation.top_k else []
    np.testing.assert_array_equal(recorded, [ids] * n)
    if kept > 1:
        assert stats.chisquare(counts[:kept], n * expected[:kept]).pvalue > 1e-3


@settings(max_examples=60)
@given(st.lists(st.integers(-60, 60), min_size=8, max_size=8, unique=True), st.floats(0.05, 0.99))
def test_nucleus_is_the_smallest_set_that_reaches_top_p(logits, top_p):
    """Without its least probable member it would fall short."""
    logits = np.array(logits) / 10
    probs = np.exp(logits)
    probs /= probs.sum()
    found, ids = draw.truncate(jnp.asarray(logits[None], jnp.float32), draw.Truncation(top_p=top_p))
    kept = np.isin(np.arange(8), np.asarray(ids)[np.isfinite(found)])
    assert kept.any() and probs[kept].min() > probs[~kept].max(initial=0.0)
    assert probs[kept].sum() >= top_p - 1e-6
    assert probs[kept].sum() - probs[kept].min() < top_p + 1e-6


def test_truncated_sampling_records_what_it_drew_from():
    """Through the engine: with top_k 2 no token is less probable than the second most probable one."""
    engine = make_engine(truncation=draw.Truncation(2, 0.95))
    prompt = prompt_of(9)
    request = sampler.Request(1, prompt, draw.turn_keys(0, ["t"], [0], [0])[0])
    sample = engine.turn(engine.place(tiny()[1]), [request])[0]
    row = np.zeros((1, CONTEXT), np.int32)
    row[0, : len(prompt) + len(sample.tokens)] = prompt + sample.tokens
    for i, (token, logprob) in enumerate(zip(sample.tokens, sample.logprobs, strict=True)):
        logits = np.asarray(learner_logits(*tiny(), row), np.float64)[0, len(prompt) + i - 1]
        top = np.sort(np.exp(logits - logits.max()))[::-1][:2]
        top = top[:1] if top[0] / top.sum() >= 0.95 else top
        own = np.exp(logits[token] - logits.max())
        assert own >= top.min() * (1 - 1e-5)
        assert logprob == pytest.approx(np.log(own / top.sum()), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_logprobs_equal_the_learners_over_the_recorded_keep_set(temperature):
    """Nucleus sampling over several turns; greedy turns keep no set and have the plain logprob."""
    engine, episodes = make_engine(truncation=draw.Truncation(1000, 0.9, 0.02)), {slot: [] for slot in range(4)}
    params, sizes = engine.place(tiny()[1]), []
    for turn in range(3):
        keys = draw.turn_keys(2, ["t"] * 4, range(4), [turn] * 4)
        given = {slot: prompt_of(3 + slot, turn) for slot in range(4)}
        heats = {slot: 0.0 if slot == 3 else temperature for slot in range(4)}
        samples = engine.turn(params, [sampler.Request(s, given[s], keys[s], heats[s]) for s in range(4)])
        for slot, sample in enumerate(samples):
            episodes[slot] += [*given[slot], *sample.tokens]
            row = np.zeros((1, CONTEXT), np.int32)
            row[0, : len(episodes[slot])] = episodes[slot]
            logits = np.asarray(learner_logits(*tiny(), row), np.float64)[0] / (heats[slot] or 1.0)
            logits = logits[len(episodes[slot]) - len(sample.tokens) - 1 :]
            assert len(sample.kept) == len(sample.tokens)
            for place, (token, logprob, kept) in enumerate(zip(sample.tokens, sample.logprobs, sample.kept)):
                assert (kept == []) == (slot == 3) and (token in kept or slot == 3)
                among = logits[place][kept] if kept else logits[place]
                assert logprob == pytest.approx(logits[place][token] - np.log(np.exp(among).sum()), abs=1e-4)
                sizes += [len(kept)] if kept else []
    assert min(sizes) < max(sizes) < V


def test_tokens_do_not_depend_on_neighbours_slot_or_order():
    """The same two turns alone in slot 0, and in slot 3 beside others that are asked for first."""

    def keys(name, turn):
        return draw.turn_keys(5, [name], [2], [turn])[0]

    params, turns = tiny()[1], []
    for slot, others in ((0, []), (3, [2, 0, 1])):
        engine = make_engine()
        for turn, length in enumerate((11, 4)):
            requests = [sampler.Request(o, prompt_of(20 + o - 15 * turn, o), keys(f"other {o}", turn)) for o in others]
            requests.append(sampler.Request(slot, prompt_of(length, 99 + turn), keys("mine", turn)))
            turns.append(engine.turn(engine.place(params), requests)[-1])
    for alone, beside in ((turns[0], turns[2]), (turns[1], turns[3])):
        assert alone.tokens == beside.tokens and alone.finish_reason == beside.finish_reason
        np.testing.assert_allclose(alone.logprobs, beside.logprobs, atol=1e-5)
    engine = make_engine(stop_ids=[])  # another key, other tokens
    a = engine.turn(engine.place(params), [sampler.Request(s, prompt_of(11), keys("mine", s)) for s in range(4)])
    assert len({tuple(sample.tokens) for sample in a}) == 4


def test_a_greedy_request_runs_beside_sampled_ones():
    """Greedy tokens are the learner's argmax while the neighbours keep their own tokens."""
    engine, prompt = make_engine(stop_ids=[]), prompt_of(10)
    keys = draw.turn_keys(0, ["t"] * 4, range(4), [0] * 4)
    requests = [sampler.Request(s, prompt, keys[s], 0.0 if s == 2 else None) for s in range(4)]
    samples = engine.turn(engine.place(tiny()[1]), requests)
    row = np.zeros((1, CONTEXT), np.int32)
    row[0, :16] = prompt + samples[2].tokens
    greedy = np.asarray(learner_logits(*tiny(), row))[0, 9:15].argmax(-1).tolist()
    assert samples[2].tokens == greedy
    assert samples[1].tokens != greedy and samples[0].tokens != samples[1].tokens


def test_a_request_may_have_a_smaller_budget():
    engine = make_engine(stop_ids=[])
    keys = draw.turn_keys(0, ["t"] * 4, range(4), [0] * 4)
    budgets = [1, 3, None, 6]
    requests = [sampler.Request(s, [5], keys[s], None, n) for s, n in enumerate(budgets)]
    samples = engine.turn(engine.place(tiny()[1]), requests)
    assert [len(sample.tokens) for sample in samples] == [1, 3, 6, 6]
    assert {sample.finish_reason for sample in samples} == {"length"}


def test_no_recompilation_after_warm_up():
    """Every program is seen while the slots fill up once; no later length compiles anything."""
    engine, params = make_engine(), tiny()[1]

    def fill(lengths, members):
        for slot in range(4):
            engine.release(slot)
        for turn, length in enumerate(lengths):
            keys = draw.turn_keys(0, ["t"] * members, range(members), [turn] * members)
            requests = [sampler.Request(s, prompt_of(length + s, turn), keys[s]) for s in range(members)]
            engine.turn(engine.place(params), [r for r in requests if len(r.tokens) <= engine.room(r.slot)])

    before = sampler.compilations()
    for lengths in ([1] * 16, [40], [20, 8, 5], [12], [25, 3]):
        fill(lengths, 4)
    warm = sampler.compilations()
    assert warm - before <= 6  # empty cache, large and small prefill, copies, first token, decode
    for lengths, members in (([7, 2, 9, 1], 3), ([33, 1, 1], 1), ([3] * 9, 2), ([17, 13], 4)):
        fill(lengths, members)
    assert sampler.compilations() == warm


@pytest.mark.slow
def test_sharded_engine_equals_one_device():
    """Slots over data and fsdp, heads over tensor, parameters in the learner's layout; a prompt that several slots have
    is computed once on each device that they lie on."""
    graphdef, params = tiny()
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    sharded = jax.device_put(params, sharding.param_shardings(CONFIG, mesh))
    engines = [(make_engine(slots=8), params), (make_engine(slots=8, mesh=mesh), sharded)]
    keys = draw.turn_keys(1, ["t"] * 8, range(8), [0] * 8)
    for turn in range(2):
        requests = [sampler.Request(s, prompt_of(2 * s + 2 - turn, s), keys[s]) for s in range(8) if s != 5 - turn]
        one, many = (engine.turn(engine.place(weights), requests) for engine, weights in engines)
        for a, b in zip(one, many, strict=True):
            assert a.tokens == b.tokens and a.finish_reason == b.finish_reason
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    before = [dataclasses.replace(engine.stats) for engine, _ in engines]
    for engine, _ in engines:
        for slot in range(8):
            engine.release(slot)
    requests = [sampler.Request(s, prompt_of(11, 0) + [s // 4], keys[s]) for s in range(8)]
    one, many = (engine.turn(engine.place(weights), requests) for engine, weights in engines)
    assert [a.tokens for a in one] == [b.tokens for b in many]
    np.testing.assert_allclose([a.logprobs[0] for a in one], [b.logprobs[0] for b in many], atol=1e-4)
    shared = [engine.stats.shared_tokens - old.shared_tokens for (engine, _), old in zip(engines, before)]
    computed = [engine.stats.prefill_tokens - old.prefill_tokens for (engine, _), old in zip(engines, before)]
    assert shared[1] == 4 * 12 and computed[1] == 4 * 12  # two slots a device
    assert shared[0] > 6 * 8 and shared[0] + computed[0] == 8 * 12
    policy = nnx.merge(graphdef, sharded)
    prompts = [prompt_of(5, i) for i in range(3)]
    local = sampler.generate(nnx.merge(graphdef, params), prompts, 4, seed=3)
    assert [s.tokens for s in sampler.generate(policy, prompts, 4, seed=3)] == [s.tokens for s in local]


def test_generate_takes_any_number_of_prompts(monkeypatch):
    """Sample i does not depend on how many slots there are."""
    policy = nnx.merge(*tiny())
    prompts = [prompt_of(1 + i, i) for i in range(7)]
    together = sampler.generate(policy, prompts, 5, top_p=0.9, seed=11)
    monkeypatch.setattr(sampler, "GENERATE_SLOTS", 3)
    assert [s.tokens for s in sampler.generate(policy, prompts, 5, top_p=0.9, seed=11)] == [s.tokens for s in together]
    assert [s.tokens for s in sampler.generate(policy, prompts, 5, top_p=0.9, seed=12)] != [s.tokens for s in together]
    assert [len(s.tokens) for s in together] == [5] * 7 and {s.finish_reason for s in together} == {"length"}
    assert sampler.generate(policy, [], 5) == []


def test_turn_keys_are_a_chain_of_folds():
    """By hand with jax.random, whatever else is in the batch; other ids, members, turns and seeds give other keys."""
    ids = [f"root/r0/leaf/{i % 3}" for i in range(100)]
    keys = draw.turn_keys(9, ids, range(100), [4] * 100)
    assert keys.shape == (100, 2) and keys.dtype == np.uint32 and len({tuple(key) for key in keys}) == 100
    digest = hashlib.blake2b(b"root/r0/leaf/1", digest_size=8).digest()
    key = jax.random.key(9, impl="threefry2x32")
    for word in (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"), 70, 4):
        key = jax.random.fold_in(key, word)
    np.testing.assert_array_equal(keys[70], jax.random.key_data(key))
    np.testing.assert_array_equal(draw.turn_keys(9, ids[70:71], [70], [4])[0], keys[70])
    variants = [(9, "root/r0/leaf/1", 70, 5), (9, "root/r0/leaf/2", 70, 4), (8, "root/r0/leaf/1", 70, 4)]
    for seed, name, member, turn in variants:
        assert draw.turn_keys(seed, [name], [member], [turn])[0].tolist() != keys[70].tolist()
    assert draw.turn_keys(0, [], [], []).shape == (0, 2)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"slots": 0}, "slots"),
        ({"prefill_chunk": 0}, "prefill_chunk"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"context": 1}, "context"),
        ({"truncation": draw.Truncation(top_p=0.0)}, "top_p 0.0"),
        ({"truncation": draw.Truncation(min_p=1.0)}, "min_p 1.0"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_impossible_sizes_are_named(changes, named):
    """In the message of a ValueError."""
    with pytest.raises(ValueError, match=named):
        make_engine(**changes)


def test_impossible_requests_change_nothing():
    """The slot can be used as if nothing had been asked."""
    engine, params, key = make_engine(), tiny()[1], np.zeros(2, np.uint32)
    request = functools.partial(sampler.Request, key=key)
    for requests, named in (
        ([request(4, [1])], "slots"),
        ([request(1, [1]), request(1, [2])], "distinct"),
        ([request(0, [1]), request(2, [])], "slot 2"),
        ([request(3, [1] * CONTEXT)], "room"),
        ([request(3, [1], temperature=-0.5)], "temperature"),
        ([request(3, [1], max_new_tokens=7)], "max_new_tokens"),
    ):
        with pytest.raises(ValueError, match=named):
            engine.turn(engine.place(params), requests)
    assert all(engine.room(slot) == CONTEXT - 1 for slot in range(4))
    sample = engine.turn(engine.place(params), [request(3, [1] * (CONTEXT - 1), temperature=0.0)])[0]
    assert len(sample.tokens) == 1 and sample.finish_reason in ("context", "stop")
    assert engine.room(3) == -1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error_and_not_a_sample(value):
    """As after a step that made a parameter NaN or infinite; from files such a policy is not even loaded."""
    graphdef, params = tiny()
    policy = nnx.merge(graphdef, jax.tree.map(lambda x: jnp.full_like(x, value), params))
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sampler.generate(policy, [[1, 2, 3]], max_new_tokens=4)
