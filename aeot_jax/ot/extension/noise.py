r"""New codes from kernels: the place of x in its cell moves the code of the cell within its kernel.

A sample x of the cell i becomes

.. math:: z(x) = c_i + \sqrt{s}\, A_g\, e, \qquad e = \frac{x - \bar x_i}{\sigma_i}, \qquad
          c_i = y_i - (1 - \sqrt{1 - s})(y_i - \mu_g) ,

where :math:`\bar x_i` is the mass centre of the cell and :math:`\sigma_i` the root mean square of
a coordinate around it. :math:`\mu_g, C_g` are those of the group of y_i (``density.kernels``), and
:math:`A_g` is the optimal map from N(0, E_g) to N(0, C_g), with E_g the covariance of e in the
cells of the group. So z is a map of x, affine on every cell, monotone there (A is symmetric and
positive), and it keeps the mean of every group, and its covariance where C_g is that of its codes:
each mode has its share and its variance. With s = 0 it is the discrete map. (Noise that is drawn
apart from x serves worse: on codes of Fashion-MNIST, with kernels of 40 neighbours, the Frechet
distance was 0.152 where that of x gave 0.104. Near the face to another cell, x moves the code
towards that cell's.)

**How wide.** The width s is not chosen by hand. At novelty 1 a new code is nearer to the codes of
the data than a code that the map has not seen with probability one half: the codes that are left
out, one at a time, or held out by the user, say how far that is, and near copies among them do not
count. Below 1 the noise shrinks in proportion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.metrics.newness.memory import share_nearer
from aeot_jax.metrics.newness.novelty import left_out, left_out_rows, to_nearest
from aeot_jax.metrics.newness.twins import Twins, kept, rounding, twins
from aeot_jax.numerics import add_rows, repeat, safe_ratio
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.density import fit
from aeot_jax.ot.density.grouping import Planes
from aeot_jax.ot.density.kernels import MOST_NUMBERS, Kernels, turned
from aeot_jax.ot.extension.centres import Centres, unknown, with_samples
from aeot_jax.reprs import number, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import Heights, PRNGKey, Samples, Targets

_PER_CELL = 8
"""Samples per cell, for its mass centre and its size."""

_BATCH = 4096
"""Samples of a batch."""

_FEW = 512
"""Samples of a batch whose products of coordinates are summed; half as many samples in all."""

_FLAT = 1e-3
"""Least variance of e in a direction, over its largest in the group."""

_DRAWN = 2048
"""New codes whose distances are compared."""

_HALVINGS = 7
"""Halvings of the interval of widths."""

_PRIOR = 4.0
"""What the mean size of all cells weighs in that of a cell, in samples."""


@register
@dataclass(frozen=True)
class Noise:
    """What makes new codes of samples, and how new.

    Attributes:
      kernels: kernels around the codes.
      centre: mass centre of each cell (m, d).
      per_unit: one over the root mean square of a coordinate around it (m,); 0 if no sample has
        reached the cell, whose code then does not vary.
      gain: the matrix A of each group (g, d, d).
      reach: the width s at novelty 1, in (0, 1].
      novelty: how new codes are, in [0, 1].
    """

    kernels: Kernels
    centre: Float[Array, "*batch m d"]
    per_unit: Float[Array, "*batch m"]
    gain: Float[Array, "*batch g d d"]
    reach: Float[Array, "*batch"]
    novelty: Float[Array, "*batch"]

    @or_brief
    def __repr__(self) -> str:
        """The kernels, and their width."""
        return (
            f"Noise({self.kernels!r}, width {number(self.reach):.2g} at novelty 1; novelty "
            f"{number(self.novelty):.2g})"
        )


def moved(
    x: Samples, index: Int[Array, " n"], code: Samples, noise: Noise
) -> tuple[Samples, Int[Array, " n"]]:
    """New codes of samples whose cells are known.

    Args:
      x: samples (n, d).
      index: their cells (n,).
      code: the targets of these (n, d).
      noise: from ``learn``.

    Returns:
      Codes z (n, d), and the number of codes whose mean and covariance made each (n,): 1 if it is a
      code of the data, else at least 2.
    """
    kernels = noise.kernels
    s = noise.reach * noise.novelty**2
    k = kernels.group[index]
    e = (x - noise.centre[index]) * noise.per_unit[index][:, None]
    offset = turned(e, noise.gain, k)
    pull = s / (1 + jnp.sqrt(1 - s))  # 1 - sqrt(1 - s)
    z = code - pull * (code - kernels.mean[k]) + jnp.sqrt(s) * offset
    stays = s == 0
    count = jnp.where(stays, 1, jnp.maximum(kernels.counts[k], 2))
    return jnp.where(stays, code, z), count.astype(jnp.int32)


def learn(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    planes: Planes,
    unseen: Float[np.ndarray, "p d"] | None = None,
    nu: Float[np.ndarray, " m"] | None = None,
) -> Noise:
    """Learn kernels, the places of the cells, and the width at which new codes are new.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,); -inf for a target without a cell, which has no kernel.
      planes: which faces between targets are regular.
      unseen: codes that the map has not seen (p, d); None leaves out codes of the map.
      nu: weights of the targets (m,); None is uniform.
    """
    cell_key, shape_key, draw_key = jax.random.split(key, 3)
    active = np.flatnonzero(np.isfinite(np.asarray(h)))
    codes = np.asarray(y, np.float64)[active]
    fit.check_enough(codes, "ext")
    mass = None if nu is None else nu[active] / nu[active].sum()
    found = fit.learn(codes, planes._replace(normals=planes.normals[active]), mass)
    found = _of_all(found, active, len(h), mass)
    batches = max(1, -(-_PER_CELL * len(active) // _BATCH))
    centre, per_unit = _cells(cell_key, mu, y, h, jnp.int32(batches))
    cells = centre, per_unit
    more = _more_groups(found)
    wide = _widened(found, more)
    shapes = _shapes(shape_key, mu, y, h, cells, wide, jnp.int32(batches * _BATCH // (2 * _FEW)))
    gain = _gain(found, *(np.asarray(one)[: len(found.counts)] for one in shapes))
    noise = Noise(found, centre, per_unit, gain, jnp.float32(1), jnp.float32(1))
    wider = replace(noise, kernels=wide, gain=_more_rows(gain, more))
    known = codes.astype(np.float32)
    far, share, copied = _unseen_distances(known, mass, unseen)
    x, index = _drawn(draw_key, mu, y, h)
    own = y[index]

    def nearer(width: float) -> float:
        z, _ = _moved(x, index, own, replace(wider, reach=jnp.float32(width)))
        made = np.asarray(z)
        near = to_nearest(made, known)
        return share_nearer(near[kept(made, known, near, copied)], far, share)

    return replace(noise, reach=jnp.float32(_balanced(nearer)))


def _unseen_distances(
    known: Float[np.ndarray, "m d"],
    mass: Float[np.ndarray, " m"] | None,
    unseen: Float[np.ndarray, "p d"] | None,
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"] | None, Twins]:
    """Distances of unseen codes to the nearest codes of the map, their weights, and near copies.

    These are left out of the first two: beside them only near copies are as new.
    """
    if unseen is None:
        left = left_out_rows(len(known))
        far = left_out(known, left)
        found = twins(known[left], known, far, left)
        share = None if mass is None else mass[left][found.others]
        return far[found.others], share, found
    far = to_nearest(unseen, known)
    repeated = int((far <= rounding(known)).sum())
    if 2 * repeated >= len(far):
        raise ValueError(
            f"`unseen` has {len(far)} codes, of which {repeated} are codes of the map: beside "
            "them only copies are as new; pass others, or None to leave out codes of the map."
        )
    found = twins(unseen, known, far)
    return far[found.others], None, found


def _of_all(
    found: Kernels, active: Int[np.ndarray, " q"], m: int, mass: Float[np.ndarray, " q"] | None
) -> Kernels:
    """Kernels of all targets, of which those without a cell have no weight."""
    group = np.zeros(m, np.int32)
    group[active] = np.asarray(found.group)
    if mass is None and len(active) == m:
        return replace(found, group=jnp.asarray(group))
    weight = np.zeros(m)
    weight[active] = 1 / len(active) if mass is None else mass
    with np.errstate(divide="ignore"):
        logarithm = jnp.asarray(np.log(weight), jnp.float32)
    return replace(found, group=jnp.asarray(group), log_weight=logarithm)


def _more_groups(found: Kernels) -> int:
    """How many groups of no code to add, so that maps of other codes share their programs."""
    groups, d, _ = found.axes.shape
    more = (1 << (groups - 1).bit_length()) - groups
    return more if (groups + more) * d * d <= MOST_NUMBERS else 0


def _widened(found: Kernels, more: int) -> Kernels:
    """Kernels with so many more groups."""
    counts, mean, axes = (_more_rows(x, more) for x in (found.counts, found.mean, found.axes))
    deviations = _more_rows(found.deviations, more, 1.0)
    return replace(found, counts=counts, mean=mean, axes=axes, deviations=deviations)


def _more_rows(x: Array, more: int, value: float = 0.0) -> Array:
    """An array with so many more rows, by NumPy: for every number JAX would compile anew."""
    host = np.asarray(x)
    rest = np.full((more, *host.shape[1:]), value, host.dtype)
    return jnp.asarray(np.concatenate([host, rest]))


_moved = jax.jit(moved)


@jax.jit
def _shapes(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    cells: tuple[Float[Array, "m d"], Float[Array, " m"]],
    kernels: Kernels,
    batches: Int[Array, ""],
) -> tuple[Int[Array, " g"], Float[Array, "g d d"]]:
    """Samples in the cells of each group, and the sum of e e^T over these."""
    rows, heights, _ = shift.around(y, h)
    # A power of two, as the number of samples is.
    size = 1 << (min(_FEW, max(1, MOST_NUMBERS // y.shape[1] ** 2)).bit_length() - 1)

    def body(i: Int[Array, ""], sums: tuple[Array, Array]) -> tuple[Array, Array]:
        counts, squares = sums
        x = draw(jax.random.fold_in(key, i), mu, _FEW)
        _, index = power.best(x, rows, heights)
        e = (x - cells[0][index]) * cells[1][index][:, None]
        k = kernels.group[index]

        def add(squares: Array, of: tuple[Array, Array]) -> tuple[Array, None]:
            own, at = of
            return add_rows(squares, at, own[:, :, None] * own[:, None, :]), None

        # Where d is large, the products of all would take gigabytes.
        parts = jax.tree.map(lambda one: one.reshape(-1, size, *one.shape[1:]), (e, k))
        return counts.at[k].add(1), jax.lax.scan(add, squares, parts)[0]

    counts = jnp.zeros_like(kernels.counts, dtype=jnp.int32)
    none = counts, jnp.zeros_like(kernels.axes)
    return repeat(batches, body, none)


def _gain(
    kernels: Kernels, counts: Int[np.ndarray, " g"], squares: Float[np.ndarray, "g d d"]
) -> Float[Array, "g d d"]:
    """A = E^(-1/2) (E^(1/2) C E^(1/2))^(1/2) E^(-1/2) for each group, in float64 on the host.

    Source: Olkin and Pukelsheim, "The distance between two random vectors with given dispersion
    matrices", 1982.
    """
    total, d = squares.astype(np.float64).sum(0) / counts.sum(), squares.shape[-1]
    weight = _PRIOR * d  # few samples leave E_g near that of all groups
    shape = (squares + weight * total[None]) / (counts + weight)[:, None, None]
    values, vectors = np.linalg.eigh(shape)
    values = np.maximum(values, _FLAT * values[:, -1:])
    root, inverse = (_symmetric(vectors, values**power_) for power_ in (0.5, -0.5))
    axes, deviations = (np.asarray(a, np.float64) for a in (kernels.axes, kernels.deviations))
    inner = root @ _symmetric(axes, deviations**2) @ root
    values, vectors = np.linalg.eigh(inner)
    middle = _symmetric(vectors, np.sqrt(np.maximum(values, 0.0)))
    return jnp.asarray(inverse @ middle @ inverse, jnp.float32)


def _symmetric(
    vectors: Float[np.ndarray, "g d d"], values: Float[np.ndarray, "g d"]
) -> Float[np.ndarray, "g d d"]:
    return (vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2)


def _balanced(nearer: Callable[[float], float]) -> float:
    """The width at which new codes are nearer than unseen ones half of the time, or 1."""
    low, high = 0.0, 1.0
    if nearer(high) >= 0.5:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if nearer(middle) > 0.5 else (low, middle)
    return high


@jax.jit
def _drawn(key: PRNGKey, mu: Measure, y: Targets, h: Heights) -> tuple[Samples, Int[Array, " n"]]:
    x = draw(key, mu, _DRAWN)
    rows, heights, _ = shift.around(y, h)
    return x, power.best(x, rows, heights)[1]


@jax.jit
def _cells(
    key: PRNGKey, mu: Measure, y: Targets, h: Heights, batches: Int[Array, ""]
) -> tuple[Float[Array, "m d"], Float[Array, " m"]]:
    """Mass centres of the cells, and one over the root mean square of a coordinate around them."""
    rows, heights, _ = shift.around(y, h)
    d = y.shape[1]

    def body(i: Int[Array, ""], sums: tuple[Centres, Array]) -> tuple[Centres, Array]:
        centres, squares = sums
        x = draw(jax.random.fold_in(key, i), mu, _BATCH)
        _, index = power.best(x, rows, heights)
        offsets = x - centres.points[index]
        squares = squares + add_rows(jnp.zeros_like(squares), index, (offsets * offsets).sum(1))
        centres, moved = with_samples(centres, index, offsets)
        step = safe_ratio(moved, centres.counts.astype(jnp.float32)[:, None])
        return centres, squares - (moved * step).sum(1)

    (points, counts), squares = repeat(batches, body, (unknown(y), jnp.zeros_like(h)))
    counts = counts.astype(jnp.float32)
    # The centre is known from n samples only: x varies around it by 1 + 1/n of the variance.
    free = jnp.maximum(counts - 1, 0.0)
    pooled = squares.sum() / jnp.maximum(free.sum() * d, 1.0)
    variance = (squares / d + _PRIOR * pooled) / (free + _PRIOR)
    variance = variance * (1 + 1 / jnp.maximum(counts, 1.0))
    known = (counts > 0) & (variance > 0)
    return points, jnp.where(known, jax.lax.rsqrt(jnp.where(known, variance, 1.0)), 0.0)
