"""Toy densities: their modes, their curves, and the share of points that lie near them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.stats import chi2

from aeot_jax.data import toy

KEY = jax.random.key(0)
N = 4096
MODES = [toy.ring, toy.grid, toy.cube, toy.clusters]
CURVES = [toy.moons, toy.swiss_roll]


@functools.cache
def sample_of(draw, **options):
    return draw(KEY, N, **options)


def nearest(points, modes):
    return KDTree(np.asarray(modes, np.float64)).query(np.asarray(points, np.float64))


@pytest.mark.parametrize(
    ("draw", "k", "d", "gap"),
    [
        (toy.ring, 8, 2, 2 * np.sin(np.pi / 8)),
        (toy.grid, 25, 2, 2.0),
        (toy.cube, 27, 3, 2.0),
        (toy.clusters, 10, 32, 1.0),
    ],
)
def test_modes_are_where_they_should_be(draw, k, d, gap):
    sample = sample_of(draw)
    assert sample.points.shape == (N, d)
    assert sample.points.dtype == sample.modes.dtype == jnp.float32
    assert sample.modes.shape == (k, d)
    modes = np.asarray(sample.modes, np.float64)
    distance, _ = KDTree(modes).query(modes, k=2)
    np.testing.assert_allclose(distance[:, 1].min(), gap, rtol=1e-5)


def test_ring_and_grid_are_those_of_the_protocol():
    radius = np.linalg.norm(sample_of(toy.ring).modes, axis=1)
    np.testing.assert_allclose(radius, 1, rtol=1e-6)
    assert {tuple(mode) for mode in np.asarray(sample_of(toy.grid).modes)} == {
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    }


@pytest.mark.parametrize("draw", MODES)
def test_labels_name_the_nearest_mode(draw):
    sample = sample_of(draw)
    np.testing.assert_array_equal(sample.labels, nearest(sample.points, sample.modes)[1])


@pytest.mark.parametrize("draw", MODES)
def test_modes_have_equal_weight(draw):
    sample = sample_of(draw)
    k = len(sample.modes)
    counts = np.bincount(sample.labels, minlength=k)
    statistic = np.sum((counts - N / k) ** 2) / (N / k)
    assert statistic < chi2.ppf(0.999, k - 1)


@pytest.mark.parametrize("draw", MODES)
def test_the_share_within_three_sigma_is_that_of_a_gaussian(draw):
    sample = sample_of(draw)
    distance, _ = nearest(sample.points, sample.modes)
    d = sample.points.shape[1]
    for sigmas in (np.sqrt(d), 3.0):
        share = chi2.cdf(sigmas**2, d)
        se = np.sqrt(share * (1 - share) / N)
        assert abs(np.mean(distance <= sigmas * sample.sigma) - share) < 4 * se + 1 / N


@pytest.mark.parametrize("draw", CURVES)
def test_the_share_near_a_curve_is_that_of_a_gaussian(draw):
    sample = sample_of(draw)
    assert sample.modes is None
    distance = np.asarray(sample.distance(sample.points))
    for sigmas, share in ((1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        se = np.sqrt(share * (1 - share) / N)
        # past the ends of a curve the noise along it counts too: under 1 % of the points
        assert abs(np.mean(distance <= sigmas * sample.sigma) - share) < 4 * se + 0.01


@pytest.mark.parametrize("draw", CURVES)
def test_without_noise_points_lie_on_the_curve(draw):
    sample = sample_of(draw, sigma=0.0)
    np.testing.assert_allclose(sample.distance(sample.points), 0, atol=2e-6)


def moons_curve():
    t = np.linspace(0, np.pi, 20001)
    arc = np.stack([np.cos(t), np.sin(t)], axis=1)
    return np.concatenate([arc, np.array([1, 0.5]) - arc])


def roll_curve():
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 40001)
    return np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / (4.5 * np.pi)


@pytest.mark.parametrize(
    ("distance", "curve"),
    [(toy.moons_distance, moons_curve()), (toy.swiss_roll_distance, roll_curve())],
)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_distance_is_that_to_the_nearest_point_of_a_dense_curve(distance, curve, scale):
    points = np.random.default_rng(0).uniform(-scale, scale, (N, 2)).astype(np.float32)
    # the spacing of the dense curve and float32 both matter at 1e-4; sigma is 0.02 at least
    np.testing.assert_allclose(distance(jnp.asarray(points)), nearest(points, curve)[0], atol=2e-4)


def test_moons_label_the_half_circle():
    sample = sample_of(toy.moons, sigma=0.0)
    upper = np.asarray(sample.points[:, 1]) >= 0.5
    radius = np.linalg.norm(np.asarray(sample.points), axis=1)
    assert np.all(np.asarray(sample.labels)[upper & (radius > 0.999)] == 0)
    assert 0.45 < np.mean(sample.labels) < 0.55


def test_the_roll_has_one_and_a_half_turns_and_outer_radius_one():
    radius = np.linalg.norm(np.asarray(sample_of(toy.swiss_roll, sigma=0.0).points), axis=1)
    assert 1 / 3 <= radius.min() + 1e-6 < 0.34
    assert 0.99 < radius.max() <= 1 + 1e-6


def test_clusters_share_their_centres_between_keys_and_not_between_seeds():
    a = sample_of(toy.clusters)
    b = toy.clusters(jax.random.key(1), N)
    c = sample_of(toy.clusters, seed=1)
    np.testing.assert_array_equal(np.asarray(a.modes), np.asarray(b.modes))
    assert not np.array_equal(a.points, b.points)
    assert not np.array_equal(np.asarray(a.modes), np.asarray(c.modes))


def test_one_cluster_is_allowed():
    assert toy.clusters(KEY, 2, k=1, dim=1).points.shape == (2, 1)


@pytest.mark.parametrize("draw", MODES + CURVES)
def test_jit_and_the_same_key_give_the_same_sample(draw):
    # the record is a pytree, so a jitted function may return it
    jitted = jax.jit(draw, static_argnums=1)(KEY, N)
    plain = sample_of(draw)
    # fused multiplication and addition rounds once where two operations round twice
    np.testing.assert_allclose(jitted.points, plain.points, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(jitted.labels, plain.labels)
    assert jitted.sigma == plain.sigma
    assert jitted.distance is plain.distance


@pytest.mark.parametrize("draw", MODES + CURVES)
def test_no_points_and_negative_noise_are_refused(draw):
    with pytest.raises(ValueError, match=r"`n` is 0; pass at least 1"):
        draw(KEY, 0)
    with pytest.raises(ValueError, match=r"`sigma` is -1.0"):
        draw(KEY, 1, sigma=-1.0)


def test_clusters_need_a_centre_and_a_dimension():
    with pytest.raises(ValueError, match=r"`k` is 0 and `dim` is 2"):
        toy.clusters(KEY, 1, k=0, dim=2)
