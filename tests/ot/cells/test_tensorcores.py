"""Candidates from tensor cores, on a CPU: the bound holds, and float32's cells are found.

Products of bfloat16 numbers are exact here as there, and sums are in float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from aeot_jax.machines import meshes
from aeot_jax.ot.cells import accelerator, antithetic, blocks, power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.cells.tensorcores import candidates, leading, split

N, M = 64, 300


def normal(d, n=N, m=M, seed=0):
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((rows, d)).astype(np.float32) for rows in (n, m))
    return x, y, (-0.5 * (y * y).sum(1) / d**0.5).astype(np.float32)


def cancelling(d):
    """Sums whose terms are a thousand times as large as they are."""
    x, y, h = normal(d)
    half = d // 2
    x[:, :half] = 1000 * np.abs(x[:, :half])
    x[:, half : 2 * half] = x[:, :half] * (1 + 2.0**-10)
    y[:, half : 2 * half] = -y[:, :half]
    return x, y, h


def all_rounded_alike(d):
    """Every coordinate loses as much as it can in its first half, with one sign."""
    worst = np.float32(1 + 2.0**-8 - 2.0**-16)
    return np.full((N, d), worst), np.full((M, d), worst), np.zeros(M, np.float32)


def of_size(scale, d):
    x, y, h = normal(d)
    return (x * scale).astype(np.float32), (y * scale).astype(np.float32), h * 0


def of_many_sizes(d):
    x, y, h = normal(d)
    sizes = np.exp2(np.random.default_rng(1).integers(-12, 12, d)).astype(np.float32)
    return x * sizes, y * sizes[::-1], h


CASES = {
    "normal": normal,
    "cancelling": cancelling,
    "rounded alike": all_rounded_alike,
    "large": partial(of_size, 2.0**55),
    "small": partial(of_size, 2.0**-40),
    "tiny": partial(of_size, 2.0**-62),
    "of many sizes": of_many_sizes,
    "high heights": lambda d: (*normal(d)[:2], 1e6 + normal(d)[2]),
}


def approximate(x, y, h, length):
    found = split.products(split.left(x, length), split.right(y, length))
    return sum(found[1:], found[0]) + h[None, :]


def bound_of(x, y, h, length):
    d = x.shape[1]
    norms = (split.norm(jnp.square(a).sum(1), d) for a in (x, y))
    x_norm, y_norm = next(norms), jnp.max(next(norms))
    return np.asarray(split.bound(x_norm, y_norm, jnp.max(jnp.abs(h)), d, length), np.float64)


def in_turn(x, y, h):
    """Scores in float32, one coordinate after the other."""
    s = np.zeros((len(x), len(y)), np.float32)
    for k in range(x.shape[1]):
        s = s + x[:, k, None] * y[None, :, k]
    return s + h


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("d", [4, 65, 700])
@pytest.mark.parametrize("case", CASES)
def test_no_score_is_farther_from_float32_than_the_bound(case, d, apart, monkeypatch):
    monkeypatch.setattr(split, "_APART", 1 if apart else 10_000)
    x, y, h = CASES[case](d)
    e = bound_of(x, y, h, d)[:, None]
    found = np.asarray(jax.jit(partial(approximate, length=d))(x, y, h), np.float64)
    product = np.asarray(jnp.matmul(x, y.T, precision="highest")) + h
    for strict in (product, in_turn(x, y, h), in_turn(x[:, ::-1], y[:, ::-1], h)):
        assert np.isfinite(strict).all()
        assert (np.abs(found - strict.astype(np.float64)) <= e).all()


def test_the_bound_is_no_larger_than_some_sums_need():
    x, y, h = map(jnp.asarray, all_rounded_alike(4))
    exact = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
    lost = np.abs(np.asarray(approximate(x, y, h, 4), np.float64) - exact)
    assert lost.max() > 0.2 * bound_of(x, y, h, 4).max()


def test_the_compiler_keeps_the_second_half():
    x = normal(16)[0]
    near, rest = map(np.asarray, jax.jit(split.split)(x))
    assert near.dtype == rest.dtype == jnp.bfloat16
    assert (rest.astype(np.float64) != 0).mean() > 0.9
    error = x.astype(np.float64) - near.astype(np.float64) - rest.astype(np.float64)
    assert (np.abs(error) <= 2.0**-16 * np.abs(x)).all()


def exact(d, m=M, seed=0):
    """Whole numbers of which every float32 sum is exact, and products of two halves are not."""
    rng = np.random.default_rng(seed)
    top = 2**24 // (d * 2**10)
    x = rng.integers(-(2**9), 2**9, (N, d)).astype(np.float32)
    y = rng.integers(-top, top, (m, d)).astype(np.float32)
    return x, y, np.zeros(m, np.float32)


def near_ties(d):
    """Each target with another whose scores are one unit from its own, or equal."""
    x, y, _ = exact(d, M // 2)
    x[:, 0] = 1
    other = y.copy()
    other[:, 0] += np.random.default_rng(2).integers(-1, 2, len(y))
    order = np.random.default_rng(3).permutation(2 * len(y))
    return x, np.concatenate([y, other])[order], np.zeros(2 * len(y), np.float32)


def copies(number, d):
    x, y, h = exact(d, M // number)
    return x, np.tile(y, (number, 1)), np.tile(h, number)


def filled(d):
    x, y, h = exact(d)
    h[[0, 7, 150]] = -np.inf
    h[200:] = -np.inf
    return x, y, h


EXACT = {
    "whole numbers": exact,
    "near ties": near_ties,
    "two copies": partial(copies, 2),
    "three copies": partial(copies, 3),
    "ten copies": partial(copies, 10),
    "filled up": filled,
    "one target": lambda d: tuple(a[:1] if i else a for i, a in enumerate(exact(d))),
    "two targets": lambda d: tuple(a[:2] if i else a for i, a in enumerate(exact(d))),
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_VECTOR", 16)
    monkeypatch.setattr(candidates, "PRODUCTS", N * 112)
    monkeypatch.setattr(accelerator, "_SCORES", N * 112)
    monkeypatch.setattr(candidates, "_OPEN", 10)
    monkeypatch.setattr(antithetic, "_ACCELERATOR_PRODUCTS", 4 * N * 112)


def best(x, y, h):
    return candidates.best(x, Rows(y), h, blocks.used(h))


def orbits(x, y, h):
    return antithetic._cells_by_candidates(x, Rows(y), h, blocks.used(h))


def strict(x, y, h):
    return accelerator.best(x, Rows(y), h, blocks.used(h))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("case", EXACT)
def test_cells_are_those_of_exact_sums(case, apart, small_blocks, monkeypatch):
    monkeypatch.setattr(split, "_APART", 1 if apart else 10_000)
    x, y, h = EXACT[case](8)
    scores = x.astype(np.float64) @ y.astype(np.float64).T + h
    value, index = jax.jit(best)(x, y, h)
    np.testing.assert_array_equal(index, scores.argmax(1))
    np.testing.assert_array_equal(value, scores.max(1))
    members = np.asarray(antithetic.members(jnp.asarray(x))).reshape(-1, 8)
    wanted = (members.astype(np.float64) @ y.astype(np.float64).T + h).argmax(1)
    found = jax.jit(orbits)(x, y, h)
    np.testing.assert_array_equal(found[1].reshape(-1), wanted)


@pytest.mark.parametrize("case", CASES)
def test_cells_are_those_of_the_strict_kernel(case, small_blocks):
    x, y, h = CASES[case](65)
    value, index = jax.jit(best)(x, y, h)
    wanted, strict_index = jax.jit(strict)(x, y, h)
    scores = x.astype(np.float64) @ y.astype(np.float64).T + h
    own, its = (
        np.take_along_axis(scores, np.asarray(i)[:, None], 1) for i in (index, strict_index)
    )
    # Of two that float32 cannot tell apart, different sums of it may prefer different ones.
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1).max() + np.abs(h).max()
    rounding = 2 * 70 * (2.0**-24 * size[:, None] + 2.0**-126)  # and products that become 0
    assert (np.abs(own - its) <= rounding).all()
    assert (np.asarray(index) == np.asarray(strict_index)).all() or case in (
        "cancelling",
        "rounded alike",
        "high heights",
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=rounding.max())


def test_few_samples_stay_open_and_all_of_many_copies_do(small_blocks):
    for d, most in ((64, 0.0), (512, 0.002)):
        x, y, h = normal(d, 512)
        found, e = candidates.looked_at(jnp.asarray(x), *rows((y, h)))
        assert candidates.is_open(found, e).mean() <= most
        # Two candidates are not enough so often that a list of three pays.
        assert (found.values[0] - found.values[1] <= 2 * e).mean() > 0
    x, y, h = copies(10, 8)
    found, e = candidates.looked_at(jnp.asarray(x), *rows((y, h)))
    assert candidates.is_open(found, e).all()


def rows(arrays):
    y, h = map(jnp.asarray, arrays)
    return Rows(y), h


def test_what_is_no_number_is_decided_as_by_the_strict_kernel(small_blocks):
    x, y, h = exact(8)
    x[3], x[5, 2], x[9] = np.nan, np.inf, 1e30
    high = np.where(np.arange(M) == 250, np.nan, h).astype(np.float32)
    for heights in (h, np.full_like(h, -np.inf), high):
        found, wanted = jax.jit(best)(x, y, heights)[1], jax.jit(strict)(x, y, heights)[1]
        np.testing.assert_array_equal(found, wanted)


def test_stored_targets_are_widened_shifted_and_scaled(small_blocks):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (M, 8)).astype(np.uint8)
    y = Rows(jnp.asarray(stored), jnp.full(8, 128.0), jnp.float32(2.0))
    x, h = jnp.asarray(exact(8)[0]), jnp.zeros(M)
    _, index = jax.jit(lambda x, h: candidates.best(x, y, h, blocks.used(h)))(x, h)
    scores = np.asarray(x, np.float64) @ ((stored.astype(np.float64) - 128) / 2).T
    np.testing.assert_array_equal(index, scores.argmax(1))


def test_maps_change_no_cell(small_blocks):
    x, y, h = near_ties(8)
    heights = np.stack([h, np.arange(M, dtype=np.float32)])
    together = jax.jit(jax.vmap(best, in_axes=(None, None, 0)))(x, y, heights)[1]
    for index, each in zip(together, heights, strict=True):
        np.testing.assert_array_equal(index, jax.jit(best)(x, y, each)[1])
    wanted = jax.jit(best)(x, y, h)[1]
    mesh = meshes.row(tuple(jax.devices()), "i")
    sharded = jax.shard_map(best, mesh=mesh, in_specs=(P("i"), P(), P()), out_specs=P("i"))
    np.testing.assert_array_equal(jax.jit(sharded)(x, y, h)[1], wanted)
    apart = jax.pmap(best, in_axes=(0, None, None))(x.reshape(8, -1, 8), y, h)[1]
    np.testing.assert_array_equal(apart.reshape(-1), wanted)


def test_strict_types_and_64_bits_change_no_cell(small_blocks):
    x, y, h = near_ties(8)
    wanted, members = jax.jit(best)(x, y, h)[1], jax.jit(orbits)(x, y, h)[1]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(jax.jit(best)(x, y, h)[1], wanted)
        np.testing.assert_array_equal(jax.jit(orbits)(x, y, h)[1], members)


def test_values_have_the_gradients_of_their_planes(small_blocks):
    x, y, h = map(jnp.asarray, exact(8))
    slopes = jax.grad(lambda x, h: best(x, y, h)[0].sum(), argnums=(0, 1))(x, h)
    index = best(x, y, h)[1]
    np.testing.assert_array_equal(slopes[0], y[index])
    np.testing.assert_array_equal(slopes[1], jnp.bincount(index, length=M))


def test_lists_hold_the_highest_in_any_order_of_the_reduction():
    """Halves of a list, merged, are the list of the whole."""
    s = jnp.asarray(np.random.default_rng(0).permutation(40).astype(np.float32)[None, :])

    def lists(s):
        (found,) = leading.leading((s,), (-np.inf,), lambda s: (s,), 1)
        return found

    whole, first, second = lists(s), lists(s[:, :7]), lists(s[:, 7:])
    second = second._replace(places=tuple(place + 7 for place in second.places))
    for found in (whole, leading.merged(first, second), leading.merged(second, first)):
        order = np.argsort(-np.asarray(s[0]))
        np.testing.assert_array_equal(np.stack(found.values)[:, 0], s[0][order[: leading.KEPT]])
        np.testing.assert_array_equal(np.stack(found.places)[:, 0], order[: leading.KEPT - 1])


def test_formulas_inside_of_a_reduction_give_what_scores_give():
    a, b = map(jnp.asarray, exact(8)[:2])
    s, t = a @ b.T, -(a @ b.T)
    wanted = blocks.first_best((s + t, s - t))
    found = blocks.first_best_of((s, t), (-np.inf, 0.0), lambda s, t: (s + t, s - t), 2)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_a_gpu_takes_them_and_only_where_they_pay():
    def lowered(platform, n, m, d):
        x, y, h = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (m, d), (m,)))
        program = jax.jit(lambda x, y, h: power.best(x, y, h)).trace(x, y, h)
        return program.lower(lowering_platforms=(platform,)).as_text()

    large = 2**14, 2**14, 64
    assert "bf16" in lowered("cuda", *large)
    for platform in ("tpu", "cpu"):
        assert "bf16" not in lowered(platform, *large)
    for few in ((64, 2**22, 64), (2**22, 1000, 64), (2**14, 2**16, 16), (2**12, 2**13, 64)):
        assert "bf16" not in lowered("cuda", *few)
