"""Packs episodes of any length into batches of one static shape.

Legend: M micro-batches, R rows of a micro-batch, T row length, K tokens of a keep-set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from rl.trajectory import Trajectory

Advantage = float | Sequence[float]  # of an episode, or of each of its tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """The data of one optimiser update.

    Several episodes share a row. Index t of a row stands for one prediction: the input token is `tokens[t]`, the token
    to predict is `targets[t]`, and mask, log-probability and advantage at t belong to that target. An episode of n
    tokens therefore takes at most n - 1 places, and its last token never predicts the next episode's first.

    With shared prefixes, the tokens that all episodes of a task begin with are stored once per row, as a segment of
    their own without loss tokens. The episodes' own segments follow. Their positions continue where the prefix ends,
    and their tokens attend to the prefix as well as to their own segment.

    tokens, targets: int32 [M, R, T]; 0 in padding.
    positions: int32 [M, R, T], counted from 0 in each episode.
    segment_ids: int32 [M, R, T]; 1, 2, ... in each row, 0 in padding.
    parent_ids: int32 [M, R, T], the segment of the prefix that a place attends to besides its own segment. Without a
        prefix it is the place's own segment. None without shared prefixes.
    loss_mask: float32 [M, R, T], 1 where the policy sampled the target, else 0.
    sampler_logprobs, advantages: float32 [M, R, T], of the target; 0 where the mask is 0.
    old_logprobs: float32 [M, R, T], of the target under the learner's policy before the step's updates; None if the
        objective does not need them (see learner.make_scorer).
    reference_logprobs: the same under a frozen reference policy.
    kept: int32 [M, R, T, K], the ids that the target was drawn from, padded with -1; all -1 if it was drawn from the
        whole vocabulary. None without truncated sampling.
    used: int32 [], the number of micro-batches that hold any tokens; the rest are padding and are never computed.
    denominator: float32 [], loss tokens in the whole batch.
    sequences: float32 [], episodes with a loss token in the whole batch.
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
    sequences: np.ndarray
    parent_ids: np.ndarray | None = None
    old_logprobs: np.ndarray | None = None
    reference_logprobs: np.ndarray | None = None
    kept: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an episode is placed in a batch.

    index: of the episode among those packed. row: of the batch's M * R rows. The episode's input tokens `first` to
    `stop` - 1 are at position `start` of the row. If `first` > 0, the inputs before them are at position `prefix` of
    the row, where other episodes of the task may share them.
    """

    index: int
    row: int
    start: int
    first: int
    stop: int
    prefix: int


def max_micro_batches(num_episodes: int, context: int, row_length: int, rows: int) -> int:
    """The most micro-batches that `num_episodes` episodes of at most `context` tokens can need.

    Used as M for all batches, so that the step is compiled once. row_length: tokens. rows: rows of a micro-batch.

    A new row is begun only for an episode that fits into no existing row, so every row but the last holds at least
    floor(row_length / context) episodes. If context > row_length / 2 that means one per row, the worst case.

    Raises:
        ValueError: if an episode of `context` tokens is longer than a row.
    """
    if context > row_length:
        raise ValueError(f"row_length {row_length} is shorter than the longest possible episode, {context} tokens")
    return max(1, math.ceil(math.ceil(num_episodes / (row_length // context)) / rows))


def layout(trajectories: Sequence[Trajectory], row_length: int, share_prefix: bool = False) -> list[Place]:
    """Assigns each episode a place by first-fit, longest episode first; ties are broken by (task, member).

    Episodes without a loss token are left out, and so are the tokens after an episode's last loss token, since no
    prediction depends on them. share_prefix: the episodes of a task are placed together, longest task first, and within
    one row the tokens that all of them begin with are stored once. The layout does not depend on the order of
    `trajectories`.

    Raises:
        ValueError: naming the task, if an episode is longer than a row or its record is inconsistent.
    """
    stops = [_inputs(t, row_length) for t in trajectories]
    firsts = _shared(trajectories, stops) if share_prefix else [0] * len(stops)
    total: dict[str, int] = {}  # task -> inputs of its episodes, without the shared prefix
    for trajectory, first, stop in zip(trajectories, firsts, stops):
        total[trajectory.task_id] = total.get(trajectory.task_id, 0) + stop - first

    def rank(index: int) -> tuple:
        t = trajectories[index]
        # The tokens make the order unique even if the same task and member occur twice.
        return (-total[t.task_id] if share_prefix else 0, t.task_id if share_prefix else "", -stops[index],
                t.task_id, t.member, t.tokens)  # fmt: skip

    places: list[Place] = []
    taken: list[int] = []  # filled positions of each row
    prefixes: dict[str, dict[int, int]] = {}  # task -> row -> position of the task's prefix in the row
    for index in sorted((i for i, stop in enumerate(stops) if stop), key=rank):
        first, stop, task = firsts[index], stops[index], trajectories[index].task_id
        held = prefixes.setdefault(task, {})
        free = [r for r, filled in enumerate(taken) if filled + stop - (first if r in held else 0) <= row_length]
        row = next((r for r in free if r in held), free[0] if free else len(taken))
        if row == len(taken):
            taken.append(0)
        if first and row not in held:
            held[row] = taken[row]
            taken[row] += first
        places.append(Place(index, row, taken[row], first, stop, held.get(row, 0)))
        taken[row] += stop - first
    return places


def pack(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[Advantage],
    row_length: int,
    rows: int,
    micro_batches: int,
    share_prefix: bool = False,
    most_kept: int = 0,
) -> Batch:
    """Packs episodes into a batch, each at the place that `layout` gives it.

    Args:
        trajectories: the episodes to learn from, all with a reward; the caller drops groups without a signal.
        advantages: for each episode one number, used for all its loss tokens, or one per token. 1 in supervised
            training.
        row_length: T. rows: R. micro_batches: M, see `max_micro_batches`. share_prefix: see `layout`. most_kept: K
            (sampler.top_k); 0 for no keep-sets.

    Returns:
        A Batch of numpy arrays; without any episode, used = 0 and denominator = 0.

    Raises:
        ValueError: as `layout` does, and if
            - trajectories and advantages differ in number;
            - an advantage is not finite, or an episode has neither one advantage nor one per token;
            - a keep-set is larger than `most_kept`;
            - the episodes need more than `micro_batches`.
    """
    if len(trajectories) != len(advantages):
        raise ValueError(f"{len(trajectories)} trajectories but {len(advantages)} advantages")
    places = layout(trajectories, row_length, share_prefix)
    needed = max((place.row + 1 for place in places), default=0)
    if needed > micro_batches * rows:
        raise ValueError(f"{len(places)} episodes need {needed} rows, more than {micro_batches} x {rows}")
    shape = (micro_batches * rows, row_length)
    arrays = {name: np.zeros(shape, np.int32) for name in ("tokens", "targets", "positions", "segment_ids")}
    arrays |= {name: np.zeros(shape, np.float32) for name in ("loss_mask", "sampler_logprobs", "advantages")}
    if most_kept:
        arrays["kept"] = np.full((*shape, most_kept), -1, np.int32)
    parent_ids = np.zeros(shape, np.int32)
    segments = [0] * shape[0]  # number of segments in each row so far
    prefixes: dict[tuple[int, int], int] = {}  # (row, position in the row) -> segment of the prefix that begins there

    def write(trajectory: Trajectory, row: int, start: int, first: int, stop: int) -> tuple[int, slice]:
        """Writes the inputs first to stop - 1 of an episode as a new segment; returns (segment, positions)."""
        segments[row] += 1
        here = slice(start, start + stop - first)
        arrays["tokens"][row, here] = trajectory.tokens[first:stop]
        arrays["targets"][row, here] = trajectory.tokens[first + 1 : stop + 1]
        arrays["positions"][row, here] = np.arange(first, stop)
        arrays["segment_ids"][row, here] = parent_ids[row, here] = segments[row]
        return segments[row], here

    for place in places:
        t, row, advantage = trajectories[place.index], place.row, _advantages(trajectories, advantages, place.index)
        if place.first and (row, place.prefix) not in prefixes:
            prefixes[row, place.prefix], _ = write(t, row, place.prefix, 0, place.first)
        _, here = write(t, row, place.start, place.first, place.stop)
        if place.first:
            parent_ids[row, here] = prefixes[row, place.prefix]
        mask = np.asarray(t.loss_mask[place.first + 1 : place.stop + 1], np.float32)
        arrays["loss_mask"][row, here] = mask
        logprobs = np.asarray(t.logprobs[place.first + 1 : place.stop + 1], np.float32)
        arrays["sampler_logprobs"][row, here] = mask * logprobs
        arrays["advantages"][row, here] = mask * advantage[place.first + 1 : place.stop + 1]
        for at, ids in enumerate(t.kept[place.first + 1 : place.stop + 1], place.start):
            if len(ids) > most_kept:
                name = f"task {t.task_id!r} member {t.member}"
                expected = f"expected at most {most_kept} (sampler.top_k)"
                raise ValueError(f"{name}: a keep-set of {len(ids)} tokens, {expected}")
            if ids:
                arrays["kept"][row, at, : len(ids)] = ids
    if share_prefix:
        arrays["parent_ids"] = parent_ids
    return Batch(
        **{name: x.reshape(micro_batches, rows, *x.shape[1:]) for name, x in arrays.items()},
        used=np.int32(math.ceil(needed / rows)),
        denominator=np.float32(arrays["loss_mask"].sum()),
        sequences=np.float32(len(places)),
    )


def _inputs(trajectory: Trajectory, row_length: int) -> int:
    """The number of an episode's input tokens: all before its last loss token, 0 without a loss token.

    Raises ValueError for an episode that is longer than a row or whose record is inconsistent.
    """
    name, mask = f"task {trajectory.task_id!r} member {trajectory.member}", trajectory.loss_mask
    if len(trajectory.tokens) > row_length:
        raise ValueError(f"{name}: {len(trajectory.tokens)} tokens are longer than row_length {row_length}")
    if not len(trajectory.tokens) == len(mask) == len(trajectory.logprobs):
        raise ValueError(
            f"{name}: {len(trajectory.tokens)} tokens, {len(mask)} loss mask entries, "
            f"{len(trajectory.logprobs)} logprobs; expected as many of each"
        )
    if mask and mask[0]:
        raise ValueError(f"{name}: the loss mask covers the first token, which nothing predicts")
    return max((t for t, m in enumerate(mask) if m), default=0)


def _shared(trajectories: Sequence[Trajectory], stops: Sequence[int]) -> list[int]:
    """How many inputs at its beginning each episode shares with all others of its task; 0 if it is the only one.

    The shared inputs end before the input that makes the first prediction with a loss, which each episode keeps.
    """
    members: dict[str, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        if stops[index]:
            members.setdefault(trajectory.task_id, []).append(index)
    shared = [0] * len(trajectories)
    for indices in members.values():
        if len(indices) > 1:
            limit = min(trajectories[i].loss_mask.index(1) - 1 for i in indices)
            heads = np.array([trajectories[i].tokens[:limit] for i in indices])
            alike = np.all(heads == heads[:1], axis=0)
            for i in indices:
                shared[i] = limit if alike.all() else int(np.argmin(alike))
    return shared


def _advantages(trajectories: Sequence[Trajectory], advantages: Sequence[Advantage], index: int) -> np.ndarray:
    """An episode's advantages, float32 [tokens]. Raises ValueError if they are not finite or of another shape."""
    trajectory, given = trajectories[index], np.asarray(advantages[index], np.float32)
    name, count = f"task {trajectory.task_id!r} member {trajectory.member}", len(trajectory.tokens)
    if not np.isfinite(given).all():
        raise ValueError(f"{name}: the advantage is {advantages[index]}, expected a finite number")
    if given.shape not in ((), (count,)):
        raise ValueError(f"{name}: {given.shape} advantages, expected one, or one for each of the {count} tokens")
    return np.broadcast_to(given, (count,))
