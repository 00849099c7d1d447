"""Equal targets: all samples go to the first of them, unless its copies take turns."""

import numpy as np
from jaxtyping import Array, Int

from aeot_jax import arguments
from aeot_jax.ot import centring, merging
from aeot_jax.typing import ArrayLike


def spread_copies(index: ArrayLike, y: ArrayLike) -> Int[Array, " n"]:
    """Give the samples in a cell of equal targets to each of these targets in turn.

    ``assign``, ``transport`` and ``pairs`` give all samples in that cell to one target: the one
    with the highest height, and of equal heights the first. If rows of ``y`` belong to different
    labels or originals, every row should get its part. (In a ``coupling`` it does by itself.)

    Args:
      index: cells of samples (n,), from ``assign`` or ``top_k``; known, not traced.
      y: targets (m, d), as passed there.

    Returns:
      Indices (n,): in a group of c copies, the k-th sample goes to copy k mod c. If all targets
      differ, the indices are unchanged.

    Raises:
      ValueError: if a shape does not fit, or an index is not that of a target.
    """
    for name, value in (("index", index), ("y", y)):
        if not arguments.is_concrete(value):
            raise ValueError(
                f"`{name}` is traced, but copies are counted on the host; call `spread_copies` "
                "outside of `jax.jit`."
            )
    drawn = np.asarray(arguments.host_array("index", index))
    points, _ = centring.near_points(y)
    m = points.shape[0]
    if drawn.ndim != 1 or not np.issubdtype(drawn.dtype, np.integer):
        raise ValueError(
            f"`index` has shape {drawn.shape} and dtype {drawn.dtype}; pass integers, shape (n,)."
        )
    if drawn.size and not 0 <= drawn.min() <= drawn.max() < m:
        raise ValueError(
            f"`index` reaches from {drawn.min()} to {drawn.max()}, but `y` has {m} targets; pass "
            "indices that `assign` gave for these targets."
        )
    same = merging.representatives(points)
    if same is None:
        return arguments.placed(drawn.astype(np.int32))
    members = np.argsort(same, kind="stable").astype(np.int32)  # copies of a group come together
    first = np.searchsorted(same[members], np.arange(m))
    size = np.bincount(same, minlength=m)
    group = same[drawn]
    order = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[order], group[order])
    turn = np.empty(drawn.size, np.int64)
    turn[order] = np.arange(drawn.size) - begin
    return arguments.placed(members[first[group] + turn % size[group]])
