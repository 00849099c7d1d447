"""All cells of a ReLU network with two inputs, as polygons: exact, for pictures and counts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from aeot_jax import arguments
from aeot_jax.manifold.networks import Layer, Network, as_network
from aeot_jax.typing import ArrayLike, Given

_ROUNDING = 1e-12
"""A unit whose values reach less far than this, over the largest of the layer, has no sign."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """The cells of a network inside a box of the plane.

    Attributes:
      corners: the corners (v, 2) of each cell, in order around it.
      values: the outputs (v, outputs) at these corners; the network is affine between them.
      areas: of the cells.
      patterns: which of the rectified units are active in each.
    """

    corners: tuple[Float[np.ndarray, "_ 2"], ...]
    values: tuple[Float[np.ndarray, "_ o"], ...]
    areas: Float[np.ndarray, " c"]
    patterns: Bool[np.ndarray, "c u"]

    def __len__(self) -> int:
        return len(self.corners)

    def __repr__(self) -> str:
        units = self.patterns.shape[1]
        return f"Polygons({len(self)} cells of {units} units, area {self.areas.sum():.6g})"


def plane(
    network: Given[Network], low: ArrayLike, high: ArrayLike, *, most: Given[int] = 100_000
) -> Polygons:
    """Cut a box of the plane into the cells of a network.

    Polygons are cut by the units of one layer after the other, so time and memory grow with the
    number of cells: 10,000 take some seconds.

    Args:
      network: with two inputs, or a list of pairs (weight, bias).
      low: (2,), the lower left corner of the box.
      high: (2,), the upper right corner.
      most: most cells that are cut out.

    Raises:
      ValueError: if the network has another number of inputs, the box has no area, or there are
        more cells than ``most``.
    """
    limit = arguments.count("most", most)
    made = as_network(network)
    if made.num_inputs != 2:
        raise ValueError(
            f"`network` takes {made.num_inputs} inputs; pass one of 2, or count its cells by "
            "`cells` at samples or `along` lines."
        )
    (a, b), (c, d) = _corner("low", low), _corner("high", high)
    if not (a < c and b < d):
        raise ValueError(f"`high` is {[c, d]}, which is not above `low`, {[a, b]}, in both.")
    box = np.array([[a, b], [c, b], [c, d], [a, d]])
    found = [(box, box, np.zeros(0, bool))]
    for layer in made.layers:
        before, found = found, []
        for part in before:
            found += _cut(layer, *part, len(found), limit)
    corners, values, active = zip(*found, strict=True)
    areas = np.array([_area(polygon) for polygon in corners])
    return Polygons(corners, values, areas, np.stack(active))


def _corner(name: str, value: ArrayLike) -> tuple[float, float]:
    given = arguments.known(name, value)
    if given.shape != (2,):
        raise ValueError(f"`{name}` has shape {given.shape}; pass a corner of the box, (2,).")
    return float(given[0]), float(given[1])


def _cut(
    layer: Layer,
    corners: Float[np.ndarray, "v 2"],
    state: Float[np.ndarray, "v i"],
    active: Bool[np.ndarray, " u"],
    taken: int,
    most: int,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The parts of a polygon on which every unit of the layer has one sign."""
    values = state @ layer.weight + layer.bias
    done, todo = [], [(corners, values)]
    rounding = _ROUNDING * (np.abs(values).max() or 1.0)
    while todo:
        if taken + len(done) + len(todo) > most:
            raise ValueError(f"`most` is {most}, but the box has more cells; pass a smaller box.")
        corners, values = todo.pop()
        both = (values.min(0) < -rounding) & (values.max(0) > rounding) & layer.rectified
        if not both.any():
            on = values.mean(0) > 0
            passed = np.where(layer.rectified & ~on, 0.0, values)
            done.append((corners, passed, np.r_[active, on[layer.rectified]]))
            continue
        unit = int(np.argmax(both))
        todo += [_half(corners, values, unit, sign) for sign in (1.0, -1.0)]
    return done


def _half(
    corners: Float[np.ndarray, "v 2"], values: Float[np.ndarray, "v o"], unit: int, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a polygon where a unit has a sign, or is 0."""
    both = np.hstack([corners, values])
    side, made = sign * values[:, unit], []
    for i, here in enumerate(side):
        if here >= 0:
            made.append(both[i])
        after = (i + 1) % len(side)
        if here * side[after] < 0:
            part = here / (here - side[after])
            point = (1 - part) * both[i] + part * both[after]
            point[2 + unit] = 0.0
            made.append(point)
    found = np.stack(made)
    return found[:, :2], found[:, 2:]


def _area(corners: Float[np.ndarray, "v 2"]) -> float:
    x, y = corners.T
    return float(np.abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
