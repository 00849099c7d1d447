"""Tail-matched heights: the model's masses, their inversion, and what they are worth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import ndtr, ndtri

import aeot_jax as aeot
from aeot_jax.ot import problem
from aeot_jax.ot.counts.law import samples_to_reach
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.loop.running import StartWarning
from aeot_jax.ot.solver.planning import budget, is_far, phases_after, phases_of, plan
from aeot_jax.ot.solver.starts import known, tails
from aeot_jax.ot.solver.starts.starving import starving

LONG = pytest.mark.long
RNG = np.random.default_rng(0)
SIGMA = np.array([0.05, 0.3, 1.0, 4.0, 30.0])
BETA = np.array([0.0, 0.3, 0.9, 0.0, 1.2])
R = np.sort(RNG.normal(size=64))


def masses_by_quadrature(h):
    """The same masses in float64, by adding up the normal law on a fine grid."""
    edges = np.linspace(-12, 12, 400_001)
    weight = np.diff(ndtr(edges))
    a = 0.5 * (edges[1:] + edges[:-1])
    gain = SIGMA[:, None] * a - 0.5 * BETA[:, None] * (a * a - 1) + h[:, None]
    return np.stack([(np.searchsorted(R, row) / len(R)) @ weight for row in gain])


def test_masses_of_the_model_are_those_of_a_quadrature():
    h = np.array([-0.5, -1.0, -3.0, -9.0, -70.0])
    mass, slope = tails._mass(*(jnp.asarray(v, jnp.float32) for v in (h, SIGMA, BETA, R)))
    np.testing.assert_allclose(mass, masses_by_quadrature(h), rtol=2e-3)
    step = 0.02 * SIGMA
    difference = (masses_by_quadrature(h + step) - masses_by_quadrature(h - step)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=0.02)


@pytest.mark.parametrize("nu", [1e-7, 1e-4, 0.02, 0.4])
def test_inverted_heights_have_the_mass_that_was_asked_for(nu):
    weights = jnp.full(SIGMA.shape, nu, jnp.float32)
    sigma, beta, r = (jnp.asarray(v, jnp.float32) for v in (SIGMA, BETA, R))
    for begin in (-100.0, 0.0, 100.0):
        h = tails._inverted(jnp.full_like(sigma, begin), weights, sigma, beta, r)
        # Beyond the top of its parabola a score rises no more, and a mass falls to 0 at once.
        rises = -BETA * ndtri(nu) < SIGMA
        assert rises.sum() >= 3
        np.testing.assert_allclose(tails._mass(h, sigma, beta, r)[0][rises], nu, rtol=0.03)


def test_without_a_source_of_scatter_the_height_is_a_normal_quantile():
    nu = np.array([1e-6, 1e-3, 0.1], np.float32)
    one = jnp.ones(3)
    h = tails._inverted(0 * one, jnp.asarray(nu), 2 * one, 0 * one, jnp.zeros(64))
    np.testing.assert_allclose(h, 2 * ndtri(nu.astype(float)), rtol=1e-3)


SPREAD = np.where(np.arange(800) % 50, 1, 10)[:, None]
WORKS = {
    "normal": RNG.standard_normal((800, 24)),
    "student": RNG.standard_t(3, (800, 24)),
    "outliers": RNG.standard_normal((800, 24)) * SPREAD,
}


@pytest.mark.parametrize(
    "name", ["student", *(pytest.param(name, marks=LONG) for name in ("normal", "outliers"))]
)
def test_heavy_tails_start_within_a_quarter(name):
    y = WORKS[name] - WORKS[name].mean(0)
    y = jnp.asarray(y / np.sqrt((y * y).mean()), jnp.float32)
    marginals = Marginals(aeot.Gaussian(24), y, jnp.full(800, 1 / 800))
    h = matched(jax.random.key(1), marginals)
    found = aeot.certify(jax.random.key(2), marginals.mu, y, h, num_samples=60_000)
    assert float(found.mass_error) + 2 * float(found.mass_error_se) < 0.25


@jax.jit
def matched(key, marginals):
    d = marginals.mu.dim
    return tails.heights(key, marginals, jnp.zeros(d), jnp.eye(d), 512)


CODES = np.random.default_rng(1).standard_t(4, (300, 16)).astype(np.float32)
MU = aeot.Gaussian(16)
CONFIG = aeot.SolverConfig(tolerance=0.08, sampling="independent", parallel="none")


@pytest.fixture(scope="module")
def solved():
    return aeot.solve(jax.random.key(0), MU, CODES, config=CONFIG)


@pytest.mark.long
def test_every_sample_from_which_heights_are_computed_is_counted(solved):
    planned = plan(300, MU, CONFIG)
    begun = tails.num_samples(planned.start_round)
    assert begun > 0
    assert solved.num_samples == solved.num_steps * planned.batch.size + begun
    assert solved.converged
    assert solved.num_samples < samples_to_reach(300, 16, 0.08)  # without such a start


@pytest.mark.long
def test_devices_change_no_bit_of_a_start_nor_of_the_gaps(solved):
    sharded = replace(CONFIG, parallel="shard_map", target_shards=2)
    found = aeot.solve(jax.random.key(0), MU, CODES, config=sharded)
    np.testing.assert_array_equal(found.h, solved.h)
    assert found.num_samples == solved.num_samples
    assert solved.num_steps > 32


def test_a_near_start_is_not_forgotten_unless_the_user_asks():
    state = aeot.init(jax.random.key(0), MU, CODES, None, replace(CONFIG, start="tails"))
    assert state.phases.adam_until <= 0
    for change in ({"adam_share": 0.1}, {"optimizer": optax.sgd(0.1)}, {"start": "gaussian"}):
        asked = replace(CONFIG, **change)
        assert budget(300, MU, asked).trust.chi2 < 0
        assert budget(300, MU, asked).phases.adam_until > 0
    assert "tails" not in plan(300, MU, replace(CONFIG, method="adam")).starts
    assert "tails" not in plan(300, aeot.Gaussian(3), CONFIG).starts
    assert "tails" not in plan(300, MU, replace(CONFIG, max_samples=4_000)).starts


def test_without_a_tolerance_a_start_is_near_by_what_the_samples_allow():
    def trusted(num_samples):
        spending = aeot.SolverConfig(tolerance=None, max_samples=num_samples)
        made = plan(1500, MU, spending, given=True)
        return budget(1500, MU, spending, made).trust.chi2

    assert trusted(1500 * 1000) == pytest.approx(0.3**2)  # near by the default tolerance
    assert 0.3**2 < trusted(1500 * 80) < trusted(1500 * 40) < 1
    assert trusted(1500 * 8) == 1  # a cell that is empty wants the first phase


def test_a_far_miss_plans_anew_in_many_dimensions_and_forgets_only_what_is_far():
    config = replace(CONFIG, tolerance=0.15)
    made, planned = plan(300, MU, config), budget(300, MU, config)
    per_target = made.batch.size / 300

    def after(error, drawn):
        again = phases_of(90_000 - drawn, 300, 16, made, config)
        return phases_after(error, drawn, 90_000, again, per_target, planned.trust)

    far = after(0.5, 10_000)
    assert far is not None
    assert far.adam_until > 0
    assert after(0.5, 50_000) is None
    near = after(0.25, 50_000)
    assert near is not None
    worth = -near.adam_until * per_target
    assert 1 / 0.25**2 - per_target < worth <= 1 / 0.25**2
    assert is_far(90_000, 0.1, 300, 16, 0.05)
    assert not is_far(60_000, 0.1, 300, 16, 0.05)
    assert not is_far(90_000, 0.1, 300, 16, 0.1)


@pytest.mark.long
def test_worse_heights_give_way_though_a_step_could_not_tell(solved):
    scale = np.std(np.asarray(solved.h))
    worse = np.asarray(solved.h) + 0.06 * scale * np.random.default_rng(0).normal(size=300)
    own = aeot.init(jax.random.key(0), MU, CODES, None, CONFIG).heights
    errors = [
        float(aeot.certify(jax.random.key(3), MU, CODES, h, num_samples=100_000).mass_error)
        for h in (worse, own)
    ]
    assert errors[0] > 1.5 * errors[1]
    with pytest.warns(StartWarning, match="'tails'"):
        found = aeot.solve(jax.random.key(0), MU, CODES, None, CONFIG, worse)
    made, asked = problem.make(MU, CODES), problem.asked(MU, CODES, None)
    given = known.given(worse, made, asked)
    assert given is not None
    key = known.fresh(jax.random.key(0), given, made)  # of the samples that heights are given
    assert found.num_samples == aeot.solve(key, MU, CODES, None, CONFIG).num_samples


def test_groups_that_starve_are_seen_where_the_mass_error_is_small():
    deviation = jnp.asarray(np.repeat([0.5, 1.0, 4.0], [100, 800, 100]), jnp.float32)
    nu = jnp.full(1000, 1e-3)
    even = jnp.full(1000, 2, jnp.int32)
    starved = even.at[900:].set(0)
    assert float(starving(even, nu, deviation, 2000)) < 1e-4
    expected = 0.1 * np.log((0 + 1 / 1800) / (0.1 + 1 / 1800)) ** 2
    rest = 0.9 * np.log(1 / 0.9) ** 2
    np.testing.assert_allclose(starving(starved, nu, deviation, 1800), expected + rest, rtol=0.02)
