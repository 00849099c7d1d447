"""Sizes to which problems are filled up: few, near, and of no influence on the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot import problem
from aeot_jax.ot.cells import power, sizes

KEY = jax.random.key(0)


def test_a_quarter_at_most_is_fill():
    for m in range(sizes.LEAST, 20_001):
        rows = sizes.padded(m, 8)
        assert m <= rows
        assert rows - m <= rows / 4


@pytest.mark.long
def test_a_factor_of_two_has_four_sizes():
    for m in range(1, 10_001):
        found = {sizes.padded(n, 8) for n in range(m, 2 * m + 1, max(1, m // 50))}
        assert len(found) <= 4


def test_large_problems_stay_as_they_are():
    assert sizes.padded(20_001, 8) == 20_001
    assert sizes.padded(19_999, 2000) == 19_999  # 153 MiB
    y = jnp.ones((20_001, 2)).at[:, 0].set(jnp.arange(20_001.0))
    assert problem.make(aeot.Gaussian(2), y).y is y


@pytest.mark.parametrize("d", [pytest.param(3, marks=pytest.mark.long), 24])
def test_what_fills_up_is_scored_by_no_kernel(d):
    """Rows without a height beyond the last that has one could hold anything, even NaN."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal((n, d)), jnp.float32) for n in (64, 700))
    h = jnp.where(jnp.arange(700) < 130, 0.0, -jnp.inf)
    wild = jnp.where(jnp.arange(700)[:, None] < 256, y, jnp.nan)
    for kernel in (power.best, lambda x, y, h: power.highest(x, y, h, 3)):
        for one, other in zip(kernel(x, wild, h), kernel(x, y, h), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_problem_carries_heights_there_and_back():
    y = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    made = problem.make(aeot.Gaussian(2), y, np.array([0.1, 0.2, 0.3, 0.4]))
    assert made.y.shape == (256, 2)
    np.testing.assert_allclose(np.asarray(made.nu)[:5], [0.4, 0.2, 0, 0.4, 0], rtol=1e-6)
    h = made.heights(np.array([0.1, 0.2, 0.5, -np.inf]))
    np.testing.assert_allclose(np.asarray(h)[:5], [0.5, 0.2, -np.inf, -np.inf, -np.inf])
    np.testing.assert_array_equal(made.of_users(np.arange(256)), [0, 1, 0, 3])
    np.testing.assert_allclose(made.heights_of_users(h), [0.5, 0.2, -np.inf, -np.inf])
