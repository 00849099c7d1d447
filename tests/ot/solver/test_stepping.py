"""init and step: the loop that users may own."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aeot_jax as aeot
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import stepping
from aeot_jax.ot.solver.config import uncorrected_adam
from aeot_jax.ot.solver.loop import misses
from aeot_jax.ot.solver.plan import NEVER
from aeot_jax.ot.solver.planning import budget, phases, plan

KEY = jax.random.key(0)
MU = aeot.Gaussian(3)
Y = jax.random.normal(jax.random.key(1), (60, 3)) * jnp.array([[2.0, 1.0, 0.3]])
NU = jnp.full(60, 1 / 60, jnp.float32)  # a dtype that is not weak: one program for all weights
CONFIG = aeot.SolverConfig(tolerance=None, max_steps=60, batch_size=512, start="gaussian")


@partial(jax.jit, static_argnums=4)
def _walk(state, num_steps, y, nu, config, mu):
    return jax.lax.fori_loop(0, num_steps, lambda _, s: aeot.step(s, mu, y, nu, config), state)


def walk(state, num_steps, y=Y, nu=NU, config=CONFIG, mu: aeot.Measure = MU):
    """Steps, of which the number is traced: any number is one program."""
    return _walk(state, num_steps, y, nu, config, mu)


def run(key, y=Y, nu=NU, config=CONFIG):
    return walk(aeot.init(key, MU, y, nu, config), 60, y, nu, config)


def chunk(state, num_steps):
    marginals, where = Marginals(MU, Y, NU), Placement("none")
    return stepping.run_steps(state, marginals, plan(60, MU, CONFIG), where, num_steps)


whole = jax.jit(run, static_argnames="config")


def error(y, h, nu=None, mu: aeot.Measure = MU):
    return float(aeot.certify(jax.random.key(99), mu, y, h, nu, 40_000).mass_error)


@pytest.mark.long
def test_owned_loop_reduces_the_mass_error():
    start = aeot.init(KEY, MU, Y, None, replace(CONFIG, start="zero"))
    state = whole(KEY)
    assert error(Y, state.heights) < 0.15 < error(Y, start.heights)
    assert state.step == 60
    assert state.batches == 60


def test_heights_are_centred():
    nu = jnp.asarray(np.random.default_rng(5).dirichlet(np.ones(60)), jnp.float32)
    state = run(KEY, Y, nu)
    assert abs(float(np.asarray(nu) @ np.asarray(state.h))) < 1e-6


@pytest.mark.parametrize(
    ("scale", "shift", "atol"),
    # Powers of 2 round nothing. Others, and shifts, round the targets: a few samples change cells.
    [(2.0**-20, 0.0, 1e-5), (2.0**20, 0.0, 1e-5), (1e6, 0.0, 0.02), (2.0, 4.0, 0.02)],
)
def test_scale_and_shift_of_the_targets_change_nothing_but_the_scale_of_h(scale, shift, atol):
    plain = run(KEY, Y).heights
    moved = run(KEY, scale * (Y + shift)).heights / scale
    np.testing.assert_allclose(moved, plain, rtol=1e-5, atol=atol)


@pytest.mark.long
def test_rotating_source_and_targets_changes_nothing():
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(8), (3, 3)))[0]
    turned = aeot.FromSampler(lambda key, n: MU.sample(key, n) @ rotation, 3)
    config = replace(CONFIG, start="zero", sampling="independent")
    state = aeot.init(KEY, MU, Y, None, config)
    other = aeot.init(KEY, turned, Y @ rotation, None, config)
    # The spread of an unknown source is estimated; use the known one, to compare step for step.
    other = replace(other, spread=state.spread, method=state.method)
    state = walk(state, 5, config=config)
    other = walk(other, 5, Y @ rotation, config=config, mu=turned)
    np.testing.assert_allclose(other.h, state.h, atol=0.02)


def test_a_constant_added_to_the_heights_moves_no_cell():
    state = aeot.init(KEY, MU, Y, NU, CONFIG)
    lifted = replace(state, h=state.h + 3.0)
    after = [walk(s, 1).h for s in (state, lifted)]
    np.testing.assert_allclose(after[0], after[1], atol=1e-5)


def test_weights_of_zero_own_no_cell():
    nu = jnp.asarray(np.where(np.isin(np.arange(60), [0, 7, 59]), 0, 1 / 57), jnp.float32)
    state = run(KEY, Y, nu)
    assert (np.isneginf(state.heights) == (np.asarray(nu) == 0)).all()
    assert error(Y, state.heights, nu) < 0.2


def test_both_phases_take_their_steps():
    planned = budget(60, MU, CONFIG).phases
    assert planned.end == 60
    assert planned.adam_until == 30  # a fifth is 12, the least is 100, and half is 30
    state = aeot.init(KEY, MU, Y, NU, CONFIG)
    gaps = []
    for _ in range(32):
        state = walk(state, 1)
        gaps.append(float(state.method.gap))
    # The gap is first measured by the first Newton step.
    assert len(set(gaps[:30])) == 1
    assert gaps[30] < gaps[29]
    count = [leaf for leaf in jax.tree.leaves(state.adam) if leaf.dtype == jnp.int32]
    assert 30 in [int(leaf) for leaf in count]


@pytest.mark.parametrize(
    "optimizer",
    [optax.sgd(1.0, momentum=0.9), pytest.param(optax.lion(0.05), marks=pytest.mark.long)],
)
def test_any_optax_transformation_serves(optimizer):
    config = replace(CONFIG, optimizer=optimizer, method="adam", start="zero")
    state = whole(KEY, config=config)
    assert error(Y, state.heights) < 0.6 < error(Y, jnp.zeros(60))


def test_the_answer_in_few_dimensions_is_the_mean_of_the_last_heights():
    planned = budget(60, MU, CONFIG).phases
    assert planned.average_from == 60 - 21  # seven tenths of the 30 steps after the first phase
    state, seen = aeot.init(KEY, MU, Y, NU, CONFIG), []
    for _ in range(60):
        state = walk(state, 1)
        seen.append(np.asarray(state.h))
        if state.average.number == 0:
            np.testing.assert_array_equal(state.heights, state.h * state.frame.scale)
    assert state.average.number == 21
    mean = np.mean(seen[-21:], axis=0)
    np.testing.assert_allclose(state.heights, mean * state.frame.scale, atol=1e-5)
    many = replace(CONFIG, average_share=None)
    assert budget(60, aeot.Gaussian(4), many).phases.average_from == NEVER


def test_the_first_phase_sees_enough_samples_of_many_targets():
    config = aeot.SolverConfig()
    least = {per: phases(680, 16, config, per).adam_until for per in (0, 4, 20, 60)}
    assert least == {0: 100, 4: 100, 20: 12 * 20, 60: 680 // 2}
    assert phases(6_800, 16, config, 20).adam_until == 680, "a tenth is more"
    assert phases(680, 2, config, 20).adam_until == round(0.3 * 680), "as in few dimensions"
    assert phases(680, 16, aeot.SolverConfig(adam_share=0.0), 20).adam_until == 0


@pytest.mark.parametrize(("m", "d", "steps"), [(1_000_000, 64, 6), (200, 64, 3), (300, 3, 400)])
def test_a_certificate_that_decides_nothing_takes_a_quarter_of_the_samples(m, d, steps):
    config = aeot.SolverConfig(tolerance=None, max_steps=steps)
    made = plan(m, aeot.Gaussian(d), config)
    found = budget(m, aeot.Gaussian(d), config, made)
    assert found.check_samples <= max(found.max_samples // 4, made.batch.size)


@pytest.mark.parametrize("distance", [1e3, pytest.param(1e4, marks=pytest.mark.long)])
def test_clusters_may_lie_far_apart(distance):
    """Steps in units of the spread emptied most cells, and 5,000 samples a target did not help.

    Who asks for Adam gets it, with no heed of far groups.
    """
    m = 252  # as in test_far_groups.py, whose programs these are
    y = np.random.default_rng(0).normal(size=(m, 5))
    y[: m // 4, 0] += distance
    config = aeot.SolverConfig(0.3, start="gaussian", adam_share=0.1)
    found = aeot.solve(KEY, aeot.Gaussian(5), y.astype(np.float32), config=config)
    assert found.converged
    assert found.num_samples < 200 * m


def test_phases_planned_anew_begin_with_the_answer_and_forget_the_average():
    state, _, _ = chunk(aeot.init(KEY, MU, Y, NU, CONFIG), 60)
    anew = misses.planned_anew(state, phases(400, 3, CONFIG))
    np.testing.assert_array_equal(anew.h, state.average.heights)
    assert anew.phases.begin == 60
    assert anew.phases.adam_until == 60 + 120  # three tenths
    assert anew.phases.average_from == 460 - 196  # seven tenths of the rest
    assert anew.average.number == 0
    for new, old in zip(jax.tree.leaves(anew), jax.tree.leaves(state), strict=True):
        assert new.committed == old.committed  # or the same steps are compiled once more
    # Adam's rate begins again: one step moves a height by about it.
    moved = walk(anew, 1)
    rate = CONFIG.learning_rate * float(state.spread)
    assert 0.2 * rate < np.abs(np.asarray(moved.h - anew.h)).max() < 10 * rate
    last, _, _ = chunk(anew, 400)
    assert last.average.number == 196
    assert error(Y, last.heights) < error(Y, state.heights)
    many = replace(CONFIG, average_share=0.0)
    never = aeot.init(KEY, MU, Y, NU, many)
    again = misses.planned_anew(never, phases(400, 3, many))
    np.testing.assert_array_equal(again.h, never.h)  # nothing to average: the last heights


def test_steps_are_compiled_for_no_start():
    plans = [plan(60, MU, replace(CONFIG, start=start)) for start in ("zero", "gaussian", "auto")]
    plans += [plan(60, MU, CONFIG, given=True, solved=True)]
    assert len(set(plans)) == 4
    assert len({one.of_steps for one in plans}) == 1


@pytest.mark.long  # the published algorithm has Adam's steps, too
def test_pure_adam_converges():
    state = whole(KEY, config=replace(CONFIG, method="adam"))
    assert error(Y, state.heights) < 0.25


def test_the_published_algorithm_runs_and_doubles_its_samples():
    mu = aeot.UniformCube(3)
    config = aeot.SolverConfig.paper(60, 0.02, plateau_steps=5, tolerance=None, max_steps=60)
    state = aeot.init(KEY, mu, Y, None, config)
    assert (state.h == 0).all()
    state = walk(state, 60, config=config, mu=mu)
    assert state.multiplier >= 2
    assert state.batches > state.step
    assert error(Y, state.heights, mu=mu) < 0.5 * error(Y, jnp.zeros(60), mu=mu)


def test_uncorrected_adam_is_the_published_recursion():
    tx = uncorrected_adam(0.1)
    state = tx.init(jnp.zeros(2))
    mean = square = np.zeros(2)
    for gradient in ([1.0, -2.0], [0.5, 3.0]):
        updates, state = tx.update(jnp.array(gradient), state)
        mean = 0.9 * mean + 0.1 * np.array(gradient)
        square = 0.999 * square + 0.001 * np.array(gradient) ** 2
        expected = -0.1 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(jnp.asarray(updates), expected, rtol=1e-5)


@pytest.mark.long
def test_problems_can_be_batched_with_vmap():
    ys = jnp.stack([Y, 2 * Y[::-1], jnp.roll(Y, 1, axis=1)])
    keys = jax.random.split(KEY, 3)
    together = jax.vmap(whole)(keys, ys)
    for i in range(3):
        single = whole(keys[i], ys[i])
        # Batched products round differently: a few samples near a face change sides.
        np.testing.assert_allclose(together.h[i], single.h, atol=0.05)
        assert error(ys[i], together.heights[i]) < 0.15


def test_steps_in_chunks_are_steps_one_by_one():
    state = aeot.init(KEY, MU, Y, NU, CONFIG)
    one_by_one = state
    for _ in range(6):
        one_by_one = walk(one_by_one, 1)
    chunks, chi2, chi2_se = chunk(state, 2)
    chunks, *_ = chunk(chunks, 4)
    np.testing.assert_allclose(chunks.h, one_by_one.h, atol=1e-6)
    assert np.isfinite(chi2)
    assert chi2_se > 0


@pytest.mark.long
def test_one_target_needs_nothing():
    state = whole(KEY, Y[:1], jnp.ones(1))
    np.testing.assert_allclose(state.heights, 0, atol=1e-6)
