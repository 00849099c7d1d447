"""Columns of a table, standardised: the mean is subtracted, and the standard deviation divides.

A user's codes and tables come in any unit and at any offset, so they are standardised in float64 on
the host before they are rounded.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from aeot_jax import arguments
from aeot_jax.reprs import brief

_ROUNDING = 4
"""A column is constant if it varies by less than this many roundings of its mean."""

_CONSTANT = 1e-3
"""Scale of a constant column, over the least of the others: what a network or a kernel gets wrong
there is small beside all that varies."""

_CONSTANT_ROUNDINGS = 64
"""The least scale of a constant column, in roundings of its mean, which stay small numbers so."""

_LEAST_SCALE = 1e-30
"""A column that varies less is constant: below, float32 loses digits."""

_BLOCK_BYTES = 2**24
"""Bytes of float64 that are processed together."""


class Columns(NamedTuple):
    """The unit of each column of a table.

    Attributes:
      centre: its mean (D,).
      scale: its standard deviation (D,); for a constant column, which has none, a thousandth of the
        least of the others, or more where its mean is large.
    """

    centre: Float[Array, " D"]
    scale: Float[Array, " D"]

    __repr__ = brief


class Standardised(NamedTuple):
    """Rows with about zero mean and unit variance in each column, and their units.

    Attributes:
      rows: (n, D), float32.
      units: centre and scale of the columns. They were rounded to float32 before the rows were
        divided, so that they give the rows back at any offset.
    """

    rows: Float[np.ndarray, "n D"]
    units: Columns

    __repr__ = brief


def check(name: str, value: object, what: str = "codes") -> Shaped[np.ndarray, "n D"]:
    """Check a known table of finite real numbers, and keep its dtype.

    Args:
      name: the name of the argument, for errors.
      value: (n, D), n at least 2.
      what: what the rows are, for errors.

    Raises:
      ValueError: if the shape differs, or a number is not finite in float32.
    """
    found = arguments.host_array(name, value)
    if isinstance(found, jax.Array):
        raise ValueError(
            f"`{name}` is traced, but is measured on the host; call outside `jax.jit`."
        )
    if found.ndim != 2 or not found.shape[1]:
        raise ValueError(f"`{name}` has shape {found.shape}; pass one row for each of the {what}.")
    if len(found) < 2:
        raise ValueError(
            f"`{name}` holds {len(found)} {what}; pass at least 2, and hundreds to learn from."
        )
    for part in _parts(found):
        with np.errstate(over="ignore"):
            good = np.isfinite(found[part].astype(np.float32)).all(1)
        if not good.all():
            row = part.start + int(good.argmin())
            raise ValueError(
                f"`{name}` holds a value in row {row} that is not finite in float32; drop or "
                f"repair such rows, found by ~np.isfinite({name}).all(axis=1)."
            )
    return found


def standardised(table: Shaped[np.ndarray, "n D"]) -> Standardised:
    """Standardise the columns of a checked table.

    A column that varies by no more than the rounding of its dtype is constant.

    Args:
      table: from ``check``.
    """
    n, parts = len(table), _parts(table)
    offset = table[0].astype(np.float64)  # far from 0, sums would lose digits
    first = sum((table[part].astype(np.float64) - offset).sum(0) for part in parts) / n
    centre = (offset + first).astype(np.float32)
    square = sum(
        np.square(table[part].astype(np.float64) - offset - first).sum(0) for part in parts
    )
    deviation = np.sqrt(square / n)
    eps = jnp.finfo(table.dtype).eps if jnp.issubdtype(table.dtype, jnp.floating) else 0.0
    rounding = float(eps) * np.abs(centre)
    varies = (deviation > _ROUNDING * rounding) & (deviation > _LEAST_SCALE)
    least = max(_CONSTANT * deviation[varies].min(), _LEAST_SCALE) if varies.any() else 1.0
    constant = np.maximum(least, _CONSTANT_ROUNDINGS * rounding)
    scale = np.where(varies, deviation, constant).astype(np.float32)
    rows = np.empty(table.shape, np.float32)
    for part in parts:
        rows[part] = measured(table[part], centre, scale)
    return Standardised(rows, Columns(arguments.placed(centre), arguments.placed(scale)))


def varying(name: str, table: Shaped[np.ndarray, "n D"], what: str = "codes") -> Standardised:
    """``standardised`` for data to learn from: the rows must differ.

    Args:
      name: the name of the argument, for errors.
      table: from ``check``.
      what: what the rows are, for errors.

    Raises:
      ValueError: if no column varies.
    """
    found = standardised(table)
    if not found.rows.any():
        raise ValueError(f"all rows of `{name}` are equal; pass {what} that differ.")
    return found


def measured(
    table: Shaped[np.ndarray, "n D"],
    centre: Float[np.ndarray | Array, " D"],
    scale: Float[np.ndarray | Array, " D"],
) -> Float[np.ndarray, "n D"]:
    """Rows in units of the columns, computed in float64."""
    centre, scale = np.asarray(centre, np.float64), np.asarray(scale, np.float64)
    return (table.astype(np.float64) - centre) / scale


def _parts(table: np.ndarray) -> list[slice]:
    step = max(1, _BLOCK_BYTES // (8 * table.shape[1]))
    return [slice(start, start + step) for start in range(0, len(table), step)]
