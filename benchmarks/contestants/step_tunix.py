"""Contender of benchmarks/step.py: Tunix's GRPO step. Runs in an environment with google-tunix."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.models.qwen3 import params as qwen3_params
from tunix.rl import algo_core, common
from tunix.rl.grpo import grpo_learner
from tunix.sft import peft_trainer

from benchmarks.contestants import architecture, contest, groups, peer_tunix

held = {}


def config() -> grpo_learner.GRPOConfig:
    """The benchmark's GRPO as a config of Tunix: no reference policy, clip-higher, the mean over all tokens."""
    found = grpo_learner.GRPOConfig(beta=0.0, epsilon=groups.CLIP_LOW, loss_agg_mode="token-mean")
    found.epsilon_high, found.temperature = groups.CLIP_HIGH, 1.0  # no fields of theirs, but their loss reads them
    return found


def load(path: str, episodes: str, count: int, size: int) -> dict:
    """Loads the checkpoint and makes the trainer's step. The episodes form one batch, padded on the right."""
    found = getattr(groups, episodes)(count, size)
    longest = max(len(e.response) for e in found)

    def padded(arrays, value):
        return jnp.asarray(np.stack([np.pad(x, (0, longest - len(x)), constant_values=value) for x in arrays]))

    held["batch"] = {
        "train_example": common.TrainExample(
            prompt_ids=jnp.asarray(np.stack([e.prompt for e in found])),
            prompt_mask=jnp.ones((len(found), size), bool),
            completion_ids=padded([e.response for e in found], groups.PAD),
            completion_mask=padded([np.ones(len(e.response), bool) for e in found], False),
            advantages=jnp.asarray([e.advantage for e in found], jnp.float32),
            ref_per_token_logps=None,
            old_per_token_logps=padded([e.logprobs for e in found], 0.0),
        )
    }
    model = qwen3_params.create_model_from_safe_tensors(path, peer_tunix.config(), dtype=jnp.float32)
    optimiser = optax.chain(
        optax.clip_by_global_norm(architecture.MAX_GRAD_NORM),
        optax.adamw(architecture.LEARNING_RATE, b2=0.99, weight_decay=0.0),
    )
    settings = config()
    trainer = peft_trainer.PeftTrainer(model, optimiser, peft_trainer.TrainingConfig(eval_every_n_steps=10**9))
    trainer.with_loss_fn(
        lambda model, train_example: algo_core.grpo_loss_fn(model, train_example, settings, groups.PAD, groups.END),
        has_aux=True,
    )
    trainer.with_gen_model_input_fn(lambda batch: batch)
    held["step"], _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return {"parameters": count, "version": importlib.metadata.version("google-tunix")}


def train() -> dict:
    """One update; value: the loss before it."""
    seconds, loss = architecture.timed(lambda: float(jax.block_until_ready(held["step"](held["batch"]))[0]))
    return {"seconds": seconds, "value": loss}


if __name__ == "__main__":
    contest.serve({"load": load, "train": train})
