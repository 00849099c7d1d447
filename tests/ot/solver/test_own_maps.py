"""step inside of the transformations of users, over an axis of theirs: the same bits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot

pytestmark = pytest.mark.optimised

KEY = jax.random.key(0)
MU = aeot.Gaussian(3)
Y = jax.random.normal(jax.random.key(1), (60, 3)) * jnp.array([[2.0, 1.0, 0.3]])
CONFIG = aeot.SolverConfig(tolerance=None, max_steps=60, batch_size=512, start="gaussian")


def steps_over(axis_name, state, num_steps=20):
    def body(_, state):
        return aeot.step(state, MU, Y, None, CONFIG, axis_name=axis_name)

    return jax.lax.fori_loop(0, num_steps, body, state).h


@pytest.fixture(scope="module")
def alone():
    state = aeot.init(KEY, MU, Y, None, CONFIG)
    return state, jax.jit(partial(steps_over, None))(state)


@pytest.mark.parametrize(
    "num_devices", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 8))]
)
def test_a_users_pmap_gives_the_same_heights(alone, num_devices):
    state, h = alone
    mapped = jax.pmap(
        lambda _: steps_over("i", state), axis_name="i", devices=jax.devices()[:num_devices]
    )
    for other in mapped(jnp.arange(num_devices)):
        np.testing.assert_array_equal(other, h)


def test_a_users_shard_map_gives_the_same_heights(alone):
    state, h = alone
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        lambda state: steps_over("i", state), mesh=mesh, in_specs=P(), out_specs=P()
    )
    np.testing.assert_array_equal(jax.jit(mapped)(state), h)


def test_a_users_vmap_over_an_axis_gives_the_same_heights(alone):
    state, h = alone
    mapped = jax.vmap(lambda _: steps_over("i", state), axis_name="i")
    for other in jax.jit(mapped)(jnp.arange(2)):
        np.testing.assert_array_equal(other, h)
