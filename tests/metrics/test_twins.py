import numpy as np
import pytest

from aeot_jax.metrics import memory_report, novelty_report
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.newness.novelty import left_out, left_out_rows
from aeot_jax.metrics.newness.twins import Twins, twins

P = 300


def law(kind, n, d, seed):
    rng = np.random.default_rng(seed)
    y = rng.standard_t(3, (n, d)) if kind == "heavy" else rng.normal(size=(n, d))
    if kind == "two scales":
        y[: n // 3] = 3 + 0.01 * y[: n // 3]
    if kind == "lattice":
        y = np.round(2 * y)
    return y.astype(np.float32)


def found(unseen, known):
    return twins(unseen, known, nearest(unseen, known)[0]).copied


def burst(unseen, known, size, seed=7):
    """Some unseen points become near copies of known ones."""
    mine = np.arange(0, len(unseen), 7)
    y, noise = unseen.copy(), np.random.default_rng(seed).normal(size=unseen[mine].shape)
    y[mine] = known[mine] + size * noise
    return y, np.isin(np.arange(len(unseen)), mine)


@pytest.mark.parametrize("d", [1, 2, 5, 16])
@pytest.mark.parametrize("kind", ["normal", "heavy", "two scales", "lattice"])
def test_points_of_the_same_law_are_no_twins(kind, d):
    known = law(kind, 1000, d, 0)
    assert not found(law(kind, P, d, 1), known).any()
    rows = left_out_rows(len(known))
    assert not twins(known[rows], known, left_out(known, rows), rows).copied.any()


@pytest.mark.parametrize("kind", ["normal", "heavy", "two scales"])
@pytest.mark.parametrize("d", [5, 16])
def test_near_copies_are_found_at_every_scale(kind, d):
    known = law(kind, 1000, d, 0)
    size = np.where(np.arange(P)[::7] < 333, 1e-4, 0.02)[:, None]  # of the tight third, and others
    unseen, mine = burst(law(kind, P, d, 1), known, size)
    flagged = found(unseen, known)
    assert flagged[mine].all()
    assert flagged[~mine].sum() <= 2


def test_copies_to_the_last_bit_are_no_twins():
    known = law("normal", 1000, 5, 0)
    unseen, _ = burst(law("normal", P, 5, 1), known, 0.0)
    assert not found(unseen, known).any()


def test_pairs_among_the_known_points_are_twins_where_points_are_left_out():
    known = law("normal", 800, 5, 0)
    known = np.concatenate([known, known[:200] + 0.01 * law("normal", 200, 5, 1)])
    rows = left_out_rows(len(known))
    flagged = twins(known[rows], known, left_out(known, rows), rows).copied
    assert flagged.sum() == ((rows < 200) | (rows >= 800)).sum()


def test_where_work_is_bounded_the_nearest_points_are_looked_at(monkeypatch):
    known = law("normal", 1000, 5, 0)
    unseen, mine = burst(law("normal", P, 5, 1), known, 0.02)
    monkeypatch.setattr("aeot_jax.metrics.newness.twins._WORK", 100 * known.size)
    np.testing.assert_array_equal(found(unseen, known), mine)


def test_too_few_points_have_no_twins():
    for m in (1, 6, 99):
        known = law("normal", m, 5, 0)
        assert not found(known + 1e-3, known).any()


def test_a_few_far_points_hide_no_twins():
    known = law("normal", 1000, 5, 0)
    known[0] = 1e6
    unseen, mine = burst(law("normal", P, 5, 1), known, 0.02)
    np.testing.assert_array_equal(found(unseen, known)[1:], mine[1:])


def thin(n, d, seed):
    """A third of the points on a line, the others in a cloud beside it: its law has twins."""
    y = law("normal", n, d, seed)
    y[: n // 3] = 9 + np.outer(y[: n // 3, 0], np.ones(d))
    return y.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_new_points_of_the_same_law_are_as_new_where_it_has_twins_by_nature(seed):
    known, unseen, new = (thin(n, 16, 3 * seed + i) for i, n in enumerate((1200, 400, 800)))
    report, memory = novelty_report(new, known, unseen), memory_report(new, known, unseen)
    assert report.num_twins == memory.num_twins > 50
    assert abs(report.share_near - 0.05) < 3 * report.share_near_se
    assert abs(report.nearer - 0.5) < 3 * report.nearer_se
    assert abs(memory.share_nearer - 0.05) < 3 * memory.standard_error
    near = known[:800] + 0.02 * law("normal", 800, 16, 99)
    assert novelty_report(near, known, unseen).nearer > 0.9


def test_novelty_is_judged_without_twins():
    """Else samples that stay near to the data look as new as the unseen data."""
    known = law("normal", 1000, 5, 0)
    unseen, mine = burst(law("normal", P, 5, 1), known, 0.005)
    near = known[:400] + 0.1 * law("normal", 400, 5, 2)
    report, clean = (novelty_report(near, known, one) for one in (unseen, unseen[~mine]))
    assert (report.num_twins, report.num_unseen) == (mine.sum(), P)
    assert report.share_near == pytest.approx(clean.share_near, abs=0.01)
    assert report.nearer == pytest.approx(clean.nearer, abs=0.01)
    assert min(report.share_near, report.nearer) > 0.9
    memory = memory_report(near, known, unseen)
    assert (memory.num_twins, memory.num_held_out) == (mine.sum(), P)
    assert memory.share_nearer == report.share_near


def test_most_are_not_left_out():
    known = law("normal", 1000, 5, 0)
    report = novelty_report(known[500:], known, known[:100] + 0.01 * law("normal", 100, 5, 2))
    assert report.num_twins == report.num_unseen == 100
    assert report.share_near == 1
    assert Twins(np.array([True, False]), 0.1).others.tolist() == [False, True]
    assert Twins(np.array([True, True, False]), 0.1).others.all()
