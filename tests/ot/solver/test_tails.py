"""Tail-matched heights: the model's masses, their inversion, and what they are worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr, ndtri

import aeot_jax as aeot
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.starts import tails

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
        rises = SIGMA > -BETA * ndtri(nu)
        assert rises.sum() >= 3
        np.testing.assert_allclose(tails._mass(h, sigma, beta, r)[0][rises], nu, rtol=0.03)


def test_without_a_source_of_scatter_the_height_is_a_normal_quantile():
    nu = np.array([1e-6, 1e-3, 0.1], np.float32)
    one = jnp.ones(3)
    h = tails._inverted(0 * one, jnp.asarray(nu), 2 * one, 0 * one, jnp.zeros(64))
    np.testing.assert_allclose(h, 2 * ndtri(nu.astype(float)), rtol=1e-3)


WORKS = {
    "normal": (RNG.standard_normal((800, 16)), 0.25),
    "student": (RNG.standard_t(3, (800, 24)), 0.25),
    "outliers": (
        RNG.standard_normal((800, 32)) * np.where(np.arange(800) % 50, 1, 10)[:, None],
        0.25,
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_heavy_tails_start_within_a_quarter(name):
    y, bound = WORKS[name]
    mu, y = aeot.Gaussian(y.shape[1]), y - y.mean(0)
    y = jnp.asarray(y / np.sqrt((y * y).mean()), jnp.float32)
    d = y.shape[1]
    marginals = Marginals(mu, y, jnp.full(800, 1 / 800))
    h = tails.heights(jax.random.key(1), marginals, jnp.zeros(d), jnp.eye(d), 512)
    found = aeot.certify(jax.random.key(2), mu, y, h, num_samples=60_000)
    assert float(found.mass_error) + 2 * float(found.mass_error_se) < bound
