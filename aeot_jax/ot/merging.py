"""Targets that coincide share one cell: the first of them gets the weight of all."""

import warnings

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete
from aeot_jax.numerics import add_rows
from aeot_jax.ot import checks
from aeot_jax.typing import Weights


def representatives(y: np.ndarray | Array) -> Int[np.ndarray, " m"] | None:
    """Lowest index of the target that equals each target; None where all differ.

    Coinciding targets share one cell, which ``assign`` gives to the lowest index: their weights
    are merged there for the solve and for every residual. Rows are compared by a hash first, so
    that targets are not copied to be sorted.
    """
    host = np.asarray(y)
    known = np.empty(host.shape[0], np.int64)
    for part in arguments.parts("y", host):
        known[part] = keys(host[part])
    order = np.argsort(known, kind="stable")
    alike = known[order[1:]] == known[order[:-1]]
    if not alike.any():
        return None
    first = np.append(False, alike)
    some = np.sort(order[first | np.append(alike, False)])
    _, place, inverse = np.unique(_as_bytes(host[some]), return_index=True, return_inverse=True)
    if place.size == some.size:
        return None
    same = np.arange(host.shape[0], dtype=np.int32)
    same[some] = some[place[inverse.ravel()]]
    return same


def keys(rows: np.ndarray) -> Int[np.ndarray, " n"]:
    """Numbers of 64 bits that are equal where rows are, and hardly ever elsewhere.

    Other processes have other numbers.
    """
    return np.fromiter(map(hash, _as_bytes(rows).tolist()), np.int64, len(rows))


def _as_bytes(rows: np.ndarray) -> np.ndarray:
    """Rows as one item of bytes each."""
    rows = np.ascontiguousarray(rows) + rows.dtype.type(0)  # -0.0 equals 0.0
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


class CoincidenceWarning(UserWarning):
    """Some targets equal earlier ones.

    Attributes:
      copies: how many.
    """

    def __init__(self, copies: int):
        super().__init__(
            f"`y` holds {copies} targets that equal an earlier one; each group shares one cell, "
            "whose mass is the sum of the group's weights."
        )
        self.copies = copies


def warn_of_duplicates(same: Int[np.ndarray, " m"]) -> None:
    """Say once that some targets coincide and what becomes of their weights."""
    copies = int((same != np.arange(same.size)).sum())
    warnings.warn(CoincidenceWarning(copies), stacklevel=3)


def merged_weights(nu: Weights, same: Int[np.ndarray, " m"]) -> Weights:
    """Weights (m,) of each group of coinciding targets at its representative, 0 elsewhere."""
    return checks.placed(checks.rounded_weights(merged(nu, same)))


def merged(nu: np.ndarray | Array, same: Int[np.ndarray, " m"]) -> np.ndarray | Array:
    """Weights (m,) of each group of coinciding targets at its representative, 0 elsewhere.

    Known weights are added in float64: float32 loses the sum of many small ones.
    """
    if not is_concrete(nu):
        nu = jnp.asarray(nu)
        return add_rows(jnp.zeros_like(nu), jnp.asarray(same, jnp.int32), nu)
    merged = np.bincount(same, np.asarray(nu, np.float64), len(same))
    return merged / merged.sum()
