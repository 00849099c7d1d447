import jax
import numpy as np
import pytest

from aeot_jax.metrics.frechet import (
    frechet_distance,
    frechet_report,
    gaussian_frechet_distance,
    kernel_distance,
    moments,
)

KEY = jax.random.key(0)


def normal(seed, n, d=4):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def covariance(seed, d=6, rank=None):
    a = np.random.default_rng(seed).normal(size=(rank or d, d))
    return a.T @ a


def test_commuting_covariances_have_a_closed_form():
    m, a, b = np.arange(3.0), np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
    distance = gaussian_frechet_distance(m, np.diag(a), np.zeros(3), np.diag(b))
    assert distance == pytest.approx(5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_general_covariances_agree_with_the_eigenvalues_of_their_product():
    a, b, m = covariance(0), covariance(1), np.ones(6)
    values = np.linalg.eigvals(a @ b).real
    oracle = 6 + np.trace(a + b) - 2 * np.sqrt(values).sum()
    assert gaussian_frechet_distance(m, a, 0 * m, b) == pytest.approx(oracle, rel=1e-9)


def test_singular_covariances_lose_no_digits():
    a, m = covariance(0, rank=2), np.zeros(6)
    assert gaussian_frechet_distance(m, a, m, a) < 1e-12
    assert gaussian_frechet_distance(m, a, m, 4 * a) == pytest.approx(np.trace(a), rel=1e-9)
    assert gaussian_frechet_distance(m, a, m, 0 * a) == pytest.approx(np.trace(a), rel=1e-9)


def test_distance_is_symmetric_and_the_root_is_a_metric():
    m = np.zeros(6)
    s = [covariance(i) for i in range(3)]
    r = [[np.sqrt(gaussian_frechet_distance(m, a, m, b)) for b in s] for a in s]
    np.testing.assert_allclose(r, np.transpose(r), atol=1e-7)
    assert r[0][2] <= r[0][1] + r[1][2]


def test_samples_converge_to_the_gaussians_distance():
    scale = np.array([1.0, 2.0, 0.5, 1.0], np.float32)
    distance = frechet_distance(normal(0, 20_000), normal(1, 20_000) * scale + 1)
    assert distance == pytest.approx(4 + 1 + 0.25, rel=0.03)


def test_a_shift_costs_its_square_and_a_rotation_nothing():
    x, y = normal(0, 100), normal(1, 100) * 2
    turn = np.linalg.qr(normal(2, 4))[0]
    shift = np.array([3, 0, 4, 0], np.float32)
    assert frechet_distance(x, x + shift) == pytest.approx(25, rel=1e-5)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-4)


def test_moments_equal_numpy():
    x = normal(0, 100) * 3 + 1000
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(x.astype(np.float64).T), rtol=1e-9)


def test_bias_falls_like_one_over_n():
    """E[FD] of equal Gaussians is about d (d + 5) / (2 n) for n against n, here 18 / n."""

    def bias(n):
        return np.mean([frechet_distance(normal(i, n), normal(1000 + i, n)) for i in range(40)])

    assert bias(100) * 100 == pytest.approx(18, rel=0.15)
    assert bias(100) / bias(400) == pytest.approx(4, rel=0.2)


def test_report_ranks_real_below_shifted():
    train, test = normal(0, 600), normal(1, 400)
    report = frechet_report(KEY, test + 1, train, test)
    assert report.num_samples == 300
    assert report.floor_test is not None
    assert max(report.floor_train, report.floor_test) < 0.2 < 3 < report.distance
    assert frechet_report(KEY, test, train).floor_test is None


def test_report_compares_disjoint_halves():
    train = np.repeat(normal(0, 2), 50, axis=0) + 1e-3 * normal(1, 100)
    report = frechet_report(KEY, train, train, num_samples=50)
    assert report.floor_train > 0


def test_kernel_distance_is_zero_in_expectation():
    values = [kernel_distance(KEY, normal(i, 200), normal(99 + i, 200)) for i in range(30)]
    standard_error = np.sqrt(np.mean([v.standard_error**2 for v in values]) / 30)
    assert abs(np.mean([v.value for v in values])) < 4 * standard_error
    assert any(v.value < 0 for v in values)


def test_kernel_distance_has_an_honest_standard_error():
    values = [kernel_distance(KEY, normal(i, 200), normal(99 + i, 200) + 0.3) for i in range(40)]
    spread = np.std([v.value for v in values], ddof=1)
    typical = np.sqrt(np.mean([v.standard_error**2 for v in values]))
    assert 0.7 < spread / typical < 1.4


def test_kernel_distance_of_a_shift_has_a_closed_form():
    """In one dimension E k(x, y) follows from the moments of a Gaussian."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20_000, 1))
    s = 0.5
    # E (xy + 1)^3 = m3 m3' + 3 m2 m2' + 3 m1 m1' + 1; raw moments 0, 1, 0; s, 1 + s^2, s^3 + 3 s.
    a, b = np.array([0, 1, 0]), np.array([s, 1 + s**2, s**3 + 3 * s])
    exact = ((a - b) ** 2 * np.array([3, 3, 1])).sum()
    estimate = kernel_distance(KEY, x, y + s, num_blocks=40)
    assert abs(estimate.value - exact) < 4 * estimate.standard_error


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet_distance(normal(0, 9), normal(0, 9, 5)), "`a` has 4 dimensions"),
        (lambda: frechet_distance(normal(0, 1), normal(0, 9)), "`a` has 1 row"),
        (lambda: frechet_distance(normal(0, 9) * np.nan, normal(0, 9)), "`a` .*not finite"),
        (lambda: frechet_report(KEY, normal(0, 9), normal(0, 9), num_samples=5), "`num_samples`"),
        (lambda: kernel_distance(KEY, normal(0, 9), normal(0, 99)), "`a` has 9 rows"),
        (lambda: kernel_distance(KEY, normal(0, 9), normal(0, 9), num_blocks=1), "`num_blocks`"),
        (
            lambda: gaussian_frechet_distance(np.ones(2), np.eye(3), np.ones(2), np.eye(2)),
            "shapes",
        ),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
