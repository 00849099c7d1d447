r"""Pieces of a ReLU network along a polyline, exactly: no cell between two samples is missed.

Along a segment the input is affine in t. So are the values of the first layer, and each unit
changes sign at most once, at a time in closed form. Between these times the rectified values are
affine again, and so on, layer by layer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aeot_jax.manifold.counting import number
from aeot_jax.manifold.networks import Layer, Network, as_network, check_points
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given

_SHORTEST = 1e-12
"""Intervals shorter than this part of a segment are rounding."""

_ROUNDING = 2e-15
"""The same for a part of the whole polyline."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The intervals of a polyline on which a network is affine.

    Attributes:
      t: where intervals begin, and where the last one ends; vertex i of the polyline is at t = i.
      points: the input at these times.
      values: the output there; between two of them the output is affine in t.
      cell: the cell of each interval; intervals in one cell have one number.
    """

    t: Float[np.ndarray, " q"]
    points: Float[np.ndarray, "q d"]
    values: Float[np.ndarray, "q o"]
    cell: Int[np.ndarray, " k"]

    __repr__ = brief

    @property
    def num_pieces(self) -> int:
        """How many cells the polyline enters, one after the other; a vertex begins no piece."""
        return 1 + int((np.diff(self.cell) != 0).sum())

    @property
    def num_cells(self) -> int:
        """How many different cells it visits."""
        return len(np.unique(self.cell))


def along(network: Given[Network], points: ArrayLike) -> Pieces:
    """Walk along a polyline from cell to cell of a network.

    Args:
      network: a network, or a list of pairs (weight, bias).
      points: (p, inputs), the vertices of the polyline, p at least 2.

    Returns:
      The times at which a unit changes its sign, the output there, and the cells between them.

    Raises:
      ValueError: if the dimension is another, or there are fewer than two vertices.
    """
    made = as_network(network)
    vertices = check_points("points", points, made)
    if len(vertices) < 2:
        raise ValueError(
            f"`points` has shape {vertices.shape}; pass at least two, the ends of a segment."
        )
    t, state = np.arange(len(vertices), dtype=np.float64), vertices
    active = np.zeros((len(vertices) - 1, 0), bool)
    for layer in made.layers:
        t, state, active = _through(layer, t, state, active)
    kept = np.diff(t) > max(_SHORTEST, _ROUNDING * len(vertices))
    at = np.flatnonzero(np.r_[kept, True])
    inputs = [np.interp(t[at], np.arange(len(vertices)), column) for column in vertices.T]
    return Pieces(t[at], np.stack(inputs, axis=1), state[at], number(active[kept]).index)


def _through(
    layer: Layer,
    t: Float[np.ndarray, " q"],
    state: Float[np.ndarray, "q i"],
    active: Bool[np.ndarray, "k u"],
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r o"], Bool[np.ndarray, "p v"]]:
    """Cut the intervals where a unit of the layer changes its sign."""
    values = state @ layer.weight + layer.bias
    start, end = values[:-1], values[1:]
    where, unit = np.nonzero((np.sign(start) * np.sign(end) < 0) & layer.rectified)
    low, high = start[where, unit], end[where, unit]
    part = low / (low - high)
    order = np.lexsort((part, where))
    where, unit, part = where[order], unit[order], part[order]
    cut = (1 - part)[:, None] * start[where] + part[:, None] * end[where]
    cut[np.arange(len(unit)), unit] = 0.0
    t = np.insert(t, where + 1, t[where] + part * (t[where + 1] - t[where]))
    values = np.insert(values, where + 1, cut, axis=0)
    # A unit has one sign in an interval, so the sum of its ends has it too.
    own = (values[:-1] + values[1:])[:, layer.rectified] > 0
    times = 1 + np.bincount(where, minlength=len(active))
    active = np.hstack([np.repeat(active, times, axis=0), own])
    return t, np.where(layer.rectified & (values <= 0), 0.0, values), active
