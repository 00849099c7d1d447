"""Learn kernels, the places of the cells, and how wide new codes are spread.

The width s is not chosen by hand. At novelty 1 a new code is nearer to the codes of the data than a
code that the map has not seen with probability one half: the codes that are left out, one at a
time, or held out by the user, say how far that is, and near copies among them do not count. Below 1
the noise shrinks in proportion.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.measures import draw
from aeot_jax.metrics.newness.memory import share_nearer
from aeot_jax.metrics.newness.novelty import left_out, left_out_rows, to_nearest
from aeot_jax.metrics.newness.twins import Twins, kept, rounding, twins
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.density import fit
from aeot_jax.ot.density.grouping import Planes
from aeot_jax.ot.density.kernels import MOST_NUMBERS, Kernels
from aeot_jax.ot.extension.noise import gains, places
from aeot_jax.ot.extension.noise.moving import Noise, moved, offsets
from aeot_jax.ot.extension.noise.places import Diagram
from aeot_jax.typing import PRNGKey, Samples

_DRAWN = 2048
"""New codes whose distances are compared."""

_HALVINGS = 7
"""Halvings of the interval of widths."""

_LENGTHS = 8
"""Batches of samples whose lengths are looked at."""


def learn(
    key: PRNGKey,
    diagram: Diagram,
    planes: Planes,
    unseen: Float[np.ndarray, "p d"] | None = None,
    nu: Float[np.ndarray, " m"] | None = None,
) -> Noise:
    """Learn kernels, the places of the cells, and the width at which new codes are new.

    Args:
      key: consumed.
      diagram: source, targets and heights; a target without a cell has no kernel.
      planes: which faces between targets are regular.
      unseen: codes that the map has not seen (p, d); None leaves out codes of the map.
      nu: weights of the targets (m,); None is uniform.
    """
    place_key, draw_key = jax.random.split(key)
    _, y, h = diagram
    active = np.flatnonzero(np.isfinite(np.asarray(h)))
    codes = np.asarray(y, np.float64)[active]
    fit.check_enough(codes, "ext")
    mass = None if nu is None else nu[active] / nu[active].sum()
    found = fit.learn(codes, planes._replace(normals=planes.normals[active]), mass)
    found = _of_all(found, active, len(h), mass)
    noise = _placed(place_key, diagram, len(active), _widened(found, _more_groups(found)))
    known = codes.astype(np.float32)
    far, share, copied = _unseen_distances(known, mass, unseen)
    x, index = _drawn(draw_key, diagram)
    own = y[index]

    def nearer(width: float) -> float:
        z, _ = _moved(x, index, own, replace(noise, reach=jnp.float32(width)))
        made = np.asarray(z)
        near = to_nearest(made, known)
        return share_nearer(near[kept(made, known, near, copied)], far, share)

    reach = jnp.float32(_balanced(nearer))
    assert noise.of_cell is not None
    gain = noise.gain[: int(noise.of_cell.max()) + 1]  # without those of groups of no code
    return replace(noise, kernels=found, gain=gain, reach=reach)


def _placed(key: PRNGKey, diagram: Diagram, active: int, kernels: Kernels) -> Noise:
    """Noise of width 1, from the places of the cells and their maps onto the kernels."""
    cell_key, shape_key, length_key = jax.random.split(key, 3)
    where, own, batches = places.measured(cell_key, diagram, active)
    group = np.asarray(kernels.group)
    if own:
        gain, of_cell = gains.of_cells(kernels, where, group), np.arange(len(group), dtype=np.int32)
    else:
        few = jnp.int32(places.batches_of_groups(batches))
        counts, squares = places.sums_of_groups(shape_key, diagram, where, kernels, few)
        gain, of_cell = gains.of_groups(kernels, np.asarray(counts), np.asarray(squares)), group
    one = jnp.float32(1)
    maps = jnp.asarray(gain), one, one, jnp.asarray(of_cell)
    noise = Noise(kernels, where.centre, where.per_unit, *maps)
    r = np.asarray(_lengths(length_key, diagram, noise)).ravel()
    return replace(noise, lengths=jnp.asarray(gains.knots(r, diagram.mu.dim)))


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
def _drawn(key: PRNGKey, diagram: Diagram) -> tuple[Samples, Int[Array, " n"]]:
    mu, y, h = diagram
    x = draw(key, mu, _DRAWN)
    rows, heights, _ = shift.around(y, h)
    return x, power.best(x, rows, heights)[1]


@jax.jit
def _lengths(key: PRNGKey, diagram: Diagram, noise: Noise) -> Float[Array, "b n"]:
    """Lengths r of samples, before they are made those of a Gaussian."""
    mu, y, h = diagram
    rows, heights, _ = shift.around(y, h)

    def of_batch(key: PRNGKey) -> Float[Array, " n"]:
        x = draw(key, mu, places.BATCH)
        return offsets(x, power.best(x, rows, heights)[1], noise)[1]

    return jax.lax.map(of_batch, jax.random.split(key, _LENGTHS))
