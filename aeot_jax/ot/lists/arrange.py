"""The rows of a problem list by list, on the host."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.cluster.vq import kmeans2, vq

from aeot_jax.ot import checks
from aeot_jax.ot.lists.lists import BLOCK, Lists
from aeot_jax.ot.problem import Prepared

LEAST_TARGETS = 1024
"""Fewer targets are not worth a list."""

_PER_ROOT = 0.7
"""Lists over the square root of the number of targets, about: to rank the lists costs a sample as
much as to score one of them (``benchmarks/pruning.py``)."""

_LEARNED = 64
"""Targets of a list, on average, from which k-means learns."""

_ROUNDS = 10
"""Of k-means."""


class Arranged(NamedTuple):
    """A problem whose rows lie list by list.

    Attributes:
      made: the problem.
      lists: of its targets, in the user's units; nothing is learned of their planes.
      order: which row of the problem before each row was (rows,); -1 where a list is filled up.
    """

    made: Prepared
    lists: Lists
    order: Int[np.ndarray, " rows"]

    def moved(self, values: Array | np.ndarray, fill: float | int) -> np.ndarray:
        """Values of rows of the problem before (rows,), as those of this one."""
        return np.where(self.order >= 0, np.asarray(values)[self.order], np.float32(fill))


def number_of_lists(num_targets: int) -> int:
    """K, a power of two."""
    return 1 << round(math.log2(_PER_ROOT * math.sqrt(num_targets)))


def arranged(made: Prepared) -> Arranged:
    """Put near targets into lists by k-means, and the rows of each list side by side.

    Raises:
      ValueError: if there are too few targets.
    """
    m = made.num_targets
    if m < LEAST_TARGETS:
        raise ValueError(
            f"`search` is 'lists', but `y` has {m} targets, of which no list is worth it below "
            f"{LEAST_TARGETS}; choose 'exact'."
        )
    y = np.asarray(made.y)[:m]
    found, slopes = _lists(y.astype(np.float32), number_of_lists(m))
    begin, order, slot = side_by_side(found, len(slopes))
    nu = np.asarray(made.nu)
    # What fills up is a copy of a target that owns a cell, as everywhere.
    own = np.where(order >= 0, order, nu[:m].argmax())
    rows = Prepared(
        made.mu,
        checks.placed(y[own]),
        checks.placed(np.where(order >= 0, nu[own], np.float32(0))),
        m,
        slot if made.same is None else slot[made.same],
        made.centre,
    )
    return Arranged(rows, unlearned(begin, slopes), order)


def side_by_side(
    found: Int[np.ndarray, " m"], number: int
) -> tuple[Int[np.ndarray, " k1"], Int[np.ndarray, " rows"], Int[np.ndarray, " m"]]:
    """The first block of each list, which target each row is, and the row of each target.

    A row that fills a list up is none, -1.

    Args:
      found: the list of each target (m,).
      number: of lists.
    """
    sizes = np.bincount(found, minlength=number)
    begin = np.concatenate([[0], np.cumsum(-(-sizes // BLOCK))])
    by_list = np.argsort(found, kind="stable")
    inside = np.arange(len(found)) - (np.cumsum(sizes) - sizes)[found[by_list]]
    order, slot = np.full(begin[-1] * BLOCK, -1), np.empty(len(found), np.int64)
    slot[by_list] = begin[found[by_list]] * BLOCK + inside
    order[slot[by_list]] = by_list
    return begin, order, slot


def unlearned(begin: Int[np.ndarray, " k1"], slopes: Float[np.ndarray, "k d"]) -> Lists:
    """Lists whose planes have the mean height."""
    own = np.repeat(np.arange(len(slopes)), np.diff(begin) * BLOCK)
    none = np.zeros(len(slopes), np.float32)
    arrays = begin.astype(np.int32), own.astype(np.int32), slopes, none
    return Lists(*map(checks.placed, arrays))


def _lists(y: np.ndarray, number: int) -> tuple[Int[np.ndarray, " m"], np.ndarray]:
    """The list of each target (m,), and the mean target of each list (K, d)."""
    # Far from the origin differences lose digits, and squares of any size leave float32.
    centre = y.mean(0, dtype=np.float64).astype(np.float32)
    size = max(float(np.abs(y - centre).max()), float(np.finfo(np.float32).tiny))
    y = (y - centre) / np.float32(size)
    rng = np.random.default_rng(len(y))
    some = y[rng.permutation(len(y))[: _LEARNED * number]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty lists, which no sample looks at
        means, _ = kmeans2(some, some[:number], iter=_ROUNDS, minit="matrix")
    found, _ = vq(y, means)
    sizes = np.maximum(np.bincount(found, minlength=number), 1)[:, None]
    sums = np.stack([np.bincount(found, column, number) for column in y.T], axis=1)
    return found, (sums / sizes * size).astype(np.float32) + centre
