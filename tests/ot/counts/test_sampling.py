"""How samples are drawn: every way counts every cell without bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.measures import Empirical, FromSampler, Gaussian, UniformBall, UniformCube
from aeot_jax.ot.counts import estimate, sampling, streams

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("mu", "way"),
    [
        (Gaussian(2), "sobol"),
        (UniformCube(12), "sobol"),
        (UniformBall(2), "independent"),
        (Gaussian(13), "independent"),
        (Gaussian(32), "orbits"),
        (UniformCube(40), "orbits"),
        (UniformBall(40), "orbits"),
        (Empirical(jnp.zeros((3, 2))), "independent"),
        (FromSampler(lambda key, n: jnp.zeros((n, 64)), 64), "independent"),
    ],
)
def test_the_way_follows_from_the_source(mu, way):
    assert sampling.choose(mu, "auto") == way
    assert sampling.choose(mu, "independent") == "independent"


def test_a_way_that_the_source_does_not_allow_is_named():
    with pytest.raises(ValueError, match=r"`sampling` is 'sobol', which takes .* in 13"):
        sampling.choose(Gaussian(13), "sobol")
    with pytest.raises(ValueError, match=r"`sampling` is 'orbits', .* `mu` is Empirical"):
        sampling.choose(Empirical(jnp.zeros((3, 2))), "orbits")
    assert sampling.choose(Gaussian(2), "auto", batch_size=1 << 21) == "independent"


@pytest.mark.parametrize(("way", "dim"), [("independent", 8), ("sobol", 8), ("orbits", 8)])
def test_counts_agree_with_those_of_independent_samples(way, dim):
    mu = Gaussian(dim)
    y = jax.random.normal(jax.random.key(1), (30, dim)) * jnp.linspace(2, 0.2, dim)[None, :]
    h, nu = jnp.zeros(30), jnp.full(30, 1 / 30)
    turned = sampling.prepared(jax.random.key(3), mu, y, way)

    def draw(key, y, way):
        return streams.draw_counts(key, mu, y, h, nu, 200, samples_per_stream=16, way=way)[0]

    counts, reference = draw(KEY, turned, way), draw(jax.random.key(9), y, "independent")
    n = 200 * 128
    assert counts.sum() == n
    # Six standard errors of a difference of two binomials; nets and orbits have less.
    error = np.sqrt(2 * np.maximum(np.asarray(reference), 9.0))
    assert (np.abs(np.asarray(counts) - np.asarray(reference)) < 6 * error).all()


@pytest.mark.parametrize("way", ["independent", "orbits"])
def test_chi_square_between_streams_is_unbiased(way):
    """Also where members of an orbit fall together: all but one coordinate hardly matter."""
    mu = Gaussian(8)
    y = jax.random.normal(jax.random.key(1), (20, 8)) * jnp.array([[1.0] + [0.05] * 7])
    h, nu = jnp.zeros(20), jnp.full(20, 1 / 20)

    def estimated(key):
        counts, within = streams.batch_counts(key, mu, y, h, nu, 64, None, way)
        return estimate.chi_square_between(counts, within, nu, 512)

    chi2, chi2_se = jax.lax.map(estimated, jax.random.split(KEY, 400))
    counts, _ = streams.draw_counts(jax.random.key(5), mu, y, h, nu, 100, samples_per_stream=512)
    truth, truth_se = estimate.chi_square(counts, nu, counts.sum())
    spread = np.std(np.asarray(chi2)) / 20
    assert abs(float(chi2.mean() - truth)) < 5 * (spread + float(truth_se))
    if way == "independent":  # the standard error is made for independent samples
        np.testing.assert_allclose(np.std(np.asarray(chi2)), chi2_se.mean(), rtol=0.2)
