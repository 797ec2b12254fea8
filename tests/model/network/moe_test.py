"""The grouped product of the TPU, interpreted, against XLA's: values and gradients, alone and on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.network import moe, sharding

B, T, D, F, E, CHOSEN = 8, 6, 16, 24, 4, 2


@pytest.mark.parametrize("sizes", [None, {"data": 2, "expert": 2, "tensor": 2}, {"expert": 4, "context": 2}], ids=str)
def test_megablox_equals_ragged(sizes):
    keys = jax.random.split(jax.random.key(0), 5)
    x_BTD = jax.random.normal(keys[0], (B, T, D))
    router_DE = jax.random.normal(keys[1], (D, E)).at[:, 2].set(0.0)  # uneven
    weights = [0.3 * jax.random.normal(key, (E, *shape)) for key, shape in zip(keys[2:], ((D, F), (D, F), (F, D)))]

    def run(product, mesh):
        def loss(x_BTD, router_DE, weights):
            routing = moe.route(x_BTD, router_DE, CHOSEN, True)
            out_BTD = moe.experts(x_BTD, routing, *weights, sharding.TRAIN, product)
            return jnp.sum(jnp.sin(out_BTD)), out_BTD

        function = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
        if mesh is None:
            return function(x_BTD, router_DE, weights)
        with jax.set_mesh(mesh):
            return function(x_BTD, router_DE, weights)

    expected_gradients, expected_BTD = run(moe.ragged, None)
    mesh = None if sizes is None else sharding.make_mesh(sizes)
    gradients, out_BTD = run(functools.partial(moe.megablox, interpret=True), mesh)
    np.testing.assert_allclose(out_BTD, expected_BTD, rtol=1e-5, atol=1e-4)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_rows_of_no_group_are_left_alone():
    rows_PD, weights_EDF = jnp.ones((24, D)), jnp.ones((E, D, F))
    sizes_E = jnp.array([3, 0, 9, 4], jnp.int32)
    for product in (moe.ragged, functools.partial(moe.megablox, interpret=True)):
        out_PF, back = jax.vjp(lambda w, product=product: product(rows_PD, w, sizes_E)[:16], weights_EDF)
        np.testing.assert_allclose(out_PF, D)
        np.testing.assert_allclose(back(jnp.ones_like(out_PF))[0][:, 0, 0], sizes_E)
