r"""Brenier's potential, the Kantorovich potentials and the energy, differentiable in closed form.

By the envelope theorem a derivative of :math:`u_h(x) = \max_i \langle x, y_i\rangle + h_i` is that
of the plane that attains the maximum. So that plane is found once, without a gradient, and it alone
is differentiated. A derivative writes its own result and the targets gathered for it, nothing else.
"""

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.numerics import PRECISION, add_rows, axis_size
from aeot_jax.ot import centring, checks
from aeot_jax.ot.cells.samples import check_samples
from aeot_jax.ot.duality.transport import winner
from aeot_jax.typing import ArrayLike, Counts, Heights, Index, Samples, Targets, Weights


def energy(
    h: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    nu: ArrayLike | None = None,
    axis_name: Hashable | None = None,
) -> Float[Array, ""]:
    r"""Estimate :math:`E(h) = E_x[u_h(x)] - \langle\nu, h\rangle` from samples.

    Convex in h and unchanged by h -> h + c. Every derivative is that of the sample mean with the
    winners held fixed: for h it is counts / n - nu, from integer counts that are divided once; for
    y the sum of the samples of each cell over n; for x the winning target over n. The Hessian in h
    is 0, because that of E is an integral over the faces between cells, where no sample lies.

    Works under ``grad``, ``jvp``, ``linearize`` and ``vmap`` over problems; where d > 12 on a CPU,
    ``jax.lax.map`` over problems is faster than ``vmap``.

    With ``axis_name``, inside ``pmap``, ``shard_map`` or ``vmap(axis_name=...)``, the value is that
    of the samples of all shards together, and so are derivatives taken *inside* the mapped
    function. Those for h and y are complete on every shard: do not sum them again. Those for x are
    each shard's own rows. If each shard computes its x from parameters, their gradient is that
    shard's part: sum it over the axis (``shard_map`` with ``check_vma=True`` has done so). From
    *outside* the mapped function, h and y can be differentiated under any of the three maps, x only
    under ``shard_map`` with ``check_vma=True``.

    Args:
      h: heights (m,); -inf for a target that owns no cell.
      x: samples (n, d); each shard's own where ``axis_name`` is given, equally many on each.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform. Where nu is 0, nu h counts as 0 even at h = -inf.
      axis_name: mapped axis, or axes, over which the samples are sharded.

    Returns:
      The energy, a scalar; infinite if a target of positive weight has height -inf.

    Raises:
      ValueError: if a shape or a known value does not fit.

    Source: Lei et al., Engineering 6(3), 2020, section 3; Gu, Luo, Sun, Yau 2016.
    """
    targets = checks.check_targets(y)
    heights = checks.check_heights(h, targets)
    weights = checks.check_weights(nu, targets)
    samples = check_samples(x, np.shape(y), ranks=(2,))
    if axis_name is not None:
        axis_size(axis_name)  # refuses an axis that nothing maps
    index = winner(samples, centring.near(y, h))
    value = _planes(*lax.stop_gradient((samples, targets, heights)), index)
    return _mean_energy(heights, samples, targets, weights, _Winners(index, value), axis_name)


def brenier(x: ArrayLike, y: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""Evaluate :math:`u_h(x) = \max_i \langle x, y_i\rangle + h_i`; its gradient in x is T(x).

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.

    Returns:
      u_h(x), a scalar for one sample and (n,) for several; differentiable in x, y and h.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    targets = checks.check_targets(y)
    heights = checks.check_heights(h, targets)
    samples = check_samples(x, np.shape(y))
    rows = jnp.atleast_2d(samples)
    index = winner(rows, centring.near(y, h))
    return _planes(rows, targets, heights, index).reshape(samples.shape[:-1])


def kantorovich(x: ArrayLike, y: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""Evaluate Kantorovich's potential :math:`\varphi(x) = |x|^2/2 - u_h(x)`, the discriminator.

    It is the c-transform of :func:`dual` for the cost :math:`|x - y|^2/2`: :math:`\varphi(x) =
    \min_i |x - y_i|^2/2 - \psi_i`. So :math:`\varphi(x) + \psi_i \le |x - y_i|^2/2` everywhere,
    with equality at i if x lies in its cell.

    If source and targets both lie far from the origin, phi is a small difference of large squares,
    and float32 heights have already lost its digits. Then shift both to the origin first, or pass
    psi to :func:`c_transform`.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.

    Returns:
      phi(x), a scalar for one sample and (n,) for several. ``jax.grad`` at one sample is x - T(x):
      the discriminator's gradient gives the generator. ``jax.vmap`` of it costs one call.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    u = brenier(x, y, h)
    x = arguments.real("x", x)
    return jnp.square(x).sum(-1) / 2 - u


def dual(y: ArrayLike, h: ArrayLike) -> Float[Array, " m"]:
    r"""Kantorovich's potential at the targets, :math:`\psi_i = h_i + |y_i|^2/2`.

    Args:
      y: targets (m, d).
      h: heights (m,).

    Returns:
      psi (m,), for the cost :math:`|x - y|^2/2`; -inf where h is.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    targets = checks.check_targets(y)
    return checks.check_heights(h, targets) + jnp.square(targets).sum(1) / 2


def c_transform(x: ArrayLike, y: ArrayLike, psi: ArrayLike) -> Float[Array, "..."]:
    r"""C-transform for the cost :math:`|x - y|^2/2`: :math:`\min_i |x - y_i|^2/2 - \psi_i`.

    The cost is symmetric, so one function serves both directions. ``c_transform(x, y, dual(y, h))``
    is ``kantorovich(x, y, h)``. ``c_transform(y, x, phi)``, with phi at samples x of the source,
    gives psi back: up to rounding at a target whose cell holds a sample, and more than psi at any
    other. Rounding is relative to the distances between the points, wherever they lie.

    Args:
      x: where to evaluate, one point (d,) or points (n, d).
      y: points (m, d) where the other potential is known.
      psi: that potential (m,); points where it is -inf are left out.

    Returns:
      The transform, a scalar for one point and (n,) for several; differentiable in all arguments.

    Raises:
      ValueError: if a shape or a known value does not fit.

    Source: Villani 2009, definition 5.2.
    """
    near, centre = centring.near_and_centre(y, psi, "psi")
    samples = check_samples(x, np.shape(y), less=centre)
    rows = jnp.atleast_2d(samples)
    # Planes are compared by the expanded square, which keeps its digits only around a centre.
    middle = _mean(near.y, near.h)
    points = near.y - middle[None, :]
    heights = near.h - jnp.square(points).sum(1) / 2
    index = winner(rows - middle[None, :], near._replace(y=points, h=heights))
    cost = jnp.square(rows - near.y[index]).sum(1) / 2
    return (cost - near.h[index] - jnp.asarray(near.shift.level)).reshape(samples.shape[:-1])


def _mean(y: Targets, h: Heights) -> Float[Array, " d"]:
    """Mean of the targets that have a height."""
    active = jnp.isfinite(h)
    return jnp.where(active[:, None], y / active.sum().astype(y.dtype), 0.0).sum(0)


def _planes(x: Samples, y: Targets, h: Heights, index: Index) -> Float[Array, " n"]:
    """The planes of given targets at the samples."""
    return jnp.einsum("nd,nd->n", x, y[index], precision=PRECISION) + h[index]


def _weighted_sum(nu: Weights, h: Heights) -> Float[Array, ""]:
    return (nu * jnp.where(nu > 0, h, 0.0)).sum()


class _Winners(NamedTuple):
    """The highest plane at each sample, without derivatives.

    Attributes:
      index: whose plane it is (n,).
      value: its score, the potential (n,).
    """

    index: Index
    value: Float[Array, " n"]


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _mean_energy(
    h: Heights, x: Samples, y: Targets, nu: Weights, won: _Winners, axis_name: Hashable | None
) -> Float[Array, ""]:
    """Energy from the potential at the samples."""
    del x, y
    # Subtract the constant first: the mean then adds small numbers at any level of the heights.
    mean = (won.value - _weighted_sum(nu, h)).mean()
    return mean if axis_name is None else lax.pmean(mean, axis_name)


@partial(_mean_energy.defjvp, symbolic_zeros=True)
def _mean_energy_jvp(
    axis_name: Hashable | None, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Tangent whose coefficients are already summed over the axis.

    Inside a mapped function the transpose of a sum over the axis is another such sum: each shard
    would get the gradient of the sum of all shards' energies. So the coefficients, counts / n and
    cell sums / n, are summed, and the tangents of h and y never are.
    """
    h, x, y, nu, (index, _) = primals
    dh, dx, dy, dnu = tangents[:4]
    result = _mean_energy(*primals, axis_name)
    n = x.shape[0] * (1 if axis_name is None else lax.psum(1, axis_name))
    tangent = jnp.zeros_like(result)
    if not isinstance(dh, SymbolicZero):
        counts: Counts = jnp.zeros_like(h, dtype=jnp.int32).at[index].add(1)
        masses = total(counts, axis_name).astype(jnp.float32) / n
        tangent += ((masses - nu) * dh).sum()
    if not isinstance(dy, SymbolicZero):
        cell_sums = add_rows(jnp.zeros_like(y), index, x)
        tangent += (total(cell_sums, axis_name) / n * dy).sum()
    if not isinstance(dx, SymbolicZero):
        tangent += total_tangent((y[index] / n * dx).sum(), axis_name)
    if not isinstance(dnu, SymbolicZero):
        tangent -= (jnp.where(jnp.isneginf(h), 0.0, h) * dnu).sum()
    return result, tangent


def total(local: jax.Array, axis_name: Hashable | None) -> jax.Array:
    """Sum over the axis, where there is one."""
    return local if axis_name is None else lax.psum(local, axis_name)


def total_tangent(local: Float[Array, ""], axis_name: Hashable | None) -> Float[Array, ""]:
    """Sum over the axis; its transpose gives each shard the cotangent as it is.

    ``shard_map`` with ``check_vma=True`` knows that the sum is one number and transposes it so by
    itself. Under ``pmap``, ``vmap`` and ``check_vma=False`` the sum is one number for each shard,
    and the transpose of a ``psum`` would add up all their cotangents.
    """
    if axis_name is None:
        return local
    shard = lax.axis_index(axis_name)
    if jax.typeof(shard) != jax.typeof(lax.psum(shard, axis_name)):  # variance is in the type
        return lax.psum(local, axis_name)
    # The only public linear operation that takes its own transpose and that vmap can batch.
    return lax.custom_linear_solve(
        lambda v: v,
        local,
        solve=lambda _, v: lax.psum(v, axis_name),
        transpose_solve=lambda _, v: v,
    )
