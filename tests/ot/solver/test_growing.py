"""Heights for new targets: what was known stays, and the rest is a start of some worth."""

import jax
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot import merging
from aeot_jax.ot.exact.exact import exact_masses
from aeot_jax.ot.solver.starts import growing

RNG = np.random.default_rng(0)
PLANE = RNG.normal(size=(440, 2)) * [2.0, 0.5] + [7.0, -3.0]


@pytest.fixture(scope="module")
def solved():
    found = aeot.solve_exact(aeot.UniformCube(2), PLANE[:400])
    return PLANE[:400], np.asarray(found.h)


def mass_error(y, h):
    """Of heights in the plane, from exact areas."""
    masses = exact_masses(y, h)
    return np.sqrt(len(y) * np.square(masses - 1 / len(y)).sum())


def test_known_targets_keep_their_height_whatever_their_order(solved):
    y, h = solved
    order = RNG.permutation(440)
    extended = np.asarray(aeot.extend_heights(y, h, PLANE[order]))
    old = order < 400
    np.testing.assert_array_equal(extended[old], h[order[old]].astype(np.float32))
    assert np.isfinite(extended).all()
    fewer = aeot.extend_heights(y, h, y[::3])
    np.testing.assert_array_equal(fewer, h[::3].astype(np.float32))


@pytest.mark.parametrize("dtypes", [("u1", "u1"), ("u1", "f4"), ("f8", "f2"), ("i8", "u1")])
def test_targets_are_known_whatever_they_are_stored_in(dtypes):
    y = RNG.integers(0, 255, (90, 4))
    y[7] = y[60]  # of equal ones the highest counts
    h = RNG.normal(size=90).astype(np.float32)
    old, new = (y.astype(dtype) for dtype in dtypes)
    expected = h[:80].copy()
    expected[[7, 60]] = h[[7, 60]].max()
    extended = np.asarray(aeot.extend_heights(old[:80], h[:80], new))
    np.testing.assert_array_equal(extended[:80], expected)


def test_targets_of_one_key_are_not_taken_for_one_another(solved, monkeypatch):
    y, h = solved
    monkeypatch.setattr(merging, "keys", lambda rows: np.zeros(len(rows), np.int64))
    where = growing.extended(y, h, PLANE).where
    assert set(where[where != np.arange(440)]) == {-1}


def test_the_quadratic_potential_between_normal_laws_is_found():
    """From N(0, 1) to N(0, S) psi is y' S^(-1/2) y / 2."""
    basis = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    root = basis * [3.0, 2.0, 1.0, 0.5, 0.2]
    y = RNG.normal(size=(600, 5)) @ root.T
    form = basis / [3.0, 2.0, 1.0, 0.5, 0.2] @ basis.T
    h = -0.5 * np.einsum("md,de,me->m", y, form, y)
    extended = aeot.extend_heights(y[:500], h[:500], y[500:])
    assert np.std(np.asarray(extended) - h[500:]) < 0.05 * h.std()


def test_new_targets_start_near_the_optimum(solved):
    y, h = solved
    extended = np.asarray(aeot.extend_heights(y, h, PLANE), np.float64)
    nearest = np.argmin(np.square(PLANE[400:, None] - y[None]).sum(-1), axis=1)
    copied = np.concatenate([h, h[nearest]])
    assert mass_error(PLANE, extended) < 0.7 * mass_error(PLANE, copied)


@pytest.mark.long
def test_heights_scale_with_the_targets_and_forget_a_shift(solved):
    y, h = solved
    plain = np.asarray(aeot.extend_heights(y, h, PLANE))
    moved = np.asarray(aeot.extend_heights(100 * (y + 5), 100 * h, 100 * (PLANE + 5)))
    np.testing.assert_allclose(moved / 100, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(("m", "d"), [(1, 3), (5, 8), (100, 64), (300, 8)])
def test_a_constant_added_to_heights_is_added_to_the_new_ones(m, d):
    rng = np.random.default_rng(m)
    y, new = rng.normal(size=(m, d)), rng.normal(size=(4, d))
    h = -0.15 * np.square(y).sum(1)
    plain, moved = (np.asarray(aeot.extend_heights(y, h + c, new)) for c in (0.0, 1000.0))
    np.testing.assert_allclose(moved - 1000, plain, atol=1e-3)


def test_far_targets_have_finite_heights(solved):
    y, h = solved
    assert np.isfinite(aeot.extend_heights(y, h, np.array([[1e14, 0], [1e18, -1e18]]))).all()


@pytest.mark.parametrize("m", [1, 2, 3])
def test_few_old_targets_teach_what_they_can(m):
    y = RNG.normal(size=(m, 3))
    extended = np.asarray(aeot.extend_heights(y, np.zeros(m), RNG.normal(size=(7, 3))))
    np.testing.assert_allclose(extended, 0, atol=1e-6)


def test_of_equal_targets_the_highest_counts_and_empty_cells_teach_nothing():
    y = np.array([[0.0, 1], [0, 1], [2, 0], [1, 1]])
    h = np.array([-np.inf, 0.5, -1, 0])
    np.testing.assert_array_equal(aeot.extend_heights(y, h, y[:3]), [0.5, 0.5, -1])


def test_what_does_not_fit_is_named(solved):
    y, h = solved
    with pytest.raises(ValueError, match=r"`y_new` has shape \(3, 3\), but `y_old` .* \(400, 2"):
        aeot.extend_heights(y, h, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"`h_old` has shape \(399,\)"):
        aeot.extend_heights(y, h[1:], y)
    with pytest.raises(ValueError, match="`extend_heights`"):
        jax.jit(lambda h: aeot.extend_heights(y, h, y))(h)
