"""From a config to the parts every stage works with: policy, chat format, mesh, engine, rollouts, learner."""

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

from envs import registry
from envs.base import Env
from envs.simulation import judge
from model.checkpoints import load, lora
from model.network import sharding, transformer
from model.sampling import constrain, draw, sampler
from model.text import tokenizer
from model.text.chat import Chat
from rl import hosts
from rl.learn import algorithms, cost, learner, objective, packing
from rl.learn import optimiser as optimisers
from rl.rollouts import rollout
from rl.trajectory import Trajectory
from synth.task import Task
from synth.teachers import llm

ENDPOINT_REQUESTS = 64  # at most at a time to the judge and simulator; faults of the endpoint make them fewer


@dataclasses.dataclass
class Parts:
    """What a run is made of. Engine and steps are built on first use, so that none pays for what it does not use.

    stats: of the latest episodes played, over all processes. answers: folder of a judge's and simulator's answers.
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
        """Where this process samples."""
        return hosts.Sampling.create(self.mesh)

    @functools.cached_property
    def rollouts(self) -> rollout.Rollouts:
        """This process's episodes in the worlds of envs/registry.py."""
        make_env = functools.partial(
            registry.make, untooled=self.config.reasoning.untooled_reward, by_model=self.by_model
        )
        return rollout.Rollouts(self.engine(), self.chat, make_env, limits(self.config), self.config.seed, self.calls)

    @functools.cached_property
    def by_model(self) -> Callable[[Task], Env] | None:
        """What makes the episodes of tasks that a language model rewards, if the config wants such."""
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
        """What constrains tool calls, if the config wants that."""
        wanted = self.config.sampler.constrain_calls
        return constrain.Calls(self.chat.tokenizer, self.architecture.vocab_size) if wanted else None

    def engine(self, slots: int = 0, context: int = 0, max_new_tokens: int = 0) -> sampler.Engine:
        """A new engine of the sampler section on this process's devices; numbers that are not 0 take the place of that
        section's. slots: of all processes together."""
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
        """`Rollouts.run` with the learner's parameters: each process plays its share of the tasks, all get all."""
        params, rollouts = self.sampling.params(params, self.architecture), rollouts or self.rollouts
        return self._gather(lambda: rollouts.run(params, hosts.share(tasks), *arguments, **options), rollouts)

    def begin(self, params: Any, tasks: Sequence[Task], *arguments: Any, **options: Any) -> Callable[[], list]:
        """Starts `play` beside what else is going on; returns what waits for its end and gives its result.

        It plays with a copy of the parameters, so that the learner may go on with them.
        """
        params = jax.tree.map(jnp.copy, self.sampling.params(params, self.architecture))
        playing = self._beside.submit(self.rollouts.run, params, hosts.share(tasks), *arguments, **options)
        return lambda: self._gather(playing.result, self.rollouts)

    @functools.cached_property
    def _beside(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _gather(self, play: Callable[[], list[Trajectory]], rollouts: rollout.Rollouts) -> list[Trajectory]:
        """The episodes of all processes, of which this one plays its own; their numbers go to self.stats.

        Raises RuntimeError in every process if one of several could not play.
        """
        if jax.process_count() == 1:
            own = play()
            self.stats = rollouts.stats
            return own
        try:
            record = {"items": [item.to_json() for item in play()], "stats": dataclasses.asdict(rollouts.stats)}
        except Exception as error:  # the others wait for this process: they have to be told, and stop too
            record = {"error": f"{error!r}\n{traceback.format_exc()}"}
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
        """Log-probabilities of a batch's targets, at the temperature that rollouts are sampled at."""
        c = self.config
        return learner.make_scorer(self.policy, self.mesh, c.sampler.temperature, c.rl.logits_chunk)

    @functools.cached_property
    def peak(self) -> float:
        """FLOP/s that the learner's devices reach in products of matrices, measured on first use, in a moment."""
        return cost.matmul_peak(self.mesh, jnp.dtype(self.config.model.dtype))

    def work(self, batch: packing.Batch) -> tuple[int, float]:
        """(tokens in a batch, FLOPs that an update on them needs without anything computed twice)."""
        seen = batch.positions[batch.segment_ids > 0] + 1  # tokens that a place attends to
        count, attended, frozen = seen.size, float(seen.sum()) / max(seen.size, 1), bool(self.config.rl.lora_rank)
        return count, cost.model_flops(self.architecture, count, attended, backward=True, frozen=frozen)

    @functools.cached_property
    def teacher(self) -> Callable[[packing.Batch], jax.Array]:
        """`score` by the parameters of rl.teacher. Raises ValueError if its tokenizer is not the policy's."""
        c = self.config
        if tokenizer.load(c.rl.teacher).get_vocab() != self.chat.tokenizer.get_vocab():
            raise ValueError(f"rl.teacher = {c.rl.teacher!r}: its tokenizer has another vocabulary than the policy's")
        policy, _ = load.from_pretrained(c.rl.teacher, dtype=jnp.dtype(c.model.dtype), mesh=self.mesh)
        score = learner.make_scorer(policy, self.mesh, c.sampler.temperature, c.rl.logits_chunk)
        return functools.partial(score, nnx.state(policy))

    def learner(self, kind: str) -> tuple[optimisers.TrainState, learner.Step, Callable]:
        """(fresh train state, step, pack) for kind "policy_gradient" or "sft".

        pack(trajectories, advantages) gives batches of the one shape that the step is compiled for.
        Raises ValueError for rl.share_prefix where layers have a sliding window, and for adapters of a mixture of
        experts.
        """
        if self.config.rl.share_prefix and self.architecture.sliding_window:
            raise ValueError("rl.share_prefix must be False: the policy's layers have a sliding window")
        c = self.config.rl
        sft = kind == "sft"
        optimiser, step = train_step(self.config, self.policy, self.mesh, kind)
        # Those of the steps that a partial episode goes on for may all end in one.
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
    """(optimiser, step) of a config for kind "policy_gradient" or "sft"; policy: as for learner.make_train_step."""
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
    """Which adapters the config trains; None: it trains the weights."""
    c = config.rl
    targets = tuple(lora.TARGETS) if c.lora_targets == "all" else tuple(c.lora_targets.split(","))
    return lora.Lora(c.lora_rank, c.lora_alpha, targets, config.seed) if c.lora_rank else None


def algorithm(config: config_dict.ConfigDict) -> algorithms.Algorithm:
    """rl.algorithm with what the config overrides of it."""
    c, table = config.rl, algorithms.ALGORITHMS[config.rl.algorithm]
    return table._replace(
        advantage=c.advantage or table.advantage,
        aggregation=c.loss_aggregation or table.aggregation,
        clip_low=table.clip_low if c.clip_low == -1 else c.clip_low,
        clip_high=table.clip_high if c.clip_high == -1 else c.clip_high,
    )


def rl_objective(config: config_dict.ConfigDict, name: str = "") -> objective.Objective:
    """The objective of RL by the config's algorithm, or by `name` of algorithms.ALGORITHMS as the table has it."""
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
    """Which tokens the config lets the sampler draw."""
    return draw.Truncation(config.sampler.top_k, float(config.sampler.top_p), float(config.sampler.min_p))


def limits(config: config_dict.ConfigDict) -> rollout.Limits:
    """What the config allows episodes and environments; there 0 says that there is no limit."""
    c = config.env
    return rollout.Limits(c.max_turns, c.concurrency or None, c.timeout or None, c.retries, c.max_faults or None)


def make_mesh(config: config_dict.ConfigDict, devices: Sequence[jax.Device]) -> Mesh:
    """The mesh of a config over these devices. Raises ValueError where the axes do not fit."""
    return sharding.make_mesh({axis: config.mesh[axis] for axis in sharding.AXES}, devices)


def build(config: config_dict.ConfigDict, workdir: Path = Path()) -> Parts:
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
    return Parts(config, chat, policy, architecture, mesh, answers=workdir / "answers")
