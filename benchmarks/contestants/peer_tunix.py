"""Contender: Tunix's Qwen3 with the step of its PeftTrainer. Runs in an environment with google-tunix."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate import sampler as sampling
from tunix.models.qwen3 import model as qwen3
from tunix.models.qwen3 import params as qwen3_params
from tunix.sft import peft_trainer, utils

from benchmarks.contestants import architecture, contest

held = {}


def config() -> qwen3.ModelConfig:
    """The benchmark's architecture as a config of Tunix."""
    c = architecture.CONFIG
    return qwen3.ModelConfig(
        num_layers=c["num_hidden_layers"],
        vocab_size=c["vocab_size"],
        embed_dim=c["hidden_size"],
        hidden_dim=c["intermediate_size"],
        num_heads=c["num_attention_heads"],
        head_dim=c["head_dim"],
        num_kv_heads=c["num_key_value_heads"],
        rope_theta=int(c["rope_theta"]),
        norm_eps=c["rms_norm_eps"],
        use_tied_embedding=c["tie_word_embeddings"],
    )


def load(path: str) -> dict:
    """Loads the checkpoint and makes the trainer."""
    model = qwen3_params.create_model_from_safe_tensors(path, config(), dtype=jnp.float32)
    tokens = architecture.rows()
    mask = np.ones_like(tokens[:, :-1], dtype=bool)
    held["inputs"] = {
        "input_tokens": jnp.asarray(tokens[:, :-1]),
        "positions": utils.build_positions_from_mask(jnp.asarray(mask)),
        "cache": None,
        "attention_mask": utils.make_causal_attn_mask(jnp.asarray(mask)),
    }
    graphdef, state = nnx.split(model)
    run = jax.jit(lambda state, inputs: nnx.merge(graphdef, state)(**inputs)[0])
    held["model"] = model
    # The trainer gets a copy of the model below, because it changes the model that it is given.
    held["forward"] = lambda: run(state, held["inputs"]).block_until_ready()
    trained = nnx.merge(graphdef, jax.tree.map(jnp.copy, state))
    optimiser = optax.chain(
        optax.clip_by_global_norm(architecture.MAX_GRAD_NORM),
        optax.adamw(architecture.LEARNING_RATE, b2=0.99, weight_decay=0.0),
    )
    trainer = peft_trainer.PeftTrainer(trained, optimiser, peft_trainer.TrainingConfig(eval_every_n_steps=10**9))
    held["step"], _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
    # Tunix's loss shifts its input by itself to get the targets, so the input includes the last target.
    mask = np.ones_like(tokens, dtype=bool)
    held["batch"] = {
        "input_tokens": jnp.asarray(tokens),
        "input_mask": jnp.asarray(mask),
        "positions": utils.build_positions_from_mask(jnp.asarray(mask)),
        "attention_mask": utils.make_causal_attn_mask(jnp.asarray(mask)),
    }
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return {"parameters": count, "version": importlib.metadata.version("google-tunix")}


def forward() -> dict:
    """Logits of the batch; value: their sum of squares."""
    seconds, logits = architecture.timed(held["forward"])
    return {"seconds": seconds, "value": float(np.square(np.asarray(logits, np.float64)).sum())}


def train() -> dict:
    """One update; value: the loss before it."""
    seconds, loss = architecture.timed(lambda: float(jax.block_until_ready(held["step"](held["batch"]))[0]))
    return {"seconds": seconds, "value": loss}


class Numbers:
    """A tokenizer of numbers, "5 17" <-> [5, 17]: Tunix's sampler takes text only."""

    def encode(self, text: str, **_) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids, **_) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return 1

    def pad_id(self) -> int:
        return 2


def sample() -> dict:
    """Samples every prompt with logprobs; value: tokens sampled.

    The sampler adds no beginning-of-text token, because its id in Numbers is 0.
    """
    if "sampler" not in held:
        c = architecture.CONFIG
        cache = sampling.CacheConfig(
            cache_size=256, num_layers=c["num_hidden_layers"], num_kv_heads=c["num_key_value_heads"],
            head_dim=c["head_dim"],
        )  # fmt: skip
        held["sampler"] = sampling.Sampler(held["model"], Numbers(), cache)
    texts = [" ".join(map(str, row)) for row in architecture.prompts()]

    def work():
        return held["sampler"](
            texts, max_generation_steps=architecture.NEW, max_prompt_length=architecture.PROMPT, temperature=1.0,
            top_p=1.0, return_logprobs=True, eos_tokens=[architecture.CONFIG["vocab_size"]], seed=0,
        )  # fmt: skip

    seconds, found = architecture.timed(work)
    return {"seconds": seconds, "value": sum(len(row) for row in found.logprobs)}


if __name__ == "__main__":
    contest.serve({"load": load, "forward": forward, "train": train, "sample": sample})
