"""step inside of the transformations of users, over an axis of theirs: the same bits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot

# Every run has a whole solve_jit under pmap, in tests/ot/devices/test_parallel.py.
pytestmark = [pytest.mark.optimised, pytest.mark.long]

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


def mapped(over, size, state):
    """What each of so many shares of the steps ends with (size, m), or the one that all share."""
    if over == "shard_map":
        mesh = jax.make_mesh((size,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
        body = partial(steps_over, "i")
        alike = jax.shard_map(body, mesh=mesh, in_specs=P(), out_specs=P())
        return jax.jit(alike)(state)[None]

    def own(_):
        return steps_over("i", state)

    if over == "pmap":
        return jax.pmap(own, axis_name="i", devices=jax.devices()[:size])(jnp.arange(size))
    return jax.jit(jax.vmap(own, axis_name="i"))(jnp.arange(size))


@pytest.mark.parametrize(
    ("over", "size"),
    [
        pytest.param("shard_map", 4),
        pytest.param("vmap", 2),
        *(pytest.param("pmap", size) for size in (1, 2, 8)),
    ],
)
def test_a_users_map_gives_the_same_heights(alone, over, size):
    state, h = alone
    for other in mapped(over, size, state):
        np.testing.assert_array_equal(other, h)
