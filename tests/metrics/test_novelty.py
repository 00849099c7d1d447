import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from aeot_jax.metrics.newness import novelty
from aeot_jax.metrics.newness.novelty import novelty_report


def codes(seed, n, d=5):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


KNOWN, UNSEEN = codes(0, 600), codes(1, 500)


@pytest.mark.parametrize("unseen", [UNSEEN, None])
def test_copies_are_not_new(unseen):
    report = novelty_report(KNOWN[:200], KNOWN, unseen)
    assert report.share_near == report.nearer == 1
    assert report.num_copies == report.num_new == 200
    assert report.median_new == 0


@pytest.mark.parametrize("unseen", [UNSEEN, None])
def test_unseen_codes_that_are_known_are_counted(unseen):
    """Up to rounding, and whatever the unit."""
    if unseen is None:
        report = novelty_report(codes(2, 100), np.concatenate([KNOWN, KNOWN]))
        assert report.num_repeated == report.num_unseen
        return
    for unit in (1e-3, 1e3):
        some = np.concatenate([UNSEEN, KNOWN[:40] + 1e-6 * codes(3, 40)]) * unit
        assert novelty_report(codes(2, 100) * unit, KNOWN * unit, some).num_repeated == 40


@pytest.mark.parametrize("unseen", [UNSEEN, None])
def test_fresh_codes_of_the_same_law_are_as_new_as_unseen_ones(unseen):
    report = novelty_report(codes(2, 500), KNOWN, unseen)
    assert abs(report.share_near - 0.05) < 4 * report.share_near_se
    assert abs(report.nearer - 0.5) < 4 * report.nearer_se
    assert report.unseen == ("left out" if unseen is None else "held out")


def test_codes_that_tie_are_as_new_as_others_that_tie():
    def whole(seed, n):
        return np.random.default_rng(seed).integers(0, 6, (n, 3)).astype(np.float32)

    report = novelty_report(whole(0, 1000), whole(1, 300), whole(2, 1000))
    assert report.cutoff == 0
    assert abs(report.share_near - 0.05) < 4 * report.share_near_se


@pytest.mark.long
def test_the_error_beside_left_out_codes_covers_what_they_vary_by():
    found = [novelty_report(codes(s, 400, 3), codes(1000 + s, 100, 3)) for s in range(300)]
    off = [(one.share_near - 0.05) / one.share_near_se for one in found]
    assert np.std(off) < 1.1


def test_codes_that_are_far_from_all_data_are_newer_than_unseen_ones():
    report = novelty_report(9 + codes(2, 100), KNOWN, UNSEEN)
    assert report.num_repeated == 0
    assert report.share_near == report.nearer == 0


def test_small_steps_away_from_the_training_codes_are_near_copies():
    report = novelty_report(KNOWN + 0.01 * codes(3, 600), KNOWN, UNSEEN)
    assert report.num_copies == 0
    assert report.share_near > 0.9
    assert report.nearer > 0.95


@pytest.mark.parametrize("few", [0, 2**23])
def test_the_numbers_are_those_of_all_pairs(monkeypatch, few):
    """On the device and on the host, against float64 distances and a library's statistic."""
    monkeypatch.setattr(novelty, "_FEW_PAIRS", few)
    new = np.concatenate([codes(2, 300), KNOWN[:30]])
    known = np.concatenate([KNOWN, KNOWN[:50]])  # copies among the training codes too
    near = cdist(new.astype(float), known).min(1)
    inside = cdist(known.astype(float), known)
    np.fill_diagonal(inside, np.inf)
    rows = np.linspace(0, 649, 325).round().astype(int)
    for unseen, far in (
        (UNSEEN, cdist(UNSEEN.astype(float), known).min(1)),
        (None, inside.min(1)[rows]),
    ):
        report = novelty_report(new, known, unseen)
        expected = mannwhitneyu(far.astype(np.float32), near.astype(np.float32)).statistic
        assert report.nearer == pytest.approx(expected / (len(near) * len(far)), abs=1e-6)
        assert report.median_new == pytest.approx(np.median(near), rel=1e-5)
        assert report.median_unseen == pytest.approx(np.median(far), rel=1e-5)
        assert (report.num_copies, report.num_unseen) == (30, len(far))


def test_every_field_is_plain():
    report = novelty_report(KNOWN[:30], KNOWN, UNSEEN)
    assert {type(value) for value in vars(report).values()} == {int, float, str}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 0.0}, "`alpha` is 0"),
        ({"unseen": UNSEEN[:19]}, "`unseen` has 19 rows.*pass at least 20, or None"),
        ({"known": KNOWN[:20], "unseen": None}, "`known` has 20 rows.*at least 21, or `unseen`"),
        ({"unseen": UNSEEN[:, :2]}, "`unseen` has 2 dimensions"),
        ({"new": KNOWN * np.nan}, "`new` holds a value that is not finite"),
    ],
)
def test_bad_input_is_refused(changes, words):
    arguments = {"new": KNOWN, "known": KNOWN, "unseen": UNSEEN, **changes}
    alpha = arguments.pop("alpha", 0.05)
    with pytest.raises(ValueError, match=words):
        novelty_report(*arguments.values(), alpha=alpha)
