"""Random policies for tests."""

import functools

import jax
from flax import nnx

from model.network import transformer


@functools.cache
def sharp(config):
    """(graphdef, params) of a policy with weights large enough for peaked, context-dependent distributions."""
    graphdef, params = nnx.split(transformer.Transformer(config, rngs=nnx.Rngs(0)))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return graphdef, tree.unflatten([x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])
