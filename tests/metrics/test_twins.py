import numpy as np
import pytest

from aeot_jax.metrics import memory_report, novelty_report
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.newness.novelty import left_out, left_out_rows
from aeot_jax.metrics.newness.twins import others, twins

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
    return twins(unseen, known, nearest(unseen, known)[0])


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
    assert not twins(known[rows], known, left_out(known, rows), rows).any()


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
    flagged = twins(known[rows], known, left_out(known, rows), rows)
    assert flagged.sum() == ((rows < 200) | (rows >= 800)).sum()


def test_where_work_is_bounded_the_nearest_points_are_looked_at(monkeypatch):
    known = law("normal", 1000, 5, 0)
    unseen, mine = burst(law("normal", P, 5, 1), known, 0.02)
    monkeypatch.setattr("aeot_jax.metrics.newness.twins._WORK", 100 * known.size)
    np.testing.assert_array_equal(found(unseen, known), mine)


def test_too_few_points_have_no_twins():
    known = law("normal", 6, 5, 0)
    assert not found(known + 1e-3, known).any()


def test_novelty_is_judged_without_twins():
    """Else samples that stay near to the data look as new as the unseen data."""
    known = law("normal", 1000, 5, 0)
    unseen, mine = burst(law("normal", P, 5, 1), known, 0.005)
    near = known[:400] + 0.1 * law("normal", 400, 5, 2)
    report, clean = (novelty_report(near, known, one) for one in (unseen, unseen[~mine]))
    assert (report.num_twins, report.num_unseen) == (mine.sum(), P)
    assert report.share_near == clean.share_near > 0.8
    assert report.nearer == clean.nearer
    memory = memory_report(near, known, unseen)
    assert (memory.num_twins, memory.num_held_out) == (mine.sum(), P)
    assert memory.share_nearer == report.share_near


def test_most_are_not_left_out():
    known = law("normal", 1000, 5, 0)
    report = novelty_report(known[500:], known, known[:100] + 0.01 * law("normal", 100, 5, 2))
    assert report.num_twins == report.num_unseen == 100
    assert report.share_near == 1
    assert others(np.array([True, False])).tolist() == [False, True]
    assert others(np.array([True, True, False])).all()
