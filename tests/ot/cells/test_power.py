"""The kernel against float64 NumPy and its own other forms, and what it must refuse."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from aeot_jax.ot.cells import accelerator, blocks, maxima, power
from aeot_jax.ot.cells.shift import none
from aeot_jax.ot.centring import Near
from aeot_jax.ot.duality import assign as border
from aeot_jax.ot.duality.assign import assign, top_k


def form(kernel: Callable, **options) -> Callable:
    """A kernel as a function of samples, targets and heights."""

    def of_arrays(x, y, h, **more):
        return kernel(x, blocks.Rows(y), h, blocks.used(h), **options, **more)

    return of_arrays


FORMS = {
    "block": form(maxima.best_by_block, block=64),
    "target": form(maxima.best_by_target),
    "accelerator": form(accelerator.best),
}
TOP_FORMS = {
    "block": form(maxima.top_by_block, block=64),
    "accelerator": form(accelerator.highest),
}


def problem(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    y = rng.standard_normal((m, d)).astype(np.float32)
    return x, y, (0.3 * rng.standard_normal(m)).astype(np.float32)


def scores(x, y, h) -> np.ndarray:
    return x.astype(np.float64) @ y.astype(np.float64).T + h.astype(np.float64)


def whole_numbers(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small integers: every sum is exact in float32, whatever its order, and ties are many."""
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (n, d)).astype(np.float32)
    y = rng.integers(-2, 3, (m, d)).astype(np.float32)
    return x, y, rng.integers(-2, 3, m).astype(np.float32)


def best(x, y, h) -> tuple[np.ndarray, np.ndarray]:
    s = scores(x, y, h)
    return s.max(axis=1), s.argmax(axis=1)


def k_best(x, y, h, k: int) -> tuple[np.ndarray, np.ndarray]:
    s = scores(x, y, h)
    index = np.argsort(-s, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(s, index, axis=1), index


def assert_same(found, wanted) -> None:
    """Integer works: values and indices are equal, ties included."""
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize(
    ("n", "m", "d", "block"),
    [
        (1, 1, 1, 128),  # one of each
        (70, 200, 3, 128),  # few dimensions
        (70, 200, 24, 128),  # a ragged tail that begins inside a group
        (64, 77, 16, 7),  # a block smaller than a group
        (3, 50, 1000, 999),  # many dimensions, a block larger than the targets
    ],
)
def test_streaming_equals_dense(n, m, d, block):
    for x, y, h in (whole_numbers(n, m, d), problem(n, m, d)):
        k = min(5, m)
        value, index = assign(x, y, h, block=block)
        values, indices = top_k(x, y, h, k, block=block)
        assert value.dtype == values.dtype == jnp.float32
        assert index.dtype == indices.dtype == jnp.int32
        # float32 sums of d products differ from float64 by about d * 6e-8 of their terms
        scale = 1e-6 * d + 1e-6
        np.testing.assert_allclose(value, best(x, y, h)[0], rtol=1e-5, atol=scale)
        np.testing.assert_allclose(values, k_best(x, y, h, k)[0], rtol=1e-5, atol=scale)
        np.testing.assert_array_equal(index, best(x, y, h)[1])
        np.testing.assert_array_equal(indices, k_best(x, y, h, k)[1])


@pytest.mark.parametrize(("d", "k"), [(2, 40), (9, 4)])
def test_every_form_gives_the_same_answer(d, k, monkeypatch):
    monkeypatch.setattr(accelerator, "_SCORES", 64 * 48)
    monkeypatch.setattr(accelerator, "_TOP_SCORES", 64 * 48)
    monkeypatch.setattr(blocks, "_VECTOR", 16)
    monkeypatch.setattr(maxima, "_MERGE", 3)
    x, y, h = map(jnp.asarray, whole_numbers(64, 230, d))
    h = h.at[jnp.array([0, 5, 199, 229])].set(-jnp.inf)
    form: Callable
    for form in FORMS.values():
        assert_same(jax.jit(form)(x, y, h), best(*map(np.asarray, (x, y, h))))
    for form in TOP_FORMS.values():
        found = jax.jit(functools.partial(form, k=k))(x, y, h)
        assert_same(found, k_best(*map(np.asarray, (x, y, h)), k=k))


@pytest.mark.parametrize("d", [2, 24])
def test_duplicates_anywhere_go_to_the_lowest_index(d):
    """Equal targets have bit-equal scores in whatever block, group or row of a window they lie."""
    x, y, h = problem(64, 331, d)
    run = jax.jit(form(maxima.best_by_block, block=128))
    if d <= power._SMALL_DIM:
        run = jax.jit(form(maxima.best_by_target))
    winner = best(x, y, h)[1]
    rng = np.random.default_rng(3)
    edges = [0, 7, 8, 31, 32, 63, 127, 128, 129, 202, 203, 204, 255, 256, 300, 322, 323, 330]
    for _ in range(12):
        place = rng.choice(edges, 6, replace=False)
        copies = y.copy()
        heights = h.copy()
        copies[place] = y[winner[0]]
        heights[place] = h[winner[0]] + 3  # sure to win for many samples
        value, index = run(x, copies, heights)
        np.testing.assert_array_equal(index, best(x, copies, heights)[1])
        np.testing.assert_allclose(value, best(x, copies, heights)[0], rtol=1e-5)


def test_value_is_the_score_of_the_index():
    """Even where rounding decides between nearly equal planes."""
    rng = np.random.default_rng(5)
    x, d = rng.standard_normal((64, 24)).astype(np.float32), 24
    y = (1 + 1e-7 * rng.standard_normal((500, d))).astype(np.float32)
    h = np.zeros(500, np.float32)
    value, index = assign(x, y, h)
    own = np.take_along_axis(scores(x, y, h), np.asarray(index)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(value, own, rtol=0, atol=1e-5)
    np.testing.assert_allclose(own, best(x, y, h)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("d", [pytest.param(2, marks=pytest.mark.long), 24])
def test_chunks_change_nothing(d, monkeypatch):
    """A sample's answer is the same bits alone, among others, and in an overlapping window."""
    x, y, h = problem(64 * 5 + 17, 200, d)
    wanted = assign(x, y, h)
    assert_same(assign(x[:1], y, h), [a[:1] for a in wanted])
    monkeypatch.setattr(power, "_CHUNK", 64)
    chunked = jax.jit(power.best)(x, y, h)
    assert_same(chunked, wanted)


def test_chunks_change_no_list(monkeypatch):
    x, y, h = problem(64 * 5 + 17, 200, 24)
    wanted = top_k(x, y, h, 3)
    monkeypatch.setattr(power, "_CHUNK", 64)
    chunked = jax.jit(functools.partial(power.highest, k=3))(x, y, h)
    assert_same(chunked, wanted)


@pytest.mark.parametrize("d", [pytest.param(2, marks=pytest.mark.long), 24])
def test_a_height_of_minus_infinity_owns_nothing(d):
    x, y, h = problem(64, 200, d)
    without = h.copy()
    without[best(x, y, h)[1]] = -np.inf
    value, index = assign(x, y, without)
    np.testing.assert_array_equal(index, best(x, y, without)[1])
    assert np.isfinite(value).all()
    nothing = np.full(200, -np.inf, np.float32)
    assert_same(assign(x, y, nothing), (np.full(64, -np.inf), np.zeros(64)))
    values, indices = top_k(x, y, nothing, 150)
    assert np.isneginf(values).all()
    np.testing.assert_array_equal(indices, np.tile(np.arange(150), (64, 1)))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_moves_no_cell(scale):
    """The scores of whole numbers times a power of two are exact."""
    x, y, h = whole_numbers(64, 200, 24)
    factor = np.float32(2.0 ** np.round(np.log2(scale)))
    value, index = assign(x, factor * y, factor * h)
    assert_same((np.asarray(value) / factor, index), best(x, y, h))


def three_best(x, y, h):
    return top_k(x, y, h, 3)


@pytest.mark.parametrize(
    ("kernel", "d"),
    [pytest.param(assign, 2, marks=pytest.mark.long), (assign, 24), (three_best, 24)],
)
def test_every_transformation_gives_the_same_answer(kernel, d):
    x, y, h = map(jnp.asarray, whole_numbers(2 * 16, 150, d))
    parts = x.reshape(2, 16, d)
    wanted = kernel(x, y, h)

    def flat(found):
        return [a.reshape(b.shape) for a, b in zip(found, wanted, strict=True)]

    assert_same(flat(jax.pmap(kernel, in_axes=(0, None, None))(parts, y, h)), wanted)
    mesh = jax.make_mesh((2,), ("s",), axis_types=(AxisType.Auto,))
    spread, whole = PartitionSpec("s"), PartitionSpec()
    specs = {"mesh": mesh, "in_specs": (spread, whole, whole), "out_specs": spread}
    assert_same(jax.jit(jax.shard_map(kernel, **specs))(x, y, h), wanted)
    # Problems of their own, each with its targets and heights.
    turns = jnp.stack([y, jnp.flip(y, 0)]), jnp.stack([h, jnp.flip(h, 0)])
    found = jax.jit(jax.vmap(kernel))(parts, *turns)
    for i in range(2):
        assert_same([a[i] for a in found], kernel(parts[i], turns[0][i], turns[1][i]))


def test_loops_over_chunks_work_under_shard_map(monkeypatch):
    monkeypatch.setattr(power, "_CHUNK", 64)
    mesh = jax.make_mesh((2,), ("s",), axis_types=(AxisType.Auto,))
    body = functools.partial(power.best, block=64)
    x, y, h = map(jnp.asarray, whole_numbers(200, 150, 24))
    # The targets differ between shards, the samples do not: the loops' carries must still vary.
    specs = {"mesh": mesh, "in_specs": (PartitionSpec(), PartitionSpec("s"), PartitionSpec("s"))}
    found = jax.jit(jax.shard_map(body, **specs, out_specs=PartitionSpec("s")))(x, y, h)
    for i in range(2):
        half = slice(75 * i, 75 * (i + 1))
        wanted = best(*map(np.asarray, (x, y[half], h[half])))
        assert_same([a[200 * i : 200 * (i + 1)] for a in found], wanted)


@pytest.mark.parametrize("d", [2, 32])
def test_memory_is_bounded_and_targets_are_not_copied(d):
    """XLA's own account of temporaries, at a size whose scores would take 12 TB."""
    shape = jax.ShapeDtypeStruct
    x, y = shape((3_000_000, d), jnp.float32), shape((1_000_001, d), jnp.float32)
    arrays: tuple[Any, Any] = y, shape((1_000_001,), jnp.float32)
    near = Near(*arrays, none(d))
    programs = [border._assign.lower(x, near, block=128)]
    if d == 32:
        programs.append(border._top_k.lower(x, near, k=8, block=128))
    for program in programs:
        account = program.compile().memory_analysis()
        assert account is not None
        assert account.temp_size_in_bytes < 64 * 2**20


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_types_of_number_become_float32(dtype):
    x, y, h = (a.astype(dtype) for a in whole_numbers(64, 60, 8))
    value, index = assign(x, y, h)
    assert value.dtype == jnp.float32
    assert_same((value, index), best(x, y, h))


def test_mistakes_are_explained():
    x, y, h = problem(8, 20, 3)
    for message, arguments in {
        "`x` has shape": (x[0], y, h),
        "`y` has shape": (x, y[:0], h[:0]),
        "same dimension": (x, y[:, :2], h),
        "`h` has shape": (x, y, h[:-1]),
        "`h` is nan at 4; heights are finite, or -inf": (
            x,
            y,
            np.where(np.arange(20) == 4, np.nan, h),
        ),
        "`y` is inf at .*; pass finite numbers": (x, np.where(y > 1, np.inf, y), h),
        "`x` has dtype complex64": (x.astype(np.complex64), y, h),
    }.items():
        with pytest.raises(ValueError, match=message):
            assign(*arguments)
        with pytest.raises(ValueError, match=message):
            top_k(*arguments, k=2)
    for k in (0, 21):
        with pytest.raises(ValueError, match=f"`k` is {k}"):
            top_k(x, y, h, k)
    with pytest.raises(ValueError, match="`block` is 0"):
        assign(x, y, h, block=0)


def test_known_arrays_are_checked_inside_a_trace():
    x, y, h = problem(8, 20, 3)

    @jax.jit
    def cells(x):
        return assign(x, y, np.full(20, np.nan, np.float32))

    assert jax.jit(lambda x: assign(x, y, h))(x)[1].shape == (8,)
    with pytest.raises(ValueError, match="`h` is nan at 0"):
        cells(x)
