"""The number by which a state or a table knows its solution again."""

import hashlib
from typing import Any

import jax
import numpy as np

from aeot_jax.measures import Measure, parts
from aeot_jax.numerics import key_numbers

_TOGETHER = 2**20
"""Numbers that are read together."""


def of(mu: Measure, y: Any, h: Any, nu: Any) -> int:
    """A number below 2^63 of the source, the targets, the heights and the weights.

    A source that is code (``FromSampler``) is known by its name alone.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(_named(mu).encode())
    for leaf in jax.tree.leaves(mu):
        array = np.asarray(key_numbers(leaf))
        _add(digest, array, array.dtype)
    # As float64, which tells all numbers apart that are centred apart: the same numbers in another
    # dtype are the same solution.
    for array in (y, h, *(() if nu is None else (nu,))):
        _add(digest, np.asarray(array), np.dtype(np.float64))
    return _number(digest)


def of_numbers(array: Any) -> int:
    """A number below 2^63 of the shape and the numbers of one array."""
    digest = hashlib.blake2b(digest_size=8)
    _add(digest, np.asarray(array), np.dtype(np.float64))
    return _number(digest)


def _number(digest: Any) -> int:
    return int.from_bytes(digest.digest(), "big") >> 1


def _named(mu: Measure) -> str:
    """Kind and dimension of a source and of its parts, and the name of its code."""
    code = getattr(getattr(mu, "fn", None), "__qualname__", "")
    inside = ", ".join(map(_named, parts(mu)))
    return f"{type(mu).__qualname__} {mu.dim} {code} ({inside})"


def _add(digest: Any, array: np.ndarray, dtype: np.dtype) -> None:
    """Add shape and numbers of an array, some rows at a time."""
    digest.update(f"{dtype.str} {array.shape}".encode())
    rows = np.atleast_1d(array)
    together = max(1, _TOGETHER // max(1, rows[:1].size))
    for first in range(0, len(rows), together):
        part = np.ascontiguousarray(rows[first : first + together], dtype)
        digest.update(part.reshape(-1).view(np.uint8).data)
