"""A check of the numbers in a model's file: some, no fit can give."""

import math
from collections.abc import Mapping

import numpy as np

from aeot_jax.ot.solver.result import Method, Status

_INDEXED = {"kernels/group": "kernels/counts", "noise/of_cell": "noise/gain"}
"""Arrays of rows of other arrays."""


def check_numbers(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse numbers that no fit can give.

    Args:
      arrays: the arrays of a file, with names and shapes checked.

    Raises:
      ValueError: with a reason.
    """
    for name, array in arrays.items():
        if not _allowed(name.rpartition("/")[2], name, array):
            raise ValueError(f"its array {name!r} holds numbers that no fit gives")
        if name.rpartition("/")[2] == "h" and not np.isfinite(array).any(-1).all():
            raise ValueError(f"its heights {name} leave no target a cell")
        for index, of in _INDEXED.items():
            rows = arrays[name.removesuffix(index) + of].shape if name.endswith(index) else ()
            if rows and array.size and array.max() >= rows[array.ndim - 1]:
                raise ValueError(f"its array {name!r} names a row beyond the last")
    labels = arrays.get("classes/labels", np.arange(1))
    if labels.size == 0 or (np.diff(labels) <= 0).any():
        raise ValueError("its array 'classes/labels' does not ascend")


def _allowed(last: str, name: str, array: np.ndarray) -> bool:
    if name.startswith("problem/"):
        return bool(np.isfinite(array).all())
    if array.dtype.kind == "i":
        if last in ("status", "method"):
            known = [int(one) for one in (Status if last == "status" else Method)]
            return bool(np.isin(array, known).all())
        least = -1 if last == "rows" else 0
        return last == "labels" or bool((array >= least).all())
    if "history/" in name:
        return True  # only drawn; nothing is computed from it
    if last.endswith("_angles"):
        return not bool((array < 0).any() or (array > math.pi + 1e-6).any())
    if last in ("h", "log_weight"):
        return not bool(np.isnan(array).any() or (array == np.inf).any())
    if "certificate/" in name:
        return not bool(np.isnan(array).any() or (array == -np.inf).any())
    if not np.isfinite(array).all():
        return False
    if last in ("width", "reach", "novelty") and (array > 1).any():
        return False
    if last in ("scale", "shares", "deviations", "width"):
        return bool((array > 0).all())
    if last == "lengths":  # two rows, ascending from 0
        shaped = array.shape[-2] == 2 and array.shape[-1] > 1
        return shaped and not bool(array[..., 0].any() or (np.diff(array) < 0).any())
    if last == "threshold":
        return bool(((array >= 0) & (array <= math.pi + 1e-6)).all())
    return last not in ("band", "margin", "per_unit", "reach", "novelty", "nu") or bool(
        (array >= 0).all()
    )
