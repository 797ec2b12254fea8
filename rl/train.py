"""RL on a set of tasks: rollouts, advantages, one learner update per minibatch, metrics."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from rl import advantage, learner, rollout, trajectory
from rl.evaluate import derive_seed
from rl.setup import Parts
from rl.trajectory import Trajectory
from synth.task import Task


def step_tasks(
    current: Sequence[Task], replay: Sequence[Task], count: int, share: float, seed: int, step: int
) -> list[Task]:
    """The tasks of RL step `step`, none twice: a function of the arguments, so a resumed run needs no iterator state.

    With one seed for all steps of a round, `current` is gone through in shuffled epochs: every task comes once before
    any comes again. A `share` of the `count` places, but never all, goes to random tasks of earlier rounds. There are
    fewer than `count` tasks if `current` is too small.
    """
    old = min(round(share * count), count - 1, len(replay))
    fresh = min(count - old, len(current))
    order = _epochs(len(current), fresh, (step + 1) * fresh, seed)
    drawn = random.Random(f"{seed}/replay/{step}").sample(list(replay), old)
    return [current[i] for i in order[step * fresh :]] + drawn


def _epochs(size: int, width: int, length: int, seed: int) -> list[int]:
    """The first `length` places of shuffled epochs of range(size), end to end, for steps of `width` <= size places."""
    order: list[int] = []
    while len(order) < length:
        shuffled = random.Random(f"{seed}/epoch/{len(order) // size}").sample(range(size), size)
        # In the step that the seam falls into, no task may come twice: what it has already goes to the epoch's end.
        begun = order[len(order) - len(order) % width :]
        order += [i for i in shuffled if i not in begun] + [i for i in shuffled if i in begun]
    return order[:length]


def group_advantages(items: Sequence[Trajectory], group_size: int, normalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """(advantages [episodes], groups that carry a signal [groups]) of trajectories sorted by (task, member)."""
    rewards_BG = np.array([np.nan if t.reward is None else t.reward for t in items], np.float32).reshape(-1, group_size)
    mask_BG = ~np.isnan(rewards_BG)
    advantages_BG = np.asarray(advantage.grpo(rewards_BG, mask_BG, normalise))
    return advantages_BG.reshape(-1), ~np.asarray(advantage.zero_variance(rewards_BG, mask_BG))


@dataclasses.dataclass
class Trainer:
    """The learner's state and what moves it. `step` is one batch of rollouts and its updates."""

    parts: Parts
    state: learner.TrainState
    update: learner.Step
    pack: Callable[..., Any]

    @classmethod
    def create(cls, parts: Parts) -> "Trainer":
        """A trainer at the initial policy."""
        return cls(parts, *parts.learner("policy_gradient"))

    def step(
        self, tasks: Sequence[Task], seed: int, on_progress: Callable[[int, int], None] | None = None
    ) -> tuple[list[Trajectory], dict[str, float | None]]:
        """Rolls out the tasks with the current parameters and trains on what came of it.

        Groups whose rewards are all equal are left out; a minibatch without any other is no update.
        Returns the trajectories, sorted by (task id, member), and the step's metrics.
        """
        c, start = self.parts.config.rl, time.perf_counter()
        version = int(self.state.step)
        items = self.parts.play(
            self.state.params, tasks, range(c.group_size), version, seed=seed, on_progress=on_progress
        )
        sampled = time.perf_counter()
        advantages, mixed = group_advantages(items, c.group_size, c.normalise_advantage)
        groups = [g for g in range(len(mixed)) if mixed[g]]
        updates = []
        for part in np.array_split(np.array(groups, int), c.minibatches):
            members = [g * c.group_size + m for g in part for m in range(c.group_size)]
            members = [i for i in members if items[i].reward is not None]
            if members:
                batch = self.pack([items[i] for i in members], [float(advantages[i]) for i in members])
                self.state, metrics = self.update(self.state, batch)
                updates.append(metrics)
        updates = jax.device_get(updates)
        done = time.perf_counter()
        return items, {
            **rollout_metrics(items, mixed, self.parts.stats),
            **{name: float(np.mean([u[name] for u in updates])) for name in (updates[0] if updates else ())},
            "updates": len(updates),
            "rollout_seconds": sampled - start,
            "learner_seconds": done - sampled,
        }


def rollout_metrics(items: Sequence[Trajectory], mixed: np.ndarray, stats: rollout.Stats) -> dict[str, float | None]:
    """What a batch of episodes looks like; means are over episodes without a fault, None if all had one."""
    valid = [t for t in items if t.reward is not None]

    def mean(values: Iterable[float]) -> float | None:
        return sum(values) / len(valid) if valid else None

    return {
        "reward": mean(t.reward for t in valid),
        "pass_rate": mean(t.passed for t in valid),
        "mixed_groups": float(np.mean(mixed)),
        "violations": mean(bool(t.score.violations) for t in valid),
        "truncated": mean(t.reason != trajectory.ENDED for t in valid),
        "faults": len(items) - len(valid),
        "turns": mean(t.turns for t in valid),
        "response_tokens": mean(sum(t.loss_mask) for t in valid),
        "tokens_per_second": stats.sampled_tokens / max(stats.seconds, 1e-9),
        "slot_occupancy": stats.occupancy,
        "shared_tokens": stats.shared_tokens,
        "prefill_tokens": stats.prefill_tokens,
        "prefill_seconds": stats.prefill_seconds,
        "decode_seconds": stats.decode_seconds,
        "env_seconds": stats.env_seconds,
    }


def step_seed(seed: int, round_number: int, step: int) -> int:
    """The sampling seed of one RL step."""
    return derive_seed(seed, "rollout", round_number, step)
