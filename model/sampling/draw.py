"""Drawing tokens: temperature, truncation, random keys, and the logprobs that are recorded.

With temperature t > 0, token i of a turn is argmax(z + g). Here z is logits / t, with -inf for tokens that truncation
removes, and g is standard Gumbel noise from fold_in(key, i). That is an exact draw from softmax(z) (the Gumbel-max
trick, see Maddison et al., arXiv:1411.0030). The recorded logprob is log_softmax(z)[token] in float32: of the
distribution that the token was drawn from. With t = 0 the token is the argmax of the logits, and the recorded logprob
is that of the plain distribution (t = 1, no truncation).

Shapes: B rows (slots), V vocabulary, K size of a keep-set, P keys of a block, W words folded into a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

KEY_BLOCK = 64  # keys per call of the jitted fold; a fixed number, so that it is compiled once
NOTHING = -1  # fills up the array of a keep-set, after its tokens


class Truncation(NamedTuple):
    """Which tokens may be drawn (the keep-set), after three filters in this order:

    - top_k: the top_k most probable tokens; 0: all.
    - top_p: of these, with probabilities at the temperature, the nucleus: the smallest set of most probable tokens
      whose mass reaches top_p (arXiv:1904.09751).
    - min_p: of these, the tokens at least min_p times as probable as the most probable one (arXiv:2407.01082).

    Of equally probable tokens the one with the smaller id comes first.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def off(self) -> bool:
        """Whether every token may be drawn."""
        return self == Truncation()

    def check(self) -> None:
        """Raises ValueError, naming the keys, if a value is impossible."""
        if self.top_k < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p < 1:
            raise ValueError(
                "sampler: expected top_k >= 0, 0 < top_p <= 1 and 0 <= min_p < 1, found "
                f"top_k {self.top_k}, top_p {self.top_p}, min_p {self.min_p}"
            )


def truncate(logits_BV: Array, truncation: Truncation) -> tuple[Array, Array]:
    """Returns (logits [B, K], ids [B, K]) of the most probable tokens, most probable first.

    Logits of tokens that are not kept are -inf. K is top_k, or V if top_k is 0.
    """
    V = logits_BV.shape[-1]
    logits_BK, ids_BK = jax.lax.top_k(logits_BV, min(truncation.top_k or V, V))
    probs_BK = jax.nn.softmax(logits_BK, axis=-1)
    before_BK = jnp.cumsum(probs_BK, axis=-1) - probs_BK  # total probability of the more probable tokens
    first_1K = jnp.arange(logits_BK.shape[-1])[None] == 0  # the most probable token is always kept
    kept_BK = first_1K | ((before_BK < truncation.top_p) & (probs_BK >= truncation.min_p * probs_BK[:, :1]))
    return jnp.where(kept_BK & (probs_BK > 0), logits_BK, -jnp.inf), ids_BK


def tokens(
    logits_BV: Array, keys_B2: Array, index_B: Array, temperature_B: Array, truncation: Truncation = Truncation()
) -> tuple[Array, Array, Array]:
    """Draws one token per row, as the top of the file says: (tokens_B int32, logprobs_B float32, kept_BK int32).

    logits_BV: float32. keys_B2: uint32. index_B: int32, the token's place in its turn. temperature_B: >= 0.
    kept_BK: the ids that could be drawn, most probable first, then NOTHING; all NOTHING in a greedy row. K is top_k. If
    top_k is 0, K is 0: keep-sets could be as large as the vocabulary and are not recorded.
    """

    def noise(key_2: Array, index: Array) -> Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(key_2, impl="threefry2x32"), index)
        return jax.random.gumbel(key, logits_BV.shape[-1:], jnp.float32)

    greedy_B1 = temperature_B[:, None] == 0
    scaled_BV = logits_BV / jnp.where(greedy_B1, 1.0, temperature_B[:, None])
    noise_BV = jnp.where(greedy_B1, 0.0, jax.vmap(noise)(keys_B2, index_B))
    plain_B = jax.nn.logsumexp(scaled_BV, axis=-1)
    if truncation.off:
        tokens_B = jnp.argmax(scaled_BV + noise_BV, axis=-1).astype(jnp.int32)
        chosen_B = jnp.take_along_axis(scaled_BV, tokens_B[:, None], axis=-1)[:, 0]
        return tokens_B, chosen_B - plain_B, jnp.zeros((tokens_B.shape[0], 0), jnp.int32)
    kept_logits_BK, ids_BK = truncate(scaled_BV, truncation)
    place_B1 = jnp.argmax(kept_logits_BK + jnp.take_along_axis(noise_BV, ids_BK, axis=-1), axis=-1)[:, None]
    tokens_B, chosen_B = (jnp.take_along_axis(x, place_B1, axis=-1)[:, 0] for x in (ids_BK, kept_logits_BK))
    mass_B = jnp.where(greedy_B1[:, 0], plain_B, jax.nn.logsumexp(kept_logits_BK, axis=-1))
    kept_BK = jnp.where(jnp.isfinite(kept_logits_BK) & ~greedy_B1, ids_BK, NOTHING)
    return tokens_B.astype(jnp.int32), chosen_B - mass_B, kept_BK[:, : truncation.top_k].astype(jnp.int32)


@jax.jit
def _fold_words(key_2: Array, words_PW: Array) -> Array:
    """Keys uint32 [P, 2]: key_2 folded with the words of each row, one after the other."""

    def fold(words_W: Array) -> Array:
        key = jax.random.wrap_key_data(key_2, impl="threefry2x32")
        for index in range(words_W.shape[0]):
            key = jax.random.fold_in(key, words_W[index])
        return jax.random.key_data(key)

    return jax.vmap(fold)(words_PW)


def turn_keys(seed: int, task_ids: Sequence[str], members: Sequence[int], turns: Sequence[int]) -> np.ndarray:
    """Random keys uint32 [n, 2] of n turns. Each depends only on (seed, task id, member, turn).

    The task id enters as 64 bits of its BLAKE2b hash, because Python's own hash changes from process to process.
    Raises ValueError if the three sequences differ in length or a member or turn is negative.
    """
    if not len(task_ids) == len(members) == len(turns):
        raise ValueError(f"turn_keys: {len(task_ids)} task ids, {len(members)} members, {len(turns)} turns")
    if any(number < 0 for number in (*members, *turns)):
        raise ValueError("turn_keys: members and turns must not be negative")
    words = np.zeros((-(-len(task_ids) // KEY_BLOCK) * KEY_BLOCK, 4), np.uint32)
    for row, task_id in enumerate(task_ids):
        words[row, :2] = np.frombuffer(hashlib.blake2b(task_id.encode(), digest_size=8).digest(), "<u4")
        words[row, 2:] = members[row], turns[row]
    key_2 = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
    blocks = [np.asarray(_fold_words(key_2, words[i : i + KEY_BLOCK])) for i in range(0, len(words), KEY_BLOCK)]
    return np.concatenate([np.zeros((0, 2), np.uint32), *blocks])[: len(task_ids)]
