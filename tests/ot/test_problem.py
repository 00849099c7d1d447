"""The border: bad input gets one sentence with the argument, its value and the way out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot import checks, frames, merging

KEY = jax.random.key(0)
Y = jnp.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.5]])
MU = aeot.Gaussian(2)
CONFIG = aeot.SolverConfig(tolerance=None, max_steps=2, start="gaussian")

BAD_TARGETS = [
    (jnp.zeros((0, 2)), r"`y` has shape \(0, 2\); pass at least one target"),
    (jnp.zeros(3), r"`y` has shape \(3,\); pass one point a row"),
    (Y.at[1, 0].set(jnp.nan), r"`y` is nan at 1, 0; pass finite numbers"),
    (Y.at[2, 1].set(jnp.inf), r"`y` is inf at 2, 1; pass finite numbers"),
    (np.full((2, 2), 1e300), r"`y` is 1e\+300 at 0, 0, too large for float32"),
    (Y.astype(complex), r"`y` has dtype complex64; pass real numbers"),
]

BAD_WEIGHTS = [
    (jnp.full(2, 0.5), r"`nu` has shape \(2,\), but `y` has shape \(3, 2\); pass one weight"),
    (jnp.full((3, 1), 1 / 3), r"`nu` has shape \(3, 1\); pass one number a target"),
    (jnp.array([0.5, 0.6, -0.1]), r"negative weight, -0.1 at 2"),
    (jnp.array([0.5, 0.5, 0.5]), r"`nu` sums to 1.5; divide it by its sum"),
    (jnp.zeros(3), r"`nu` is zero everywhere"),
    (jnp.array([0.5, 0.5, jnp.nan]), r"`nu` holds NaN or infinity"),
]

BAD_HEIGHTS = [
    (jnp.zeros(2), r"`h` has shape \(2,\), but `y` has shape \(3, 2\); pass one height"),
    (jnp.array([0.0, jnp.nan, 0.0]), r"`h` is nan at 1"),
    (jnp.array([0.0, 0.0, jnp.inf]), r"`h` is inf at 2"),
    (jnp.full(3, -jnp.inf), r"`h` is -inf everywhere"),
]


@pytest.mark.parametrize(("y", "sentence"), BAD_TARGETS)
def test_bad_targets_are_named_by_all_that_take_them(y, sentence):
    nu = None
    with pytest.raises(ValueError, match=sentence):
        aeot.solve(KEY, MU, y, nu, CONFIG)
    with pytest.raises(ValueError, match=sentence):
        aeot.init(KEY, MU, y, nu, CONFIG)
    with pytest.raises(ValueError, match=sentence):
        aeot.certify(KEY, MU, y, jnp.zeros(len(y)), nu, 64)
    with pytest.raises(ValueError, match=sentence):
        aeot.extension(KEY, MU, y, jnp.zeros(len(y)))


@pytest.mark.parametrize(("nu", "sentence"), BAD_WEIGHTS)
def test_bad_weights_are_named(nu, sentence):
    with pytest.raises(ValueError, match=sentence):
        aeot.solve(KEY, MU, Y, nu, CONFIG)
    with pytest.raises(ValueError, match=sentence):
        aeot.certify(KEY, MU, Y, jnp.zeros(3), nu, 64)


@pytest.mark.parametrize(("h", "sentence"), BAD_HEIGHTS)
def test_bad_heights_are_named(h, sentence):
    with pytest.raises(ValueError, match=sentence):
        aeot.certify(KEY, MU, Y, h, None, 64)


def test_a_source_of_another_dimension_is_named():
    with pytest.raises(ValueError, match=r"`mu` has dimension 3, but `y` has shape \(3, 2\)"):
        aeot.solve(KEY, aeot.Gaussian(3), Y, None, CONFIG)


def test_a_known_array_can_be_checked_under_a_trace():
    def body(scale):
        return checks.check_targets(Y) * scale

    np.testing.assert_array_equal(jax.jit(body)(2.0), 2 * Y)
    bad = Y.at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="`y` is nan at 0, 0"):
        jax.jit(lambda s: checks.check_targets(bad) * s)(2.0)


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.float16])
def test_other_dtypes_become_float32(dtype):
    targets = checks.check_targets(np.ones((2, 2), dtype))
    assert targets.dtype == jnp.float32


def test_weights_become_a_distribution():
    nu = checks.check_weights(np.array([0.2, 0.3, 0.50001]), Y)
    np.testing.assert_allclose(np.asarray(nu, np.float64).sum(), 1, atol=1e-7)
    np.testing.assert_allclose(checks.check_weights(None, Y), 1 / 3)


def test_representatives_are_the_lowest_equal_targets():
    y = jnp.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0], [3.0, 3.0]])
    np.testing.assert_array_equal(merging.representatives(y), [0, 1, 0, 1, 4])
    assert merging.representatives(Y) is None


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_normalised_targets_do_not_know_where_they_came_from(scale, shift):
    y = jax.random.normal(jax.random.key(1), (50, 3))
    nu = jax.random.dirichlet(jax.random.key(2), jnp.ones(50))
    plain = frames.frame(y, nu).normalise(y)
    moved = (y + shift) * scale
    frame = frames.frame(moved, nu)
    # Rounding of the shifted targets, 3 + O(1) in float32.
    np.testing.assert_allclose(frame.normalise(moved), plain, atol=3e-6)
    np.testing.assert_allclose(nu @ jnp.square(plain).mean(1), 1, rtol=1e-5)


def test_targets_that_coincide_have_a_finite_frame():
    for value in (0.0, 5.0, 1e-30, 1e30):
        y = jnp.full((4, 2), value)
        frame = frames.frame(y, jnp.full(4, 0.25))
        assert np.isfinite(frame.scale)
        assert frame.scale > 0
        np.testing.assert_allclose(frame.normalise(y), 0, atol=1e-6)


def test_many_small_weights_are_merged_without_loss():
    same = np.repeat(np.array([0, 100_000], np.int32), 100_000)
    nu = jnp.full(200_000, 1 / 200_000)
    merged = merging.merged_weights(nu, same)
    np.testing.assert_array_equal(merged[np.array([0, 100_000])], [0.5, 0.5])
    assert merged.sum() == 1
    # Under a trace nothing can be looked at; few copies lose nothing.
    few = jax.jit(lambda nu: merging.merged_weights(nu, np.array([0, 1, 0], np.int32)))
    np.testing.assert_array_equal(few(jnp.array([0.25, 0.5, 0.25])), [0.5, 0.5, 0.0])
