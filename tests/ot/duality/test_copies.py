"""Equal targets: whose draws they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot

Y = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [0.0, 1.0]], np.float32)


def test_every_copy_has_its_turn():
    index = np.array([0, 1, 0, 0, 3, 0, 0])
    np.testing.assert_array_equal(aeot.spread_copies(index, Y), [0, 1, 2, 4, 3, 0, 2])


def test_spreading_changes_no_target():
    x = np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32)
    index = aeot.assign(x, Y, np.zeros(5))[1]
    assert set(np.asarray(index)) == {0, 1, 3}
    spread = np.asarray(aeot.spread_copies(index, Y))
    np.testing.assert_array_equal(Y[spread], aeot.transport(x, Y, np.zeros(5)))
    counts = np.bincount(spread, minlength=5)[[0, 2, 4]]
    assert counts.max() - counts.min() <= 1


def test_where_all_differ_nothing_is_spread():
    index = np.array([1, 1, 0])
    np.testing.assert_array_equal(aeot.spread_copies(index, Y[:2]), index)


@pytest.mark.parametrize("index", [np.zeros((2, 2), int), np.zeros(3), np.array([0, 5])])
def test_mistakes_are_explained(index):
    with pytest.raises(ValueError, match="`index` "):
        aeot.spread_copies(index, Y)


def test_pairs_say_that_the_first_of_equal_targets_gets_all():
    assert "spread_copies" in (aeot.pairs.__doc__ or "")


def test_traced_indices_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="`index` is traced, but copies are counted on the host"):
        jax.jit(lambda index: aeot.spread_copies(index, Y))(jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match="`y` is traced"):
        jax.jit(lambda y: aeot.spread_copies(np.zeros(3, int), y))(Y)
