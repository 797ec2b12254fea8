"""Contender: this repository's model, learner step and sampler."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.contestants import architecture, contest
from benchmarks.contestants import episodes as multi_turn
from model.checkpoints import load as loading
from model.network import sharding
from model.sampling import draw, sampler
from rl.learn import learner, packing
from rl.learn import optimiser as optimisers
from rl.learn.objective import Objective

held = {}


def load(path: str) -> dict:
    """Loads the checkpoint and makes the learner's step."""
    policy, _ = loading.from_pretrained(path, dtype=jnp.float32)
    held["policy"], rows = policy, architecture.rows()
    graphdef, params = nnx.split(policy)
    run = jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens))
    held["forward"] = lambda: run(params, rows[:, :-1]).block_until_ready()
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    optimiser = optimisers.make(architecture.LEARNING_RATE, max_grad_norm=architecture.MAX_GRAD_NORM)
    held["step"] = learner.make_train_step(policy, optimiser, mesh, Objective("sft"))
    held["state"] = optimisers.create(policy, optimiser, mesh)
    ones = np.ones((1, architecture.ROWS, architecture.LENGTH), np.float32)
    held["batch"] = packing.Batch(
        tokens=rows[None, :, :-1],
        targets=rows[None, :, 1:],
        positions=np.broadcast_to(np.arange(architecture.LENGTH, dtype=np.int32), ones.shape),
        segment_ids=ones.astype(np.int32),
        loss_mask=ones,
        sampler_logprobs=np.zeros_like(ones),
        advantages=ones,
        used=np.int32(1),
        denominator=np.float32(ones.size),
        sequences=np.float32(architecture.ROWS),
    )
    return {"parameters": sum(x.size for x in jax.tree.leaves(params)), "version": "HEAD"}


def forward() -> dict:
    """Logits of the batch; value: their sum of squares."""
    seconds, logits = architecture.timed(held["forward"])
    return {"seconds": seconds, "value": float(np.square(np.asarray(logits, np.float64)).sum())}


def train() -> dict:
    """One update; value: the loss before it."""

    def work():
        held["state"], metrics = held["step"](held["state"], held["batch"])
        jax.block_until_ready(held["state"])
        return float(metrics["loss"])

    seconds, loss = architecture.timed(work)
    return {"seconds": seconds, "value": loss}


def sample() -> dict:
    """Samples every prompt with logprobs; value: tokens sampled."""
    prompts = architecture.prompts().tolist()
    if "engine" not in held:
        graphdef, params = nnx.split(held["policy"])
        held["engine"] = sampler.Engine(
            graphdef, held["policy"].config, slots=len(prompts), context=architecture.PROMPT + architecture.NEW + 1,
            prefill_chunk=architecture.PROMPT, max_new_tokens=architecture.NEW, stop_ids=(), decode_steps=32,
        )  # fmt: skip
        held["params"] = held["engine"].place(params)
    engine = held["engine"]
    keys = draw.turn_keys(0, ["benchmark"] * len(prompts), range(len(prompts)), [0] * len(prompts))

    def work():
        engine.forget()
        for slot in range(len(prompts)):
            engine.release(slot)
        return engine.turn(held["params"], [sampler.Request(i, p, keys[i]) for i, p in enumerate(prompts)])

    seconds, found = architecture.timed(work)
    return {"seconds": seconds, "value": sum(len(one.logprobs) for one in found)}


def episodes(way: str, turns: int) -> dict:
    """Plays the multi-turn episodes of benchmarks/contestants/episodes.py. way: "continuous" or "static"."""
    return getattr(multi_turn, way)(held["policy"], turns)


if __name__ == "__main__":
    contest.serve({"load": load, "forward": forward, "train": train, "sample": sample, "episodes": episodes})
