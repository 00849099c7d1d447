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
    held = [_known(leaf) for leaf in jax.tree.leaves(mu)]
    # As float32, in which all is computed: the same numbers in another dtype are the same solution.
    held += [np.asarray(part, np.float32) for part in (y, h, *(() if nu is None else (nu,)))]
    for array in held:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int.from_bytes(digest.digest(), "big") >> 1


def _known(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_typed_key(leaf) else leaf)
