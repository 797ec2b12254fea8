"""Contender: this repository's model, learner step and sampler."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import architecture, contest
from model import load as loading
from model import sharding
from rl import learner, packing

held = {}


def load(path: str) -> dict:
    """Loads the checkpoint and makes the learner's step."""
    policy, _ = loading.from_pretrained(path, dtype=jnp.float32)
    rows = architecture.rows()
    graphdef, params = nnx.split(policy)
    run = jax.jit(lambda params, tokens: nnx.merge(graphdef, params)(tokens))
    held["forward"] = lambda: run(params, rows[:, :-1]).block_until_ready()
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    optimiser = learner.make_optimiser(architecture.LEARNING_RATE, max_grad_norm=architecture.MAX_GRAD_NORM)
    held["step"] = learner.make_train_step(policy, optimiser, mesh, loss="sft")
    held["state"] = learner.create(policy, optimiser, mesh)
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


if __name__ == "__main__":
    contest.serve({"load": load, "forward": forward, "train": train})
