"""Targets of two problems as they are stored, which are widened and compared a few at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments
from aeot_jax.ot import checks, merging
from aeot_jax.typing import ArrayLike

Places = Int[np.ndarray, " n"]


class Stored(NamedTuple):
    """Targets on the host, of which no wide copy is made.

    Attributes:
      name: of the argument, for errors.
      rows: the targets (m, d), in any dtype, perhaps a memory map.
      common: a dtype that the targets of both problems have when they are compared.
    """

    name: str
    rows: np.ndarray
    common: Any

    def alike(self, which: slice | Places) -> np.ndarray:
        """Some of them in the common dtype, to be read alone: a slice may be no copy."""
        return self.rows[which].astype(self.common, copy=False)

    def wide(self, which: slice | Places) -> Float[np.ndarray, "n d"]:
        """The same in float64."""
        return self.alike(which).astype(np.float64, copy=False)

    def parts(self) -> Iterator[slice]:
        """All of them, a few at a time."""
        times = -(-np.dtype(self.common).itemsize // self.rows.dtype.itemsize)
        return arguments.parts(self.name, self.rows, times)


def both(y_old: ArrayLike, y_new: ArrayLike) -> tuple[Stored, Stored]:
    """Old targets and new ones.

    Where one kind is stored in fewer digits, the other is rounded to them: equal targets stay so.

    Raises:
      ValueError: if they are no targets, or their dimensions differ.
    """
    old, new = checks.points("y_old", y_old), checks.points("y_new", y_new)
    if new.shape[1] != old.shape[1]:
        raise ValueError(
            f"`y_new` has shape {new.shape}, but `y_old` has shape {old.shape}; pass targets of "
            f"dimension {old.shape[1]}."
        )
    common = old.dtype if old.dtype == new.dtype else np.float64
    if all(jnp.issubdtype(rows.dtype, jnp.floating) for rows in (old, new)):
        common = min((old.dtype, new.dtype), key=lambda dtype: jnp.finfo(dtype).nmant)
    return Stored("y_old", np.asarray(old), common), Stored("y_new", np.asarray(new), common)


def places(
    sought: tuple[Stored, ...], among: Stored, order: Int[np.ndarray, " k"]
) -> list[np.ndarray]:
    """For each target sought the last in an order that equals it, or -1.

    Args:
      sought: several times n targets (n, d); ``among`` may be one of them.
      among: other targets (m, d).
      order: numbers of some of them (k,); where several are equal, the last counts.
    """
    own = _keys(among)
    ascending = order[np.argsort(own[order], kind="stable")]
    known = own[ascending]

    def last_equal(stored: Stored) -> Places:
        keys = own if stored is among else _keys(stored)
        last = np.searchsorted(known, keys, side="right") - 1
        found = np.where((last >= 0) & (known[last] == keys), ascending[last], -1)
        for part in stored.parts():  # keys hardly ever agree where targets do not
            same = part.start + np.flatnonzero(found[part] >= 0)
            equal = (stored.alike(same) == among.alike(found[same])).all(1)
            found[same[~equal]] = -1
        return found

    return [last_equal(stored) for stored in sought]


def _keys(stored: Stored) -> Int[np.ndarray, " m"]:
    """Numbers that are equal where targets are."""
    keys = [merging.keys(stored.alike(part)) for part in stored.parts()]
    return np.concatenate(keys)
