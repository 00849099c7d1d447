"""Problems far from the origin: each function answers as it does at the origin.

An offset of the targets moves no cell and no height; an offset of the source tilts the heights.
Targets in float64 keep their digits at any offset, those in float32 have lost some already: offsets
that are powers of two leave targets on a grid what they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot

KEY, OTHER_KEY = jax.random.split(jax.random.key(0))
M, D = 40, 4
MU = aeot.Gaussian(D)
RNG = np.random.default_rng(0)
Y = np.round(RNG.standard_normal((M, D)) * 64) / 64
X = RNG.standard_normal((200, D)).astype(np.float32)
H = (0.3 * RNG.standard_normal(M)).astype(np.float32)

FAR = [(np.float32, 2.0**16), (np.float64, 1e6), (np.float64, -3e9), (np.int64, 2**40)]
"""Dtypes with offsets at which they still hold the targets (integers: 64 times the targets)."""


def moved(dtype, offset):
    """Targets at an offset, and those at the origin to which they are equal up to the offset."""
    if dtype is np.int64:
        return (64 * Y).astype(np.int64) + offset, 64 * Y
    return (Y + offset).astype(dtype), Y


@pytest.mark.optimised
@pytest.mark.parametrize(("dtype", "offset"), FAR)
def test_an_offset_of_the_targets_moves_no_cell(dtype, offset):
    far, near = moved(dtype, offset)
    index = aeot.assign(X, near, H)[1]
    np.testing.assert_array_equal(aeot.assign(X, far, H)[1], index)
    np.testing.assert_array_equal(aeot.top_k(X, far, H, 3)[1], aeot.top_k(X, near, H, 3)[1])
    np.testing.assert_array_equal(aeot.transport(X, far, H), far.astype(np.float32)[index])
    _, sent = next(aeot.pairs(KEY, MU, far, H))
    x, of_near = next(aeot.pairs(KEY, MU, near, H))
    which = (np.asarray(of_near)[:, None] == near.astype(np.float32)).all(2).argmax(1)
    np.testing.assert_array_equal(sent, far.astype(np.float32)[which])
    assert x.shape == (256, D)
    u, shift = aeot.brenier(X, near, H), X.astype(np.float64).sum(1) * offset
    eps = 4e-7 * np.abs(X).sum(1) * abs(offset)
    assert (np.abs(np.asarray(aeot.brenier(X, far, H), np.float64) - u - shift) <= eps + 1e-4).all()
    value = np.asarray(aeot.assign(X, far, H)[0], np.float64)
    assert (np.abs(value - u - shift) <= eps + 1e-4).all()


@pytest.mark.optimised
@pytest.mark.parametrize(("dtype", "offset"), FAR)
def test_an_offset_of_the_targets_changes_no_count(dtype, offset):
    far, near = moved(dtype, offset)
    for one, other in zip(
        jax.tree.leaves(aeot.certify(KEY, MU, far, H, num_samples=4096)),
        jax.tree.leaves(aeot.certify(KEY, MU, near, H, num_samples=4096)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    centres = aeot.mass_centres(KEY, MU, far, H, num_samples=4096)
    at_origin = aeot.mass_centres(KEY, MU, near, H, num_samples=4096)
    np.testing.assert_array_equal(centres.counts, at_origin.counts)
    np.testing.assert_array_equal(centres.points, at_origin.points)


@pytest.mark.optimised
def test_a_traced_problem_is_centred_too():
    far = (Y + 2.0**16).astype(np.float32)
    index = aeot.assign(X, Y, H)[1]
    np.testing.assert_array_equal(jax.jit(aeot.assign)(X, far, H)[1], index)
    np.testing.assert_array_equal(jax.jit(aeot.transport)(X, far, H), far[index])
    one = jax.vmap(aeot.transport, in_axes=(0, None, None))(X, far, H)
    np.testing.assert_array_equal(one, far[index])


@pytest.mark.optimised
def test_an_offset_of_the_heights_moves_no_cell():
    index = aeot.assign(X, Y, H)[1]
    grid = np.round(H * 256) / 256
    wanted = aeot.assign(X, Y, grid)[1]
    np.testing.assert_array_equal(aeot.assign(X, Y, (grid + 2.0**14).astype(np.float32))[1], wanted)
    assert (index == wanted).mean() > 0.9


@pytest.mark.optimised
def test_an_offset_of_source_and_targets_keeps_the_digits_of_small_distances():
    rng = np.random.default_rng(1)
    for offset, spread, m in ((1e9 + 0.3, 1e-3, 50), (1e7 + 0.3, 1.0, 1), (-1e5, 1.0, 50)):
        y, x = (offset + spread * rng.standard_normal((n, 3)) for n in (m, 7))
        wanted = (((x[:, None] - y) ** 2).sum(2) / 2).min(1)
        found = aeot.c_transform(x, y, np.zeros(m))
        # What float64 has left of the digits at the offset, and float32 of the differences.
        rounding = 8 * spread * abs(offset) * 2.0**-52 + 1e-5 * spread**2
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=rounding)


@pytest.mark.optimised
def test_heights_in_float64_lose_no_digits_to_their_level():
    h = H.astype(np.float64)
    index = aeot.assign(X, Y, h)[1]
    np.testing.assert_array_equal(aeot.assign(X, Y, h + 1e8)[1], index)
    value = np.asarray(aeot.assign(X, Y, h + 1e8)[0], np.float64)
    np.testing.assert_allclose(value, 1e8, atol=30)
    far, near = (aeot.certify(KEY, MU, Y, h + level, num_samples=4096) for level in (1e8, 0.0))
    np.testing.assert_array_equal(far.chi2, near.chi2)


@pytest.mark.optimised
def test_one_coordinate_far_off_hides_no_other():
    y = (RNG.standard_normal((40, 3)) * 1e-30).astype(np.float32)
    y[:, 0] = 1e10
    index = aeot.assign(X[:, :3], y, np.zeros(40))[1]
    wanted = (X[:, 1:3].astype(np.float64) @ y[:, 1:].astype(np.float64).T).argmax(1)
    np.testing.assert_array_equal(index, wanted)


@pytest.mark.optimised
def test_a_target_without_a_cell_hides_no_other():
    y = RNG.standard_normal((250, D)).astype(np.float32)
    y[0] = 2e38
    h = np.where(np.arange(250) == 0, -np.inf, 0.0)
    wanted = (10 * X.astype(np.float64) @ y[1:].astype(np.float64).T).argmax(1) + 1
    np.testing.assert_array_equal(aeot.assign(10 * X, y, h)[1], wanted)


@pytest.mark.optimised
def test_an_extension_is_learned_under_jit_from_known_targets():
    def band(h, key):
        return aeot.extension(key, MU, Y, h, parallel="none").band

    known = band(H, KEY)
    np.testing.assert_array_equal(jax.jit(band)(H, KEY), known)
    # At an offset the mean around which angles are measured is rounded.
    far = aeot.extension(KEY, MU, Y + 1e6, H, parallel="none")
    np.testing.assert_allclose(far.band, known, rtol=1e-3)


@pytest.mark.long
def test_an_extension_is_learned_under_vmap_from_known_targets():
    def band(h):
        return aeot.extension(KEY, MU, Y, h, parallel="none").band

    several = jax.vmap(band)(jnp.stack([H, H]))
    np.testing.assert_allclose(several, band(H), rtol=1e-5)


# Solves at an offset are in tests/test_classes.py, too.
@pytest.mark.long
@pytest.mark.parametrize(("dtype", "offset"), FAR[:2])
def test_an_offset_of_the_targets_changes_no_solve(dtype, offset):
    far, near = moved(dtype, offset)
    config = aeot.SolverConfig(tolerance=None, max_steps=20, start="gaussian")
    found = aeot.solve(KEY, MU, far, config=config)
    wanted = aeot.solve(KEY, MU, near, config=config)
    # The mean around which the solver centres is rounded at the offset.
    np.testing.assert_allclose(found.h, wanted.h, atol=2e-2)
    np.testing.assert_allclose(found.mass_error, wanted.mass_error, atol=0.05)
    ext = aeot.extension(KEY, MU, far, wanted.h)
    at_origin = aeot.extension(KEY, MU, near, wanted.h)
    np.testing.assert_allclose(ext.band, at_origin.band, rtol=1e-3)
    # The mean around which angles are measured is rounded, too: by 2^-8 of about 1.
    np.testing.assert_allclose(ext.threshold, at_origin.threshold, rtol=2.0**-8)
    mu, h = MU, wanted.h
    if dtype is np.float64:  # source and targets at the same offset, as far apart as at the origin
        mu, h = aeot.FromSampler(_at_offset, D), _tilted(far, h)
    distance = aeot.wasserstein(KEY, mu, far, h, num_samples=4096)
    assert distance.lower_squared <= distance.upper_squared


def _at_offset(key, n):
    return 1e6 + jax.random.normal(key, (n, D))


def _tilted(far, h):
    return (np.asarray(h, np.float64) - 1e6 * (far - 1e6).sum(1)).astype(np.float32)


def near_source(key, n):
    return jax.random.normal(key, (n, D))


def far_source(key, n):
    return 1000.0 + near_source(key, n)


@pytest.mark.long
def test_a_source_at_an_offset_takes_no_more_samples():
    """Moving the source by c tilts the optimal heights by -<c, y> and nothing else."""
    mu, config = aeot.FromSampler(far_source, D), aeot.SolverConfig(tolerance=0.3)
    found = aeot.solve(KEY, mu, Y, config=config)
    at_origin = aeot.solve(KEY, aeot.FromSampler(near_source, D), Y, config=config)
    assert found.converged
    assert found.num_steps > 0
    assert found.num_samples <= 1.2 * at_origin.num_samples
    assert aeot.certify(OTHER_KEY, mu, Y, found.h, num_samples=20_000).mass_error < 0.3
    upright = np.asarray(found.h, np.float64) + 1000.0 * Y.sum(1)
    certificate = aeot.certify(OTHER_KEY, MU, Y, upright - upright.mean(), num_samples=20_000)
    assert certificate.mass_error < 0.3


@pytest.mark.long
def test_a_loop_of_ones_own_centres_the_source():
    mu, config = aeot.FromSampler(far_source, D), aeot.SolverConfig(tolerance=None, max_steps=200)
    solution = aeot.solve_jit(KEY, mu, jnp.asarray(Y, jnp.float32), config=config, num_steps=200)
    assert solution.mass_error < 0.3
