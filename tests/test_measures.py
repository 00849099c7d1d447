"""Sources: what they claim about themselves is what their samples show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax import measures
from aeot_jax.measures import Empirical, FromSampler, Gaussian, Measure, UniformBall, UniformCube

KEY = jax.random.key(3)
N = 40_000


@pytest.mark.parametrize("mu", [Gaussian(3), UniformCube(3), UniformBall(3)])
def test_moments_are_those_of_the_samples(mu):
    x = np.asarray(mu.sample(KEY, N), np.float64)
    mean, covariance = measures.moments(KEY, mu)
    assert x.shape == (N, 3)
    # Five standard errors of a mean and of a variance.
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(mu.variance / N))
    spread = 5 * np.sqrt(2 / N) * mu.variance
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=spread)


def test_supports_are_as_documented():
    assert np.abs(np.asarray(UniformCube(2).sample(KEY, N))).max() <= 0.5
    radius = np.linalg.norm(np.asarray(UniformBall(5).sample(KEY, N)), axis=1)
    assert radius.max() <= 1 + 1e-6
    # P(radius <= r) = r^d.
    np.testing.assert_allclose((radius <= 0.8).mean(), 0.8**5, atol=5 * 0.5 / np.sqrt(N))


def test_empirical_draws_its_rows():
    points = jnp.arange(12.0).reshape(6, 2)
    x = np.asarray(Empirical(points).sample(KEY, 500))
    assert {tuple(row) for row in x} == {tuple(row) for row in np.asarray(points)}


def test_unknown_moments_are_estimated():
    mu = Empirical(jnp.array([[1.0, 0.0], [3.0, 0.0]]))
    mean, covariance = measures.moments(KEY, mu)
    np.testing.assert_allclose(mean, [2.0, 0.0], atol=0.1)
    np.testing.assert_allclose(covariance, [[1.0, 0.0], [0.0, 0.0]], atol=0.05)


def test_a_measure_crosses_jit_as_an_argument():
    draw = jax.jit(lambda key, mu: mu.sample(key, 8))
    for mu in (Gaussian(2), Empirical(jnp.eye(2))):
        np.testing.assert_array_equal(draw(KEY, mu), mu.sample(KEY, 8))
        assert isinstance(mu, Measure)


def test_a_sampler_of_the_wrong_shape_is_named():
    mu = FromSampler(lambda key, n: jax.random.normal(key, (n, 3)), 2)
    with pytest.raises(ValueError, match="`fn` returned shape"):
        mu.sample(KEY, 4)


@pytest.mark.parametrize("dim", [0, -1])
def test_a_bad_dimension_is_named(dim):
    with pytest.raises(ValueError, match="`dim` is"):
        Gaussian(dim)
