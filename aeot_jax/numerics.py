"""Numerical traps with names: matmul precision, safe ratios, floats that no program rounds anew."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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


_Value = TypeVar("_Value")


def isolated(
    always: Bool[Array, "*batch"], function: Callable[..., _Value], value: _Value, *operands: Any
) -> _Value:
    """Evaluate ``function(value, *operands)`` as a computation of its own in the compiled program.

    The compiler fuses instructions with their neighbours, and where a product meets a sum in one
    loop it rounds once instead of twice: the same formula then has other last bits in a program
    that surrounds it with something else (measured: heights that differ by 1e-6 between ``pmap``
    and one device); and where an operand is a constant, it divides by way of the reciprocal.
    Nothing is fused across the border of a branch, and nothing is known beyond a barrier, so this
    has the same bits wherever it stands.

    Args:
      always: true, by a value that the compiler cannot know.
      function: from a value and operands to a value of the same type.
      value: what it changes.
      *operands: what else it reads.
    """
    return jax.lax.cond(always, function, lambda value, *_: value, *hidden((value, *operands)))


def hidden(tree: _Value) -> _Value:
    """The same arrays, of which the compiler no longer knows what it knew.

    Each has a barrier of its own: a common one would let all vary over every axis of a mesh over
    which one does.
    """
    return jax.tree.map(jax.lax.optimization_barrier, tree)
