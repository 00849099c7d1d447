"""Heights to start from: near ones save most samples, and useless ones do no harm."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.solver.loop.running import StartWarning

KEY = jax.random.key(0)
MU = aeot.Gaussian(5)
Y = np.random.default_rng(0).normal(size=(440, 5)).astype(np.float32) * [3, 2, 1, 1, 0.5]
# One start, of which nothing here speaks: less to compile.
CONFIG = aeot.SolverConfig(tolerance=0.1, parallel="none", batch_size=1024, start="gaussian")


def solve(y, nu=None, h0=None, config=CONFIG):
    return aeot.solve(KEY, MU, y, nu, config, h0)


@pytest.fixture(scope="module")
def old():
    return solve(Y[:400])


@pytest.fixture(scope="module")
def cold():
    return solve(Y)


@pytest.mark.long
def test_a_tenth_of_new_targets_takes_less_than_half_of_the_samples(old, cold):
    warm = solve(Y, h0=aeot.extend_heights(Y[:400], old.h, Y))
    assert warm.converged
    assert warm.num_samples < 0.45 * cold.num_samples


@pytest.mark.long
def test_fewer_targets_and_other_weights_start_from_old_heights(cold):
    weights = np.random.default_rng(1).uniform(0.8, 1.2, 400)
    warm = solve(Y[:400], weights / weights.sum(), h0=cold.h[:400])
    assert warm.converged
    assert warm.num_samples < 0.5 * cold.num_samples


@pytest.mark.long
def test_a_solution_needs_hardly_a_step_more(cold):
    again = solve(Y, h0=cold.h + 3.0)
    assert again.converged
    assert again.num_samples < 0.1 * cold.num_samples


@pytest.mark.long
def test_useless_heights_do_no_harm_and_are_told(cold):
    with pytest.warns(StartWarning, match="`h0` misses more mass than the start '"):
        found = solve(Y, h0=cold.h[::-1])
    assert found.converged
    assert found.num_samples <= 1.3 * cold.num_samples


@pytest.mark.long
def test_devices_change_no_bit_of_a_warm_start(cold):
    config = replace(CONFIG, sampling="independent")
    h0 = np.asarray(cold.h) + 0.02 * np.random.default_rng(2).normal(size=440)
    alone = solve(Y, h0=h0, config=config)
    for layout in ({"target_shards": 2}, {"devices": tuple(jax.devices()[:2])}):
        shared = solve(Y, h0=h0, config=replace(config, parallel="shard_map", **layout))
        np.testing.assert_array_equal(shared.h, alone.h)


@pytest.mark.long
def test_a_state_of_ones_own_loop_begins_there_too(cold):
    state = jax.jit(lambda h: aeot.init(KEY, MU, Y, None, CONFIG, h0=h))(cold.h)
    np.testing.assert_allclose(state.heights, cold.h - cold.h.mean(), atol=1e-4)


def test_copies_of_a_target_start_from_the_highest():
    few, config = Y[:242], replace(CONFIG, batch_size=None)  # programs of test_growing_data.py
    cold = solve(few, config=config)
    y, h0 = np.concatenate([few, few[:3]]), jnp.concatenate([cold.h, jnp.full(3, -jnp.inf)])
    with pytest.warns(UserWarning, match="equal an earlier one"):
        found = solve(y, np.full(245, 1 / 245), h0, config)
    assert found.converged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h[1:], r"`h0` has shape \(439,\), but `y` has shape \(440, 5\)"),
        (lambda h: h.at[7].set(jnp.nan), "`h0` is nan at 7"),
        (lambda h: h.at[7].set(-jnp.inf), "`h0` is -inf at 7, a target with a positive weight"),
        (lambda h: "h", "`h0`"),
    ],
)
def test_heights_that_do_not_fit_are_named(change, said):
    with pytest.raises((ValueError, TypeError), match=said):
        solve(Y, h0=change(jnp.zeros(len(Y))))
