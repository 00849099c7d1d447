"""A random part of a data set, with the same share of every class."""

import numpy as np
from jaxtyping import Int


def pick(
    labels: Int[np.ndarray, " n"] | None, num: int, limit: int, seed: int
) -> Int[np.ndarray, " k"]:
    """Choose rows at random, from every class in proportion to its size.

    The numbers per class are rounded so that they sum to `limit`: the largest remainders are
    rounded up.

    Args:
      labels: the class of each row; None is one class.
      num: number of rows.
      limit: number of rows to choose, less than `num`.
      seed: seed of the choice.

    Returns:
      The rows, ascending.
    """
    rng = np.random.default_rng(seed)
    if labels is None:
        return np.sort(rng.permutation(num)[:limit])
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    exact = limit * counts / num
    take = np.floor(exact).astype(int)
    order = np.argsort(take - exact, kind="stable")
    take[order[: limit - take.sum()]] += 1
    parts = [rng.permutation(np.flatnonzero(numbers == i))[:count] for i, count in enumerate(take)]
    return np.sort(np.concatenate(parts))
