"""From a config to the parts every stage works with: policy, chat format, mesh, engine, rollouts, learner."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import config_dict

from envs import registry
from model import load, sampler, sharding, tokenizer, transformer
from model.chat import Chat
from rl import learner, packing, rollout


@dataclasses.dataclass
class Parts:
    """What a run is made of. Engine and steps are built on first use, so that none pays for what it does not use."""

    config: config_dict.ConfigDict
    chat: Chat
    policy: nnx.Module  # the initial policy; its parameters stay as loaded
    architecture: transformer.Config
    mesh: Mesh

    @functools.cached_property
    def rollouts(self) -> rollout.Rollouts:
        """Episodes in the worlds of envs/registry.py."""
        c = self.config.sampler
        engine = sampler.Engine(
            nnx.split(self.policy)[0],
            self.architecture,
            slots=c.slots,
            context=c.context,
            prefill_chunk=c.prefill_chunk,
            prefill_rows=c.prefill_rows,
            decode_steps=c.decode_steps,
            max_new_tokens=c.max_new_tokens,
            stop_ids=tuple(self.chat.stop_ids),
            temperature=c.temperature,
            top_p=c.top_p,
            top_k=c.top_k,
            mesh=self.mesh,
            dtype=jnp.dtype(self.config.model.dtype),
        )
        make_env = functools.partial(registry.make, untooled=self.config.reasoning.untooled_reward)
        return rollout.Rollouts(engine, self.chat, make_env, self.config.env.max_turns, self.config.seed)

    @property
    def initial_params(self) -> Any:
        """The parameters the run started from."""
        return nnx.split(self.policy)[1]

    def learner(self, kind: str) -> tuple[learner.TrainState, learner.Step, Callable]:
        """(fresh train state, step, pack) for kind "policy_gradient" or "sft".

        pack(trajectories, advantages) gives batches of the one shape that the step is compiled for.
        """
        c = self.config.rl
        sft = kind == "sft"
        optimiser, step = train_step(self.config, self.policy, self.mesh, kind)
        episodes = c.sft_episodes if sft else -(-c.groups // c.minibatches) * c.group_size
        longest = c.row_length if sft else self.config.sampler.context
        pack = functools.partial(
            packing.pack,
            row_length=c.row_length,
            rows=c.rows,
            micro_batches=packing.max_micro_batches(episodes, longest, c.row_length, c.rows),
        )
        return learner.create(self.policy, optimiser, self.mesh), step, pack


def train_step(
    config: config_dict.ConfigDict, policy: nnx.Module, mesh: Mesh, kind: str
) -> tuple[optax.GradientTransformation, learner.Step]:
    """(optimiser, step) of a config for kind "policy_gradient" or "sft"; of the policy only the structure is used."""
    c, sft = config.rl, kind == "sft"
    optimiser = learner.make_optimiser(
        c.sft_learning_rate if sft else c.learning_rate,
        warmup_updates=c.warmup_updates,
        decay_updates=(c.sft_steps - c.sft_decay_steps, c.sft_steps) if sft and c.sft_decay_steps else (0, 0),
        weight_decay=c.weight_decay,
        adam_b2=c.adam_b2,
        max_grad_norm=c.max_grad_norm,
    )
    step = learner.make_train_step(
        policy,
        optimiser,
        mesh,
        kind,
        temperature=1.0 if sft else config.sampler.temperature,
        clip_low=c.clip_low,
        clip_high=c.clip_high,
        logits_chunk=c.logits_chunk,
        router_coef=c.router_coef,
    )
    return optimiser, step


def make_mesh(config: config_dict.ConfigDict, devices: Sequence[jax.Device]) -> Mesh:
    """The mesh of a config over these devices. Raises ValueError where the axes do not fit."""
    return sharding.make_mesh({axis: config.mesh[axis] for axis in sharding.AXES}, devices)


def build(config: config_dict.ConfigDict) -> Parts:
    """Loads tokenizer and policy and lays the policy out on the mesh. Raises ValueError naming what does not fit."""
    mesh = make_mesh(config, jax.devices())
    chat = Chat(tokenizer.load(config.model.checkpoint))
    policy, architecture = load.from_pretrained(
        config.model.checkpoint,
        dtype=jnp.dtype(config.model.dtype),
        mesh=mesh,
        init=config.model.init,
        seed=config.seed,
        remat=config.model.remat,
    )
    return Parts(config, chat, policy, architecture, mesh)
