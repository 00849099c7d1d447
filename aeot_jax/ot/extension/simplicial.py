r"""The simplicial extension: affine on every simplex of the Delaunay complex of mass centres.

On the simplex with corners :math:`c_{i_0}, \dots, c_{i_d}` that holds x, :math:`z(x) = \sum_k
\lambda_k y_{i_k}` with :math:`\sum_k \lambda_k c_{i_k} = x`. It is continuous inside the hull of
the centres, equals y_i at c_i, and is second-order accurate if the codes sample a smooth map. It is
for few dimensions: the complex can have about :math:`m^{\lceil d/2\rceil}` simplices.

Source: Lei et al., Engineering 6(3), 2020, section 5 (piecewise linear extension).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import Delaunay

from aeot_jax import arguments
from aeot_jax.numerics import PRECISION
from aeot_jax.ot.extension.barycentric import barycentric, check_arguments
from aeot_jax.ot.extension.centres import Centres, check_known, nearest
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, Samples

_LARGEST_DIM = 5
"""Largest dimension: at d = 5 there are some hundred simplices per point."""

_MOST_STEPS = 256
"""Most simplices of a walk; from the nearest centre it takes a few."""

_TOLERANCE = 1e-5
"""Barycentric coordinates above minus this count as inside: they are rounded to float32."""

_Walk = tuple[Int[Array, ""], Int[Array, " n"], Bool[Array, " n"]]
"""Steps done, the simplex that each sample is at, and whether it moved at the last step."""


class Complex(NamedTuple):
    """The Delaunay complex of mass centres.

    Attributes:
      centres: the mass centres.
      corners: cells at the corners of each simplex (s, d+1).
      beyond: simplex across the facet opposite to each corner (s, d+1); -1 if there is none.
      inverse: maps x - last corner to the first d barycentric coordinates (s, d, d); NaN for a flat
        simplex.
      entry: a simplex at the centre of each cell (m,), where a walk starts; 0 if it is unknown.
    """

    centres: Centres
    corners: Int[Array, "s e"]
    beyond: Int[Array, "s e"]
    inverse: Float[Array, "s d d"]
    entry: Int[Array, " m"]

    __repr__ = brief


def triangulate(centres: Given[Centres]) -> Complex:
    """Triangulate the mass centres, on the host in float64.

    Args:
      centres: from ``mass_centres``; cells without a sample are left out.

    Raises:
      ValueError: if there are more than 5 dimensions, or fewer than d + 2 centres are known.
    """
    arguments.instance("centres", centres, Centres, "what `mass_centres` returns")
    points = arguments.known("centres", centres.points)
    dim = points.shape[1]
    if not 2 <= dim <= _LARGEST_DIM:
        raise ValueError(
            f"`centres` has dimension {dim}; the complex is built in 2 to {_LARGEST_DIM}: use "
            "`barycentric`."
        )
    check_known(centres, dim + 2, f"a complex in {dim} dimensions")
    known = np.flatnonzero(np.asarray(centres.counts) > 0)
    found = Delaunay(points[known])
    # Some simplices of a lattice are flat; SciPy gives them no inverse.
    full = np.flatnonzero(np.isfinite(found.transform).all((1, 2)))
    entry = np.zeros(len(points), np.int32)
    entry[known[found.simplices[full]]] = full[:, None]
    return Complex(
        centres=centres,
        corners=jnp.asarray(known[found.simplices], jnp.int32),
        beyond=jnp.asarray(found.neighbors, jnp.int32),
        inverse=jnp.asarray(found.transform[:, :dim], jnp.float32),
        entry=jnp.asarray(entry),
    )


def simplicial(x: ArrayLike, y: ArrayLike, complex_: Given[Complex]) -> Float[Array, "..."]:
    """Extend the map affinely on the simplex that holds x; outside of the hull by ``barycentric``.

    Continuous inside the hull of the centres; at its border the two forms may differ.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      complex_: from ``triangulate``.

    Returns:
      z(x), of the shape of x; y_i at the centre of cell i.

    Raises:
      ValueError: if shapes do not fit.
    """
    arguments.instance("complex_", complex_, Complex, "what `triangulate` returns")
    samples, targets = check_arguments(x, y, complex_.centres)
    rows = jnp.atleast_2d(samples)
    simplex, coordinates, inside = locate(rows, complex_)
    codes = targets[complex_.corners[simplex]]
    offsets = codes - codes[:, :1]
    affine = codes[:, 0] + jnp.einsum("nk,nkd->nd", coordinates, offsets, precision=PRECISION)
    z = jnp.where(inside[:, None], affine, barycentric(rows, targets, complex_.centres))
    return z.reshape(samples.shape)


def locate(
    x: Samples, complex_: Complex
) -> tuple[Int[Array, " n"], Float[Array, "n e"], Bool[Array, " n"]]:
    """Find the simplex that holds each sample by a walk from the nearest centre.

    At each step the walk crosses the facet that the sample is furthest beyond; on a Delaunay
    complex such a walk ends.

    Args:
      x: samples (n, d).
      complex_: from ``triangulate``.

    Returns:
      The last simplex of each walk (n,), the barycentric coordinates in it (n, d+1), and whether
      it holds the sample (n,).

    Source: Devillers, Pion, Teillaud 2002, "Walking in a triangulation".
    """
    _, closest = nearest(x, complex_.centres, 1)

    def step(state: _Walk) -> _Walk:
        i, simplex, _ = state
        coordinates = _coordinates(x, simplex, complex_)
        out = coordinates.argmin(1)
        ahead = jnp.take_along_axis(complex_.beyond[simplex], out[:, None], axis=1)[:, 0]
        moving = (coordinates.min(1) < -_TOLERANCE) & (ahead >= 0)
        return i + 1, jnp.where(moving, ahead, simplex), moving

    def unfinished(state: _Walk) -> Bool[Array, ""]:
        return (state[0] < _MOST_STEPS) & state[2].any()

    start = (jnp.int32(0), complex_.entry[closest[:, 0]], jnp.ones_like(x[:, 0], bool))
    _, simplex, _ = jax.lax.while_loop(unfinished, step, start)
    coordinates = _coordinates(x, simplex, complex_)
    return simplex, coordinates, coordinates.min(1) >= -_TOLERANCE


def _coordinates(x: Samples, simplex: Int[Array, " n"], complex_: Complex) -> Float[Array, "n e"]:
    last = complex_.centres.points[complex_.corners[simplex, -1]]
    first = jnp.einsum("nij,nj->ni", complex_.inverse[simplex], x - last, precision=PRECISION)
    coordinates = jnp.concatenate([first, 1 - first.sum(1, keepdims=True)], axis=1)
    return jnp.where(jnp.isnan(coordinates), -1.0, coordinates)  # a flat simplex holds nothing
