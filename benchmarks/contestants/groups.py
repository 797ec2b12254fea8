"""The episodes that the policy-gradient step is measured on, drawn from a fixed seed, so equal for every contender.

"groups": each group has one prompt and responses of about an eighth of its length. "mixed": each episode has its own
prompt, and the lengths of the episodes are uniformly distributed.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.contestants import architecture

MEMBERS = 8  # of a group
CLIP_LOW, CLIP_HIGH = 0.2, 0.28
PAD, END = 0, 1  # special ids of Tunix; they do not occur in the episodes


class Episode(NamedTuple):
    """Token ids of prompt and response, the sampler's log-probabilities of the response, and the advantage."""

    group: int
    member: int
    prompt: np.ndarray
    response: np.ndarray
    logprobs: np.ndarray
    advantage: float


def groups(count: int, prompt: int) -> list[Episode]:
    """The episodes of `count` groups: prompts of `prompt` tokens, responses of 3/32 to 5/32 of that, on average 1/8."""
    rng, out = np.random.default_rng(3), []
    for group in range(count):
        head = _tokens(rng, prompt)
        for member in range(MEMBERS):
            out.append(_episode(rng, group, member, head, int(rng.integers(3 * prompt // 32, 5 * prompt // 32 + 1))))
    return out


def mixed(count: int, longest: int) -> list[Episode]:
    """`count` episodes of longest / 32 to longest tokens, a quarter of them prompt.

    The range is divided into `count` equal parts and one length is drawn from each (a stratified sample). The gain by
    packing depends on the mean length, which would vary too much for so few independently drawn lengths.
    """
    rng, out, shortest = np.random.default_rng(4), [], longest // 32
    shares = (rng.permutation(count) + rng.random(count)) / count
    for index, share in enumerate(shares):
        length = shortest + int(share * (longest + 1 - shortest))
        out.append(_episode(rng, index, 0, _tokens(rng, length // 4), length - length // 4))
    return out


def _tokens(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(3, architecture.CONFIG["vocab_size"], count, dtype=np.int32)


def _episode(rng: np.random.Generator, group: int, member: int, prompt: np.ndarray, length: int) -> Episode:
    """An episode with a random response of `length` tokens. Its log-probabilities are those of the uniform distribution
    with noise of standard deviation 0.1, so that some ratios are clipped."""
    logprobs = rng.normal(-np.log(architecture.CONFIG["vocab_size"]), 0.1, length).astype(np.float32)
    return Episode(group, member, prompt, _tokens(rng, length), logprobs, float(rng.choice([-1.0, 1.0])))
