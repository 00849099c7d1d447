"""Traps with names: what is isolated has the same bits, and stays apart under every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from aeot_jax import numerics
from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import blocks

pytestmark = pytest.mark.optimised

X = np.linspace(0.1, 3.7, 8, dtype=np.float32)
MESH = Mesh(np.array(jax.devices()[:4]), ("s",))


def polynomial(x, y):
    return {"sum": (x * y + 1.3 * x).sum(), "each": x * 3 + y}


def in_a_branch(x, y):
    """Between operations that the compiler would like to fuse with what is isolated."""
    found = isolated(polynomial, x * 2, y)
    return found["sum"] + found["each"] * 0.7


def in_a_loop(x, y):
    found = blocks.map_range(lambda _, x, y: polynomial(x, y), 1, x * 2, y)
    return found["sum"] + found["each"][0] * 0.7


def on_a_mesh(function, check_vma):
    specs = {"in_specs": (P("s"), P()), "out_specs": P("s"), "check_vma": check_vma}
    return jax.shard_map(lambda x, y: function(x, y[: x.shape[0]]), mesh=MESH, **specs)


TRANSFORMS = {
    "jit": (lambda f: f, X, X),
    "vmap": (jax.vmap, np.stack([X, X]), np.stack([X, X])),
    "grad": (lambda f: jax.grad(lambda x, y: f(x, y).sum()), X, X),
    "pmap": (
        lambda f: jax.pmap(f, devices=jax.devices()[:4]),
        np.stack([X] * 4),
        np.stack([X] * 4),
    ),
    "shard_map": (lambda f: on_a_mesh(f, True), X, X),
    "shard_map, unchecked": (lambda f: on_a_mesh(f, False), X, X),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_compiler_cannot_join_what_is_isolated(transform):
    """The predicate is a constant: a barrier must hide that until the end."""
    assert " conditional(" in compiled(in_a_branch, transform)


@pytest.mark.parametrize("transform", sorted(TRANSFORMS.keys() - {"grad"}))
def test_a_loop_of_one_turn_stays_a_loop(transform):
    """A loop of unknown length has no gradient."""
    assert " while(" in compiled(in_a_loop, transform)


def compiled(function, transform):
    """The compiled program of a transformed function, as text."""
    make, *operands = TRANSFORMS[transform]
    mapped = make(function)
    program = (mapped if transform == "pmap" else jax.jit(mapped)).lower(*operands)
    return program.compile().as_text() or ""


def test_a_result_may_hold_keys_and_any_structure():
    def function(key, x):
        return {"key": jax.random.fold_in(key, 1), "pair": (x.sum(), jnp.int32(3))}

    key = jax.random.key(0)
    found, wanted = jax.jit(lambda *a: isolated(function, *a))(key, X), function(key, X)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 7, pytest.param(512, marks=pytest.mark.long)])
def test_rows_are_summed_in_an_order_of_their_own(n):
    """What a GPU does: rows in any order of the indices, each sum as exact as a tree of pairs."""
    rng = np.random.default_rng(n)
    index = jnp.asarray(rng.integers(0, 5, n) * 2, jnp.int32)  # long runs, and rows without one
    rows = (rng.standard_normal((n, 3)) * 10.0 ** rng.integers(-3, 4, (n, 1))).astype(np.float32)
    start = jnp.asarray(rng.standard_normal((10, 3)), jnp.float32)
    expected = np.array(start, np.float64)
    np.add.at(expected, index, rows.astype(np.float64))
    found = np.asarray(jax.jit(numerics._add_sorted)(start, index, rows))
    bound = 2.0**-24 * (2 + max(n, 1).bit_length()) * (np.abs(expected).sum() + np.abs(rows).sum())
    assert np.abs(found - expected).max() <= bound
    np.testing.assert_array_equal(found[1::2], start[1::2])
    if n > 1:
        weighed = jax.grad(lambda r: (numerics._add_sorted(start, index, r) * start).sum())(rows)
        np.testing.assert_allclose(weighed, start[index], rtol=1e-6)


def test_rows_are_added_on_a_cpu_as_they_come():
    index, rows = np.array([2, 0, 2], np.int32), np.array([1e8, 3.0, 1.0], np.float32)
    start = np.array([1.0, 1.0, -1e8], np.float32)
    found = numerics.add_rows(jnp.asarray(start), jnp.asarray(index), jnp.asarray(rows))
    np.testing.assert_array_equal(found, jnp.asarray(start).at[index].add(rows))
