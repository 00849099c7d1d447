"""Exact semi-discrete transport on the line and in the plane: the float64 reference on the host.

On the line the breakpoints of u_h are the source's quantiles at the cumulative weights. In the
plane it is damped Newton on the energy E(h) = E[u_h] - <nu, h>, whose Hessian is the weighted graph
Laplacian of the power diagram. Nothing is sampled, and no code is shared with the JAX kernel, which
this module serves to check.

Source: Kitagawa, Merigot, Thibert 2019, "Convergence of a Newton algorithm for semi-discrete
optimal transport"; Aurenhammer, Hoffmann, Aronov 1998.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.linalg import splu

from aeot_jax import arguments
from aeot_jax.ot.exact.densities import DENSITIES, Density
from aeot_jax.ot.exact.laguerre import (
    WALL,
    Diagram,
    Floats,
    build,
    check_targets,
    hide_duplicates,
    upper_envelope,
)
from aeot_jax.reprs import brief
from aeot_jax.trees import equal_by_numbers
from aeot_jax.typing import ArrayLike, Given

_SMALLEST_DAMPING = 2.0**-20
"""Size of a Newton step at which the solver gives up."""

_ROUNDING_MARGIN = 100.0
"""Near the rounding limit: the error is below so many times what rounding of h does to it."""


@equal_by_numbers
@dataclass(frozen=True)
class ExactSolution:
    """Heights of the optimal transport from the source to the targets.

    Attributes:
      h: (m,) heights, of nu-weighted mean 0 over targets of positive weight, -inf at the others;
        equal targets have equal heights.
      masses: (m,) of the cells, recomputed from ``h``; the mass of a cell of equal targets is
        divided in proportion to their weights.
      mass_error: sqrt(sum over nu_i > 0 of (w_i - nu_i)^2 / nu_i).
      num_steps: Newton steps taken; 0 on the line.
      converged: whether ``mass_error`` is at most the tolerance.
      w2_squared: W2^2 = E|x - T(x)|^2, from the dual: the error is quadratic in ``mass_error``.
    """

    h: Floats
    masses: Floats
    mass_error: float
    num_steps: int
    converged: bool
    w2_squared: float

    __repr__ = brief


def solve_exact(
    y: ArrayLike,
    nu: ArrayLike | None = None,
    *,
    source: Given[str] = "uniform",
    tolerance: Given[float] = 1e-9,
    max_steps: Given[int] = 100,
) -> ExactSolution:
    """``aeot_jax.solve_exact`` for a source by its name.

    Args:
      y: targets.
      nu: weights.
      source: "uniform" on [-1/2, 1/2]^d, or "gaussian", N(0, I).
      tolerance: largest ``mass_error`` that counts as converged.
      max_steps: Newton steps at most.

    Raises:
      ValueError: if an argument does not fit.
    """
    density = _density(source)
    y, _ = check_targets(y)
    nu = _check_weights(nu, len(y))
    what = "a positive number"
    tolerance = arguments.number("tolerance", tolerance, 0.0, wide=True, above=True, what=what)
    max_steps = arguments.count("max_steps", max_steps, least=0)

    active = np.flatnonzero(nu > 0)
    points, group = np.unique(y[active], axis=0, return_inverse=True)
    weight = np.asarray(np.bincount(group, nu[active]), np.float64)
    # Shifting y, or scaling y and h alike, changes no cell.
    centre = weight @ points
    scale = float(np.ptp(points, axis=0).max()) or 1.0
    unit = (points - centre) / scale
    solve = _solve_line if y.shape[1] == 1 else _solve_plane
    found = solve(unit, weight, density, tolerance, max_steps)

    h = np.full(len(y), -np.inf)
    h[active] = (scale * (found.h - weight @ found.h))[group]
    masses = np.zeros(len(y))
    masses[active] = found.masses[group] * nu[active] / weight[group]
    second_moment = y.shape[1] * density.variance + scale**2 * (weight @ (unit**2).sum(1))
    gap = float(centre @ centre) + second_moment - 2 * scale * found.energy
    return ExactSolution(
        h=h,
        masses=masses,
        mass_error=found.mass_error,
        num_steps=found.num_steps,
        converged=bool(found.mass_error <= tolerance),
        w2_squared=float(gap),
    )


def exact_masses(y: ArrayLike, h: ArrayLike, *, source: Given[str] = "uniform") -> Floats:
    """Compute the mass of every cell at the given heights, without sampling.

    Args:
      y: (m,), (m, 1) or (m, 2) targets; of equal targets, the first of the highest owns the cell.
      h: (m,) heights; a target at -inf owns no cell.
      source: "uniform" on [-1/2, 1/2]^d, or "gaussian", N(0, I).

    Returns:
      (m,) masses, zero for hidden cells.

    Raises:
      ValueError: if the dimension is 3 or more, the shapes disagree or a number is not finite.
    """
    density = _density(source)
    y, h = check_targets(y, h)
    if y.shape[1] == 2:
        return density.cell_integrals(build(y, hide_duplicates(y, h), density.half_width))[0]
    cell = upper_envelope(y[:, 0], h)
    masses = np.zeros(len(y))
    cut = _breakpoints(y[cell, 0], h[cell])
    masses[cell] = density.interval_mass(cut[:-1], cut[1:])
    return masses


@dataclass(frozen=True, eq=False)
class _Found:
    """What a solver returns for distinct targets of positive weight."""

    h: Floats
    masses: Floats
    mass_error: float
    energy: float
    num_steps: int


def _breakpoints(y: Floats, h: Floats) -> Floats:
    """Compute where neighbouring lines of an upper envelope cross: (m + 1,) from -inf to inf."""
    return np.r_[-np.inf, (h[:-1] - h[1:]) / np.diff(y), np.inf]


def _solve_line(
    y: Floats, nu: Floats, density: Density, tolerance: float, max_steps: int
) -> _Found:
    """Solve for sorted distinct targets (m, 1) in closed form; no steps, so no limits on them."""
    del tolerance, max_steps
    y = y[:, 0]
    lower, upper = np.cumsum(nu)[:-1], np.cumsum(nu[::-1])[::-1][1:]
    h = np.r_[0.0, -np.cumsum(density.quantile(lower, upper) * np.diff(y))]
    cut = _breakpoints(y, h)
    # Rounding can swap two breakpoints if their cell is thinner than the last bit of them.
    masses = np.maximum(density.interval_mass(cut[:-1], cut[1:]), 0.0)
    energy = density.interval_moment(cut[:-1], cut[1:]) @ y + (masses - nu) @ h
    return _Found(h, masses, _mass_error(masses, nu), float(energy), 0)


def _solve_plane(
    y: Floats, nu: Floats, density: Density, tolerance: float, max_steps: int
) -> _Found:
    """Minimise the energy over the heights of distinct targets (m, 2) by damped Newton steps."""
    h = _separable_heights(y, nu, density)
    diagram = build(y, h, density.half_width)
    masses, moments = density.cell_integrals(diagram)
    error = _mass_error(masses, nu)
    # Every accepted step keeps every cell above this, so every Hessian is definite up to the
    # constant and the full step is accepted from some step on.
    floor = min(masses.min(), nu.min()) / 2
    size, num_steps = 1.0, 0
    while error > tolerance and num_steps < max_steps and floor > 0 and size > _SMALLEST_DAMPING:
        hessian = mass_jacobian(y, diagram, density)
        step = _newton_step(hessian, nu - masses)
        # Rounding of the heights changes masses by about this much. If a full step does not help
        # near that limit, stop, rather than build twenty more diagrams.
        noise = np.finfo(float).eps * np.abs(h).max() * hessian.diagonal()
        at_limit = error < _ROUNDING_MARGIN * np.sqrt((noise**2 / nu).sum())
        # The paper tries the full step first every time. Here a step that had to be cut is followed
        # by one of at most four times its size, which builds fewer diagrams.
        size = min(1.0, 4 * size)
        while size > _SMALLEST_DAMPING:
            trial = h + size * step
            trial_diagram = build(y, trial, density.half_width)
            trial_masses, trial_moments = density.cell_integrals(trial_diagram)
            trial_error = _mass_error(trial_masses, nu)
            if trial_masses.min() >= floor and trial_error <= (1 - size / 2) * error:
                h, diagram, masses, moments = trial, trial_diagram, trial_masses, trial_moments
                error = trial_error
                num_steps += 1
                break
            size = 0.0 if at_limit else size / 2
    energy = float((moments * y).sum() + (masses - nu) @ h)
    return _Found(h, masses, error, energy, num_steps)


def _separable_heights(y: Floats, nu: Floats, density: Density) -> Floats:
    """Choose starting heights that leave no cell empty: optimal if nu is a product measure.

    h_i = -sum_k f_k(y_ik), where f_k is convex and its slope f_k' is the monotone map of the k-th
    marginal. The cell of i then holds the point with coordinates f_k'(y_ik), which lies inside the
    source's support.
    """
    h = np.zeros(len(y))
    for coordinate in y.T:
        value, group = np.unique(coordinate, return_inverse=True)
        weight = np.bincount(group, nu)
        lower = np.cumsum(weight) - weight / 2
        upper = np.cumsum(weight[::-1])[::-1] - weight / 2
        slope = density.quantile(lower, upper)
        rise = np.diff(value) * (slope[1:] + slope[:-1]) / 2
        h -= np.r_[0.0, np.cumsum(rise)][group]
    return h - nu @ h


def mass_jacobian(y: Floats, diagram: Diagram, density: Density) -> csc_array:
    """Assemble the Hessian of the energy, dw_i/dh_j: (m, m), symmetric, rows sum to 0.

    Args:
      y: (m, 2) targets.
      diagram: of ``y`` at the heights.
      density: the source.
    """
    inner = diagram.right != WALL
    i, j = diagram.left[inner], diagram.right[inner]
    value = density.edge_integrals(diagram)[inner] / np.linalg.norm(y[i] - y[j], axis=1)
    index = np.concatenate([i, j]), np.concatenate([j, i])
    adjacency = coo_array((np.concatenate([value, value]), index), shape=(len(y), len(y))).tocsc()
    return csc_array(diags_array(adjacency.sum(axis=1), format="csc") - adjacency)


def _newton_step(hessian: csc_array, missing: Floats) -> Floats:
    """Solve Hessian * step = missing; the last target does not move."""
    step = np.zeros(len(missing))
    if len(missing) > 1:
        # Symmetric positive definite: pivots on the diagonal, columns ordered for A + A'.
        factor = splu(
            hessian[:-1, :-1].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        step[:-1] = factor.solve(missing[:-1])
    return step


def _mass_error(masses: Floats, nu: Floats) -> float:
    return float(np.sqrt(((masses - nu) ** 2 / nu).sum()))


def _density(source: Given[str]) -> Density:
    if not isinstance(source, str) or source not in DENSITIES:
        raise ValueError(f"`source` is {source!r}; it must be one of {', '.join(DENSITIES)}.")
    return DENSITIES[source]


def _check_weights(nu: ArrayLike | None, m: int) -> Floats:
    """Check weights and convert them to float64, with sum 1 up to rounding."""
    nu = np.full(m, 1 / m) if nu is None else arguments.host_array("nu", nu)
    if nu.shape != (m,):
        raise ValueError(
            f"`nu` has shape {nu.shape}, but `y` has {m} targets; pass one weight each."
        )
    nu = arguments.known("nu", nu)
    if (nu < 0).any():
        bad = int((nu < 0).argmax())
        raise ValueError(f"`nu` is {nu[bad]} at target {bad}; weights are finite and not negative.")
    total = nu.sum()
    if abs(total - 1) > 1e-5:  # what float32 weights may be off by
        raise ValueError(f"`nu` sums to {total}, not 1; pass nu / nu.sum().")
    return nu / total
