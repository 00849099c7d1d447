"""The maps of cells onto kernels where samples tell little, or nothing, of a shape."""

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax import Empirical, calibrate, extension, kernels
from aeot_jax.ot.extension.generate import extend
from aeot_jax.ot.extension.noise import gains, places

KEY = jax.random.key(0)
M = 60


def test_a_single_sample_tells_of_no_shape():
    """It is the centre of its cell, and its offset a rounding error."""
    found = kernels(np.random.default_rng(3).normal(size=(M, 2)))
    counts, squares = np.full(M, 256), np.tile(np.eye(2), (M, 1, 1))
    counts[:3] = 1
    squares[:3] = [[[1e-9, 3e-9], [3e-9, 2e-9]], np.zeros((2, 2)), -1e-9 * np.eye(2)]
    numbers = jnp.asarray(counts, jnp.int32), jnp.asarray(squares, jnp.float32)
    group = np.asarray(found.group)
    gain = gains.of_cells(found, places.Places(jnp.zeros((M, 2)), jnp.ones(M), *numbers), group)
    for cell in range(3):
        other = np.flatnonzero((group == group[cell]) & (counts > 1))[0]
        np.testing.assert_allclose(gain[cell], gain[other], rtol=1e-6)


def test_one_point_of_the_source_in_each_cell_moves_codes_to_the_mean_alone():
    side = np.arange(16, dtype=np.float32) - 8
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    y = points / 2
    mu, h = Empirical(jnp.asarray(points)), jnp.asarray(-(y**2).sum(1))
    ext = calibrate(KEY, extension(KEY, mu, y, h))
    assert ext.noise is not None
    z, _, _ = jax.jit(extend)(mu.points, ext)
    s, k = float(ext.noise.reach), np.asarray(ext.noise.kernels.group)
    mean = np.asarray(ext.noise.kernels.mean)[k]
    np.testing.assert_allclose(z, mean + np.sqrt(1 - s) * (y - mean), atol=1e-5)
