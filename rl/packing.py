"""Packs episodes of any length into batches of one static shape.

Legend: M micro-batches, R rows of a micro-batch, T row length.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from rl.trajectory import Trajectory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What one optimiser update trains on; the one definition of a batch.

    Several episodes share a row. Index t of a row is the prediction made there: the token fed in at t is `tokens[t]`,
    the one it has to predict is `targets[t]`, and mask, logprob and advantage at t belong to that target. An episode
    of n tokens therefore takes up to n - 1 places, and its last token never predicts the next episode's first.

    tokens, targets: int32 [M, R, T]; 0 where the segment is 0.
    positions: int32 [M, R, T], from 0 in each episode. segment_ids: int32 [M, R, T], 1, 2, ... in a row, 0 is padding.
    loss_mask: float32 [M, R, T], 1 exactly where the target was sampled by the policy.
    sampler_logprobs, advantages: float32 [M, R, T], of the target; 0 where the mask is 0.
    used: int32 [], the micro-batches that hold anything; the rest are padding and are never computed.
    denominator: float32 [], loss tokens in the whole batch.
    """

    tokens: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    loss_mask: np.ndarray
    sampler_logprobs: np.ndarray
    advantages: np.ndarray
    used: np.ndarray
    denominator: np.ndarray


def max_micro_batches(num_episodes: int, context: int, row_length: int, rows: int) -> int:
    """The micro-batches that `num_episodes` episodes of at most `context` tokens can need; M for one compilation.

    `pack` opens a row only when an episode fits no open one, so every row but the last holds at least
    floor(row_length / context) episodes; with context > row_length / 2 that is the worst case of one per row.

    Raises:
        ValueError: if an episode of `context` tokens is longer than a row.
    """
    if context > row_length:
        raise ValueError(f"row_length {row_length} is shorter than the longest possible episode, {context} tokens")
    return max(1, math.ceil(math.ceil(num_episodes / (row_length // context)) / rows))


def _inputs(trajectory: Trajectory) -> int:
    """The number of tokens to feed in: up to the one before the last loss token (0 if there is no loss token)."""
    name, mask = f"task {trajectory.task_id!r} member {trajectory.member}", trajectory.loss_mask
    if not len(trajectory.tokens) == len(mask) == len(trajectory.logprobs):
        raise ValueError(
            f"{name}: {len(trajectory.tokens)} tokens, {len(mask)} loss mask entries, "
            f"{len(trajectory.logprobs)} logprobs; expected as many of each"
        )
    if mask and mask[0]:
        raise ValueError(f"{name}: the loss mask covers the first token, which nothing predicts")
    return max((t for t, m in enumerate(mask) if m), default=0)


def _first_fit(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Indices of `lengths` per row: each goes, in order, to the first row with room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index, length in enumerate(lengths):
        row = next((r for r, free in enumerate(room) if free >= length), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(row_length)
        rows[row].append(index)
        room[row] -= length
    return rows


def pack(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[float],
    row_length: int,
    rows: int,
    micro_batches: int,
) -> Batch:
    """Packs episodes first-fit, longest first, ties in the order of (task, member).

    The result does not depend on the order in which the episodes arrive. Episodes without a loss token are left out;
    so is what follows an episode's last loss token, which no prediction depends on.

    Args:
        trajectories: the episodes to learn from (those with a reward; the caller drops zero-variance groups).
        advantages: one per episode, given to all its loss tokens; 1 for supervised training.
        row_length: T. rows: R. micro_batches: M, see `max_micro_batches`.

    Returns:
        A Batch of numpy arrays. No episode gives used = 0 and denominator = 0.

    Raises:
        ValueError: naming the task, if an episode is longer than a row, its record is inconsistent or its advantage
            is not finite; or if the episodes need more than `micro_batches`.
    """
    if len(trajectories) != len(advantages):
        raise ValueError(f"{len(trajectories)} trajectories but {len(advantages)} advantages")
    episodes = []
    for trajectory, advantage in zip(trajectories, advantages):
        name, count = f"task {trajectory.task_id!r} member {trajectory.member}", _inputs(trajectory)
        if len(trajectory.tokens) > row_length:
            raise ValueError(f"{name}: {len(trajectory.tokens)} tokens are longer than row_length {row_length}")
        if not math.isfinite(advantage):
            raise ValueError(f"{name}: the advantage is {advantage}, expected a finite number")
        if count:
            episodes.append((count, trajectory, float(advantage)))
    # Tokens and advantage only matter when a task and member occur twice; then they still fix the order.
    episodes.sort(key=lambda e: (-e[0], e[1].task_id, e[1].member, e[1].tokens, e[2]))
    placed = _first_fit([count for count, _, _ in episodes], row_length)
    if len(placed) > micro_batches * rows:
        raise ValueError(f"{len(episodes)} episodes need {len(placed)} rows, more than {micro_batches} x {rows}")
    return _fill(episodes, placed, (micro_batches, rows, row_length))


def _fill(
    episodes: Sequence[tuple[int, Trajectory, float]], placed: Sequence[Sequence[int]], shape: tuple[int, int, int]
) -> Batch:
    """Writes the placed (inputs, trajectory, advantage) into a Batch of `shape` [M, R, T]."""
    names = ("tokens", "targets", "positions", "segment_ids")
    arrays = {name: np.zeros(shape, np.int32) for name in names}
    arrays |= {name: np.zeros(shape, np.float32) for name in ("loss_mask", "sampler_logprobs", "advantages")}
    for row, indices in enumerate(placed):
        start = 0
        for segment, index in enumerate(indices, 1):
            count, trajectory, advantage = episodes[index]
            here = (row // shape[1], row % shape[1], slice(start, start + count))
            mask = np.asarray(trajectory.loss_mask[1 : count + 1], np.float32)
            arrays["tokens"][here] = trajectory.tokens[:count]
            arrays["targets"][here] = trajectory.tokens[1 : count + 1]
            arrays["positions"][here] = np.arange(count)
            arrays["segment_ids"][here] = segment
            arrays["loss_mask"][here] = mask
            arrays["sampler_logprobs"][here] = mask * np.asarray(trajectory.logprobs[1 : count + 1], np.float32)
            arrays["advantages"][here] = mask * np.float32(advantage)
            start += count
    used = math.ceil(len(placed) / shape[1])
    return Batch(**arrays, used=np.int32(used), denominator=np.float32(arrays["loss_mask"].sum()))
