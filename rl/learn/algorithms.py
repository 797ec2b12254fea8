"""The RL algorithms by name: the advantage, the loss, the aggregation of token losses, and the clip range of the ratio.

The config can override these (rl.advantage, rl.loss_aggregation, rl.clip_low, rl.clip_high). Other features of an
algorithm have config keys of their own (rl.kl_coef, rl.dual_clip, rl.overlong_buffer, ...).
"""

from typing import NamedTuple

import numpy as np

from rl.learn import advantage


class Algorithm(NamedTuple):
    """One algorithm.

    advantage: a key of ADVANTAGES. loss: one of objective.LOSSES. aggregation: see losses.aggregate. clip_low,
    clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high].
    """

    advantage: str
    loss: str
    aggregation: str
    clip_low: float
    clip_high: float


ADVANTAGES = {
    "grpo": advantage.grpo,
    "dr_grpo": advantage.dr_grpo,
    "rloo": advantage.rloo,
    "reinforce++": advantage.reinforce_plus_plus,
}

ALGORITHMS = {
    # DeepSeekMath, arXiv:2402.03300
    "grpo": Algorithm("grpo", "ppo", "sequence-mean-token-mean", 0.2, 0.2),
    # arXiv:2503.20783
    "dr_grpo": Algorithm("dr_grpo", "ppo", "fixed", 0.2, 0.2),
    # arXiv:2503.14476; its overlong shaping is rl.overlong_buffer, its dynamic sampling rl.max_refills
    "dapo": Algorithm("grpo", "ppo", "token-mean", 0.2, 0.28),
    # arXiv:2402.14740; PPO's clip is added for the second and later updates of a step
    "rloo": Algorithm("rloo", "ppo", "sequence-mean-token-sum", 0.2, 0.2),
    # arXiv:2501.03262
    "reinforce++": Algorithm("reinforce++", "ppo", "token-mean", 0.2, 0.2),
    # arXiv:2507.18071, section 5.1
    "gspo": Algorithm("grpo", "gspo", "sequence-mean-token-mean", 3e-4, 4e-4),
    "gspo_token": Algorithm("grpo", "gspo_token", "sequence-mean-token-mean", 3e-4, 4e-4),
    # MiniMax-M1, arXiv:2506.13585: no lower bound. That paper does not state its upper bound; weights of at most 5 are
    # from ScaleRL (arXiv:2510.13786)
    "cispo": Algorithm("grpo", "cispo", "token-mean", 1.0, 4.0),
}


def group_advantages(rewards: np.ndarray, group_size: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(advantages, float32 [episodes]; whether each group carries a signal, booleans [groups]).

    A group carries a signal if any of its advantages is not 0. rewards: [episodes] sorted by (task, member), NaN for an
    episode without a reward. name: a key of ADVANTAGES.
    """
    rewards_BG = rewards.reshape(-1, group_size)
    advantages_BG = np.asarray(ADVANTAGES[name](rewards_BG, ~np.isnan(rewards_BG)))
    return advantages_BG.reshape(-1), np.any(advantages_BG != 0, axis=1)
