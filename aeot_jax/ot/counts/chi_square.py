r"""Estimates of chi^2 and of the mass error, from integer counts of samples in the cells.

The mass error is :math:`\sqrt{\chi^2}` with :math:`\chi^2 = \sum_i (w_i - \nu_i)^2 / \nu_i`: the
nu-weighted root mean square of the relative errors of the cell masses. Half of it bounds the total
variation between the masses and the weights (Cauchy-Schwarz).
"""

import functools
import operator
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import safe_ratio
from aeot_jax.ot.cells import blockwise
from aeot_jax.typing import Counts, Weights


class ChiSums(NamedTuple):
    """Sums over targets of positive weight, from which chi^2 is estimated.

    Attributes:
      active: number of these targets.
      scatter: sum of (c - n nu)^2 / nu.
      excess: sum of ((c - n nu)^2 - c) / nu, the scatter without what chance alone adds.
      pairs: estimate of the sum of w^2 / nu^2.
      triples: estimate of the sum of w^3 / nu^2.
    """

    active: Int[Array, ""]
    scatter: Float[Array, ""]
    excess: Float[Array, ""]
    pairs: Float[Array, ""]
    triples: Float[Array, ""]


def scatter(counts: Counts, nu: Weights, num_samples: ArrayLike) -> Float[Array, ""]:
    """Sum over targets of positive weight of (c - n nu)^2 / nu."""
    expected = jnp.asarray(num_samples, jnp.float32) * nu
    excess = jnp.where(nu > 0, counts.astype(jnp.float32) - expected, 0.0)
    return safe_ratio(excess * excess, nu).sum()


def chi_sums(counts: Counts, nu: Weights, n: Float[Array, ""]) -> ChiSums:
    """The sums over some targets, of counts c of n samples."""
    active = nu > 0
    c = jnp.where(active, counts, 0).astype(jnp.float32)
    excess = c - n * nu
    # Factorial moments: E c(c-1) = n(n-1) w^2 and E c(c-1)(c-2) = n(n-1)(n-2) w^3.
    ratio = safe_ratio(c, n * nu)
    pairs = ratio * jnp.maximum(safe_ratio(c - 1, (n - 1) * nu), 0.0)
    return ChiSums(
        active=active.sum(dtype=jnp.int32),
        scatter=scatter(counts, nu, n),
        excess=safe_ratio(excess * excess - c, nu).sum(),
        pairs=pairs.sum(),
        triples=(pairs * jnp.maximum(c - 2, 0.0) / jnp.maximum(n - 2, 1.0)).sum(),
    )


def chi_square_between(
    counts: Counts,
    within: Float[Array, " s"],
    nu: Weights,
    num_samples: ArrayLike,
    num_batches: ArrayLike = 1,
    targets_axis: str | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Estimate chi^2 from pairs of samples in different streams, which are independent.

    Samples of one stream may depend on each other, as those of an orbit do. With
    :math:`S(c, n) = \sum_i (c_i - n \nu_i)^2 / \nu_i` and k streams of equal size (those of every
    batch counted), the estimate is

    .. math:: \frac{S(\text{all samples}) - \sum_s S(\text{stream } s)}{n^2 (1 - 1/k)} ,

    in which only products of two independent streams remain.

    Args:
      counts: over all streams and batches (m,).
      within: S of each stream (s,), summed over batches; from ``draw_counts``.
      nu: weights (m,).
      num_samples: n, the sum of the counts.
      num_batches: batches drawn.
      targets_axis: a mapped axis over whose devices the targets are sharded.

    Returns:
      The estimate and its standard error, computed as for independent samples. The estimate is
      unbiased where the streams are independent; those of a Sobol net are not.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    between = 1 - 1 / (within.shape[0] * jnp.asarray(num_batches, jnp.float32))  # 1 - 1/k
    sums = blockwise.sum_blocks(chi_sums, (counts, nu), n, targets_axis=targets_axis)
    of_streams = functools.reduce(operator.add, list(within))  # in their order, however many
    chi2 = (sums.scatter - of_streams) / (n * n * between)
    return chi2, chi_square_of(sums, n)[1] / jnp.sqrt(between)


def chi_square(
    counts: Counts, nu: Weights, num_samples: ArrayLike, targets_axis: str | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Estimate chi^2 without bias from the counts of n independent samples.

    The estimate is the U-statistic :math:`\sum_i c_i (c_i - 1) / (n (n-1) \nu_i) - 1`, written
    around its mean so that float32 keeps its digits:
    :math:`\sum_i ((c_i - n \nu_i)^2 - c_i) / (n (n-1) \nu_i) + 1 / (n-1)`.
    It may be negative. Its variance is Hoeffding's for a kernel of order two,
    :math:`4 \zeta_1 (n-2) / (n (n-1)) + 2 \zeta_2 / (n (n-1))`, with
    :math:`\zeta_1 = Var(w_X / \nu_X)` and :math:`\zeta_2 = \sum w_i^2 / \nu_i^2 - (1 + \chi^2)^2`,
    both estimated from the same counts. :math:`\zeta_2` is not allowed below m - 1, its value at
    w = nu, so that a lucky draw cannot claim certainty.

    Args:
      counts: samples in each cell (m,), independent of the heights that made the cells.
      nu: weights (m,); entries of weight 0 are left out.
      num_samples: n, the sum of the counts; at least 2.
      targets_axis: a mapped axis over whose devices the targets are sharded.

    Returns:
      The estimate and its standard error, scalars.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    sums = blockwise.sum_blocks(chi_sums, (counts, nu), n, targets_axis=targets_axis)
    return chi_square_of(sums, n)


def chi_square_of(
    sums: ChiSums, n: Float[Array, ""], outside: ArrayLike = 0, weight: ArrayLike = 0.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""``chi_square`` from the sums over all targets, or over some of them.

    With some targets, samples in the other cells count as well. Over these targets,
    :math:`\sum w_i^2 / \nu_i - 2 \sum w_i + \sum \nu_i` is estimated by a U-statistic whose kernel
    is :math:`1 / \nu_i` where both samples are in cell i, plus 1 for each sample that is outside,
    less 1 and less the weight outside. Its projection is :math:`w_X / \nu_X`, or 1 outside, plus s,
    the share of the samples outside; the sum of its squares is
    :math:`\sum w_i^2 / \nu_i^2 + 2 s + 2 s^2`.

    Args:
      sums: over those targets.
      n: samples.
      outside: samples in other cells.
      weight: of the other targets.
    """
    s = jnp.asarray(outside, jnp.float32) / n
    chi2 = sums.excess / (n * (n - 1)) + (1 + weight - 2 * s) / (n - 1)
    mean = 1 + chi2 + weight
    zeta1 = jnp.maximum(sums.triples + s - (mean - s) ** 2, 0.0)
    active = sums.active.astype(jnp.float32)
    zeta2 = jnp.maximum(sums.pairs + 2 * s * (1 + s) - mean * mean, active - 1.0)
    variance = (4 * (n - 2) * zeta1 + 2 * zeta2) / (n * (n - 1))
    # Weights near the least float32 can overflow: the error is then unknown.
    return chi2, jnp.where(jnp.isnan(variance), jnp.inf, jnp.sqrt(variance))


def mass_error(
    chi2: Float[Array, ""], chi2_se: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Square root of chi^2 with its standard error.

    The standard error is ``sqrt(chi2 + se) - sqrt(chi2)``: se / (2 sqrt(chi2)) for small se, and
    sqrt(se) at 0, where the linearised formula diverges.
    """
    root = jnp.sqrt(jnp.maximum(chi2, 0.0))
    above = jnp.sqrt(jnp.maximum(chi2, 0.0) + chi2_se)
    return root, above - root


def samples_to_verify(num_targets: int, error: float, standard_error: float) -> int:
    r"""Samples that estimate a mass error with a given standard error.

    The law is :math:`\sqrt{m/2} / (e s)`: at w near nu the standard error of chi^2 is
    :math:`\sqrt{2 m} / n`, and that of its root is 1 / (2e) of it.

    Args:
      num_targets: m, targets of positive weight.
      error: the mass error e to be measured.
      standard_error: the standard error s wanted.
    """
    return max(2, int((num_targets / 2) ** 0.5 / (error * standard_error)) + 1)
