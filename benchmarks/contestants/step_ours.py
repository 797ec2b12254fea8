"""Contender of benchmarks/step.py: this repository's policy-gradient step, with rows filled in one of three ways."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import architecture, contest, groups
from envs.base import Score
from model.checkpoints import load as loading
from model.network import sharding
from rl import trajectory
from rl.learn import learner, packing
from rl.learn import optimiser as optimisers
from rl.learn.objective import Objective

# Rows of a micro-batch; the attention scores of more rows do not fit a core's cache.
ROWS = {"padded": 2, "packed": 2, "shared": 1}

held = {}


def _trajectory(e: groups.Episode) -> trajectory.Trajectory:
    """An episode as a Trajectory."""
    tokens, prompt = [*e.prompt.tolist(), *e.response.tolist()], len(e.prompt)
    mask, logprobs = [0] * prompt + [1] * len(e.response), [0.0] * prompt + e.logprobs.tolist()
    name, score = f"group {e.group:03}", Score(1.0, {}, [])
    return trajectory.Trajectory(name, e.member, tokens, mask, logprobs, 0, trajectory.ENDED, score, [], [], 1)


def batch(found: list[groups.Episode], way: str) -> packing.Batch:
    """The episodes in rows, filled as `load` says. A row is as long as the longest episode or, for "shared", group."""
    items, advantages = [_trajectory(e) for e in found], [e.advantage for e in found]
    shared, count = way == "shared", ROWS[way]
    together = groups.MEMBERS if shared else 1
    units = [items[i : i + together] for i in range(0, len(items), together)]
    ends = [max(p.start + p.stop - p.first for p in packing.layout(unit, 10**9, shared)) for unit in units]
    row = -(-max(ends) // 64) * 64
    micro_batches = -(-len(items) // count)
    if way != "padded":
        return packing.pack(items, advantages, row, count, micro_batches, shared)
    rows = [packing.pack([t], [a], row, 1, 1) for t, a in zip(items, advantages)]
    rows += [packing.pack([], [], row, 1, 1)] * (micro_batches * count - len(rows))
    shape = (micro_batches, count, row)
    whole = jax.tree.map(lambda *x: np.concatenate(x).reshape(shape) if np.ndim(x[0]) else sum(x), *rows)
    return dataclasses.replace(whole, used=np.int32(micro_batches))


def load(path: str, way: str, episodes: str, count: int, size: int) -> dict:
    """Loads the checkpoint and makes the batch.

    way: "padded" (one episode per row), "packed" or "shared" (packed with shared prefixes). episodes: the function of
    benchmarks/contestants/groups.py that makes the episodes; count, size: its arguments.
    """
    policy, _ = loading.from_pretrained(path, dtype=jnp.float32)
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    optimiser = optimisers.make(architecture.LEARNING_RATE, max_grad_norm=architecture.MAX_GRAD_NORM)
    wanted = Objective(clip_low=groups.CLIP_LOW, clip_high=groups.CLIP_HIGH)
    held["step"] = learner.make_train_step(policy, optimiser, mesh, wanted)
    held["state"] = optimisers.create(policy, optimiser, mesh)
    held["batch"] = batch(getattr(groups, episodes)(count, size), way)
    rows, length = held["batch"].tokens.shape[1:]
    return {"rows": int(held["batch"].used) * rows, "row_length": length, "version": "HEAD"}


def train() -> dict:
    """One update; value: the loss before it."""

    def work():
        held["state"], metrics = held["step"](held["state"], held["batch"])
        jax.block_until_ready(held["state"])
        return float(metrics["loss"])

    seconds, loss = architecture.timed(work)
    return {"seconds": seconds, "value": loss}


if __name__ == "__main__":
    contest.serve({"load": load, "train": train})
