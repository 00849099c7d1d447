r"""Starting heights in closed form.

All take targets that the solver has centred and scaled, and a source with mean a and covariance C.

* ``zero``: h = 0, the start of the published algorithm.
* ``voronoi``: the power diagram of the targets scaled to the source's size is their Voronoi
  diagram: :math:`h_i = -\tfrac12 r |y_i|^2` with :math:`r^2 = tr C / tr S`.
* ``gaussian``: the Brenier potential between N(a, C) and the normal law N(b, S) fitted to the
  targets is quadratic with Hessian :math:`A = C^{-1/2} (C^{1/2} S C^{1/2})^{1/2} C^{-1/2}`; its
  Legendre dual gives :math:`h_i = -\tfrac12 (y_i - b)^T A^{-1} (y_i - b) - \langle a, y_i\rangle`.

Which is best depends on dimension and data (in the plane h = 0 leaves nearly every cell empty, in
64 dimensions Voronoi heights do), so the solver measures all of them and takes the best.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.numerics import PRECISION, isolated
from aeot_jax.ot.cells import blocks, blockwise
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.typing import Heights, Targets, Weights

Start = Literal["auto", "zero", "voronoi", "gaussian", "tails"]
"""Names of the starting heights; ``auto`` takes the best by what was measured, and ``tails`` are no
closed form (``tails.py``)."""

NAMES: tuple[Start, ...] = ("zero", "voronoi", "gaussian")
"""The closed forms, in the order of ``heights``."""

_EIGENVALUE_FLOOR = 1e-6
"""Relative floor of eigenvalues: targets on a flat have a singular covariance."""


def _spectral(matrix: Float[Array, "d d"], power: float) -> Float[Array, "d d"]:
    """A power of a symmetric positive semi-definite matrix, its eigenvalues floored."""
    values, vectors = jnp.linalg.eigh(matrix)
    values = jnp.maximum(values, _EIGENVALUE_FLOOR * jnp.max(values) + jnp.finfo(jnp.float32).tiny)
    return jnp.matmul(vectors * values[None, :] ** power, vectors.T, precision=PRECISION)


class Moments(NamedTuple):
    """What the closed forms need to know of the targets.

    Attributes:
      mean: weighted mean (d,).
      square: weighted second moment around it (d, d).
    """

    mean: Float[Array, " d"]
    square: Float[Array, "d d"]


def moments(y: Targets | Rows, nu: Weights, targets_axis: str | None = None) -> Moments:
    """Moments of targets (m, d) with weights (m,), which all closed forms share."""

    def weighted_mean(y: Targets | Rows, nu: Weights) -> Float[Array, " d"]:
        return jnp.matmul(nu, blocks.whole(y), precision=PRECISION)

    def weighted_square(
        y: Targets | Rows, nu: Weights, b: Float[Array, " d"]
    ) -> Float[Array, "d d"]:
        centred = blocks.whole(y) - b[None, :]
        return jnp.matmul((centred * nu[:, None]).T, centred, precision=PRECISION)

    b = blockwise.sum_blocks(weighted_mean, (y, nu), targets_axis=targets_axis)
    square = blockwise.sum_blocks(weighted_square, (y, nu), b, targets_axis=targets_axis)
    return Moments(b, square)


def heights(
    start: Start,
    y: Targets | Rows,
    nu: Weights,
    of_targets: Moments,
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
) -> Heights:
    """Starting heights (m,) by name (see the module's docstring).

    Args:
      start: "voronoi" or "gaussian"; those of "zero" are 0.
      y: targets (m, d), centred, of unit size.
      nu: weights (m,).
      of_targets: the targets' moments.
      mean: mean of the source (d,).
      covariance: covariance of the source (d, d).
    """

    def quadratic(
        y: Targets, b: Float[Array, " d"], mean: Float[Array, " d"], form: Float[Array, "..."]
    ) -> Heights:
        centred = y - b[None, :]
        tilt = jnp.matmul(y, mean, precision=PRECISION)
        if start == "voronoi":
            return -0.5 * form * (centred * centred).sum(1) - tilt
        product = jnp.matmul(centred, form, precision=PRECISION)
        return -0.5 * (product * centred).sum(1) - tilt

    shape = _ratio if start == "voronoi" else _inverse_hessian
    form = isolated(shape, covariance, of_targets.square)
    return blockwise.map_rows(quadratic, y, of_targets.mean, mean, form)[: nu.shape[0]]


def _ratio(covariance: Float[Array, "d d"], second_moment: Float[Array, "d d"]) -> Float[Array, ""]:
    """Size of the source over that of the targets."""
    return jnp.sqrt(jnp.trace(covariance) / jnp.maximum(jnp.trace(second_moment), 1e-30))


def _inverse_hessian(
    covariance: Float[Array, "d d"], second_moment: Float[Array, "d d"]
) -> Float[Array, "d d"]:
    """A^-1 = C^1/2 (C^1/2 S C^1/2)^-1/2 C^1/2."""
    root = _spectral(covariance, 0.5)

    def product(*matrices: Float[Array, "d d"]) -> Float[Array, "d d"]:
        return jnp.linalg.multi_dot(matrices, precision=PRECISION)

    return product(root, _spectral(product(root, second_moment, root), -0.5), root)
