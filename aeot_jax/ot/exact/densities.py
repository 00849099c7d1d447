"""Sources with exact cell masses on the line and in the plane: uniform and Gaussian, in float64.

For the Gaussian, Green's theorem turns integrals over a cell into sums over its edges: the mass of
the triangle (0, a, b) is an angle minus a difference of Owen's T function, and the first moment is
minus the outward flux of the density.

Source: Owen 1956 (tables for computing bivariate normal probabilities).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, owens_t

from aeot_jax.ot.exact.laguerre import Diagram, Floats, areas, cross


@dataclass(frozen=True)
class Density:
    """A centred source of independent coordinates, with its integrals in closed form.

    Attributes:
      variance: of one coordinate.
      half_width: R; the mass outside [-R, R]^d is below the rounding of float64.
      quantile: (lower, upper) -> the point with mass ``lower`` below and ``upper`` above it. It is
        computed from the smaller of the two, so that neither tail loses digits.
      interval_mass: (a, b) -> mass of the line between a <= b.
      interval_moment: (a, b) -> integral of x over the line between a <= b.
      cell_integrals: diagram -> masses (m,) and first moments (m, 2) of its cells.
      edge_integrals: diagram -> (k,) integral of the density over each edge.
    """

    variance: float
    half_width: float
    quantile: Callable[[Floats, Floats], Floats]
    interval_mass: Callable[[Floats, Floats], Floats]
    interval_moment: Callable[[Floats, Floats], Floats]
    cell_integrals: Callable[[Diagram], tuple[Floats, Floats]]
    edge_integrals: Callable[[Diagram], Floats]


def _uniform_quantile(lower: Floats, upper: Floats) -> Floats:
    return np.where(lower < upper, lower - 0.5, 0.5 - upper)


def _uniform_mass(a: Floats, b: Floats) -> Floats:
    return np.clip(b, -0.5, 0.5) - np.clip(a, -0.5, 0.5)


def _uniform_moment(a: Floats, b: Floats) -> Floats:
    a, b = np.clip(a, -0.5, 0.5), np.clip(b, -0.5, 0.5)
    return (b - a) * (a + b) / 2


def _edge_lengths(diagram: Diagram) -> Floats:
    return np.linalg.norm(diagram.end - diagram.start, axis=1)


def _gaussian_quantile(lower: Floats, upper: Floats) -> Floats:
    return np.where(lower < upper, ndtri(lower), -ndtri(upper))


def _gaussian_mass(a: Floats, b: Floats) -> Floats:
    # From the nearer tail: 1 - tiny has lost the digits of tiny.
    return np.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))


def _normal_density(t: Floats) -> Floats:
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def _gaussian_moment(a: Floats, b: Floats) -> Floats:
    return _normal_density(a) - _normal_density(b)


def _line_coordinates(start: Floats, end: Floats) -> tuple[Floats, Floats, Floats]:
    """Segments as seen from the origin: signed distance of their line, and both ends along it."""
    step = end - start
    length = np.linalg.norm(step, axis=1)
    unit = step / np.where(length > 0, length, 1.0)[:, None]
    return cross(start, unit), (start * unit).sum(1), (end * unit).sum(1)


def _sector(distance: Floats, t: Floats) -> Floats:
    """Mass of N(0, I) in the right triangle at the origin with legs ``distance`` >= 0 and ``t``."""
    return np.arctan2(t, distance) / (2 * np.pi) - owens_t(distance, t / distance)


def _gaussian_cells(diagram: Diagram) -> tuple[Floats, Floats]:
    distance, a, b = _line_coordinates(diagram.start, diagram.end)
    # A line through the origin gives no triangle, and must not enter the quotient t / distance.
    flat = np.abs(distance) < 1e-300
    away = np.where(flat, 1.0, np.abs(distance))
    triangle = np.where(flat, 0.0, np.sign(distance) * (_sector(away, b) - _sector(away, a)))
    step = diagram.end - diagram.start
    length = np.linalg.norm(step, axis=1)
    outward = np.stack([step[:, 1], -step[:, 0]], axis=1) / np.where(length > 0, length, 1)[:, None]
    flux = _gaussian_edges(diagram)[:, None] * outward

    inner = diagram.right >= 0
    cell = np.concatenate([diagram.left, diagram.right[inner]])
    mass = diagram.sum_by_cell(cell, np.concatenate([triangle, -triangle[inner]]))
    moment = diagram.sum_by_cell(cell, np.concatenate([-flux, flux[inner]]))
    return np.maximum(mass, 0.0), moment


def _gaussian_edges(diagram: Diagram) -> Floats:
    distance, a, b = _line_coordinates(diagram.start, diagram.end)
    return _normal_density(distance) * _gaussian_mass(a, b)


DENSITIES = {
    "uniform": Density(
        1 / 12,
        0.5,
        _uniform_quantile,
        _uniform_mass,
        _uniform_moment,
        areas,
        _edge_lengths,
    ),
    # Beyond 9 standard deviations lie 5e-19 of the mass.
    "gaussian": Density(
        1.0,
        9.0,
        _gaussian_quantile,
        _gaussian_mass,
        _gaussian_moment,
        _gaussian_cells,
        _gaussian_edges,
    ),
}
"""The sources by name: uniform on [-1/2, 1/2]^d and N(0, I)."""
