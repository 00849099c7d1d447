"""Orbits: the cells of their members, and members that are samples of the source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.measures import Gaussian, UniformBall, UniformCube
from aeot_jax.ot.cells import antithetic
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.duality.assign import assign

KEY = jax.random.key(0)


assign_orbits = jax.jit(antithetic.assign_orbits)


def case(n, m, d):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((rows, d)).astype(np.float32) for rows in (n, m))
    return jnp.asarray(x), jnp.asarray(y), jnp.asarray(-0.5 * np.square(y).sum(1) / d**0.5)


def scores64(x, y, h):
    x, y, h = (np.asarray(a, np.float64) for a in (x, y, h))
    return x @ y.T + h[None, :]


@pytest.mark.parametrize(
    ("n", "m", "d"), [(160, 300, 33), (9, 70, 64), (3, 5, 2), (1, 1, 1), (130, 16, 7)]
)
@pytest.mark.parametrize("kernel", ["cpu", "accelerator"])
def test_cells_are_those_of_the_members(n, m, d, kernel, monkeypatch):
    monkeypatch.setattr(antithetic, "_ACCELERATOR_PRODUCTS", 4 * 64 * 128)  # blocks of 128
    x, y, h = case(n, m, d)
    if kernel == "cpu":
        index = assign_orbits(x, y, h)
    else:
        cells = antithetic._cells_by_argmax
        index = jax.jit(lambda x, y, h: antithetic._in_chunks(cells, x, Rows(y), h, 64)[1])(x, y, h)
    assert index.shape == (8, n)
    score = scores64(antithetic.members(x).reshape(-1, d), y, h)
    own = np.take_along_axis(score, np.asarray(index).reshape(-1, 1), axis=1)[:, 0]
    # Planes that all but meet may change places in float32.
    np.testing.assert_allclose(own, score.max(1), rtol=0, atol=1e-5 * d**0.5)
    assert (np.asarray(index).reshape(-1) == score.argmax(1)).mean() > 0.999


def test_minus_infinity_owns_no_cell_and_of_equals_the_lowest_does():
    x, y, h = case(64, 100, 40)
    y, h = jnp.concatenate([y, y]), jnp.concatenate([h, h])
    first = assign_orbits(x, y, h)
    assert first.max() < 100
    masked = h.at[:100].set(-jnp.inf)
    np.testing.assert_array_equal(assign_orbits(x, y, masked), first + 100)


def test_orbits_under_vmap_are_those_one_by_one():
    x, y, h = case(16, 50, 32)
    heights = jnp.stack([h, jnp.zeros_like(h)])
    several = jax.jit(jax.vmap(antithetic.assign_orbits, in_axes=(None, None, 0)))
    together = several(x, y, heights)
    for index, each in zip(together, heights, strict=True):
        np.testing.assert_array_equal(index, assign_orbits(x, y, each))


def test_members_are_eight_and_cancel():
    members = antithetic.members(case(5, 1, 13)[0])
    assert members.shape == (8, 5, 13)
    np.testing.assert_allclose(members.sum(0), 0, atol=1e-6)
    assert len({tuple(row) for row in np.asarray(antithetic.signs(4))}) == 8
    gram = antithetic.signs(4) @ antithetic.signs(4).T
    assert set(np.unique(gram)) == {-4.0, 0.0, 4.0}  # itself, unrelated, opposite


@pytest.mark.parametrize("mu", [Gaussian(9), UniformBall(9), UniformCube(9)])
def test_members_follow_the_law_of_a_symmetric_source(mu):
    members = np.asarray(antithetic.members(mu.sample(KEY, 4000)), np.float64)
    for x in members:
        np.testing.assert_allclose(x.mean(0), 0, atol=5 * np.sqrt(mu.variance / 4000))
        np.testing.assert_allclose(
            np.cov(x.T), mu.variance * np.eye(9), atol=5 * np.sqrt(2 / 4000) * mu.variance
        )


def test_mixing_is_a_rotation_that_spreads_an_axis_over_all_parts():
    turn = np.asarray(antithetic.mixing(KEY, 64), np.float64)
    np.testing.assert_allclose(turn @ turn.T, np.eye(64), atol=1e-5)
    of_parts = np.stack([(turn[:, part::4] ** 2).sum(1) for part in range(4)])
    assert np.abs(of_parts - 0.25).max() < 0.25


def test_the_kernel_of_a_plain_sample_agrees():
    x, y, h = case(32, 500, 32)
    np.testing.assert_array_equal(assign_orbits(x, y, h)[0], assign(x, y, h)[1])
