"""Semi-discrete transport problems whose heights are known by construction, as NumPy arrays.

Targets and heights are chosen first and the weights are the masses of the cells that they make.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from aeot_jax.ot.exact.exact import exact_masses

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A source, targets with weights, and the heights that solve it.

    Attributes:
      y: (m, d) targets.
      nu: (m,) weights, sum 1.
      h_exact: (m,) heights, nu-weighted mean zero; -inf where the weight is zero.
      name: for test ids.
      source: "uniform" on [-1/2, 1/2]^d or "gaussian", N(0, I).
    """

    y: Floats
    nu: Floats
    h_exact: Floats
    name: str
    source: str


def _problem(y: Floats, nu: Floats, h: Floats, name: str, source: str) -> Problem:
    nu = nu / nu.sum()
    return Problem(y, nu, h - nu @ h, f"{name}-{source}", source)


def grid_problem(k: int) -> Problem:
    """k * k targets at the centres of equal squares: W2^2 = 1 / (6 k^2)."""
    centre = (np.arange(k) + 0.5) / k - 0.5
    y = np.stack(np.meshgrid(centre, centre, indexing="ij"), axis=-1).reshape(-1, 2)
    return _problem(y, np.full(k * k, k**-2.0), -(y**2).sum(1) / 2, f"grid{k}", "uniform")


def constructed_2d(seed: int, m: int, source: str = "uniform") -> Problem:
    """Scattered targets with heights near Voronoi's; the weights differ by a factor of ten."""
    rng = np.random.default_rng(seed)
    scale = 1.0 if source == "uniform" else 3.0
    y = scale * rng.uniform(-0.5, 0.5, (m, 2))
    h = -(y**2).sum(1) / 2 + 0.05 * scale**2 / m * rng.uniform(-1, 1, m)
    nu = exact_masses(y, h, source=source)
    seen = nu > 0.1 / m  # hidden and nearly hidden cells have no stable heights
    nu = exact_masses(y[seen], h[seen], source=source)
    return _problem(y[seen], nu, h[seen], f"constructed{m}", source)


def one_dim(seed: int, m: int, source: str = "uniform") -> Problem:
    """Targets on the line, in random order, whose cells have random ends."""
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.uniform(0.1, 1.0, m))
    if source == "uniform":
        cut = np.sort(rng.uniform(-0.5, 0.5, m - 1))
        below = cut + 0.5
    else:
        cut = np.sort(rng.normal(size=m - 1))
        below = ndtr(cut)
    h = np.r_[0.0, -np.cumsum(cut * np.diff(y))]
    order = rng.permutation(m)
    nu = np.diff(np.r_[0.0, below, 1.0])
    return _problem(y[order, None], nu[order], h[order], f"line{m}", source)


def product_2d(seed: int, k: int, source: str = "uniform") -> Problem:
    """k * k targets with product weights: the potential is a sum of two potentials of the line."""
    a, b = one_dim(seed, k, source), one_dim(seed + 1, k, source)
    y = np.column_stack([np.repeat(a.y, k), np.tile(b.y[:, 0], k)])
    nu = np.outer(a.nu, b.nu).ravel()
    h = np.add.outer(a.h_exact, b.h_exact).ravel()
    return _problem(y, nu, h, f"product{k}", source)


def permuted(problem: Problem, seed: int) -> Problem:
    """The same problem, its targets in another order."""
    order = np.random.default_rng(seed).permutation(len(problem.nu))
    return replace(
        problem,
        y=problem.y[order],
        nu=problem.nu[order],
        h_exact=problem.h_exact[order],
        name=f"{problem.name}-permuted",
    )


def duplicated(problem: Problem, seed: int) -> Problem:
    """The same problem, every target written twice, a third and two thirds of its weight each."""
    twice = replace(
        problem,
        y=np.concatenate([problem.y, problem.y]),
        nu=np.concatenate([problem.nu / 3, problem.nu * 2 / 3]),
        h_exact=np.concatenate([problem.h_exact, problem.h_exact]),
        name=f"{problem.name}-duplicated",
    )
    return permuted(twice, seed)


def with_zero_weights(problem: Problem, seed: int) -> Problem:
    """The same problem, with as many targets again that have no weight, one on top of another."""
    rng = np.random.default_rng(seed)
    m, d = problem.y.shape
    extra = problem.y.mean(0) + np.ptp(problem.y, axis=0) * rng.normal(size=(m, d))
    extra[0] = problem.y[0]
    padded = replace(
        problem,
        y=np.concatenate([problem.y, extra]),
        nu=np.concatenate([problem.nu, np.zeros(m)]),
        h_exact=np.concatenate([problem.h_exact, np.full(m, -np.inf)]),
        name=f"{problem.name}-zero-weights",
    )
    return permuted(padded, seed)
