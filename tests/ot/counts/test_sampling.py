"""How samples are drawn: every way counts every cell without bias, within standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.measures import Empirical, FromSampler, Gaussian, UniformBall, UniformCube
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.chi_square import chi_square, chi_square_between
from aeot_jax.ot.counts.ways.table import WAYS, choose
from aeot_jax.ot.counts.ways.way import Batch, Draws
from aeot_jax.ot.problem import Marginals

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
    assert choose(mu, "auto") == way
    assert choose(mu, "independent") == "independent"


def test_a_way_that_the_source_does_not_allow_is_named():
    with pytest.raises(ValueError, match=r"`sampling` is 'sobol', which takes .* in 13"):
        choose(Gaussian(13), "sobol")
    with pytest.raises(ValueError, match=r"`sampling` is 'orbits', .* `mu` is Empirical"):
        choose(Empirical(jnp.zeros((3, 2))), "orbits")
    assert choose(Gaussian(2), "auto", batch_size=1 << 21) == "independent"


@pytest.mark.parametrize("way", WAYS)
def test_counts_agree_with_those_of_independent_samples(way):
    dim, mu = 8, Gaussian(8)
    y = jax.random.normal(jax.random.key(1), (30, dim)) * jnp.linspace(2, 0.2, dim)[None, :]
    h, nu = jnp.zeros(30), jnp.full(30, 1 / 30)
    turned = WAYS[way].prepared(jax.random.key(3), mu, y)

    def draw(key, y, way):
        marginals, batch = Marginals(mu, y, nu), Batch(WAYS[way], 16)
        return streams.draw_counts(key, marginals, h, 200, draws=Draws(batch))[0]

    counts, reference = draw(KEY, turned, way), draw(jax.random.key(9), y, "independent")
    n = 200 * 128
    assert counts.sum() == n
    # Six standard errors of a difference of two binomials; nets and orbits have less.
    error = np.sqrt(2 * np.maximum(np.asarray(reference), 9.0))
    assert (np.abs(np.asarray(counts) - np.asarray(reference)) < 6 * error).all()


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name != "independent"))
        for name, way in WAYS.items()
        if way.independent
    ],
)
def test_chi_square_between_streams_is_unbiased(way):
    """Also where members of an orbit fall together: all but one coordinate hardly matter."""
    mu = Gaussian(8)
    y = jax.random.normal(jax.random.key(1), (20, 8)) * jnp.array([[1.0] + [0.05] * 7])
    h, nu = jnp.zeros(20), jnp.full(20, 1 / 20)
    marginals = Marginals(mu, y, nu)

    def estimated(key):
        counts, within = streams.batch_counts(key, marginals, h, Draws(Batch(WAYS[way], 64)))
        return chi_square_between(counts, within, nu, 512)

    chi2, chi2_se = jax.lax.map(estimated, jax.random.split(KEY, 400))
    counts, _ = streams.draw_counts(
        jax.random.key(5), marginals, h, 100, draws=Draws(Batch(WAYS["independent"], 512))
    )
    truth, truth_se = chi_square(counts, nu, counts.sum())
    spread = np.std(np.asarray(chi2)) / 20
    assert abs(float(chi2.mean() - truth)) < 5 * (spread + float(truth_se))
    if way == "independent":  # the standard error is made for independent samples
        np.testing.assert_allclose(np.std(np.asarray(chi2)), chi2_se.mean(), rtol=0.2)
