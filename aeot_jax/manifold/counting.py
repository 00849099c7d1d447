"""Cells of a ReLU network, on which it is affine: told apart by which units are active."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from aeot_jax import arguments
from aeot_jax.manifold.networks import Network, as_network, check_points
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given

_BLOCK = 4096
"""Samples that are looked at together."""


class Cells(NamedTuple):
    """The cells that hold samples.

    Attributes:
      index: the cell of each sample, numbered in no order.
      count: number of cells that hold a sample; there may be more that hold none.
      sizes: samples in each.
    """

    index: Int[np.ndarray, " n"]
    count: int
    sizes: Int[np.ndarray, " c"]

    __repr__ = brief


def patterns(network: Given[Network], x: ArrayLike) -> Bool[np.ndarray, "n u"]:
    """Which of the rectified units are active (positive) at each sample.

    Args:
      network: a network, or a list of pairs (weight, bias).
      x: (n, inputs).

    Returns:
      One column for each rectified unit, in the order of the layers.

    Raises:
      ValueError: if the dimension is another.
    """
    made = as_network(network)
    values = check_points("x", x, made)
    found = np.zeros((len(values), made.num_units), bool)
    for start in range(0, len(values), _BLOCK):
        block, column = values[start : start + _BLOCK], 0
        for layer in made.layers:
            block = block @ layer.weight + layer.bias
            active = block[:, layer.rectified] > 0
            found[start : start + _BLOCK, column : column + active.shape[1]] = active
            column += active.shape[1]
            block = np.where(layer.rectified & (block <= 0), 0.0, block)
    return found


def cells(network: Given[Network], x: ArrayLike) -> Cells:
    """Count the cells of a network that hold samples.

    Samples that miss a cell do not count it: ``along`` and ``plane`` miss none.

    Args:
      network: a network, or a list of pairs (weight, bias).
      x: (n, inputs).

    Raises:
      ValueError: if the dimension is another.
    """
    return number(patterns(network, x))


def number(found: Bool[np.ndarray, "n u"]) -> Cells:
    """Number the rows that are equal to each other."""
    if not found.size:
        sizes = np.array([len(found)] if len(found) else [], np.intp)
        return Cells(np.zeros(len(found), np.intp), len(sizes), sizes)
    packed = np.packbits(found, axis=1)
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, index, sizes = np.unique(rows, return_inverse=True, return_counts=True)
    return Cells(index, len(sizes), sizes)


def affine(
    network: Given[Network], x: ArrayLike
) -> tuple[Float[np.ndarray, "d o"], Float[np.ndarray, " o"]]:
    """The affine map that a network is in the cell of a point.

    Args:
      network: a network, or a list of pairs (weight, bias).
      x: (inputs,), one point.

    Returns:
      A weight (inputs, outputs) and a bias (outputs,): in the cell, ``apply`` is x @ weight + bias.

    Raises:
      ValueError: if the dimension is another.
    """
    made = as_network(network)
    point = arguments.known("x", x)
    if point.shape != (made.num_inputs,):
        raise ValueError(
            f"`x` has shape {point.shape}, but the network takes one point of shape "
            f"({made.num_inputs},)."
        )
    weight, bias = np.eye(made.num_inputs), np.zeros(made.num_inputs)
    for layer in made.layers:
        weight, bias = weight @ layer.weight, bias @ layer.weight + layer.bias
        kept = ~layer.rectified | (point @ weight + bias > 0)
        weight, bias = weight * kept, bias * kept
    return weight, bias
