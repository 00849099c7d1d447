import numpy as np
import pytest

from aeot_jax.metrics.modes import (
    covered_share,
    gaussian_radius,
    gaussian_share,
    mode_report,
    reverse_kl,
    total_variation,
)

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_hand_made_samples():
    samples = np.array([[0, 0], [0.2, 0], [10, 0], [5, 5.1], [0.31, 0], [0, 9.9]])
    report = mode_report(samples, CENTRES, sigma=0.1)
    # Two at the first mode, one at the second, one at the third; the others are too far.
    assert report.num_captured == 3
    assert report.num_modes == 4
    assert report.high_quality_share == pytest.approx(4 / 6)
    assert report.reverse_kl == pytest.approx(0.5 * np.log(2))
    assert report.total_variation == pytest.approx(0.25)


def test_given_shares_are_the_target():
    samples = np.repeat(CENTRES, [4, 3, 2, 1], axis=0)
    report = mode_report(samples, CENTRES, 0.1, shares=np.array([0.4, 0.3, 0.2, 0.1]))
    assert report.reverse_kl == pytest.approx(0, abs=1e-12)
    assert report.total_variation == pytest.approx(0, abs=1e-12)


def test_one_mode_of_k_costs_log_k():
    report = mode_report(np.zeros((5, 2)), CENTRES, 0.1)
    assert report.reverse_kl == pytest.approx(np.log(4))
    assert report.total_variation == pytest.approx(3 / 4)


def test_nothing_captured_is_infinitely_far():
    report = mode_report(np.full((5, 2), 5.0), CENTRES, 0.1)
    assert report.num_captured == report.high_quality_share == 0
    assert report.reverse_kl == np.inf
    assert report.total_variation == 1


def test_real_samples_reach_the_expected_share():
    rng = np.random.default_rng(0)
    n = 20_000
    samples = CENTRES[rng.integers(0, 4, n)] + 0.1 * rng.normal(size=(n, 2))
    report = mode_report(samples, CENTRES, 0.1)
    p = report.expected_share
    assert p == pytest.approx(0.98889, abs=1e-5)
    assert abs(report.high_quality_share - p) < 4 * np.sqrt(p * (1 - p) / n)
    # 2 n KL is chi-squared with 3 degrees of freedom.
    assert report.reverse_kl < 16 / (2 * n)


def test_scores_do_not_change_under_shift_and_scale():
    rng = np.random.default_rng(0)
    samples = CENTRES[rng.integers(0, 3, 500)] + 0.1 * rng.normal(size=(500, 2))
    assert mode_report(samples, CENTRES, 0.1) == mode_report(
        samples * 4 + 64, CENTRES * 4 + 64, 0.4
    )


def test_radius_and_share_are_inverse():
    assert gaussian_radius(0.997, 2) == pytest.approx(3.41, abs=0.005)
    for dim in (1, 2, 32):
        assert gaussian_share(gaussian_radius(0.9, dim), dim) == pytest.approx(0.9)
    assert gaussian_share(1.0, 1) == pytest.approx(0.682689, abs=1e-6)


def test_covered_share_counts_the_border():
    assert covered_share(np.array([0.0, 1.0, 2.0, 3.0]), 1.0) == 0.5


def test_kl_bounds_total_variation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts, shares = rng.integers(0, 9, 6) + 1, rng.dirichlet(np.ones(6))
        assert 2 * total_variation(counts, shares) ** 2 <= reverse_kl(counts, shares)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": 0.0}, "`sigma` is 0"),
        ({"num_sigma": -1.0}, "`num_sigma` is -1"),
        ({"shares": np.array([0.5, 0.5])}, "`shares` has shape"),
        ({"shares": np.array([0.5, 0.5, 0.5, 0.5])}, "`shares` sums to 2"),
        ({"centres": np.zeros((4, 3))}, "`samples` has 2 dimensions"),
        ({"samples": np.array([[np.nan, 0.0]])}, "`samples` .*not finite"),
        ({"centres": np.zeros(4)}, "`centres` has shape"),
    ],
)
def test_bad_input_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        mode_report(**({"samples": CENTRES, "centres": CENTRES, "sigma": 0.1} | change))


def test_bad_helpers_input_is_refused():
    with pytest.raises(ValueError, match="`share` is 1"):
        gaussian_radius(1.0, 2)
    with pytest.raises(ValueError, match="`distances` has shape"):
        covered_share(np.array([]), 1.0)
    with pytest.raises(ValueError, match="`radius` is -1"):
        covered_share(np.ones(3), -1.0)
    with pytest.raises(ValueError, match="`counts`"):
        reverse_kl(np.array([-1, 2]))
