"""Builds from a config the parts that every stage uses: policy, chat format, mesh, engine, rollouts, learner."""

from __future__ import annotations

import dataclasses
import functools
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import config_dict
from transformers import PreTrainedTokenizerFast

from envs import registry
from envs.base import Env
from envs.simulation import judge
from model.checkpoints import generation, hf_config, load, lora
from model.network import sharding, transformer
from model.sampling import constrain, draw, sampler
from model.text import tokenizer
from model.text.chat import Chat
from rl import endings, hosts
from rl.learn import algorithms, cost, learner, objective, packing
from rl.learn import optimiser as optimisers
from rl.rollouts import rollout
from rl.trajectory import Trajectory
from synth.task import Task
from synth.teachers import llm

# Most requests at a time to the model that judges and simulates. The client lowers it when the endpoint fails.
ENDPOINT_REQUESTS = 64


@dataclasses.dataclass
class Parts:
    """What a run is made of. Expensive parts are built on first use, so a stage pays only for what it needs.

    stats: statistics of the rollouts played last, over all processes. answers: the folder that keeps the answers of the
    model that judges and simulates.
    """

    config: config_dict.ConfigDict
    chat: Chat
    policy: nnx.Module  # the initial policy; its parameters stay as loaded
    architecture: transformer.Config
    mesh: Mesh
    stats: rollout.Stats = dataclasses.field(default_factory=rollout.Stats)
    answers: Path = Path("answers")

    @functools.cached_property
    def sampling(self) -> hosts.Sampling:
        """The mesh that this process samples on."""
        return hosts.Sampling.create(self.mesh)

    @functools.cached_property
    def rollouts(self) -> rollout.Rollouts:
        """Plays this process's share of the episodes, in the worlds of envs/registry.py."""
        make_env = functools.partial(
            registry.make, untooled=self.config.reasoning.untooled_reward, by_model=self.by_model
        )
        return rollout.Rollouts(self.engine(), self.chat, make_env, limits(self.config), self.config.seed, self.calls)

    @functools.cached_property
    def by_model(self) -> Callable[[Task], Env] | None:
        """task -> an environment whose reward a language model gives; None if code gives all rewards (rl.reward)."""
        if self.config.rl.reward == "code":
            return None
        return functools.partial(judge.make, client=self.judge_client, simulated=self.config.env.simulator == "llm")

    @functools.cached_property
    def judge_client(self) -> llm.Client:
        """The client of the model that judges and simulates."""
        c = self.config.env
        return llm.Client(c.model, self.answers, concurrency=c.concurrency or ENDPOINT_REQUESTS)

    @functools.cached_property
    def calls(self) -> constrain.Calls | None:
        """The constraint on sampled tool calls, None without sampler.constrain_calls."""
        wanted = self.config.sampler.constrain_calls
        return constrain.Calls(self.chat.tokenizer, self.architecture.vocab_size) if wanted else None

    def engine(self, slots: int = 0, context: int = 0, max_new_tokens: int = 0) -> sampler.Engine:
        """A new engine on this process's devices, with the settings of the config's sampler section.

        Arguments other than 0 replace the settings of the same names. slots: episodes at a time, over all processes.
        context, max_new_tokens: tokens. Raises ValueError if the slots do not divide among the processes.
        """
        c, processes = self.config.sampler, jax.process_count()
        slots = slots or c.slots
        if slots % processes:
            raise ValueError(f"sampler.slots = {slots} does not divide among {processes} processes")
        return sampler.Engine(
            nnx.split(self.policy)[0],
            self.architecture,
            slots=slots // processes,
            context=context or c.context,
            prefill_chunk=c.prefill_chunk,
            prefill_rows=c.prefill_rows,
            decode_steps=c.decode_steps,
            max_new_tokens=max_new_tokens or c.max_new_tokens,
            stop_ids=tuple(self.chat.stop_ids),
            temperature=c.temperature,
            truncation=truncation(self.config),
            mesh=self.sampling.mesh,
            dtype=jnp.dtype(self.config.model.dtype),
        )

    def play(
        self,
        params: Any,
        tasks: Sequence[Task],
        *arguments: Any,
        rollouts: rollout.Rollouts | None = None,
        **options: Any,
    ) -> list[Trajectory]:
        """`Rollouts.run` on all processes: each plays its share of the tasks, and each returns all trajectories.

        params: the learner's parameters. rollouts: None for `self.rollouts`. The other arguments and options are those
        of `Rollouts.collect`. Raises what `Rollouts.collect` raises; with several processes, RuntimeError in all of
        them if one fails.
        """
        params, rollouts = self.sampling.params(params, self.architecture), rollouts or self.rollouts
        return self._gather(lambda: rollouts.run(params, hosts.share(tasks), *arguments, **options), rollouts)

    def begin(self, params: Any, tasks: Sequence[Task], *arguments: Any, **options: Any) -> Callable[[], list]:
        """Starts `play` in a thread; returns a function that waits for the end and returns the trajectories.

        The episodes are played with a copy of the parameters, since the learner's updates donate the originals.
        """
        params = jax.tree.map(jnp.copy, self.sampling.params(params, self.architecture))
        playing = self._beside.submit(self.rollouts.run, params, hosts.share(tasks), *arguments, **options)
        return lambda: self._gather(playing.result, self.rollouts)

    @functools.cached_property
    def _beside(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _gather(self, play: Callable[[], list[Trajectory]], rollouts: rollout.Rollouts) -> list[Trajectory]:
        """Calls `play` for this process's episodes; returns those of all processes and sets self.stats.

        With several processes, raises RuntimeError in all of them if one fails.
        """
        if jax.process_count() == 1:
            own = play()
            self.stats = rollouts.stats
            return own
        try:
            record = {"items": [item.to_json() for item in play()], "stats": dataclasses.asdict(rollouts.stats)}
        except Exception as error:  # sent to the other processes, which would otherwise wait for this one forever
            known = endings.verdict(error)
            record = {"error": known[1] if known else f"{error!r}\n{traceback.format_exc()}"}
        records = hosts.gather(record)
        if errors := [record["error"] for record in records if "error" in record]:
            raise RuntimeError(f"{len(errors)} of {len(records)} processes could not play; the first: {errors[0]}")
        self.stats = rollout.total([rollout.Stats(**record["stats"]) for record in records])
        found = [Trajectory.from_json(item) for record in records for item in record["items"]]
        return sorted(found, key=lambda item: (item.task_id, item.member))

    @property
    def initial_params(self) -> Any:
        """The parameters the run started from."""
        return nnx.split(self.policy)[1]

    @functools.cached_property
    def score(self) -> learner.Scorer:
        """score(params, batch) -> log-probabilities of the batch's targets, at the temperature of the sampler."""
        c = self.config
        return learner.make_scorer(self.policy, self.mesh, c.sampler.temperature, c.rl.logits_chunk)

    @functools.cached_property
    def peak(self) -> float:
        """FLOP/s that the learner's devices reach together in matrix products. Measured on first use."""
        return cost.matmul_peak(self.mesh, jnp.dtype(self.config.model.dtype))

    def work(self, batch: packing.Batch) -> tuple[int, float]:
        """(tokens in a batch, FLOPs that an update on them needs, recomputation not counted)."""
        seen = batch.positions[batch.segment_ids > 0] + 1  # how many tokens each token attends to
        count, attended, frozen = seen.size, float(seen.sum()) / max(seen.size, 1), bool(self.config.rl.lora_rank)
        return count, cost.model_flops(self.architecture, count, attended, backward=True, frozen=frozen)

    @functools.cached_property
    def teacher(self) -> Callable[[packing.Batch], jax.Array]:
        """teacher(batch): as `score`, under the model rl.teacher.

        Raises ValueError if the teacher's vocabulary differs from the policy's.
        """
        c = self.config
        if tokenizer.load(c.rl.teacher).get_vocab() != self.chat.tokenizer.get_vocab():
            raise ValueError(f"rl.teacher = {c.rl.teacher!r}: its tokenizer's vocabulary differs from the policy's")
        policy, architecture = load.from_pretrained(c.rl.teacher, dtype=jnp.dtype(c.model.dtype), mesh=self.mesh)
        check_vocabulary("rl.teacher", c.rl.teacher, self.chat.tokenizer, architecture)
        score = learner.make_scorer(policy, self.mesh, c.sampler.temperature, c.rl.logits_chunk)
        return functools.partial(score, nnx.state(policy))

    def learner(self, kind: str) -> tuple[optimisers.TrainState, learner.Step, Callable]:
        """(new train state, step, pack) for kind "policy_gradient" or "sft".

        step: see learner.make_train_step. pack(trajectories, advantages): returns a batch; all batches have the shape
        that the step is compiled for.
        Raises ValueError for rl.share_prefix with a policy whose layers have a sliding window, for adapters with a
        mixture of experts, and for rows that do not divide among the devices.
        """
        if self.config.rl.share_prefix and self.architecture.sliding_window:
            raise ValueError("rl.share_prefix must be False: the policy's layers have a sliding window")
        c = self.config.rl
        learner.check_shape(c.rows, c.row_length, self.mesh)  # now, and not after the first episodes
        sft = kind == "sft"
        optimiser, step = train_step(self.config, self.policy, self.mesh, kind)
        # A partial episode lasts 1 + max_staleness steps at most, so the groups of that many steps may end in one.
        groups = c.groups * (1 + c.max_staleness) if c.partial_turns else c.groups
        episodes = c.sft_episodes if sft else -(-groups // c.minibatches) * c.group_size
        longest = c.row_length if sft else self.config.sampler.context
        pack = functools.partial(
            packing.pack,
            row_length=c.row_length,
            rows=c.rows,
            micro_batches=packing.max_micro_batches(episodes, longest, c.row_length, c.rows),
            share_prefix=c.share_prefix and not sft,
            most_kept=0 if sft else self.config.sampler.top_k,
        )
        state = optimisers.create(self.policy, optimiser, self.mesh, adapters(self.config), c.offload_optimiser)
        return state, step, pack


def train_step(
    config: config_dict.ConfigDict, policy: nnx.Module, mesh: Mesh, kind: str
) -> tuple[optax.GradientTransformation, learner.Step]:
    """(optimiser, step) for kind "policy_gradient" or "sft". policy: see learner.make_train_step, also for errors."""
    c, sft = config.rl, kind == "sft"
    optimiser = optimisers.make(
        c.sft_learning_rate if sft else c.learning_rate,
        warmup_updates=c.warmup_updates,
        decay_updates=(c.sft_steps - c.sft_decay_steps, c.sft_steps) if sft and c.sft_decay_steps else (0, 0),
        weight_decay=c.weight_decay,
        adam_b2=c.adam_b2,
        max_grad_norm=c.max_grad_norm,
    )
    wanted = sft_objective(config) if sft else rl_objective(config)
    return optimiser, learner.make_train_step(policy, optimiser, mesh, wanted, adapters(config), c.offload_optimiser)


def adapters(config: config_dict.ConfigDict) -> lora.Lora | None:
    """The LoRA adapters that the config trains; None if it trains the weights themselves."""
    c = config.rl
    targets = tuple(lora.TARGETS) if c.lora_targets == "all" else tuple(c.lora_targets.split(","))
    return lora.Lora(c.lora_rank, c.lora_alpha, targets, config.seed) if c.lora_rank else None


def algorithm(config: config_dict.ConfigDict) -> algorithms.Algorithm:
    """The table's entry for rl.algorithm, with the values that the config overrides."""
    c, table = config.rl, algorithms.ALGORITHMS[config.rl.algorithm]
    return table._replace(
        advantage=c.advantage or table.advantage,
        aggregation=c.loss_aggregation or table.aggregation,
        clip_low=table.clip_low if c.clip_low == -1 else c.clip_low,
        clip_high=table.clip_high if c.clip_high == -1 else c.clip_high,
    )


def rl_objective(config: config_dict.ConfigDict, name: str = "") -> objective.Objective:
    """The objective of RL for the config's algorithm.

    name: if given, a key of algorithms.ALGORITHMS, whose entry is then used without the config's overrides.
    """
    c, chosen = config.rl, algorithms.ALGORITHMS[name] if name else algorithm(config)
    return objective.Objective(
        loss=chosen.loss,
        temperature=config.sampler.temperature,
        aggregation=chosen.aggregation,
        length=config.sampler.context,
        clip_low=chosen.clip_low,
        clip_high=chosen.clip_high,
        dual_clip=c.dual_clip,
        kl_coef=0.0 if c.kl_in_reward else c.kl_coef,
        kl_estimator=c.kl_estimator,
        entropy_coef=c.entropy_coef,
        covariance=c.covariance,
        covariance_share=c.covariance_share,
        covariance_kl_coef=c.covariance_kl_coef,
        importance=c.importance,
        importance_low=c.importance_low,
        importance_high=c.importance_high,
        logits_chunk=c.logits_chunk,
        router_coef=c.router_coef,
    )


def sft_objective(config: config_dict.ConfigDict) -> objective.Objective:
    """The objective of supervised training."""
    return objective.Objective("sft", logits_chunk=config.rl.logits_chunk, router_coef=config.rl.router_coef)


def truncation(config: config_dict.ConfigDict) -> draw.Truncation:
    """The config's truncation of the sampling distribution (top-k, top-p, min-p)."""
    return draw.Truncation(config.sampler.top_k, float(config.sampler.top_p), float(config.sampler.min_p))


def limits(config: config_dict.ConfigDict) -> rollout.Limits:
    """The config's limits on episodes and environments. A 0 in the config, which means "no limit", becomes None."""
    c = config.env
    return rollout.Limits(c.max_turns, c.concurrency or None, c.timeout or None, c.retries, c.max_faults or None)


def make_mesh(config: config_dict.ConfigDict, devices: Sequence[jax.Device]) -> Mesh:
    """The config's mesh over these devices. Raises ValueError if the axes do not match the number of devices."""
    return sharding.make_mesh({axis: config.mesh[axis] for axis in sharding.AXES}, devices)


def build(config: config_dict.ConfigDict, workdir: Path = Path()) -> Parts:
    """Loads the tokenizer and the policy, sharded over the config's mesh. workdir: see `Parts.answers`.

    Raises ValueError, naming the cause, if the mesh or the checkpoint does not match the config.
    """
    mesh = make_mesh(config, jax.devices())
    hf_config.read(config.model.checkpoint)  # first: what it refuses, transformers only warns of
    chat = Chat(tokenizer.load(config.model.checkpoint))
    generation.read(config.model.checkpoint, chat.stop_ids, chat.tokenizer.pad_token_id)  # what an export will need
    policy, architecture = load.from_pretrained(
        config.model.checkpoint,
        dtype=jnp.dtype(config.model.dtype),
        mesh=mesh,
        init=config.model.init,
        seed=config.seed,
        remat=config.model.remat,
    )
    check_vocabulary("model.checkpoint", config.model.checkpoint, chat.tokenizer, architecture)
    return Parts(config, chat, policy, architecture, mesh, answers=workdir / "answers")


def check_vocabulary(
    key: str, folder: str, vocabulary: PreTrainedTokenizerFast, architecture: transformer.Config
) -> None:
    """Raises ValueError if the tokenizer has ids for which the model has no row: JAX would take the last row for them.

    A model with more rows than the tokenizer has ids is common (they are padded to a round number) and all right.
    """
    if (size := max(vocabulary.get_vocab().values()) + 1) > architecture.vocab_size:
        raise ValueError(
            f"{key} = {folder!r}: the tokenizer has {size} ids, but the model has only {architecture.vocab_size} rows "
            "(vocab_size in config.json); resize the model's embedding, or use the tokenizer it was trained with"
        )
