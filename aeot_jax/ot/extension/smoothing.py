r"""The entropic extension: Brenier's potential smoothed, and the smooth map that is its gradient.

.. math:: u_\varepsilon(x) = \varepsilon \log \sum_i e^{(\langle x, y_i\rangle + h_i)/\varepsilon},
   \qquad \nabla u_\varepsilon(x) = \sum_i \lambda_i y_i, \quad
   \lambda_i \propto e^{(\langle x, y_i\rangle + h_i)/\varepsilon} .

:math:`u_h \le u_\varepsilon \le u_h + \varepsilon \log m`. Off the faces of the cells the map tends
to T exponentially fast as the temperature :math:`\varepsilon` falls. It has derivatives of every
order, but it blends across every face, singular ones too, and is nowhere exactly a target.

Source: Cuturi, Peyre 2018, "Semi-dual regularized optimal transport" (smoothed dual).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.numerics import PRECISION
from aeot_jax.ot import checks
from aeot_jax.ot.cells.samples import check_samples, in_chunks
from aeot_jax.typing import ArrayLike, Heights, Samples, Targets

_BLOCK = 512
"""Targets scored together."""

_FLOOR = -1e38
"""Score of targets that are left out."""

_Carry = tuple[Float[Array, " n"], Float[Array, " n"], Samples]


def smooth_brenier(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, temperature: ArrayLike
) -> Float[Array, "..."]:
    r"""Evaluate :math:`u_\varepsilon(x)`; its gradient in x is ``smooth_transport``.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf for a target that is left out.
      temperature: positive, in units of the scores; the mean gap between the two highest planes is
        a natural choice.

    Returns:
      The smoothed potential, a scalar for one sample and (n,) for several; differentiable in x, y,
      h and the temperature.

    Raises:
      ValueError: if shapes or known values do not fit.
    """
    rows, shape, targets, heights, eps = _check(x, y, h, temperature)
    value = in_chunks(lambda part: _potential(part, targets, heights, eps), rows, _BLOCK)
    return value.reshape(shape[:-1])


def smooth_transport(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, temperature: ArrayLike
) -> Float[Array, "..."]:
    r"""The entropic map :math:`\nabla u_\varepsilon`: all targets, weighted by their scores.

    Samples and targets are streamed; no weights (n, m) are written.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf for a target that is left out.
      temperature: positive, in units of the scores; see ``smooth_brenier``.

    Returns:
      The mean of the targets under the weights, of the shape of x.

    Raises:
      ValueError: if shapes or known values do not fit.
    """
    rows, shape, targets, heights, eps = _check(x, y, h, temperature)
    mean = in_chunks(lambda part: _map(part, targets, heights, eps), rows, _BLOCK)
    return mean.reshape(shape)


def _check(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, temperature: ArrayLike
) -> tuple[Samples, tuple[int, ...], Targets, Heights, Float[Array, ""]]:
    targets = checks.check_targets(y)
    heights = checks.check_heights(h, targets)
    samples = check_samples(x, np.shape(y))
    given = arguments.array("temperature", temperature)
    if given.ndim != 0:
        raise ValueError(
            f"`temperature` has shape {given.shape}; pass one number, and `vmap` for more."
        )
    eps = arguments.real("temperature", given)
    if arguments.is_concrete(given):
        smallest = float(jnp.finfo(jnp.float32).tiny)
        arguments.number("temperature", temperature, smallest, what="a positive number")
    return (
        jnp.atleast_2d(samples),
        samples.shape,
        targets,
        heights,
        eps,
    )


def _block(
    x: Samples, y: Targets, h: Heights, eps: Float[Array, ""], b: Int[Array, ""]
) -> tuple[Float[Array, "n b"], Float[Array, "b d"]]:
    """Scores of a block, divided by the temperature; the last block is a window at the end."""
    size = min(_BLOCK, y.shape[0])
    start = jnp.minimum(b * size, y.shape[0] - size)
    yb = jax.lax.dynamic_slice_in_dim(y, start, size)
    hb = jax.lax.dynamic_slice_in_dim(h, start, size)
    hb = jnp.where(start + jnp.arange(size, dtype=jnp.int32) >= b * size, hb, -jnp.inf)
    # The derivative of -inf / eps would be NaN.
    known = jnp.isfinite(hb)[None, :]
    scores = jnp.matmul(x, yb.T, precision=PRECISION) + jnp.where(known, hb[None, :], 0.0)
    return jnp.where(known, scores / eps, -jnp.inf), yb


def _num_blocks(y: Targets) -> int:
    return -(-y.shape[0] // min(_BLOCK, y.shape[0]))


@jax.jit
def _potential(x: Samples, y: Targets, h: Heights, eps: Float[Array, ""]) -> Float[Array, " n"]:
    # A gradient recomputes each block, and so keeps two numbers per sample and block.
    @partial(jax.checkpoint, prevent_cse=False)
    def body(total: Float[Array, " n"], b: Int[Array, ""]) -> tuple[Float[Array, " n"], None]:
        # A finite floor: the derivative of -inf would be NaN.
        scores = jnp.maximum(_block(x, y, h, eps, b)[0], _FLOOR)
        return jnp.logaddexp(total, jax.nn.logsumexp(scores, axis=1)), None

    start = jnp.full_like(x[:, 0], _FLOOR)
    total, _ = jax.lax.scan(body, start, jnp.arange(_num_blocks(y), dtype=jnp.int32))
    return eps * total


@jax.jit
def _map(x: Samples, y: Targets, h: Heights, eps: Float[Array, ""]) -> Samples:
    """Running softmax: highest score so far, sums of weights and weighted targets below it."""

    def body(carry: _Carry, b: Int[Array, ""]) -> tuple[_Carry, None]:
        top, mass, mean = carry
        scores, yb = _block(x, y, h, eps, b)
        new = jnp.maximum(top, scores.max(1))
        safe = jnp.where(jnp.isfinite(new), new, 0.0)  # a block without cells may come first
        weights = jnp.exp(scores - safe[:, None])
        shrink = jnp.exp(top - safe)
        mass = mass * shrink + weights.sum(1)
        mean = mean * shrink[:, None] + jnp.matmul(weights, yb, precision=PRECISION)
        return (new, mass, mean), None

    start = (jnp.full_like(x[:, 0], -jnp.inf), jnp.zeros_like(x[:, 0]), jnp.zeros_like(x))
    (_, mass, mean), _ = jax.lax.scan(body, start, jnp.arange(_num_blocks(y), dtype=jnp.int32))
    return mean / mass[:, None]
