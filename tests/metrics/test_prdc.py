import tracemalloc

import jax
import numpy as np
import pytest

from aeot_jax.metrics import distances, exact
from aeot_jax.metrics.points import together
from aeot_jax.metrics.prdc import _Cloud, _kth_distance, _overlaps, _squared_radii, prdc


def dense(x, y):
    return np.sqrt(((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(-1))


def radii(x, k):
    (points,) = together(x=x)
    cloud = _Cloud(points, *exact.alike(points))
    return np.sqrt(_squared_radii(cloud, k, exact.frame(points))).astype(np.float32)


def dense_radii(x, k):
    r = dense(x, x)
    np.fill_diagonal(r, np.inf)
    return np.sort(r, axis=1)[:, k - 1]


def dense_prdc(x, y, k):
    r, rx, ry = dense(x, y), dense_radii(x, k), dense_radii(y, k)
    in_real = r <= rx[:, None]
    return (
        in_real.any(0).mean(),
        (r <= ry[None]).any(1).mean(),
        in_real.sum(0).mean() / k,
        in_real.any(1).mean(),
    )


def grouped(spread, apart, offset=0.0, dtype: type = np.float32, shift=6e-4):
    """Few tight groups: almost all pairs that matter are near to a radius."""
    rng = np.random.default_rng(0)
    groups = np.repeat(apart * rng.normal(size=(10, 16)), 15, axis=0) + offset
    x, y = (groups + spread * rng.normal(size=groups.shape) for _ in range(2))
    return x.astype(dtype), (y + shift * spread / 1e-3).astype(dtype)


HARD = {
    "near duplicates": grouped(1e-3, 1.0),
    "far apart": grouped(1.0, 1e5),
    "far from the origin": grouped(1.0, 3.0, offset=1e5),
    "far from the origin, float64": grouped(1.0, 3.0, offset=1e9, dtype=np.float64),
    "beyond float32's digits": grouped(1e-9, 1.0, dtype=np.float64),
    "tiny": tuple(x * np.float32(1e-30) for x in grouped(1e-3, 1.0)),
    "huge": tuple(x * np.float32(1e30) for x in grouped(1e-3, 1.0)),
    "on a grid": tuple(np.rint(x) for x in grouped(1.0, 3.0)),
    "collapsed": (grouped(1.0, 1.0)[0], np.repeat(grouped(0.0, 1.0)[1][::50], 50, axis=0)),
    "two of a kind": tuple(np.repeat(x[::2], 2, axis=0) for x in grouped(1e-3, 1.0)),
}


def sets(n=150, m=170, d=4, shift=0.5):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(n, d)).astype(np.float32),
        (rng.normal(size=(m, d)) * 0.8 + shift).astype(np.float32),
    )


def scores(report):
    return report.precision, report.recall, report.density, report.coverage


@pytest.mark.parametrize("k", [1, 5])
def test_streaming_equals_dense(k, monkeypatch):
    x, y = sets()
    monkeypatch.setattr(distances, "MEMORY", 2**15)
    assert len(distances.chunks(170, 4 * (2 * 150 + 4))) > 1
    np.testing.assert_allclose(radii(x, k), dense_radii(x, k), rtol=1e-6)
    np.testing.assert_allclose(scores(prdc(x, y, k=k)), dense_prdc(x, y, k), rtol=1e-12)


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("crowded", [0, 10**9])
def test_membership_is_that_of_float64(case, crowded, monkeypatch):
    """However many pairs float32 leaves open, and by whichever of two ways they are decided."""
    monkeypatch.setattr(exact, "FEW", crowded)
    x, y = HARD[case]
    for k in (1, 5):
        np.testing.assert_allclose(radii(x, k), dense_radii(x, k), rtol=3e-7)
        np.testing.assert_allclose(scores(prdc(x, y, k=k)), dense_prdc(x, y, k), rtol=1e-12)


def test_bytes_have_many_ties_and_each_counts():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 150, 4), dtype=np.uint8)
    np.testing.assert_array_equal(scores(prdc(x, y, k=3)), dense_prdc(x, y, 3))


def test_crowded_points_take_no_more_memory():
    x, y = (np.tile(part, (10, 1)) for part in grouped(1e-3, 1.0))
    x, y = (part + 1e-4 * np.random.default_rng(1).normal(size=part.shape) for part in (x, y))
    tracemalloc.start()
    prdc(x.astype(np.float32), y.astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_identical_sets_score_one():
    x, _ = sets()
    # Closed balls: each point lies in its own ball and in k others, on average.
    np.testing.assert_allclose(scores(prdc(x, x, k=5)), (1, 1, 6 / 5, 1), rtol=1e-12)


def test_disjoint_sets_score_zero():
    x, _ = sets()
    assert scores(prdc(x, x + 1000)) == (0, 0, 0, 0)


def test_a_lost_half_costs_recall_and_coverage_but_not_precision():
    x, _ = sets()
    real = np.concatenate([x, x + 100])
    report = prdc(real, x)
    assert report.precision == 1
    assert report.recall == report.coverage == 0.5


def test_equal_distributions_have_density_and_coverage_of_their_closed_forms():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 1500, 3))
    report = prdc(x, y, k=5)
    # Standard deviations over seeds: 0.03 and 0.006.
    assert abs(report.density - 1) < 0.1
    assert abs(report.coverage - (1 - 2**-5)) < 0.02


def test_scores_do_not_change_under_shift_scale_and_order():
    x, y = sets()
    moved = prdc(3 * x[::-1] + 7, 3 * y + 7)
    np.testing.assert_allclose(scores(moved), scores(prdc(x, y)), rtol=1e-12)


def test_duplicates_shrink_a_ball_to_a_point_that_still_holds_copies():
    x = np.repeat(sets(n=20)[0], 4, axis=0)
    np.testing.assert_array_equal(radii(x, 3), 0)
    assert prdc(x, x[::4], k=3).precision == 1


@pytest.mark.optimised
def test_temporaries_stay_bounded_at_ten_thousand_points():
    def f(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    n, d = 10_000, 128
    rows = distances.chunks(n, 4 * (2 * n + 6 * d))[0].stop
    own = jax.ShapeDtypeStruct((rows,), np.int32)
    for lowered in (
        _kth_distance.lower(f(n, d), own, k=5),
        _overlaps.lower(f(n, d), f(rows, d), f(n), f(rows)),
    ):
        analysis = lowered.compile().memory_analysis()
        assert analysis is not None
        assert analysis.temp_size_in_bytes < 64 * 2**20


@pytest.mark.parametrize(
    ("k", "n", "d", "words"),
    [(0, 10, 4, "`k` is 0"), (10, 10, 4, "`generated` has 10 points"), (3, 10, 5, "dimensions")],
)
def test_bad_input_is_refused(k, n, d, words):
    x, _ = sets()
    with pytest.raises(ValueError, match=words):
        prdc(x, np.zeros((n, d)), k=k)
