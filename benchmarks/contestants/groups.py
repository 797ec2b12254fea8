"""The episodes that the policy-gradient step is measured on: drawn once from a seed, the same for every contender.

"groups": prompts of which a group has one, and responses of about an eighth of its length. "mixed": episodes of any
length up to that of a prompt, all lengths alike often, each with a prompt of its own.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.contestants import architecture

MEMBERS = 8  # of a group
CLIP_LOW, CLIP_HIGH = 0.2, 0.28
PAD, END = 0, 1  # ids that Tunix gives a meaning; no episode holds them


class Episode(NamedTuple):
    """Token ids of prompt and response, the sampler's log-probabilities of the response, and the advantage."""

    group: int
    member: int
    prompt: np.ndarray
    response: np.ndarray
    logprobs: np.ndarray
    advantage: float


def groups(count: int, prompt: int) -> list[Episode]:
    """`count` groups with prompts of `prompt` tokens and responses of 3/32 to 5/32 of that, an eighth on average."""
    rng, out = np.random.default_rng(3), []
    for group in range(count):
        head = _tokens(rng, prompt)
        for member in range(MEMBERS):
            out.append(_episode(rng, group, member, head, int(rng.integers(3 * prompt // 32, 5 * prompt // 32 + 1))))
    return out


def mixed(count: int, longest: int) -> list[Episode]:
    """`count` episodes of longest / 32 to longest tokens, a quarter of them prompt.

    The range is cut into `count` equal parts and one length drawn from each (a stratified sample): of so few lengths
    drawn freely the mean, on which all that packing can gain depends, would be mostly luck.
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
    """Log-probabilities are those of a model that knows nothing, give or take a tenth: some ratios are clipped."""
    logprobs = rng.normal(-np.log(architecture.CONFIG["vocab_size"]), 0.1, length).astype(np.float32)
    return Episode(group, member, prompt, _tokens(rng, length), logprobs, float(rng.choice([-1.0, 1.0])))
