r"""Which curves a network can encode: how many pieces a curve needs, and whether its code is one.

An arc is rectifiable if some linear function is strictly monotone on it: then one affine map
encodes it by a number. A curve that needs N such arcs, one after the other, can be encoded by a
number only by a network with at least N pieces along it, for on each piece the network is affine,
and injective. In the plane an arc may turn by less than half a turn, so a spiral of w turns needs
about 2 w arcs, whatever its size: a fixed network stops encoding it as it winds.

Source: arXiv 1805.10451, section 4 (linear rectifiable manifolds, rectified linear complexity,
encodability).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog

from aeot_jax import arguments
from aeot_jax.manifold.networks import Network, as_network, check_points
from aeot_jax.manifold.segments import along
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given

_TOUCHING = 1e-9
"""Codes nearer than this, over the extent of the code, are one code."""

_STANDING = 1e-12
"""A step of the code shorter than this, over its extent, is none."""

_MARGIN = 1e-9
"""Slope of a monotone function that is told from 0."""

_MOST_NUMBERS = 1 << 22
"""Numbers in an array over pairs of segments, which are looked at a few rows at a time."""


class Complexity(NamedTuple):
    """How much a curve bends.

    Attributes:
      arcs: the least number of arcs, one after the other, that an affine map to the line encodes.
      starts: the vertex at which each begins.
      turns: how far the direction turns on the whole way, in full turns; a spiral's winding number.
    """

    arcs: int
    starts: Int[np.ndarray, " a"]
    turns: float

    __repr__ = brief


class Encoding(NamedTuple):
    """What a network makes of a curve.

    Attributes:
      encoded: whether no two points of the curve have one code.
      confused: how far apart along the curve two points of one code are at most, over its length: 0
        if it is encoded, small where the code turns back a little, near 1 where ends meet.
      separation: the least distance in code over distance along the curve, of all pairs of points
        where the network bends or the curve has a vertex, over the mean of it on the way: 1 for a
        curve that is unrolled evenly, 0 for one whose code meets itself.
      pieces: affine pieces of the network along the curve.
      needed: arcs that an affine map to the line encodes, as `complexity` counts them. A network
        with one output and fewer pieces than these cannot encode the curve.
    """

    encoded: bool
    confused: float
    separation: float
    pieces: int
    needed: int


def complexity(curve: ArrayLike) -> Complexity:
    """Count the arcs of a curve that are rectifiable: its rectified linear complexity.

    Args:
      curve: (p, d), the vertices of a polyline, p at least 2.

    Returns:
      The least number, which taking each arc as long as it may be reaches.

    Raises:
      ValueError: if it has fewer than two different vertices.
    """
    steps, where = _steps(_curve(curve))
    starts, begin = [], 0
    while begin < len(steps):
        starts.append(begin)
        begin = _longest(steps, begin)
    cosines = np.clip((steps[:-1] * steps[1:]).sum(1), -1.0, 1.0)
    sines = np.linalg.norm(steps[1:] - cosines[:, None] * steps[:-1], axis=1)
    turns = float(np.arctan2(sines, cosines).sum() / (2 * np.pi))
    return Complexity(len(starts), where[starts], turns)


def encoding(network: Given[Network], curve: ArrayLike) -> Encoding:
    """Say whether a network encodes a curve: along the whole of it, not at samples.

    The code of a polyline is a polyline, with vertices also where the network bends. The curve is
    encoded if that does not meet itself, up to the rounding of float64. ``confused`` is exact to
    within a step of that polyline, or a way on which the code stands still.

    Args:
      network: an encoder, or a list of pairs (weight, bias).
      curve: (p, inputs), the vertices of a polyline, p at least 2; the time grows with the square
        of p and of the number of pieces.

    Raises:
      ValueError: if the dimension is another, or it has fewer than two different vertices.
    """
    made = as_network(network)
    vertices = check_points("curve", curve, made)
    needed = complexity(vertices).arcs
    found = along(made, vertices)
    ways = np.linalg.norm(_near_one(np.diff(found.points, axis=0)), axis=1)
    place = np.r_[0.0, np.cumsum(ways)]
    moved = np.r_[True, np.diff(place) > 0]  # a vertex may be given twice
    place, codes = place[moved], _near_one(found.values[moved])
    confused = _confused(codes, place) / float(place[-1])
    separation = 0.0 if confused else _separation(codes, place)
    return Encoding(not confused, confused, separation, found.num_pieces, needed)


def _curve(curve: ArrayLike) -> Float[np.ndarray, "p d"]:
    vertices = arguments.known("curve", curve)
    if vertices.ndim != 2 or len(vertices) < 2 or not vertices.shape[1]:
        raise ValueError(
            f"`curve` has shape {vertices.shape}; pass the vertices (p, d) of a polyline, at least "
            "two."
        )
    return vertices


def _steps(
    vertices: Float[np.ndarray, "p d"],
) -> tuple[Float[np.ndarray, "k d"], Int[np.ndarray, " k"]]:
    """Unit directions of the segments, and the vertex where each begins; no segment of length 0."""
    steps = _near_one(np.diff(vertices, axis=0))
    lengths = np.linalg.norm(steps, axis=1)
    where = np.flatnonzero(lengths)
    if not where.size:
        raise ValueError("`curve` is one point; pass at least two different vertices.")
    return steps[where] / lengths[where, None], where


def _near_one(x: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
    """Numbers times a power of two: no square overflows, nor does that of the largest vanish."""
    return np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))


def _longest(steps: Float[np.ndarray, "k d"], begin: int) -> int:
    """Where the longest rectifiable arc from a segment on ends: doubled, then halved."""
    reach = 1
    while begin + reach < len(steps) and _is_rectifiable(steps[begin : begin + 2 * reach]):
        reach *= 2
    low, high = reach, min(2 * reach, len(steps) - begin)  # the first is, the second may not be
    if begin + reach >= len(steps):
        return len(steps)
    while low < high:
        middle = (low + high + 1) // 2
        if _is_rectifiable(steps[begin : begin + middle]):
            low = middle
        else:
            high = middle - 1
    return begin + low


def _is_rectifiable(steps: Float[np.ndarray, "k d"]) -> bool:
    """Whether a linear function grows along every direction."""
    dim = steps.shape[1]
    if dim == 1:
        return bool((steps > 0).all() or (steps < 0).all())
    if dim == 2:
        angles = np.sort(np.arctan2(steps[:, 1], steps[:, 0]))
        gaps = np.diff(np.r_[angles, angles[0] + 2 * np.pi])
        return bool(gaps.max() > np.pi + _MARGIN)
    # The largest m with <w, step> >= m for all, |w_i| <= 1.
    above = np.hstack([-steps, np.ones((len(steps), 1))])
    bounds = [(-1, 1)] * dim + [(None, 1)]
    best = linprog(np.r_[np.zeros(dim), -1], above, np.zeros(len(steps)), bounds=bounds)
    return bool(best.status == 0 and -best.fun > _MARGIN)


def _confused(codes: Float[np.ndarray, "k o"], place: Float[np.ndarray, " k"]) -> float:
    """The longest way between two points where a polyline meets itself; 0 if it does not.

    It may stand still, fold back at a vertex, or come near again later.
    """
    scale = float(np.ptp(codes, axis=0).max())
    if not scale:
        return float(place[-1])
    steps, ways = np.diff(codes, axis=0), np.diff(place)
    lengths = np.linalg.norm(steps, axis=1)
    moves = lengths > _STANDING * scale
    units = steps / np.where(moves, lengths, 1.0)[:, None]
    units, lengths, codes, steps = units[moves], lengths[moves], codes[:-1][moves], steps[moves]
    ends = place[1:][moves]
    # How long the code stands still: at first, between two steps, at last.
    stands = np.r_[place[:-1][moves], place[-1]] - np.r_[place[0], ends]
    ways, place = ways[moves], place[:-1][moves]
    folds = (units[:-1] * units[1:]).sum(1) < -1 + _MARGIN
    slow = ways / lengths  # way for each unit of code
    twice = np.minimum(lengths[:-1], lengths[1:]) * (slow[:-1] + slow[1:]) + stands[1:-1]
    farthest = max(stands.max(), np.where(folds, twice, 0.0).max(initial=0.0))
    rows = max(1, _MOST_NUMBERS // codes.size)
    for start in range(0, len(codes), rows):
        i, j = np.meshgrid(np.arange(start, min(start + rows, len(codes))), np.arange(len(codes)))
        i, j = i[j > i + 1], j[j > i + 1]
        if i.size:
            gap, s, t = _gap(codes[i], steps[i], codes[j], steps[j])
            way = place[j] + t * ways[j] - place[i] - s * ways[i]
            farthest = max(farthest, np.where(gap <= _TOUCHING * scale, way, 0.0).max())
    return float(farthest)


def _gap(
    a: Float[np.ndarray, "p o"],
    u: Float[np.ndarray, "p o"],
    b: Float[np.ndarray, "p o"],
    v: Float[np.ndarray, "p o"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Distance between the segments from a to a + u and from b to b + v, and the shares s and t.

    The nearest points are a + s u and b + t v.

    Source: Ericson, "Real-Time Collision Detection", 2005, section 5.1.9.
    """
    r = a - b
    uu, vv, uv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    ur, vr = (u * r).sum(1), (v * r).sum(1)
    determinant = uu * vv - uv * uv
    safe = np.where(determinant > 0, determinant, 1.0)
    s = np.where(determinant > 0, np.clip((uv * vr - ur * vv) / safe, 0, 1), 0.0)
    t = (uv * s + vr) / vv
    s = np.where(t < 0, -ur / uu, np.where(t > 1, (uv - ur) / uu, s))
    s, t = np.clip(s, 0, 1), np.clip(t, 0, 1)
    return np.linalg.norm(r + s[:, None] * u - t[:, None] * v, axis=1), s, t


def _separation(codes: Float[np.ndarray, "k o"], place: Float[np.ndarray, " k"]) -> float:
    """The least ratio of distances in code and along the curve, over that of the whole way."""
    least, count = np.inf, len(place)
    rows = max(1, _MOST_NUMBERS // codes.size)
    for start in range(0, count - 1, rows):
        i, j = np.meshgrid(np.arange(start, min(start + rows, count)), np.arange(count))
        i, j = i[j > i], j[j > i]
        if i.size:
            ratio = np.linalg.norm(codes[i] - codes[j], axis=1) / (place[j] - place[i])
            least = min(least, float(ratio.min()))
    mean = np.linalg.norm(np.diff(codes, axis=0), axis=1).sum() / place[-1]
    return float(least / mean)
