"""The number by which a state or a table knows its solution again."""

import hashlib
from typing import Any

import jax
import numpy as np

from aeot_jax.measures import Measure
from aeot_jax.numerics import is_typed_key


def of(mu: Measure, y: Any, h: Any, nu: Any) -> int:
    """A number below 2^63 of the source, the targets, the heights and the weights.

    A source that is code (``FromSampler``) is known by its name alone.
    """
    digest = hashlib.blake2b(digest_size=8)
    code = getattr(getattr(mu, "fn", None), "__qualname__", "")
    digest.update(f"{type(mu).__qualname__} {mu.dim} {code}".encode())
    for leaf in (*jax.tree.leaves(mu), y, h, *(() if nu is None else (nu,))):
        array = np.asarray(jax.random.key_data(leaf) if is_typed_key(leaf) else leaf)
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int.from_bytes(digest.digest(), "big") >> 1
