r"""Heights for targets of which some are new, from the heights of those that were there.

The heights of a solved problem are values of a smooth function at the targets:
:math:`h_i = -\psi(y_i)` with psi convex. It is learned from the old targets in two parts, each a
ridge regression whose weight is chosen by generalised cross-validation:

1. in coordinates z that are whitened by the principal axes, a constant, z, the squares of its
   coordinates, \|z\| and \|z\|^3: between Gaussians psi is such a quadratic, and heavy tails need
   the other powers;
2. what is left, with the Matern kernel of smoothness 3/2.

``benchmarks/growing.py`` measures on five kinds of codes what heights for a tenth of new targets
are worth before the first step.

Source: Golub, Heath and Wahba, Technometrics 21(2), 1979, for the cross-validation; Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, sections 4.2 and 8.3, for the kernel and
the subset of regressors.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from aeot_jax import arguments
from aeot_jax.ot import checks
from aeot_jax.ot.solver.starts.stored import Places, Stored, both, places
from aeot_jax.typing import ArrayLike, Heights

_MOST_ROWS = 16_384
"""Old targets from which the function is learned, at most; more tell little."""

_MOST_CENTRES = 2_048
"""Old targets at which a kernel stands, at most."""

_CHUNK = 4_096
"""New targets that are evaluated at once."""

_RIDGES = np.logspace(-10, 3, 27)
"""Weights to choose from, as parts of the largest eigenvalue."""

_FLAT = 1e-6
"""Principal axes shorter than this part of the longest are dropped."""

Rows = Float[np.ndarray, "m d"]
Columns = Float[np.ndarray, "m k"]
Values = Float[np.ndarray, " m"]


def extend_heights(y_old: ArrayLike, h_old: ArrayLike, y_new: ArrayLike) -> Heights:
    """Heights for targets of which some are new: a start for ``solve(..., h0=)``.

    Targets that were there keep their height. Works on the host, in float64.

    Args:
      y_old: targets of the solved problem (m, d).
      h_old: their heights (m,); -inf where a target owned no cell, which teaches nothing.
      y_new: targets of the problem to solve (n, d), in any order.

    Returns:
      Heights (n,), all finite.

    Raises:
      ValueError: if a shape or a number does not fit, or under a trace.
    """
    way = "call it outside of `jax.jit`, and pass its result in"
    arguments.refuse_trace("extend_heights", way, y_old=y_old, h_old=h_old, y_new=y_new)
    return extended(y_old, h_old, y_new).heights


class Extended(NamedTuple):
    """Heights for the targets of a problem, and what they come from.

    Attributes:
      heights: of the new targets (n,), all finite.
      where: the highest of the old targets that each new one equals, or -1 (n,).
      own: the same for each old one (m,); -1 where its height is -inf.
    """

    heights: Heights
    where: Places
    own: Places


def extended(y_old: ArrayLike, h_old: ArrayLike, y_new: ArrayLike) -> Extended:
    """``extend_heights``, with where its heights come from."""
    old, new = both(y_old, y_new)
    heights = np.asarray(checks.heights("h_old", h_old, old.rows), np.float64)
    taught = np.flatnonzero(np.isfinite(heights))
    level = heights[taught].mean()  # on which the differences of heights do not depend
    chosen = np.random.default_rng(0).permutation(len(taught))[:_MOST_ROWS]
    chosen = taught[chosen]
    found = _learned(old.wide(chosen), heights[chosen] - level)(new) + level
    rising = taught[np.argsort(heights[taught], kind="stable")]
    where, own = places((new, old), old, rising)
    known = where >= 0
    found[known] = heights[where[known]]
    most = float(np.finfo(np.float32).max) / 4
    return Extended(jnp.asarray(np.clip(found, -most, most), jnp.float32), where, own)


class _Function(NamedTuple):
    """A function of targets: a polynomial in whitened coordinates, and kernels.

    Attributes:
      mean: of the old targets (d,).
      axes: from targets to whitened coordinates (d, k).
      slopes: of the polynomial (p,).
      centres: of the kernels, whitened (c, k).
      weights: of the kernels (c,).
      width: of the kernels.
    """

    mean: np.ndarray
    axes: np.ndarray
    slopes: np.ndarray
    centres: np.ndarray
    weights: np.ndarray
    width: float

    def __call__(self, y: Stored) -> Values:
        """Values at targets (n, d), a chunk at a time."""
        values = np.empty(len(y.rows))
        for start in range(0, len(values), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            z = (y.wide(chunk) - self.mean) @ self.axes
            values[chunk] = _powers(z) @ self.slopes
            values[chunk] += _matern(z, self.centres, self.width) @ self.weights
        return values


def _learned(y: Rows, h: Values) -> _Function:
    """The function whose values at old targets are their heights."""
    mean, axes = _whitening(y)
    z = (y - mean) @ axes
    powers = _powers(z)
    slopes = _ridge(powers, h)
    centres = z[:_MOST_CENTRES]
    width = float(np.sqrt(np.maximum(_square_distances(centres, centres), 0)).mean()) or 1.0
    at_centres = _matern(centres, centres, width)
    values, vectors = np.linalg.eigh(at_centres)
    kept = values > 1e-10 * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])
    weights = root @ _ridge(_matern(z, centres, width) @ root, h - powers @ slopes)
    return _Function(mean, axes, slopes, centres, weights, width)


def _whitening(y: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and axes of whitened coordinates; of a single point no axes."""
    mean = y.mean(0)
    variances, axes = np.linalg.eigh((y - mean).T @ (y - mean) / len(y))
    lengths = np.sqrt(np.maximum(variances, 0))
    kept = lengths > _FLAT * lengths[-1]
    return mean, axes[:, kept] / lengths[kept]


def _powers(z: Rows) -> Columns:
    """1, z, the squares of its coordinates, its norm and the cube of that."""
    norm = np.sqrt(np.square(z).sum(1, keepdims=True))
    return np.concatenate([np.ones((len(z), 1)), z, z * z, norm, norm**3], axis=1)


def _square_distances(a: Rows, b: Float[np.ndarray, "c d"]) -> Float[np.ndarray, "m c"]:
    return np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1)[None, :]


def _matern(a: Rows, b: Float[np.ndarray, "c d"], width: float) -> Float[np.ndarray, "m c"]:
    """The kernel (1 + 2 r) exp(-2 r) of the distances r in widths."""
    r = 2 * np.sqrt(np.maximum(_square_distances(a, b), 0)) / width
    return (1 + r) * np.exp(-r)


def _ridge(columns: Columns, values: Values) -> np.ndarray:
    """Coefficients of the ridge regression with the least cross-validated error."""
    size = np.sqrt(np.square(columns).mean(0)) + np.finfo(np.float64).tiny
    left, lengths, right = np.linalg.svd(columns / size, full_matrices=False)
    seen, total = left.T @ values, np.square(values).sum()
    beyond = max(total - np.square(seen).sum(), 0.0) + 1e-12 * total
    scores = []
    for ridge in _RIDGES * lengths[0] ** 2:
        shares = lengths**2 / (lengths**2 + ridge)
        rest = beyond + np.square((1 - shares) * seen).sum()
        free = len(values) - shares.sum()
        scores.append(rest / free**2 if free > 0 else np.inf)
    ridge = _RIDGES[int(np.argmin(scores))] * lengths[0] ** 2
    return right.T @ (lengths / (lengths**2 + ridge) * seen) / size
