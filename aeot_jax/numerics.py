"""Numerical traps with names: matmul precision, safe ratios, equal bits in every program."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

PRECISION = jax.lax.Precision.HIGHEST
"""Precision of every product behind an argmax: TF32 and bfloat16 move samples between cells."""


def safe_ratio(
    numerator: Float[Array, "..."], denominator: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Divide, with 0 where the denominator is 0; gradients stay finite there."""
    zero = denominator == 0
    return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, denominator))


def axis_size(axis_name: Hashable, argument: str = "axis_name") -> int:
    """Number of shards of a mapped axis, or of several together.

    Args:
      axis_name: the axis.
      argument: name of the argument that gave it, for the error.

    Raises:
      ValueError: if no map around has such an axis.
    """
    try:
        return jax.lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f"`{argument}` is {axis_name!r}, but no `pmap`, `shard_map` or `vmap` around this call "
            "maps an axis of that name; give the map or its mesh this axis, or pass None."
        ) from error


def on_accelerator() -> bool:
    """Whether JAX compiles for an accelerator, where few large computations are best.

    Every turn of a loop costs some kernel launches there. If only the device knows the number of
    turns, every turn also waits for the host: 30 microseconds on an H200.
    """
    return jax.default_backend() != "cpu"


_Value = TypeVar("_Value")


def traced_once(function: Callable[..., _Value]) -> Callable[..., _Value]:
    """The same function, traced once for all its uses on arrays of the same shapes.

    A loop must know the shapes of its results before it begins, and to ask for them traces the
    function; where loops are nested, each level would double the time. No computation of its own
    comes of this: the instructions stand in the program as those of ``function`` do.

    Args:
      function: from trees of arrays to a tree of arrays.
    """
    return jax.jit(function, inline=True)


def repeat(number: ArrayLike, body: Callable[[Any, _Value], _Value], value: _Value) -> _Value:
    """``lax.fori_loop`` that starts at 0 and counts in int32 whatever JAX's settings.

    Args:
      number: how many turns, known or traced.
      body: maps the number of the turn and a value to the next value.
      value: the first value.
    """
    last = np.int32(number) if isinstance(number, int) else jnp.asarray(number, jnp.int32)

    def turn(i: Any, value: _Value) -> _Value:
        return body(jnp.asarray(i, jnp.int32), value)  # without jit, i is a Python int

    return jax.lax.fori_loop(np.int32(0), last, turn, value)


def add_rows(
    sums: Float[Array, "m *rest"], index: Int[Array, " n"], rows: Float[Array, "n *rest"]
) -> Float[Array, "m *rest"]:
    """``sums.at[index].add(rows)``, in an order that is fixed on every platform.

    A GPU adds rows with equal indices as its threads arrive, and float sums differ from run to run.
    There the rows are sorted by their index, summed pairwise, and each sum is added once.

    Args:
      sums: what is added to.
      index: rows of these, in [0, m).
      rows: what is added.
    """

    def scattered(sums: Array, index: Array, rows: Array) -> Array:
        return sums.at[index].add(rows)

    return jax.lax.platform_dependent(
        sums, index, rows, cpu=scattered, tpu=scattered, default=_add_sorted
    )


def _add_sorted(sums: Array, index: Array, rows: Array) -> Array:
    n = index.shape[0]
    place = jnp.arange(n, dtype=jnp.int32)
    index, order = jax.lax.sort((index, place), num_keys=1, is_stable=True)

    def turn(k: Array, rows: Array) -> Array:
        """Each row holds the sum of up to 2^k rows of its index that end with it."""
        before = place - jnp.left_shift(np.int32(1), k)
        back = jnp.maximum(before, 0)
        same = (before >= 0) & (index[back] == index)
        return rows + jnp.where(same.reshape(n, *[1] * (rows.ndim - 1)), rows[back], 0)

    rows = repeat(max(n - 1, 0).bit_length(), turn, rows[order])
    last = jnp.concatenate([index[1:] != index[:-1], jnp.ones(min(n, 1), bool)])
    # All others go to rows of their own that do not exist: so no two places are equal.
    at = jnp.where(last, index, sums.shape[0] + place)
    return sums.at[at].add(rows, mode="drop", unique_indices=True)


@contextmanager
def usual_dtypes() -> Iterator[None]:
    """Set JAX's default dtype rules while other libraries' code runs.

    Optax raises floats to the power of a count: strict promotion refuses that, and 64-bit mode
    rounds it differently. Some of JAX's samplers draw different numbers in 64-bit mode.
    """
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def isolated(function: Callable[..., _Value], *operands: Any) -> _Value:
    """Evaluate ``function(*operands)`` as a computation of its own in the compiled program.

    The compiler fuses instructions with their neighbours, and where a product meets a sum in one
    loop it rounds once instead of twice. The same formula then has other last bits in another
    program: without this, heights differ by 1e-6 between ``pmap`` and one device. The compiler also
    divides by a constant as it multiplies by the reciprocal. It fuses nothing across the border of
    a branch and knows nothing beyond a barrier. So here ``function`` is one branch of two, it is
    always taken, and a barrier hides that from the compiler.

    Args:
      function: from the operands to a tree of arrays.
      *operands: trees of arrays.
    """
    operands = barrier(operands)
    structure = None

    @traced_once
    def leaves_of_result(*operands: Any) -> list[Array]:
        nonlocal structure
        leaves, structure = jax.tree.flatten(function(*operands))
        return leaves

    shapes = jax.eval_shape(leaves_of_result, *operands)

    def zeros(*operands: Any) -> list[Array]:
        del operands
        return [jnp.zeros_like(shape) for shape in shapes]

    leaves = jax.lax.cond(barrier(np.True_), leaves_of_result, zeros, *operands)
    assert structure is not None  # the trace has set it
    return jax.tree.unflatten(structure, leaves)


def choose(
    predicate: Any, on_true: Callable[..., _Value], on_false: Callable[..., _Value], *operands: Any
) -> _Value:
    """``lax.cond`` for operands that hold typed keys; the results hold none.

    Keys cross as their numbers: under ``vmap`` both branches are evaluated on operands that were
    chosen, and JAX's check counts a key that was chosen as used.

    Args:
      predicate: which branch to take.
      on_true: from the operands to a tree of arrays.
      on_false: the same.
      *operands: trees of arrays and keys.
    """

    def of_numbers(function: Callable[..., _Value]) -> Callable[..., _Value]:
        return lambda numbers: function(*jax.tree.map(key_like, operands, numbers))

    numbers = jax.tree.map(key_numbers, operands)
    return jax.lax.cond(predicate, of_numbers(on_true), of_numbers(on_false), numbers)


def without_gradient(value: _Value, sentence: str) -> _Value:
    """The same values, of which a gradient is refused in words; those that need none pass.

    Args:
      value: a tree of arrays.
      sentence: of the error.

    Raises:
      TypeError: later, from ``jax.grad`` and the like, if their result depends on ``value``.
    """

    @jax.custom_vjp
    def given(leaves: list[Any]) -> list[Any]:
        return leaves

    def forward(leaves: list[Any]) -> tuple[list[Any], None]:
        return leaves, None

    def backward(*_: Any) -> Any:
        raise TypeError(sentence)

    given.defvjp(forward, backward)
    leaves, structure = jax.tree.flatten(value)  # a checked record cannot hold cotangents
    return jax.tree.unflatten(structure, given(leaves))


def barrier(tree: _Value) -> _Value:
    """Pass every array through an optimization barrier: XLA folds and fuses nothing across it.

    Each array has its own barrier. Under ``shard_map`` the results of a common barrier would all
    vary over every mesh axis over which one of them does. Keys pass as their numbers, because
    JAX's key checker counts a key that passes through a barrier as used.
    """
    numbers = jax.tree.map(key_numbers, tree)
    return jax.tree.map(key_like, tree, jax.tree.map(jax.lax.optimization_barrier, numbers))


def key_numbers(leaf: Any) -> Any:
    """Of a typed key its numbers; anything else as it is."""
    return jax.random.key_data(leaf) if is_typed_key(leaf) else leaf


def key_like(leaf: Any, numbers: Any) -> Any:
    """The inverse of ``key_numbers``."""
    if not is_typed_key(leaf):
        return numbers
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))


def is_typed_key(leaf: Any) -> bool:
    """Whether an array is one of typed random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
