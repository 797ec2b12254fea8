"""Turn-level credit: which turn of an episode earned which subgoals.

After each turn an environment can say which subgoals have been reached so far. Their weighted share is the progress
p_k after turn k (p_0 = 0; 0 once a rule is broken). The rewards p_k - p_(k-1), and what is missing to the episode's
reward R in its last turn, add up to R, so that turn k's return is R - p_(k-1): what was earned before cannot have been
its doing (reward-to-go: Sutton et al. 1999, theorem 1). Turns of one number are compared within the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from envs.base import Env, run
from rl.learn import algorithms
from rl.trajectory import Trajectory
from synth.task import Task


def progress(
    items: Sequence[Trajectory], tasks: Mapping[str, Task], make_env: Callable[[Task], Env]
) -> list[list[float]]:
    """For each episode the progress before each of its turns, [turns], from playing its messages again.

    tasks: by id. make_env: a fresh environment of a task, which must answer the same messages as it did before.
    Episodes without a reward, and those of tasks without weighted subgoals (questions), make no progress. What an
    environment raises now stops the run, with the episode named: other processes may have found its progress.
    """

    async def play(item: Trajectory) -> list[float]:
        if not (item.turns and item.reward is not None and item.score.subgoals):
            return [0.0] * item.turns
        task, before = tasks[item.task_id], [0.0]
        weights = {goal["name"]: goal["weight"] for goal in getattr(task, "subgoals", ())}
        if not weights:
            return [0.0] * item.turns
        env = make_env(task)
        try:
            await env.reset()
            for message in [m for m in item.messages if m["role"] == "assistant"][:-1]:
                await env.step(message)
                score = await env.score()
                reached = sum(weights[name] for name, met in score.subgoals.items() if met)
                before.append(0.0 if score.violations else reached / sum(weights.values()))
        except Exception as error:
            error.add_note(f"rl.turn_credit: while task {item.task_id!r}, member {item.member}, was played again")
            raise
        finally:
            env.close()
        return before

    async def play_all() -> list[list[float]]:
        return [await play(item) for item in items]

    return run(play_all())


def advantages(
    items: Sequence[Trajectory], rewards: np.ndarray, before: Sequence[Sequence[float]], group_size: int, name: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """(an advantage for each token of each episode, groups that carry a signal) as algorithms.group_advantages.

    items: by (task, member). rewards: [episodes], NaN where there is none. before: as `progress` gives it. The
    advantage of turn k is that of its return among those of the turns k of the group. Tokens that were not sampled
    have 0.

    Raises ValueError, naming the episode, if its loss mask does not have as many stretches as it has turns.
    """
    returns = np.full((len(items), max((len(b) for b in before), default=0)), np.nan, np.float32)
    for row, reward, shares in zip(returns, rewards, before):
        row[: len(shares)] = reward - np.asarray(shares, np.float32)
    columns = [algorithms.group_advantages(column, group_size, name)[0] for column in returns.T]
    found = np.stack(columns, axis=1) if columns else np.zeros((len(items), 0), np.float32)
    per_token = []
    for item, row in zip(items, found):
        mask = np.asarray(item.loss_mask, bool)
        starts = mask & ~np.concatenate([[False], mask[:-1]])
        if starts.sum() != item.turns:
            raise ValueError(
                f"task {item.task_id!r} member {item.member}: {starts.sum()} stretches of sampled tokens in "
                f"{item.turns} turns; rl.turn_credit needs one for each"
            )
        turn = np.maximum(np.cumsum(starts) - 1, 0)
        per_token.append(np.where(mask, row[turn] if item.turns else 0.0, 0.0).astype(np.float32))
    return per_token, np.any(found.reshape(len(items) // group_size, -1) != 0, axis=1)
