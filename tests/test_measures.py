"""Sources: what they claim about themselves is what their samples show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sources
from scipy.stats import ks_2samp

import aeot_jax as aeot
from aeot_jax import cli, measures
from aeot_jax.measures import (
    Empirical,
    FromSampler,
    Gaussian,
    Measure,
    Product,
    UniformBall,
    UniformCube,
    Weighted,
    table,
)

KEY, OTHER = jax.random.key(3), jax.random.key(4)
N = 40_000

every = pytest.mark.parametrize("mu", sources.EVERY, ids=lambda mu: type(mu).__name__)


def drawn(mu, key):
    """Many samples of a source, in float64; drawn once for all tests."""
    return of_number([one is mu for one in sources.EVERY].index(True), key)


@functools.cache
def of_number(number, key):
    return np.asarray(sources.EVERY[number].sample((KEY, OTHER)[key], N), np.float64)


def directions(count=3):
    v = np.random.default_rng(0).normal(size=(count, sources.DIM))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def same_law(x, y):
    """No direction tells two sets of independent samples apart, at one in a million."""
    views = np.concatenate([np.eye(sources.DIM), directions()])
    pvalues = [float(np.asarray(ks_2samp(x @ v, y @ v))[1]) for v in views]
    return min(pvalues) > 1e-6


@every
def test_a_source_is_a_measure_whose_samples_are_float32(mu):
    assert isinstance(mu, Measure)
    for n in (0, 8):
        assert mu.sample(KEY, n).shape == (n, sources.DIM)
        with jax.enable_x64(True):
            assert measures.draw(KEY, mu, n).dtype == jnp.float32
    with pytest.raises(ValueError, match="`n` is -1"):
        mu.sample(KEY, -1)


@every
def test_a_source_crosses_jit_as_an_argument(mu):
    draw = jax.jit(lambda key, mu: mu.sample(key, 8))
    np.testing.assert_array_equal(draw(KEY, mu), mu.sample(KEY, 8))
    assert (mu.sample(KEY, 8) != mu.sample(OTHER, 8)).any()


@every
def test_moments_are_those_of_the_samples(mu):
    x = drawn(mu, 0)
    mean, covariance = measures.moments(OTHER, mu)
    n = N if mu.variance is not None else measures.MOMENT_SAMPLES
    # Five standard errors of a mean and of a variance.
    sizes = x.var(0).max()
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(sizes * (1 / N + 1 / n)))
    atol = 5 * np.sqrt(2 * (1 / N + 1 / n)) * sizes
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=atol)
    if mu.variance is not None:
        np.testing.assert_allclose(covariance, mu.variance * np.eye(sources.DIM), rtol=1e-6)


@every
def test_a_symmetry_leaves_the_law_as_it_is(mu):
    symmetry = getattr(mu, "symmetry", None)
    x, y = (drawn(mu, key) for key in (0, 1))
    if symmetry is not None:
        assert measures.is_centred(mu)
        assert same_law(x, y * [-1, 1, 1])
    if symmetry == "rotations":
        turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
        assert same_law(x, y @ turn)


@every
def test_uniform_points_are_carried_onto_the_law(mu):
    if not hasattr(mu, "from_uniform"):
        pytest.skip("the source offers no map of uniform points")
    u = jax.random.uniform(KEY, (N, sources.DIM), jnp.float32, 1e-6, 1 - 1e-6)
    carried = mu.from_uniform(u)
    assert same_law(np.asarray(carried, np.float64), drawn(mu, 1))
    # Coordinate by coordinate: another second coordinate changes no first.
    moved = mu.from_uniform(u.at[:, 1].set(0.5))
    np.testing.assert_array_equal(np.delete(carried, 1, axis=1), np.delete(moved, 1, axis=1))


@every
def test_the_law_less_its_mean_is_centred(mu):
    mean, _ = measures.moments(KEY, mu)
    shifted = measures.around(mu, mean)
    assert hasattr(shifted, "from_uniform") == hasattr(mu, "from_uniform")
    x = np.asarray(mu.sample(KEY, 8)) - (0 if shifted is mu else np.asarray(mean))
    np.testing.assert_allclose(shifted.sample(KEY, 8), x, rtol=1e-6)


@pytest.mark.parametrize("option", table.CHOICES)
def test_a_source_is_chosen_by_its_option(option):
    assert aeot.Config(source=option).source == option
    options = cli.parse(["fit", "--data", "digits", "--out", "x", "--source", option])
    assert options.full_config().source == option
    assert getattr(aeot, table.CHOICES[option].__name__) is table.CHOICES[option]
    assert type(table.CHOICES[option](sources.DIM)) in table.IN_FILES.values()


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


def test_atoms_are_drawn_by_their_weights():
    p = 40_000  # as light as 1e-9: sums in float32 would not tell them from their neighbours
    nu = np.random.default_rng(0).random(p) ** 8
    nu[[0, 5, p - 1]] = 0, 0, 0
    nu /= nu.sum()
    mu = Weighted(jnp.arange(float(p))[:, None], jnp.asarray(nu, jnp.float32))
    drawn = np.asarray(mu.sample(KEY, N))[:, 0].astype(int)
    assert (nu[drawn] > 0).all()
    groups = np.add.reduceat(nu, np.arange(0, p, 1000))
    counts = np.bincount(drawn // 1000, minlength=len(groups)) / N
    np.testing.assert_allclose(counts, groups, atol=5 * np.sqrt(groups.max() / N))
    # Under a transformation nobody checks the sum of the weights.
    more = jax.tree.map(lambda leaf: 1.01 * leaf, mu)
    assert (
        abs(float(more.sample(jax.random.key(7), 4000).mean()) - 1.01 * nu @ np.arange(p))
        < 0.05 * p
    )
    alone = Weighted(jnp.ones((1, 2)), jnp.ones(1))
    np.testing.assert_array_equal(alone.sample(KEY, 3), np.ones((3, 2)))


def test_bad_weights_of_atoms_are_named():
    points = jnp.ones((3, 2))
    for nu, said in (
        (jnp.array([0.5, 0.75, -0.25]), "`nu` has a negative weight, -0.25 at 2"),
        (jnp.ones(3), "`nu` sums to 3; divide it by its sum"),
        (jnp.array([0.5, 0.5, jnp.nan]), "`nu` is nan at 2"),
    ):
        with pytest.raises(ValueError, match=said):
            Weighted(points, nu)


def test_unknown_moments_are_estimated():
    mu = Empirical(jnp.array([[1.0, 0.0], [3.0, 0.0]]))
    mean, covariance = measures.moments(KEY, mu)
    np.testing.assert_allclose(mean, [2.0, 0.0], atol=0.1)
    np.testing.assert_allclose(covariance, [[1.0, 0.0], [0.0, 0.0]], atol=0.05)


def test_a_sampler_of_the_wrong_shape_is_named():
    mu = FromSampler(lambda key, n: jax.random.normal(key, (n, 3)), 2)
    with pytest.raises(ValueError, match="`fn` returned shape"):
        mu.sample(KEY, 4)


def test_a_product_knows_the_moments_that_its_parts_know():
    mu = Product(UniformBall(2), Product(Gaussian(1), UniformCube(3)))
    mean, covariance = measures.moments(KEY, mu)
    np.testing.assert_array_equal(mean, np.zeros(6))
    np.testing.assert_allclose(covariance, np.diag([1 / 4, 1 / 4, 1, *3 * [1 / 12]]), rtol=1e-6)
    assert measures.num_moment_samples(mu) == 0
    assert Product(Gaussian(1), Gaussian(2)).variance == 1.0
    atoms = Empirical(jnp.ones((2, 3)))
    assert measures.num_moment_samples(Product(mu, atoms)) == measures.MOMENT_SAMPLES
    x = np.asarray(Product(Gaussian(2), atoms).sample(KEY, 500))
    np.testing.assert_array_equal(x[:, 2:], 1)
    correlation = np.asarray(np.corrcoef(drawn(sources.EVERY[-1], 0).T))
    assert abs(correlation[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize("name", Product.PARTS)
def test_a_part_that_is_no_source_is_named(name):
    parts = {"mu_a": Gaussian(1), "mu_b": Gaussian(1), name: np.ones((3, 2))}
    with pytest.raises(ValueError, match=f"`{name}` is an array .*; pass a source measure"):
        Product(**parts)


@pytest.mark.parametrize("dim", [0, -1])
def test_a_bad_dimension_is_named(dim):
    with pytest.raises(ValueError, match="`dim` is"):
        Gaussian(dim)
