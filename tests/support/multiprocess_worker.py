"""One process of multiprocess_test.py: loads, trains, saves, restores and exports a policy on 8 devices in all.

python multiprocess_worker.py PROCESSES INDEX PORT CHECKPOINT WORKDIR; prints the metrics of the last step as JSON.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402

processes, index, port = map(int, sys.argv[1:4])
source, workdir = Path(sys.argv[4]), Path(sys.argv[5])
jax.config.update("jax_num_cpu_devices", 8 // processes)
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, index)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

from envs.base import Score  # noqa: E402
from model.checkpoints import load  # noqa: E402
from model.network import sharding  # noqa: E402
from rl import checkpoint, trajectory  # noqa: E402
from rl.learn import learner, packing  # noqa: E402
from rl.learn import optimiser as optimisers  # noqa: E402
from rl.learn.objective import Objective  # noqa: E402


def batch(seed: int) -> packing.Batch:
    """The same random episodes in every process."""
    rng, items = np.random.default_rng(seed), []
    for member in range(16):
        tokens, n = rng.integers(0, 96, 20).tolist(), int(rng.integers(5, 20))
        mask, logprobs = [0] * 3 + [1] * (n - 2), [0.0] * 3 + [-4.0] * (n - 2)
        score = Score(1.0, {}, [])
        items.append(
            trajectory.Trajectory("t", member, tokens[: n + 1], mask, logprobs, 0, trajectory.ENDED, score, [], [], 1)
        )
    return packing.pack(items, rng.normal(size=16).tolist(), row_length=24, rows=8, micro_batches=2)


mesh = sharding.make_mesh({"fsdp": 2, "expert": 2, "tensor": 2})
policy, config = load.from_pretrained(source, mesh=mesh)
optimiser = optimisers.make(1e-2)
state = optimisers.create(policy, optimiser, mesh)
step = learner.make_train_step(policy, optimiser, mesh, Objective(router_coef=0.1, logits_chunk=7))
state, _ = step(state, batch(0))
moments = {
    jax.tree_util.keystr(path): load.fetch(x, ())
    for path, x in jax.tree_util.tree_leaves_with_path(optax.tree.get(state.opt_state, "mu"))
}
checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", 1)
checkpoints.save(1, state, {"step": 1})
state, _ = step(state, batch(1))  # thrown away: the next line goes back to the checkpoint
state, meta = checkpoints.restore(jax.tree.map(jnp.zeros_like, state))
assert meta == {"step": 1}
for seed in range(2, 6):
    state, metrics = step(state, batch(seed))
metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
checkpoints.close()
if jax.process_index() == 0:
    np.savez(workdir / "moments.npz", **moments)
load.save_pretrained(nnx.merge(nnx.split(policy)[0], state.params), config, workdir / "policy", max_shard_bytes=40_000)
print(json.dumps({"processes": jax.process_count(), "devices": jax.device_count(), **metrics}))
