"""Drawing tokens: temperature, truncation, random keys, and the logprobs that are recorded.

With temperature t > 0, token i of a turn is argmax(z + g), where z are the logits over t, truncated to the top k and
then to the top p, and g is standard Gumbel noise from fold_in(key, i). That is an exact draw from softmax(z) (the
Gumbel-max trick, see Maddison et al., arXiv:1411.0030). The recorded logprob is log_softmax(z)[token] in float32,
that of the distribution drawn from. With t = 0 the token is the argmax of the logits and the recorded logprob that of
the plain distribution (t = 1, no truncation).

Shapes: B rows (slots), V vocabulary, P keys of a block, W words folded into a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

KEY_BLOCK = 64  # keys derived per call of the jitted fold: one shape, so one compilation


def truncate(logits_BV: Array, top_k: int, top_p: float) -> Array:
    """Sets logits outside the top k and then outside the nucleus of mass top_p (arXiv:1904.09751) to -inf.

    top_k 0 and top_p 1.0 are off. The nucleus is the smallest set of most probable tokens whose mass reaches top_p,
    measured after top-k. Tokens that tie with the last one kept are kept too.
    """
    if not top_k and top_p >= 1.0:
        return logits_BV
    V = logits_BV.shape[-1]
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    if 0 < top_k < V:
        sorted_BV = jnp.where(jnp.arange(V)[None] < top_k, sorted_BV, -jnp.inf)
    probs_BV = jax.nn.softmax(sorted_BV, axis=-1)
    before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV  # mass of the more probable tokens
    first_1V = jnp.arange(V)[None] == 0  # the most probable token stays, whatever top_p
    kept_BV = (probs_BV > 0) & ((before_BV < top_p) | first_1V)
    least_B1 = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)


def tokens(
    logits_BV: Array, keys_B2: Array, index_B: Array, temperature_B: Array, top_k: int, top_p: float
) -> tuple[Array, Array]:
    """Draws one token per row: (tokens_B int32, logprobs_B float32), as the top of the file says.

    logits_BV: float32. keys_B2: uint32. index_B: int32, the token's place in its turn. temperature_B: >= 0.
    """

    def noise(key_2: Array, index: Array) -> Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(key_2, impl="threefry2x32"), index)
        return jax.random.gumbel(key, logits_BV.shape[-1:], jnp.float32)

    greedy_B1 = temperature_B[:, None] == 0
    scaled_BV = truncate(logits_BV / jnp.where(greedy_B1, 1.0, temperature_B[:, None]), top_k, top_p)
    scaled_BV = jnp.where(greedy_B1, logits_BV, scaled_BV)
    noise_BV = jnp.where(greedy_B1, 0.0, jax.vmap(noise)(keys_B2, index_B))
    tokens_B = jnp.argmax(scaled_BV + noise_BV, axis=-1).astype(jnp.int32)
    chosen_B = jnp.take_along_axis(scaled_BV, tokens_B[:, None], axis=-1)[:, 0]
    return tokens_B, chosen_B - jax.nn.logsumexp(scaled_BV, axis=-1)


@jax.jit
def _fold_words(key_2: Array, words_PW: Array) -> Array:
    """uint32 [P, 2]: the key folded with each row's words in turn."""

    def fold(words_W: Array) -> Array:
        key = jax.random.wrap_key_data(key_2, impl="threefry2x32")
        for index in range(words_W.shape[0]):
            key = jax.random.fold_in(key, words_W[index])
        return jax.random.key_data(key)

    return jax.vmap(fold)(words_PW)


def turn_keys(seed: int, task_ids: Sequence[str], members: Sequence[int], turns: Sequence[int]) -> np.ndarray:
    """Random keys uint32 [n, 2] of n turns, each a function of (seed, task id, member, turn) alone.

    The task id enters as 64 bits of its BLAKE2b hash (Python's own hash changes from process to process). Raises
    ValueError when the three sequences differ in length or a member or turn is negative.
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
