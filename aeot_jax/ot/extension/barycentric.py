r"""The barycentric extension: targets of the nearest mass centres, weighted by inverse distance.

With :math:`r_1 \le r_2 \le \dots` the distances from x to the mass centres, the published form is

.. math:: z(x) = \sum_{i \le k} \lambda_i y_i, \qquad \lambda_i \propto 1 / r_i .

It jumps where the k-th nearest centre changes. The weights used here vanish there,

.. math:: \lambda_i \propto (1 / r_i - 1 / r_{k+1})_+ ,

so z is continuous wherever :math:`r_1 < r_{k+1}`: everywhere, for centres in general position, if
k > d. Both take the value y_i at c_i.

Source: An et al., AE-OT, ICLR 2020 (the published form); the continuous one is this library's.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.numerics import PRECISION
from aeot_jax.ot import checks
from aeot_jax.ot.cells.samples import check_samples, in_chunks
from aeot_jax.ot.extension.centres import Centres, check_known, nearest
from aeot_jax.typing import ArrayLike, Given, Samples, Targets


def barycentric(
    x: ArrayLike, y: ArrayLike, centres: Given[Centres], k: Given[int | None] = None
) -> Float[Array, "..."]:
    """Extend the map continuously over the k nearest mass centres.

    Samples are streamed. What is gathered for a chunk, k d numbers a sample, stays near 8 MiB at
    any n; a chunk has at least 64 samples. Differentiable in x, y and the centres.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      centres: from ``mass_centres``; cells without a sample are left out.
      k: centres blended, 1 to m - 1; None is d + 1, the least for a continuous result, or m - 1
        if that is less.

    Returns:
      z(x), of the shape of x; y_i at the centre of cell i.

    Raises:
      ValueError: if shapes do not fit, k is out of range or too few centres are known.
    """
    samples, targets = check_arguments(x, y, centres)
    most = targets.shape[0] - 1
    if most == 0:
        raise ValueError("`y` has one target, so there is nothing to blend; pass at least 2.")
    if k is None:
        k = max(1, min(targets.shape[1] + 1, most))
    k = arguments.whole("k", k, "how many centres are blended")
    if not 1 <= k <= most:
        raise ValueError(
            f"`k` is {k}, but `y` has {targets.shape[0]} targets; pass k from 1 to {most}: the "
            "weights vanish at the distance of one more target."
        )
    check_known(centres, k + 1, f"`k` = {k}")
    rows = jnp.atleast_2d(samples)
    return _streamed(_continuous, rows, targets, centres, k).reshape(samples.shape)


def inverse_distance(
    x: ArrayLike, y: ArrayLike, centres: Given[Centres], k: Given[int]
) -> Float[Array, "..."]:
    """The published extension, for comparison: it jumps where the k-th nearest centre changes.

    Samples are streamed as by ``barycentric``.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      centres: from ``mass_centres``; cells without a sample are left out.
      k: centres blended, 1 to m; published with d + 1.

    Returns:
      z(x), of the shape of x; y_i at the centre of cell i.

    Raises:
      ValueError: if shapes do not fit, k is out of range or too few centres are known.

    Source: An et al., AE-OT, ICLR 2020.
    """
    samples, targets = check_arguments(x, y, centres)
    k = arguments.whole("k", k, "how many centres are blended")
    if not 1 <= k <= targets.shape[0]:
        raise ValueError(
            f"`k` is {k}, but `y` has {targets.shape[0]} targets; pass k from 1 to "
            f"{targets.shape[0]}."
        )
    check_known(centres, k, f"`k` = {k}")
    rows = jnp.atleast_2d(samples)
    return _streamed(_published, rows, targets, centres, k).reshape(samples.shape)


@partial(jax.jit, static_argnames=("form", "k"))
def _streamed(
    form: Callable[..., Samples], x: Samples, y: Targets, centres: Centres, k: int
) -> Samples:
    # A gradient gathers again what a chunk has gathered: it is not kept.
    part = jax.checkpoint(lambda rows: form(rows, y, centres, k))
    return in_chunks(part, x, (k + 1) * x.shape[1])


def _continuous(x: Samples, y: Targets, centres: Centres, k: int) -> Samples:
    r, index = nearest(x, centres, k + 1)
    # Weights (1 / r_i - 1 / r_{k+1}) times r_1, so that none is infinite at a centre. They are all
    # 0 only if r_1 = r_{k+1}, where all count alike.
    edge = jnp.where(r[:, -1:] > 0, r[:, -1:], 1.0)
    weights = _inverse(r) * jnp.maximum(1 - r / edge, 0.0)
    weights = jnp.where(weights.sum(1, keepdims=True) > 0, weights, jnp.ones_like(weights))
    return _blend(weights[:, :-1], y[index[:, :-1]])


def _published(x: Samples, y: Targets, centres: Centres, k: int) -> Samples:
    r, index = nearest(x, centres, k)
    return _blend(_inverse(r), y[index])


def _inverse(r: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """r_1 / r_i of ascending distances; 1 at the nearest, even at distance 0."""
    return jnp.where(r > 0, r[:, :1] / jnp.where(r > 0, r, 1.0), 1.0)


def _blend(weights: Float[Array, "n k"], codes: Float[Array, "n k d"]) -> Samples:
    """Weighted mean of codes: the nearest code plus offsets from it, exact if it is alone."""
    share = weights / weights.sum(1, keepdims=True)
    offsets = codes - codes[:, :1]
    return codes[:, 0] + jnp.einsum("nk,nkd->nd", share, offsets, precision=PRECISION)


def check_arguments(
    x: ArrayLike, y: ArrayLike, centres: Given[Centres]
) -> tuple[Float[Array, "..."], Float[Array, "m d"]]:
    """Check samples, targets and centres; return samples and targets as float32."""
    targets = checks.check_targets(y)
    samples = check_samples(x, np.shape(y))
    arguments.instance("centres", centres, Centres, "what `mass_centres` returns")
    if centres.points.shape != targets.shape:
        raise ValueError(
            f"`centres` has points of shape {centres.points.shape}, but `y` has shape "
            f"{targets.shape}; pass the mass centres of these targets."
        )
    return samples, targets
