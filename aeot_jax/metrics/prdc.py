"""Precision, recall, density and coverage: fidelity and diversity by nearest-neighbour balls."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aeot_jax import arguments
from aeot_jax.metrics import distances, exact
from aeot_jax.metrics.points import Rows, together
from aeot_jax.typing import ArrayLike, Given

_AT_ONCE = 2**19
"""Pairs that the host processes together."""


@dataclasses.dataclass(frozen=True)
class PRDC:
    """The four scores, and the sizes that they were computed from.

    Attributes:
      precision: share of generated points inside the ball of at least one real point.
      recall: share of real points inside the ball of at least one generated point.
      density: mean number of real balls that hold a generated point, over k; may exceed 1.
      coverage: share of real points whose ball holds at least one generated point.
      k: the neighbour that sets the radius of a point's ball.
      num_real: number of real points.
      num_generated: number of generated points.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    num_real: int
    num_generated: int


def prdc(real: ArrayLike, generated: ArrayLike, *, k: Given[int] = 5) -> PRDC:
    """Compute precision, recall, density and coverage.

    The radius of a point's ball is the distance to its k-th nearest other point of its own set. For
    two independent samples of one distribution, density is 1 and coverage 1 - (choose(2n-1-k,
    n) / choose(2n-1, n)), about 1 - 2^-k, in expectation; precision and recall depend on the
    dimension.

    Balls are closed, as in Kynkäänniemi et al.: a copy of a real point is inside even if duplicates
    shrink the ball to a point. The code of Naeem et al. has open balls. The two differ only on
    ties, that is on copies: identical sets have density (k+1)/k here and 1 there.

    Membership is that of float64: the expansion of the squared distance decides the pairs that its
    rounding error cannot change, and the other pairs are computed from their differences. Memory
    beyond one float32 copy of the points stays under 64 MiB.

    Args:
      real: real points, (n, ...), flattened to rows; features rather than pixels. Pictures, (n, h,
        w) or (n, h, w, c), and bytes are pixels in [0, 1]; rows of other numbers are taken as they
        are.
      generated: generated points, (m, ...), of the same size.
      k: the neighbour that sets the radius.

    Returns:
      The four scores.

    Raises:
      ValueError: if the sizes or the value ranges differ, a value is not finite, or a set has no
        k-th neighbour.

    Source: Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative
    Models", ICML 2020; Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall
    Metric for Assessing Generative Models", NeurIPS 2019.
    """
    x, y = together(real=real, generated=generated)
    _check_k(k, real=x, generated=y)
    where = exact.frame(x, y)
    number_x, number_y = exact.alike(x, y)
    one, other = _Cloud(x, number_x), _Cloud(y, number_y)
    radius_x, radius_y = (_squared_radii(cloud, k, where) for cloud in (one, other))
    balls, covered, recalled = _memberships(one, other, radius_x, radius_y, where)
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
        k=k,
        num_real=len(x),
        num_generated=len(y),
    )


class _Cloud(NamedTuple):
    """One set of points.

    Attributes:
      points: the original points, (n, d).
      number: equal for equal points, (n,).
    """

    points: Rows
    number: Int[np.ndarray, " n"]


def _check_k(k: Given[int], **sets: Rows) -> None:
    arguments.count("k", k)
    for name, points in sets.items():
        if len(points) <= k:
            raise ValueError(
                f"`{name}` has {len(points)} points, too few for `k` = {k}; "
                f"pass at least {k + 1} or lower `k`."
            )


def _squared_radii(cloud: _Cloud, k: int, where: exact.Frame) -> Float[np.ndarray, " n"]:
    """Squared distance from each point to its k-th nearest other."""
    n, d = cloud.points.shape
    on_device = jnp.asarray(exact.placed(cloud.points, where, np.float32))
    radius = np.empty(n)
    for part in distances.chunks(n, 4 * (2 * n + d)):
        near = np.asarray(
            _kth_distance(on_device, np.arange(part.start, part.stop, dtype=np.int32), k=k)
        )
        for rows in _few(part, n):
            radius[rows] = _kth(cloud, rows, _own(near, rows, part), k, where)
    return radius


def _kth(
    cloud: _Cloud, rows: slice, near: Bool[np.ndarray, "c n"], k: int, where: exact.Frame
) -> Float[np.ndarray, " c"]:
    """The k-th smallest squared distance of some points; `near` marks the candidate pairs."""
    if exact.is_crowded(near):
        value, slack = exact.expansion(cloud.points[rows], cloud.points, where)
        np.fill_diagonal(value[:, rows], np.inf)
        bound = np.partition(value + slack, k - 1, axis=1)[:, k - 1]
        near = value - slack <= bound[:, None]
    i, j = exact.indices(near)
    found = _measured(cloud, i + rows.start, cloud, j, where)
    starts = np.searchsorted(i, np.arange(near.shape[0]))
    return found[np.lexsort((found, i))][starts + k - 1]


def _memberships(
    real: _Cloud,
    generated: _Cloud,
    radius_real: Float[np.ndarray, " n"],
    radius_generated: Float[np.ndarray, " m"],
    where: exact.Frame,
) -> tuple[Int[np.ndarray, " m"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Count the real balls around each generated point, and find which real points are covered.

    Returns:
      The counts; whether the ball of each real point holds a generated point; whether each real
      point is in the ball of a generated one.
    """
    n, (m, d) = len(real.points), generated.points.shape
    x = jnp.asarray(exact.placed(real.points, where, np.float32))
    radius_x, radius_y = (
        (radius / where.scale**2).astype(np.float32) for radius in (radius_real, radius_generated)
    )
    balls, covered, recalled = np.empty(m, np.int64), np.zeros(n, bool), np.zeros(n, bool)
    for part in distances.chunks(m, 4 * (2 * n + d)):
        y = exact.placed(generated.points[part], where, np.float32)
        *sure, undecided = map(np.asarray, _overlaps(x, y, radius_x, radius_y[part]))
        balls[part] = sure[0]
        covered |= sure[1]
        recalled |= sure[2]
        for rows in _few(part, n):
            i, j, found = _pairs(
                generated,
                rows,
                real,
                _own(undecided, rows, part),
                radius_generated,
                radius_real,
                where,
            )
            held = found <= radius_generated[i] * (1 + exact.TIE)
            recalled[j[held]] = True
            held = found <= radius_real[j] * (1 + exact.TIE)
            covered[j[held]] = True
            balls += np.bincount(i[held], minlength=m)
    return balls, covered, recalled


def _pairs(
    a: _Cloud,
    rows: slice,
    b: _Cloud,
    near: Bool[np.ndarray, "c m"],
    radius_a: Float[np.ndarray, " n"],
    radius_b: Float[np.ndarray, " m"],
    where: exact.Frame,
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The marked pairs, and squared distances accurate enough to compare with the radii."""
    i, j = exact.indices(near)
    own = i + rows.start
    if not exact.is_crowded(near):
        return own, j, _measured(a, own, b, j, where)
    value, slack = exact.expansion(a.points[rows], b.points, where)
    found, doubt = value[i, j] * where.scale**2, slack[i, j] * where.scale**2
    open_ = (np.abs(found - radius_a[own]) <= doubt) | (np.abs(found - radius_b[j]) <= doubt)
    found[open_] = _measured(a, own[open_], b, j[open_], where)
    return own, j, found


def _measured(
    a: _Cloud, i: Int[np.ndarray, " p"], b: _Cloud, j: Int[np.ndarray, " p"], where: exact.Frame
) -> Float[np.ndarray, " p"]:
    """Squared distances of pairs; those of copies, which may be very many, are not computed."""
    found = np.zeros(len(i))
    differ = np.flatnonzero(a.number[i] != b.number[j])
    found[differ] = exact.squared(a.points, i[differ], b.points, j[differ], where)
    return found


def _few(part: slice, width: int) -> Iterator[slice]:
    """Slices of a chunk that the host processes together."""
    step = max(1, _AT_ONCE // width)
    for start in range(part.start, part.stop, step):
        yield slice(start, min(start + step, part.stop))


def _own(array: np.ndarray, rows: slice, part: slice) -> np.ndarray:
    """The rows `rows` of an array that holds those of the chunk `part`."""
    return array[rows.start - part.start : rows.stop - part.start]


@jax.jit(static_argnames="k")
def _kth_distance(x: Float[Array, "n d"], own: Int[Array, " c"], *, k: int) -> Bool[Array, "c n"]:
    """Marks the points that may be among the k nearest of some points: at least k for each."""
    squared, slack = distances.squared_distances(x[own], x)
    itself = own[:, None] == jnp.arange(x.shape[0], dtype=jnp.int32)[None, :]
    most = jnp.where(itself, jnp.inf, squared + slack)
    # XLA finds the k largest fast unless one of them is sliced off.
    bound = -jax.lax.top_k(-most, k)[0].min(axis=1)
    return ~itself & (squared - slack <= bound[:, None])


@jax.jit
def _overlaps(
    x: Float[Array, "n d"],
    y: Float[Array, "c d"],
    radius_x: Float[Array, " n"],
    radius_y: Float[Array, " c"],
) -> tuple[Int[Array, " c"], Bool[Array, " n"], Bool[Array, " n"], Bool[Array, "c n"]]:
    """The certain memberships, from squared radii, and the undecided pairs."""
    squared, slack = distances.squared_distances(y, x)

    def judge(radius: Float[Array, "..."]) -> tuple[Bool[Array, "c n"], Bool[Array, "c n"]]:
        slack_here = slack + distances.rounding(0) * radius
        inside = squared + slack_here <= radius
        return inside, ~inside & (squared - slack_here <= radius)

    in_real, open_real = judge(radius_x[None, :])
    in_generated, open_generated = judge(radius_y[:, None])
    undecided = open_real | open_generated
    in_real &= ~undecided
    in_generated &= ~undecided
    return (
        in_real.sum(axis=1, dtype=jnp.int32),
        in_real.any(axis=0),
        in_generated.any(axis=0),
        undecided,
    )
