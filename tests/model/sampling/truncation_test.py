"""What is sampled from a truncated distribution is trained on as such: the learner finds the sampler's logprobs."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from envs.base import Score
from model.network import sharding, transformer
from model.sampling import draw, sampler
from rl import trajectory
from rl.learn import learner, packing
from tests.support import policies

V, CONTEXT, NEW, K = 61, 40, 12, 24
CONFIG = transformer.Config(
    vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8,
)  # fmt: skip


@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_the_learner_finds_the_samplers_logprobs(temperature, chunk):
    """With top-p 0.9 and min-p over the recorded keep-sets, and far from it without them."""
    graphdef, params = policies.sharp(CONFIG)
    engine = sampler.Engine(
        graphdef, CONFIG, slots=6, context=CONTEXT, prefill_chunk=16, max_new_tokens=NEW, stop_ids=(),
        temperature=temperature, truncation=draw.Truncation(K, 0.9, 0.01),
    )  # fmt: skip
    prompts = [np.random.default_rng(i).integers(0, V, 4 + i).tolist() for i in range(6)]
    keys = draw.turn_keys(5, ["t"] * 6, range(6), [0] * 6)
    samples = engine.turn(engine.place(params), [sampler.Request(i, prompts[i], keys[i]) for i in range(6)])
    episodes = [
        trajectory.Trajectory(
            "t", i, prompt + sample.tokens, [0] * len(prompt) + [1] * NEW, [0.0] * len(prompt) + sample.logprobs, 0,
            trajectory.ENDED, Score(1.0, {}, []), [], [], 1, [[]] * len(prompt) + sample.kept,
        )
        for i, (prompt, sample) in enumerate(zip(prompts, samples))
    ]  # fmt: skip
    batch = packing.pack(episodes, [1.0] * 6, row_length=CONTEXT, rows=2, micro_batches=3, most_kept=K)
    assert len({len(ids) for sample in samples for ids in sample.kept}) > 3
    mesh = sharding.make_mesh({"data": 2, "context": 2}, jax.devices()[:4])
    score = learner.make_scorer(nnx.merge(graphdef, params), mesh, temperature, chunk)
    found = np.asarray(score(params, batch)) * batch.loss_mask
    np.testing.assert_allclose(found, batch.sampler_logprobs, atol=1e-4)
    without = np.asarray(score(params, dataclasses.replace(batch, kept=None))) * batch.loss_mask
    assert np.abs(without - batch.sampler_logprobs).max() > 0.05 and (without <= found + 1e-6).all()
