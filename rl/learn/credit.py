"""Turn-level credit: rewards each turn of an episode by the subgoals that it reached.

After each turn an environment can say which subgoals have been reached so far. The progress p_k after turn k is their
weighted share (p_0 = 0; 0 once a rule is broken). Turn k's reward is p_k - p_(k-1); the last turn gets in addition
whatever is missing to the episode's reward R. So the rewards add up to R, and the return of turn k is R - p_(k-1):
a turn gets no credit for what earlier turns earned (reward-to-go: Sutton et al. 1999, theorem 1). The advantage of
turn k compares its return with those of the turns k of the other episodes in the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from envs import contract
from envs.base import Env, run
from rl.learn import algorithms
from rl.trajectory import Trajectory
from synth.task import Task


def progress(
    items: Sequence[Trajectory], tasks: Mapping[str, Task], make_env: Callable[[Task], Env]
) -> list[list[float]]:
    """For each episode the progress before each of its turns, in [0, 1], [turns]; found by replaying its messages.

    tasks: task id -> task. make_env: makes a new environment for a task; it must answer the messages as it did when the
    episode was played. The progress is 0 for episodes without a reward and for tasks without weighted subgoals
    (questions).

    Raises whatever an environment raises, with a note that names the episode. Such an error stops the run, because
    other processes may have computed the progress of the same episode without an error.
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
                score = contract.score(await env.score())
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
    """(advantages of each episode's tokens, float32 [tokens]; whether each group carries a signal, booleans [groups]).

    items: sorted by (task, member). rewards: [episodes], NaN for an episode without a reward. before: the result of
    `progress`. name: a key of algorithms.ADVANTAGES, which compares the return of turn k with those of the turns k of
    the other episodes in the group. All sampled tokens of a turn have the turn's advantage; other tokens have 0.

    Raises ValueError, naming the episode, if the stretches of sampled tokens in its loss mask are not as many as its
    turns.
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
