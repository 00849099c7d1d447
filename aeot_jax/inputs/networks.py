"""Somebody's own encoder and decoder: pure functions of arrays, called in batches, never saved.

They are called as they are, outside of any jit of this library: a closure that we compiled would
bake the weights of a large decoder into the program as constants. What they compile, they compile
themselves, for one shape: the last batch is filled up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from aeot_jax import arguments

Network = Callable[[Any], Any]
"""A batch (b, ...) -> a batch (b, ...), each row from its own row alone."""

BATCH = 64
"""Rows that somebody's own function is given at once, by default."""


@dataclass(frozen=True, eq=False)
class Networks:
    """The functions that a model was fitted with; static, and equal to itself alone.

    Attributes:
      encode: data (b, ...) -> codes (b, z), in their own units.
      decode: codes (b, z), in their own units -> data (b, ...).
    """

    encode: Network | None = None
    decode: Network | None = None


def check_function(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    arguments.function(name, value, "a function of a batch of arrays")


def apply(name: str, function: Network, rows: Any, batch: int = BATCH) -> Any:
    """Apply somebody's function to rows, a batch at a time.

    Args:
      name: of the argument that gave the function, for errors.
      function: as ``Network``.
      rows: (n, ...), n at least 1. Traced rows are passed as they are, all at once.
      batch: rows at once.

    Returns:
      What the function gives, one row a row: NumPy's, or traced.

    Raises:
      ValueError: if it gives another number of rows, rows of different shapes, or no array, or if
        a known number is not finite.
    """
    if not arguments.is_concrete(rows):
        return _checked(name, function(rows), rows)
    host = rows if isinstance(rows, np.ndarray) else np.asarray(rows)
    batch = min(batch, len(host))
    out: np.ndarray | None = None
    for start in range(0, len(host), batch):
        part = host[start : start + batch]
        missing = batch - len(part)
        full = np.concatenate([part, np.repeat(part[:1], missing, 0)]) if missing else part
        found = np.asarray(_checked(name, function(full), full))
        if out is None:
            out = np.empty((len(host), *found.shape[1:]), found.dtype)
        if found.shape[1:] != out.shape[1:]:
            raise ValueError(
                f"`{name}` gave rows of shape {found.shape[1:]} after rows of shape "
                f"{out.shape[1:]}; pass a function that gives one shape."
            )
        if found.dtype != out.dtype:  # in the type that holds both: none is rounded in silence
            out = out.astype(_common(name, out.dtype, found.dtype), copy=False)
        _check_finite(name, found[: len(part)], start)
        out[start : start + len(part)] = found[: len(part)]
    assert out is not None  # there is a row
    return out


def _common(name: str, one: np.dtype, other: np.dtype) -> np.dtype:
    try:
        return np.result_type(one, other)
    except TypeError as error:
        raise ValueError(
            f"`{name}` gave numbers of type {other} after numbers of type {one}; pass a function "
            "that gives one type."
        ) from error


def _check_finite(name: str, found: np.ndarray, start: int) -> None:
    """Name the first row that holds a number which is not finite."""
    good = np.isfinite(found.reshape(len(found), -1)).all(axis=1)
    if not good.all():
        raise ValueError(
            f"`{name}` made a value of row {start + int(good.argmin())} that is not finite; pass a "
            "function that gives finite numbers."
        )


def _checked(name: str, found: Any, rows: Any) -> Any:
    array = arguments.array(f"{name}(...)", found)
    if array.ndim == 0 or array.shape[0] != rows.shape[0]:
        raise ValueError(
            f"`{name}` made shape {array.shape} of {rows.shape[0]} rows of shape {rows.shape[1:]}; "
            "pass a function that gives one row for each row of a batch."
        )
    return array


def codes_of(encode: Network, data: Any, batch: int = BATCH) -> np.ndarray | jax.Array:
    """Codes (n, z) of data (n, ...) by somebody's own encoder, in their own units.

    Raises:
      ValueError: if it gives no codes (n, z).
    """
    codes = apply("encode", encode, data, batch)
    if codes.ndim != 2:
        raise ValueError(
            f"`encode` gave codes of shape {codes.shape[1:]} a row; flatten them to (n, z) in it, "
            "and shape them back in `decode`."
        )
    return codes


def data_of(decode: Network, codes: Any, batch: int = BATCH) -> jax.Array | np.ndarray:
    """Data (n, ...) of codes (n, z), in their own units, by somebody's own decoder."""
    return apply("decode", decode, codes, batch)
