"""The metrics of a batch of episodes: rewards, rates, lengths, and the sampler's throughput."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from envs import registry
from rl import trajectory
from rl.learn import advantage
from rl.rollouts import rollout
from rl.trajectory import Trajectory
from synth.task import Task


def rewards_of(items: Sequence[Trajectory]) -> np.ndarray:
    """The episodes' rewards, float32 [episodes]; NaN where the infrastructure failed."""
    return np.array([np.nan if t.reward is None else t.reward for t in items], np.float32)


def total(stats: Sequence[rollout.Stats]) -> rollout.Stats:
    """The statistics of several runs that were played one after the other: sums of all fields."""
    return rollout.Stats(
        **{field.name: sum(getattr(one, field.name) for one in stats) for field in dataclasses.fields(rollout.Stats)}
    )


def of_rollouts(items: Sequence[Trajectory], group_size: int, stats: rollout.Stats) -> dict[str, float | None]:
    """Metrics of a batch of episodes. Means are over episodes without a fault, None if there are none.

    items: sorted by (task, member). group_size: episodes per task. stats: of the runs that played them.

    reward_std: standard deviation within a group, mean over groups. mixed_groups: share of groups whose rewards differ.
    truncated: share of episodes that their environment did not close. tool_calls: per episode. invalid_calls: those of
    them whose arguments are not JSON, per episode (see chat.Chat.parse). response_tokens: sampled tokens per episode.
    turn_tokens: sampled tokens per turn, over all turns. *_seconds: wall clock.
    """
    valid = [t for t in items if t.reward is not None]
    rewards_BG = rewards_of(items).reshape(-1, group_size)
    mixed = ~np.asarray(advantage.zero_variance(rewards_BG, ~np.isnan(rewards_BG)))
    deviations = [np.std(row[~np.isnan(row)]) for row in rewards_BG if not np.isnan(row).all()]

    def mean(values: Iterable[float]) -> float | None:
        return sum(values) / len(valid) if valid else None

    return {
        "reward": mean(t.reward for t in valid),
        "pass_rate": mean(t.passed for t in valid),
        "reward_std": float(np.mean(deviations)) if deviations else None,
        "mixed_groups": float(np.mean(mixed)) if items else None,
        "violations": mean(bool(t.score.violations) for t in valid),
        "truncated": mean(t.reason != trajectory.ENDED for t in valid),
        "faults": len(items) - len(valid),
        "retries": stats.retries,
        "paused": stats.paused,
        "turns": mean(t.turns for t in valid),
        "tool_calls": mean(len(_arguments(t)) for t in valid),
        "invalid_calls": mean(sum(not _parses(text) for text in _arguments(t)) for t in valid),
        "response_tokens": mean(sum(t.loss_mask) for t in valid),
        "turn_tokens": sum(sum(t.loss_mask) for t in valid) / max(sum(t.turns for t in valid), 1) if valid else None,
        "tokens_per_second": stats.sampled_tokens / max(stats.seconds, 1e-9),
        "slot_occupancy": stats.occupancy,
        "shared_tokens": stats.shared_tokens,
        "prefill_tokens": stats.prefill_tokens,
        "prefill_seconds": stats.prefill_seconds,
        "decode_seconds": stats.decode_seconds,
        "env_seconds": stats.env_seconds,
    }


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The metrics as JSON can hold them: None for what is not finite, as the loss of an update that was skipped."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in metrics.items()}


def by_environment(items: Sequence[Trajectory], tasks: Iterable[Task]) -> dict[str, float | None]:
    """Mean reward and pass rate of each environment that has episodes, as "reward/NAME" and "pass_rate/NAME".

    tasks: must contain those of the episodes. Means are over episodes without a fault, None if there are none.
    """
    names, found = {task.id: registry.name(task) for task in tasks}, {}
    for name in sorted({names[item.task_id] for item in items}):
        valid = [item for item in items if names[item.task_id] == name and item.reward is not None]
        found[f"reward/{name}"] = float(np.mean([item.reward for item in valid])) if valid else None
        found[f"pass_rate/{name}"] = float(np.mean([item.passed for item in valid])) if valid else None
    return found


def _arguments(item: Trajectory) -> list[str]:
    """The arguments of the episode's tool calls, as text."""
    return [call["function"]["arguments"] for message in item.messages for call in message.get("tool_calls") or ()]


def _parses(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
