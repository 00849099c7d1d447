import jax
import numpy as np
import pytest
from problems import constructed_2d
from scipy.optimize import linear_sum_assignment

from aeot_jax import assign, transport

PROBLEM = constructed_2d(seed=0, m=30)
RNG = np.random.default_rng(0)
X = RNG.uniform(-0.5, 0.5, (200, 2)).astype(np.float32)
Y, H = PROBLEM.y.astype(np.float32), PROBLEM.h_exact.astype(np.float32)


def potential(x):
    """Dense u_h in float64."""
    return (x.astype(np.float64) @ Y.T.astype(np.float64) + H).max(-1)


def test_a_sample_goes_to_the_target_of_its_cell():
    _, index = assign(X, Y, H)
    np.testing.assert_array_equal(transport(X, Y, H), Y[np.asarray(index)])


def test_the_map_is_the_gradient_of_the_potential():
    step = 1e-6
    moves = step * np.eye(2)
    x = X.astype(np.float64)[:, None]
    gradient = (potential(x + moves) - potential(x - moves)) / (2 * step)
    # At a face the difference straddles two planes; with this step no sample is that near.
    np.testing.assert_allclose(transport(X, Y, H), gradient, atol=1e-7)


def test_one_sample_is_a_row_of_many():
    together = transport(X, Y, H)
    for x, z in zip(X[:3], together[:3], strict=True):
        alone = transport(x, Y, H)
        assert alone.shape == (2,)
        np.testing.assert_array_equal(alone, z)


def test_no_exchange_of_targets_lowers_the_cost():
    z = np.asarray(transport(X, Y, H), np.float64)
    gain = X.astype(np.float64) @ z.T
    rows, columns = linear_sum_assignment(-gain)
    assert gain.trace() == pytest.approx(gain[rows, columns].sum(), abs=1e-4)


def test_shifting_all_heights_moves_no_sample():
    np.testing.assert_array_equal(transport(X, Y, H + 3), transport(X, Y, H))


def test_a_target_at_minus_infinity_receives_nothing():
    h = np.where(np.arange(len(H)) < 10, -np.inf, H).astype(np.float32)
    z = np.asarray(transport(X, Y, h))
    assert not (z[:, None] == Y[None, :10]).all(-1).any()


def test_jit_and_vmap_do_not_change_the_answer():
    together = transport(X, Y, H)
    np.testing.assert_array_equal(jax.jit(transport)(X, Y, H), together)
    np.testing.assert_array_equal(jax.vmap(transport, (0, None, None))(X, Y, H), together)


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"`x` has shape .* `y` has shape"):
        transport(X[:, :1], Y, H)
    with pytest.raises(ValueError, match=r"`h` has shape .* one height per target"):
        transport(X, Y, H[:-1])
    with pytest.raises(ValueError, match=r"`x` has shape \(1, 200, 2\)"):
        transport(X[None], Y, H)
