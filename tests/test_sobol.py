"""Sobol points: a net, uniform, scrambled afresh by every key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.measures import sobol

KEY = jax.random.key(4)


def test_every_part_of_the_line_and_of_the_plane_gets_its_share():
    """Elementary intervals of a net hold equally many points, whatever the scrambling."""
    u = np.asarray(sobol.uniforms(KEY, 5, 0, 256, 256))
    assert (u > 0).all()
    assert (u < 1).all()
    for axis in range(5):
        assert (np.bincount((u[:, axis] * 256).astype(int), minlength=256) == 1).all()
    # The first two coordinates are a (0, 8, 2)-net: boxes of any shape and volume 1/256.
    for bits in range(9):
        box = (u[:, 0] * 2**bits).astype(int) * 2 ** (8 - bits) + (
            u[:, 1] * 2 ** (8 - bits)
        ).astype(int)
        assert (np.bincount(box, minlength=256) == 1).all()


def test_the_ends_of_the_line_are_never_reached():
    ends = sobol._open_unit(jnp.array([[0, 0xFFFFFFFF, 0x1FF, 0xFFFFFE00]], jnp.uint32))
    np.testing.assert_array_equal(ends, [[2.0**-24, 1 - 2.0**-24] * 2])


def test_parts_of_a_draw_make_the_whole():
    whole = sobol.uniforms(KEY, 3, 0, 64, 64)
    parts = [sobol.uniforms(KEY, 3, jnp.int32(first), 16, 64) for first in range(0, 64, 16)]
    np.testing.assert_array_equal(jnp.concatenate(parts), whole)


def test_a_point_is_uniform_over_the_keys_and_draws_are_independent():
    keys = jax.random.split(KEY, 2000)
    u = np.asarray(jax.vmap(lambda key: sobol.uniforms(key, 2, 3, 2, 64))(keys), np.float64)
    # Five standard errors of a mean, a variance and a correlation.
    np.testing.assert_allclose(u.mean(0), 0.5, atol=5 / np.sqrt(12 * 2000))
    np.testing.assert_allclose(u.var(0), 1 / 12, atol=5 * np.sqrt(1 / 180 / 2000))
    first = u[:, 0, 0]
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(2000)
    assert abs(np.corrcoef(first, u[:, 0, 1])[0, 1]) < 5 / np.sqrt(2000)


@pytest.mark.parametrize("dim", [1, 12])
def test_a_mean_over_points_is_closer_than_over_independent_ones(dim):
    keys = jax.random.split(KEY, 50)
    means = jax.vmap(lambda key: sobol.uniforms(key, dim, 0, 512, 512).mean())(keys)
    assert np.std(means) < 0.1 / np.sqrt(12 * 512 * dim)
