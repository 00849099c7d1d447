"""Solutions to start from: what they know of old targets is kept, and new ones are learned."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot import problem
from aeot_jax.ot.counts import law
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.loop import misses
from aeot_jax.ot.solver.loop.running import StartWarning
from aeot_jax.ot.solver.starts import known, start

KEYS = jax.random.split(jax.random.key(0), 3)
MU = aeot.Gaussian(5)
Y = np.random.default_rng(0).normal(size=(242, 5)).astype(np.float32) * [3, 2, 1, 1, 0.5]
# One start, of which nothing here speaks: less to compile. Sizes are those of test_far_groups.py.
CONFIG = aeot.SolverConfig(tolerance=0.1, parallel="none", start="gaussian")
LAYOUTS = ({"target_shards": 2}, {"devices": tuple(jax.devices()[:2])})


@pytest.fixture(scope="module")
def old():
    return aeot.solve(KEYS[0], MU, Y[:220], config=CONFIG)


def given(h0, y=Y, nu=None, mu: aeot.Measure = MU):
    made = problem.make(mu, y, nu)
    found = known.given(h0, made, problem.asked(mu, y, nu))
    assert found is not None
    return found, made


def begun(h0, y=Y):
    """The state before the first step, and the plan."""
    found, made = given(h0, y)
    plan = planning.plan(len(y), MU, CONFIG, given=True, solved=True)
    budget = planning.budget(len(y), MU, CONFIG, plan)
    marginals = problem.Marginals(MU, made.y, made.nu)
    return start.begin(KEYS[1], marginals, plan, budget, found), plan


@pytest.mark.long
def test_a_tenth_of_new_targets_takes_a_third_of_the_samples():
    y = np.random.default_rng(0).normal(size=(440, 5)).astype(np.float32) * [3, 2, 1, 1, 0.5]
    config = replace(CONFIG, batch_size=1024)
    old = aeot.solve(KEYS[0], MU, y[:400], config=config)
    cold = aeot.solve(KEYS[1], MU, y, config=config)
    warm = aeot.solve(KEYS[1], MU, y, config=config, h0=old)
    assert warm.converged
    assert warm.num_samples < 0.35 * cold.num_samples


@pytest.mark.long
def test_old_heights_are_worth_more_than_guesses(old):
    state, plan = begun(old)
    assert state.start == len(plan.starts)
    of_old, of_new = np.asarray(state.worth)[:220], np.asarray(state.worth)[220:242]
    np.testing.assert_array_equal(of_new, 0)
    np.testing.assert_array_equal(of_old, of_old[0])
    # Worth 1 / error^2 samples a target: of the others the start says it in steps.
    new = -int(state.phases.adam_until) * plan.batch.size / 242
    error = 1 / (new + of_old[0])
    assert float(old.certificate.chi2) < error < 4 * float(old.certificate.chi2)


def test_the_same_targets_are_worth_what_their_certificate_says(old):
    state, plan = begun(old, Y[:220])
    worth = float(state.worth[0]) - int(state.phases.adam_until) * plan.batch.size / 220
    assert worth == pytest.approx(1 / float(old.certificate.chi2), rel=0.01)


def test_what_a_start_of_its_own_knows_is_the_same_everywhere(old):
    state, plan = begun(replace(old, h=old.h[::-1]))
    assert state.start < len(plan.starts)
    np.testing.assert_array_equal(state.worth, 0)


def test_worth_is_forgotten_where_the_phases_begin_again(old):
    state, _ = begun(old)
    again = misses.planned_anew(state, planning.phases(10, 5, CONFIG))
    assert (state.worth > 0).any()
    assert again.worth.shape == state.worth.shape
    np.testing.assert_array_equal(again.worth, 0)


def test_the_masses_of_a_solution_are_held_against_new_weights(old):
    certified = float(old.certificate.chi2)
    rng = np.random.default_rng(1)
    order, q = rng.permutation(242), rng.uniform(0.5, 1.5, 242)
    q /= q.sum()
    found, _ = given(old, Y[order], q)
    np.testing.assert_array_equal(np.asarray(found.new)[:242], order >= 220)
    p, of_old = np.full(220, 1 / 220), q[order < 220] / q[order < 220].sum()
    np.testing.assert_allclose(found.chi2, certified + ((p - of_old) ** 2 / of_old).sum(), 1e-4)
    kept = np.asarray(found.h)[:242][order < 220]
    expected = np.asarray(old.h)[order[order < 220]]
    np.testing.assert_allclose(kept - kept.mean(), expected - expected.mean(), atol=1e-4)


def test_copies_are_known_by_their_sum(old):
    y = np.concatenate([Y[:220], Y[:3]])
    twice = np.full(223, 1 / 223)
    found, _ = given(old, y, twice)
    q = np.full(220, 1 / 223)
    q[:3] *= 2
    shift = ((1 / 220 - q) ** 2 / q).sum()
    np.testing.assert_allclose(found.chi2, float(old.certificate.chi2) + shift, 1e-4)
    assert not np.asarray(found.new).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_same_targets_in_other_digits_are_known(dtype, old):
    """The solution is of float64 ones."""
    found, _ = given(old, Y.astype(dtype))
    np.testing.assert_array_equal(np.asarray(found.new)[:242], np.arange(242) >= 220)


@pytest.mark.parametrize("change", ["a target is gone", "another source", "none is left"])
def test_nothing_is_claimed_where_the_problem_is_another(change, old):
    if change == "a target is gone":
        found, _ = given(old, Y[1:])
    elif change == "another source":
        found, _ = given(old, mu=aeot.UniformBall(5))
    else:
        found, _ = given(old, Y + 100)
        assert np.asarray(found.new)[:242].all()
    assert np.isinf(found.chi2)


@pytest.mark.long
@pytest.mark.parametrize("y", [Y[22:], Y + np.float32(0.01)], ids=["removed", "moved"])
def test_a_solve_from_another_problem_converges(y, old):
    found = aeot.solve(KEYS[2], MU, y, config=CONFIG, h0=old)
    assert found.converged


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_devices_change_no_bit_of_it(layout, old):
    config = replace(CONFIG, sampling="independent", tolerance=0.15)
    alone = aeot.solve(KEYS[1], MU, Y, config=config, h0=old)
    shared = replace(config, parallel="shard_map", **layout)
    np.testing.assert_array_equal(aeot.solve(KEYS[1], MU, Y, config=shared, h0=old).h, alone.h)


def test_a_key_that_found_the_heights_draws_other_samples_for_them(old):
    one, made = given(old)
    other, _ = given(np.asarray(one.h)[:242] + np.float32(1e-3))
    keys = [known.fresh(KEYS[0], one, made), known.fresh(KEYS[0], other, made), KEYS[0]]
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == 3
    again = known.fresh(KEYS[0], one._replace(h=jnp.pad(one.h[:242], (0, 9))), made)
    assert (jax.random.key_data(again) == jax.random.key_data(keys[0])).all()


def test_a_solution_without_its_problem_is_refused(old):
    with pytest.raises(ValueError, match="`h0` is a solution that does not hold its problem"):
        aeot.solve(KEYS[1], MU, Y, config=CONFIG, h0=replace(old, problem=None))


def test_a_solution_in_another_dimension_is_refused(old):
    with pytest.raises(ValueError, match=r"`h0` .*dimension 5.*; pass .*4"):
        aeot.solve(KEYS[1], aeot.Gaussian(4), Y[:, :4], config=CONFIG, h0=old)


def test_a_batch_of_solutions_is_refused(old):
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), jax.tree.map(jnp.asarray, old))
    with pytest.raises(ValueError, match=r"`h0` is a batch of solutions, .*\(2, 220\); pass one"):
        aeot.solve(KEYS[1], MU, Y, config=CONFIG, h0=batch)


def test_nothing_is_claimed_by_a_certificate_that_is_not_finite(old):
    certificate = replace(old.certificate, chi2=jnp.float32(np.nan))
    found, _ = given(replace(old, certificate=certificate))
    assert np.isinf(found.chi2)
    assert found.cost == 0


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::aeot_jax.ot.solver.loop.running.StartWarning")
def test_a_solution_of_few_of_the_targets_costs_no_more_than_none(old):
    config = replace(CONFIG, tolerance=0.2)
    cold = aeot.solve(KEYS[1], MU, Y[219:240], config=config)
    warm = aeot.solve(KEYS[1], MU, Y[219:240], config=config, h0=old)
    assert warm.converged
    assert warm.num_samples < 2 * cold.num_samples


def test_a_solution_that_helps_little_says_how_much_is_new(old):
    with pytest.warns(StartWarning, match="100% of the weight is on targets that the sol"):
        aeot.solve(KEYS[1], MU, Y[:220] * 30, config=replace(CONFIG, tolerance=0.3), h0=old)


def test_the_same_targets_need_few_samples_more(old):
    again = aeot.solve(KEYS[1], MU, Y[:220], config=CONFIG, h0=old)
    assert again.converged
    assert again.num_samples < 0.2 * old.num_samples


@pytest.mark.long
def test_the_same_targets_in_few_dimensions_need_few_samples_more():
    """Where the answer is an average of heights."""
    mu, y = aeot.Gaussian(3), Y[:100, :3]
    config = replace(CONFIG, tolerance=0.2, batch_size=256)
    found = aeot.solve(KEYS[0], mu, y, config=config)
    again = aeot.solve(KEYS[1], mu, y, config=config, h0=found)
    assert again.converged
    assert again.num_samples < 0.2 * found.num_samples


def test_a_start_that_only_seemed_near_is_no_miss_of_the_law():
    """Before the first step no law tells what should have been reached."""
    assert not planning.is_far(0, 0.3, 200, 5, 0.2)
    assert planning.is_far(10**6, 0.3, 200, 5, 0.2)


def test_a_course_that_is_there_needs_nothing():
    course = law.Course(1000, 1.3, (law.Kind(0.1, 0.01), law.Kind(0.9, 0.01)))
    assert course.samples(0.01 * (1 + 1e-9)) == 0
    assert course.samples(0.009) > 0


def test_a_draw_that_seems_to_miss_nothing_tells_little():
    course = law.Course(1000, 1.3, (law.Kind(0.1, 1.0), law.Kind(0.9, 0.01)))
    assert course.samples_to_go_on(1000, 0.0, 0.01, 5) == 5


def test_a_course_of_one_kind_is_the_law():
    """Heights that miss e are worth cost / e^2 samples a target."""
    course = law.Course(1000, 1.3, (law.Kind(1.0, 1.3 / 50),))
    assert course.chi2(0) == pytest.approx(1.3 / 50)
    assert course.chi2(30_000) == pytest.approx(1.3 / 80)
    assert course.samples(1.3 / 80) == pytest.approx(30_000, rel=1e-6)


def test_a_course_that_missed_goes_on_by_what_it_missed():
    course = law.Course(1000, 1.3, (law.Kind(0.1, 1.0), law.Kind(0.9, 0.01)))
    drawn = course.samples(0.011)
    assert course.samples_to_go_on(drawn, 0.011, 0.011, 5) == 5  # unlucky, by a little
    more = course.samples_to_go_on(drawn, 0.012, 0.011, 5)
    assert 5 < more <= drawn
    assert course.chi2(drawn + more) * 0.012 / 0.011 <= 0.011 * (1 + 1e-6) or more == drawn
