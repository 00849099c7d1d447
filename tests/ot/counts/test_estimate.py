"""The mass error and its standard error, against exact enumeration and repeated draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax import Empirical, Gaussian
from aeot_jax.ot.counts import estimate, streams
from aeot_jax.ot.counts.chi_square import chi_square, mass_error, samples_to_verify
from aeot_jax.ot.counts.ways.table import INDEPENDENT
from aeot_jax.ot.counts.ways.way import Batch, Draws
from aeot_jax.ot.devices import placement
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.problem import Marginals

NU = np.array([0.1, 0.2, 0.3, 0.4])
W = np.array([0.16, 0.17, 0.27, 0.40])
CHI2 = ((W - NU) ** 2 / NU).sum()
certificate = jax.jit(estimate.certificate)
chi_squares = jax.jit(jax.vmap(chi_square, (0, None, None)))


def draws(masses, n, repeats, seed=0):
    counts = np.random.default_rng(seed).multinomial(n, masses, size=repeats)
    found = chi_squares(jnp.asarray(counts, jnp.int32), jnp.asarray(NU, jnp.float32), n)
    return [np.asarray(value, np.float64) for value in found]


@pytest.mark.parametrize("n", [2, 7, 50])
def test_chi_square_is_the_factorial_moment_formula(n):
    counts = np.random.default_rng(1).multinomial(n, W)
    exact = (counts * (counts - 1) / (n * (n - 1) * NU)).sum() - 1
    chi2, _ = chi_square(jnp.asarray(counts), jnp.asarray(NU, jnp.float32), n)
    np.testing.assert_allclose(chi2, exact, atol=2e-6)


@pytest.mark.parametrize(
    ("masses", "most"),
    # At w = nu the first-order variance is 0 and its estimate, clipped at 0, is not: chance alone
    # makes the standard error a third too large there, on the safe side.
    [(W, 1.1), (NU, 1.4)],
    ids=["off", "on"],
)
def test_chi_square_has_no_bias_and_an_honest_standard_error(masses, most):
    repeats = 4000
    chi2, chi2_se = draws(masses, 400, repeats)
    truth = ((masses - NU) ** 2 / NU).sum()
    assert abs(chi2.mean() - truth) < 4 * chi2.std() / np.sqrt(repeats)
    assert (chi2 < 0).any()
    ratio = np.sqrt((chi2_se**2).mean()) / chi2.std()
    assert 0.95 < ratio < most


def test_the_standard_error_falls_like_the_square_root_of_the_samples():
    errors = [draws(W, n, 4000)[1].mean() for n in (1_000, 4_000, 16_000)]
    slopes = np.diff(np.log(errors)) / np.log(4)
    np.testing.assert_allclose(slopes, -0.5, atol=0.05)


def test_counts_beyond_the_square_root_of_int32_do_not_overflow():
    counts = jnp.asarray([100_000, 200_000, 300_000, 400_000])
    chi2, _ = chi_square(counts, jnp.asarray(NU, jnp.float32), 1_000_000)
    np.testing.assert_allclose(chi2, -3 / 999_999, rtol=0.05)


def test_mass_error_has_a_finite_standard_error_at_zero():
    root, root_se = mass_error(jnp.float32(-0.1), jnp.float32(0.04))
    assert root == 0
    np.testing.assert_allclose(root_se, 0.2)
    root, root_se = mass_error(jnp.float32(1.0), jnp.float32(0.02))
    np.testing.assert_allclose([root, root_se], [1.0, 0.01], rtol=0.01)


def test_a_certificate_of_the_right_masses_finds_nothing_beyond_chance():
    n, m = 200_000, 500
    nu = jnp.full(m, 1 / m)
    counts = jnp.asarray(np.random.default_rng(2).multinomial(n, np.full(m, 1 / m)))
    result = certificate(counts, nu, n)
    assert result.mass_error <= 3 * np.sqrt(2 * m) / n / (2 * result.mass_error + 1e-9) + 0.02
    assert result.worst == 0
    assert result.num_empty == 0
    assert result.stray_mass == 0
    bound = result.mass_error / 2 + result.mass_error_se
    np.testing.assert_allclose(result.total_variation, bound, rtol=1e-6)


def test_a_certificate_finds_a_cell_that_is_twice_too_heavy():
    m, n = 100, 100_000
    masses = np.full(m, 1 / m)
    masses[7], masses[8] = 2 / m, 0.0
    counts = jnp.asarray(np.random.default_rng(3).multinomial(n, masses))
    result = certificate(counts, jnp.full(m, 1 / m), n)
    assert 0.7 < result.worst <= 1.1
    assert result.num_empty == 1
    assert result.expected_empty < 1e-6
    exact = np.sqrt(2 / m)
    assert abs(result.mass_error - exact) < 4 * result.mass_error_se
    assert result.total_variation >= np.abs(masses - 1 / m).sum() / 2


def test_empty_cells_are_counted_beside_their_expectation():
    m = n = 1000
    counts = jnp.asarray(np.random.default_rng(4).multinomial(n, np.full(m, 1 / m)))
    result = certificate(counts, jnp.full(m, 1 / m), n)
    expected = m * (1 - 1 / m) ** n
    np.testing.assert_allclose(result.expected_empty, expected, rtol=1e-3)
    assert abs(int(result.num_empty) - expected) < 5 * np.sqrt(expected)


def test_mass_in_a_cell_of_weight_zero_is_stray_and_infinite():
    nu = jnp.array([0.5, 0.5, 0.0])
    result = certificate(jnp.array([50, 49, 1]), nu, 100)
    assert result.mass_error == jnp.inf
    np.testing.assert_allclose(result.stray_mass, 0.01)
    clean = certificate(jnp.array([50, 50, 0]), nu, 100)
    assert np.isfinite(clean.mass_error)
    assert clean.num_empty == 0


@pytest.mark.long
def test_chi_square_is_right_where_there_is_stray_mass():
    """Samples in cells of weight 0 count: in the estimate, and in its standard error."""
    nu = jnp.asarray([0.1, 0.2, 0.3, 0.4, 0.0], jnp.float32)
    masses = np.array([0.16, 0.17, 0.20, 0.32, 0.15])
    counts = np.random.default_rng(0).multinomial(400, masses, 4000)
    found = jax.jit(jax.vmap(lambda c: estimate.certificate(c, nu, 400)))(jnp.asarray(counts))
    chi2 = np.asarray(found.chi2, np.float64)
    truth = ((masses[:4] - NU) ** 2 / NU).sum()
    assert abs(chi2.mean() - truth) < 4 * chi2.std() / np.sqrt(4000)
    ratio = np.sqrt((np.asarray(found.chi2_se, np.float64) ** 2).mean()) / chi2.std()
    assert 0.95 < ratio < 1.1
    assert (found.upper == jnp.inf).all()
    assert (found.total_variation == 1).all()


def test_all_mass_in_one_cell_is_never_certain():
    counts = jnp.array([100, 0, 0, 0])
    _, chi2_se = chi_square(counts, jnp.full(4, 0.25), 100)
    assert chi2_se >= np.sqrt(2 * 3) / 100


def test_the_law_for_checking_is_met():
    m, error, standard_error = 400, 0.1, 0.01
    n = samples_to_verify(m, error, standard_error)
    rng = np.random.default_rng(5)
    sign = np.where(np.arange(m) % 2, 1, -1)
    masses = (1 + error * sign) / m
    counts = jnp.asarray(rng.multinomial(n, masses, size=300))
    nu = jnp.full(m, 1 / m)
    chi2, _ = chi_squares(counts, nu, n)
    measured = np.sqrt(np.maximum(np.asarray(chi2), 0)).std()
    # The law is for w at nu; off it the first-order term adds a little.
    assert measured < 1.5 * standard_error


@pytest.mark.optimised
def test_counts_are_those_of_the_samples_in_the_cells():
    mu = Gaussian(3)
    y = jax.random.normal(jax.random.key(1), (40, 3))
    h = jnp.zeros(40)
    key = jax.random.key(9)
    nu = jnp.full(40, 1 / 40)
    counts, _ = streams.draw_counts(
        key, Marginals(mu, y, nu), h, 2, draws=Draws(Batch(INDEPENDENT, 16))
    )
    expected = np.zeros(40, int)
    for batch in range(2):
        for stream in range(placement.NUM_STREAMS):
            stream_key = jax.random.fold_in(jax.random.fold_in(key, batch), stream)
            _, index = assign(mu.sample(stream_key, 16), y, h)
            expected += np.bincount(np.asarray(index), minlength=40)
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == 2 * 16 * placement.NUM_STREAMS


@pytest.mark.optimised
@pytest.mark.parametrize(
    "num_devices", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 4, 8))]
)
def test_devices_do_not_change_the_counts(num_devices):
    y = jax.random.normal(jax.random.key(1), (40, 3))
    h = jnp.zeros(40)
    key = jax.random.key(9)
    marginals, batch = Marginals(Gaussian(3), y, jnp.full(40, 1 / 40)), Batch(INDEPENDENT, 16)
    alone, within = streams.batch_counts(key, marginals, h, Draws(batch))
    assert within.shape == (placement.NUM_STREAMS,)

    def body(_):
        return streams.batch_counts(key, marginals, h, Draws(batch, Axes("devices")))[0]

    mapped = jax.pmap(body, axis_name="devices", devices=jax.devices()[:num_devices])
    for counts in mapped(jnp.arange(num_devices)):
        np.testing.assert_array_equal(counts, alone)
    vmapped = jax.vmap(body, axis_name="devices")(jnp.arange(num_devices))
    np.testing.assert_array_equal(vmapped[0], alone)


def test_streams_that_do_not_divide_are_named():
    marginals = Marginals(Gaussian(3), jnp.eye(3), jnp.full(3, 1 / 3))
    zero, batch = jnp.zeros(3), Batch(INDEPENDENT, 4)

    def body(_):
        return streams.batch_counts(jax.random.key(0), marginals, zero, Draws(batch, Axes("i")))[0]

    with pytest.raises(ValueError, match="size 3, which does not divide the 8"):
        jax.vmap(body, axis_name="i")(jnp.arange(3))


def test_ties_of_an_empirical_source_go_to_the_lowest_index():
    y = jnp.array([[1.0], [1.0], [-1.0]])
    marginals = Marginals(Empirical(jnp.array([[2.0]])), y, jnp.full(3, 1 / 3))
    batch = Batch(INDEPENDENT, 4)
    counts, _ = streams.draw_counts(
        jax.random.key(0), marginals, jnp.zeros(3), 1, draws=Draws(batch)
    )
    np.testing.assert_array_equal(counts, [32, 0, 0])
