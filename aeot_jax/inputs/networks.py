"""The user's own encoder and decoder: pure functions of arrays, called in batches, never saved.

They are called outside of any jit of this library. If we compiled such a closure, the weights of a
large decoder would become constants of the program. The functions may compile themselves; they see
one shape, because the last batch is padded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from aeot_jax import arguments

Network = Callable[[Any], Any]
"""A batch (b, ...) -> a batch (b, ...); row i of the output depends on row i of the input alone."""

BATCH = 64
"""Rows that a user's function gets at once, by default."""


@dataclass(frozen=True, eq=False)
class Networks:
    """The functions that a model was fitted with; static, compared by identity.

    Attributes:
      encode: data (b, ...) -> codes (b, z), in the units of the encoder.
      decode: codes (b, z), in the units of the encoder -> data (b, ...).
    """

    encode: Network | None = None
    decode: Network | None = None


def check_function(name: str, value: object) -> None:
    """Refuse a value that is neither callable nor None."""
    arguments.function(name, value, "a function of a batch of arrays")


def apply(name: str, function: Network, rows: Any, batch: int = BATCH) -> Any:
    """Apply a user's function to rows, a batch at a time.

    Args:
      name: the argument that gave the function, for errors.
      function: see ``Network``.
      rows: (n, ...), n at least 1. Traced rows are passed all at once.
      batch: rows per call.

    Returns:
      The output of the function, one row for each row: a NumPy array, or traced.

    Raises:
      ValueError: if the function returns another number of rows, rows of different shapes, or no
        array; or if a known number is not finite.
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
        if found.dtype != out.dtype:  # in the dtype that holds both, so that no number is rounded
            out = out.astype(_common(name, out.dtype, found.dtype), copy=False)
        _check_finite(name, found[: len(part)], start)
        out[start : start + len(part)] = found[: len(part)]
    assert out is not None  # rows is not empty
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
    """Raise an error that names the first row with a number that is not finite."""
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
    """Encode data (n, ...) with the user's encoder: codes (n, z), in its units.

    Raises:
      ValueError: if the encoder does not return codes (n, z).
    """
    codes = apply("encode", encode, data, batch)
    if codes.ndim != 2:
        raise ValueError(
            f"`encode` gave codes of shape {codes.shape[1:]} per row; flatten them to (n, z), "
            "and reshape them in `decode`."
        )
    return codes


def data_of(decode: Network, codes: Any, batch: int = BATCH) -> jax.Array | np.ndarray:
    """Decode codes (n, z), in the encoder's units, with the user's decoder: data (n, ...)."""
    return apply("decode", decode, codes, batch)
