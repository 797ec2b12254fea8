"""One RL step on a set of tasks: rollouts, advantages, one learner update per minibatch, metrics."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rl import setup
from rl.evaluation.pass_rates import derive_seed
from rl.learn import advantage, algorithms, credit, learner, losses, optimiser, packing
from rl.rollouts import measure, rollout
from rl.setup import Parts
from rl.trajectory import Trajectory
from synth.task import Task


def step_tasks(
    current: Sequence[Task], replay: Sequence[Task], count: int, share: float, seed: int, step: int
) -> list[Task]:
    """The tasks of RL step `step`, at most `count` and no task twice.

    current: the round's tasks. They are taken in shuffled epochs if all steps of a round use one seed: every task comes
    once before any task comes again. replay: tasks of earlier rounds. A `share` of the `count` places, but never all of
    them, goes to a random choice of these. If `current` is too small, fewer than `count` tasks are returned.

    The result depends on the arguments alone, so a resumed run needs no iterator state.
    """
    old = min(round(share * count), count - 1, len(replay))
    fresh = min(count - old, len(current))
    order = _epochs(len(current), fresh, (step + 1) * fresh, seed)
    drawn = random.Random(f"{seed}/replay/{step}").sample(list(replay), old)
    return [current[i] for i in order[step * fresh :]] + drawn


def refill_tasks(current: Sequence[Task], taken: Sequence[Task], count: int, seed: int, step: int) -> list[Task]:
    """At most `count` random tasks of `current` that are not among `taken`, those that RL step `step` already has.

    The result depends on the arguments alone.
    """
    used = {task.id for task in taken}
    rest = [task for task in current if task.id not in used]
    return random.Random(f"{seed}/refill/{step}/{len(taken)}").sample(rest, min(count, len(rest)))


def _epochs(size: int, width: int, length: int, seed: int) -> list[int]:
    """The first `length` indices of concatenated epochs, each a shuffled range(size).

    width: indices that one step takes, at most size. No step gets an index twice.
    """
    order: list[int] = []
    while len(order) < length:
        shuffled = random.Random(f"{seed}/epoch/{len(order) // size}").sample(range(size), size)
        # A step may span two epochs. What it has taken from the first moves to the end of the second, so that it does
        # not come twice in the step.
        begun = order[len(order) - len(order) % width :]
        order += [i for i in shuffled if i not in begun] + [i for i in shuffled if i in begun]
    return order[:length]


def overlong_penalties(items: Sequence[Trajectory], context: int, buffer: int) -> np.ndarray:
    """The penalty, in [-1, 0], added to each episode's reward for using the last `buffer` tokens of the context.

    context, buffer: tokens. Returns float32 [episodes]; see advantage.overlong_penalty.
    """
    lengths = np.array([len(t.tokens) for t in items], np.float32)
    return np.asarray(advantage.overlong_penalty(lengths, context, buffer))


@dataclasses.dataclass
class Trainer:
    """The learner's train state and the functions that update it. `step` does one batch of rollouts and its updates.

    update: one optimiser update. pack: trajectories and advantages -> a batch. ahead: set if the previous step started
    this step's rollouts; called, it waits for them and returns them. under_way: task id -> task, for the groups that
    earlier steps began and have not finished (rl.partial_turns).
    """

    parts: Parts
    state: optimiser.TrainState
    update: learner.Step
    pack: Callable[..., packing.Batch]
    ahead: Callable[[], list[Trajectory]] | None = None
    under_way: dict[str, Task] = dataclasses.field(default_factory=dict)

    @classmethod
    def create(cls, parts: Parts) -> Trainer:
        """A trainer that starts at the initial policy.

        Raises ValueError if rl.teacher has another vocabulary than the policy, and as `Parts.learner` does.
        """
        if parts.config.rl.teacher:
            parts.teacher  # noqa: B018 (loaded now, so that a wrong teacher fails before anything is sampled)
        return cls(parts, *parts.learner("policy_gradient"))

    def step(
        self,
        tasks: Sequence[Task],
        seed: int,
        on_progress: Callable[[int, int], None] | None = None,
        more: Callable[[Sequence[Task], int], list[Task]] | None = None,
        following: tuple[Sequence[Task], int] | None = None,
        whole: bool = True,
    ) -> tuple[list[Trajectory], dict[str, float | None]]:
        """Rolls out a group of episodes per task with the current parameters and trains on them.

        Groups whose advantages are all 0 are left out. A minibatch that has only such groups makes no update.

        Args:
            tasks, seed: the step's tasks and its sampling seed.
            on_progress: called with (finished episodes, all episodes).
            more: more(taken, count) gives at most `count` other tasks to replace groups that were left out. It is
                called at most rl.max_refills times.
            following: the next step's (tasks, seed). If given, its rollouts start now, with the parameters before this
                step's updates, and run beside them. The next call must be for these tasks and takes those rollouts.
            whole: play all episodes to their ends. Otherwise an episode that takes more than rl.partial_turns turns is
                continued by the next call, with that call's parameters. Its group is trained on once it is complete.

        Returns:
            (trajectories sorted by (task id, member), the step's metrics by name).

        Raises:
            RuntimeError: after rl.max_skipped_updates updates in a row that were not finite, and as
                `Rollouts.collect` does.
        """
        c, peak = self.parts.config.rl, self.parts.peak  # `peak` is measured while the devices are idle
        start = time.perf_counter()
        taken, refills = [*self.under_way.values(), *tasks], 0
        items, stats = self._rollouts(tasks, seed, on_progress, whole)
        behind = [int(self.state.step) - version for item in items for version in item.turn_versions]
        advantages, signal, found = self._advantages(items, taken)
        while refills < c.max_refills and signal.sum() < len(tasks):
            others = more(taken, len(tasks) - int(signal.sum()))
            if not others:
                break
            new, added = self._rollouts(others, seed, on_progress, whole)
            items = sorted(items + new, key=lambda item: (item.task_id, item.member))
            stats = [*stats, *added]
            taken, refills = taken + others, refills + 1
            advantages, signal, found = self._advantages(items, taken)
        sampled = time.perf_counter()
        if following is not None:
            members = range(c.group_size)
            self.ahead = self.parts.begin(
                self.state.params, following[0], members, int(self.state.step), seed=following[1]
            )
        updates, work = [], []
        for batch in self._batches(items, advantages, signal):
            self.state, metrics = self.update(self.state, batch)
            updates.append(metrics)
            work.append(self.parts.work(batch))
        updates = jax.device_get(updates)
        done = time.perf_counter()
        tokens, flops = map(sum, zip(*work)) if work else (0, 0.0)
        optimiser.check_finite(self.state, c.max_skipped_updates)
        return items, {
            **measure.of_rollouts(items, c.group_size, measure.total(stats)),
            **found,
            **{name: float(np.mean([u[name] for u in updates])) for name in (updates[0] if updates else ())},
            # Updates between the sampling of a turn and its use in training; mean over turns and this step's updates.
            "staleness": float(np.mean(behind)) + (len(updates) - 1) / 2 if updates and behind else None,
            "refills": refills,
            # Groups whose advantages are not all 0: with none of them a step makes no update.
            "signal_groups": int(signal.sum()),
            "updates": len(updates),
            "rollout_seconds": sampled - start,
            "learner_seconds": done - sampled,
            "learner_tokens_per_second": tokens / (done - sampled) if work else None,
            # FLOPs of the updates only; the seconds also include scoring, packing and, at first, compilation.
            "mfu": flops / (done - sampled) / peak if work else None,
        }

    def _rollouts(
        self, tasks: Sequence[Task], seed: int, on_progress: Callable[[int, int], None] | None, whole: bool
    ) -> tuple[list[Trajectory], list[rollout.Stats]]:
        """(finished groups of episodes, statistics). Returns the rollouts that were sampled ahead, if there are any.

        Otherwise plays a group of episodes per task with the current parameters, see `step`. A task that is already
        under way is continued, not begun again.
        """
        if self.ahead is not None:
            items, self.ahead = self.ahead(), None
            return items, [self.parts.stats]
        c, version = self.parts.config.rl, int(self.state.step)
        new = [task for task in tasks if task.id not in self.under_way] if self.under_way else list(tasks)
        pause = {} if whole else {"turns": c.partial_turns, "pauses": c.max_staleness}
        members = range(c.group_size)
        items = self.parts.play(self.state.params, new, members, version, seed=seed, on_progress=on_progress, **pause)
        ended = {item.task_id for item in items}
        rest = [] if whole else [*self.under_way.values(), *new]
        self.under_way = {task.id: task for task in rest if task.id not in ended}
        return items, [self.parts.stats]

    def _advantages(
        self, items: Sequence[Trajectory], tasks: Sequence[Task]
    ) -> tuple[Sequence[packing.Advantage], np.ndarray, dict[str, float]]:
        """(advantages, which groups carry a signal, metrics), from the rewards less the penalties of the config.

        Advantages: one per episode, or with rl.turn_credit an array with one per token for each episode. The second
        value is boolean, [groups]. With a teacher the advantages are 0 here; `_batches` computes them later.
        """
        c, rewards, found = self.parts.config, measure.rewards_of(items), {}
        if c.rl.teacher:  # every group with a reward, whatever it is, has something to learn from
            faulted = np.isnan(rewards).reshape(-1, c.rl.group_size).all(axis=1)
            return np.zeros(len(items), np.float32), ~faulted, found
        if c.rl.overlong_buffer:
            rewards = rewards + overlong_penalties(items, c.sampler.context, c.rl.overlong_buffer)
        if c.rl.kl_in_reward:
            kl = self._reference_kl(items)
            rewards = rewards - c.rl.kl_coef * kl
            found["reference_kl"] = float(kl.sum() / max(sum(sum(t.loss_mask) for t in items), 1))
        name = setup.algorithm(c).advantage
        if c.rl.turn_credit:
            before = credit.progress(items, {task.id: task for task in tasks}, self.parts.rollouts.make_env)
            return *credit.advantages(items, rewards, before, c.rl.group_size, name), found
        return *algorithms.group_advantages(rewards, c.rl.group_size, name), found

    def _batches(
        self, items: Sequence[Trajectory], advantages: Sequence[packing.Advantage], signal: np.ndarray
    ) -> Iterable[packing.Batch]:
        """The step's minibatches: the groups that carry a signal, without the episodes that have no reward."""
        c = self.parts.config.rl
        parts = []
        for part in np.array_split(np.flatnonzero(signal), c.minibatches):
            members = [g * c.group_size + m for g in part for m in range(c.group_size)]
            parts.append([i for i in members if items[i].reward is not None])
        # A generator, so that the next batch is packed while the devices run the update on the current one.
        batches = (self.pack([items[i] for i in part], [advantages[i] for i in part]) for part in parts if part)
        if c.teacher:
            batches = (self._distilled(batch) for batch in batches)
        if c.kl_coef and not c.kl_in_reward:
            initial = self.parts.initial_params
            batches = (dataclasses.replace(b, reference_logprobs=self.parts.score(initial, b)) for b in batches)
        if c.importance != "none":  # all batches are scored before the first update changes the parameters
            params = self.state.params
            batches = [dataclasses.replace(b, old_logprobs=self.parts.score(params, b)) for b in batches]
        return batches

    def _distilled(self, batch: packing.Batch) -> packing.Batch:
        """The batch with advantages for distillation: at each token the teacher's log-probability less the sampler's.

        The mean of these advantages over the policy's own tokens is -KL(policy || teacher), so the policy gradient
        follows the gradient of that KL (on-policy distillation: Agarwal et al., arXiv:2306.13649). A token's advantage
        ignores later tokens.
        """
        advantages = jnp.where(batch.loss_mask > 0, self.parts.teacher(batch) - batch.sampler_logprobs, 0.0)
        return dataclasses.replace(batch, advantages=advantages)

    def _reference_kl(self, items: Sequence[Trajectory]) -> np.ndarray:
        """Each episode's KL(policy || initial policy): an estimate summed over its sampled tokens, float32 [episodes].

        Unit: nats.
        """
        c, found = self.parts.config.rl, np.zeros(len(items), np.float32)
        groups = np.arange(len(items) // c.group_size)
        # Scored in parts, since all groups, with those of the refills, may be more than one batch can hold.
        for part in np.array_split(groups, -(-len(groups) // max(c.groups // c.minibatches, 1))):
            chosen = [g * c.group_size + m for g in part for m in range(c.group_size)]
            some = [items[i] for i in chosen]
            batch = self.pack(some, [0.0] * len(some))
            reference = self.parts.score(self.parts.initial_params, batch)
            kl = losses.kl(batch.sampler_logprobs, reference, batch.loss_mask, c.kl_estimator)
            kl = multihost_utils.process_allgather(kl, tiled=True).reshape(-1, c.row_length)
            for place in packing.layout(some, c.row_length, c.share_prefix):
                found[chosen[place.index]] = kl[place.row, place.start : place.start + place.stop - place.first].sum()
        return found


def step_seed(seed: int, round_number: int, step: int) -> int:
    """The sampling seed of one RL step, in [0, 2**31)."""
    return derive_seed(seed, "rollout", round_number, step)
