"""Starting heights: optimal where their model of the targets is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.solver.starts import closed_forms


def heights(start, y, nu, *law):
    return closed_forms.heights(start, y, nu, closed_forms.moments(y, nu), *law)


def test_gaussian_heights_are_the_legendre_dual_of_the_gaussian_potential():
    rng = np.random.default_rng(0)
    d, m = 4, 4000
    a = rng.normal(size=d)
    c_root, s_root = rng.normal(size=(2, d, d))
    c, b = c_root @ c_root.T + np.eye(d), rng.normal(size=d)
    y = b + rng.normal(size=(m, d)) @ s_root.T
    y -= y.mean(0) - b  # the fitted moments are then known exactly
    s = np.cov(y.T, bias=True)
    args = [jnp.asarray(v, jnp.float32) for v in (y, np.full(m, 1 / m), a, c)]
    h = np.asarray(heights("gaussian", *args), np.float64)

    def power_of(matrix, exponent):
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * values**exponent) @ vectors.T

    root, inverse = power_of(c, 0.5), power_of(c, -0.5)
    hessian = inverse @ power_of(root @ s @ root, 0.5) @ inverse
    # The map b + A (x - a) carries N(a, C) to N(b, S).
    np.testing.assert_allclose(hessian @ c @ hessian, s, rtol=1e-8)
    # Young's inequality is an equality at x with T(x) = y_i: u(x) - h_i = <x, y_i>.
    x = a + (y - b) @ np.linalg.inv(hessian)
    u = x @ b + 0.5 * np.einsum("ni,ij,nj->n", x - a, hessian, x - a)
    residual = u - (x * y).sum(1) - h
    np.testing.assert_allclose(residual - residual.mean(), 0, atol=2e-3 * np.abs(h).max())


def test_voronoi_heights_send_scaled_samples_to_the_nearest_target():
    y = jax.random.normal(jax.random.key(0), (200, 3))
    y = y - y.mean(0)[None, :]
    x = jax.random.normal(jax.random.key(1), (500, 3))
    nu = jnp.full(200, 1 / 200)
    h = heights("voronoi", y, nu, jnp.zeros(3), jnp.eye(3))
    _, index = assign(x, y, h)
    ratio = np.sqrt(3 / np.cov(np.asarray(y).T, bias=True).trace())
    distance = np.linalg.norm(np.asarray(x)[:, None] - ratio * np.asarray(y)[None], axis=2)
    assert (np.asarray(index) == distance.argmin(1)).mean() > 0.998  # ties within rounding


@pytest.mark.parametrize("start", ["voronoi", "gaussian"])
def test_starts_are_finite_for_degenerate_targets(start):
    flat = jnp.stack([jnp.linspace(-1, 1, 9), jnp.zeros(9), jnp.zeros(9)], 1)
    for y in (flat, jnp.zeros((4, 3)), jnp.ones((1, 3))):
        nu = jnp.full(len(y), 1 / len(y))
        h = heights(start, y, nu, jnp.zeros(3), jnp.eye(3))
        assert np.isfinite(h).all()


@pytest.mark.long
def test_auto_takes_the_start_with_the_least_mass_error():
    key = jax.random.key(0)
    y = jax.random.normal(jax.random.key(4), (400, 2))
    mu = aeot.UniformCube(2)
    errors = {}
    for name in ("auto", *closed_forms.NAMES):
        config = aeot.SolverConfig(start=name)
        state = aeot.init(key, mu, y, None, config)
        certificate = aeot.certify(jax.random.key(1), mu, y, state.heights, None, 20_000)
        errors[name] = float(certificate.mass_error)
    # Two candidates may tie within the noise of one batch.
    assert errors["auto"] <= 1.02 * min(errors.values())
    assert errors["auto"] < 0.9 * max(errors.values())
