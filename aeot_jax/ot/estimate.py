r"""What integer counts of samples in the cells tell: chi^2, the mass error, the certificate.

The mass error is :math:`\sqrt{\chi^2}` with :math:`\chi^2 = \sum_i (w_i - \nu_i)^2 / \nu_i`: the
nu-weighted root mean square of the relative errors of the cell masses. Half of it bounds the total
variation between the masses and the weights (Cauchy-Schwarz).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import safe_ratio
from aeot_jax.ot import blockwise
from aeot_jax.typing import Counts, Weights

_CONFIDENCE = 0.99
"""Simultaneous level of the bound behind ``Certificate.worst``."""


class _Sums(NamedTuple):
    """What the estimates of chi^2 need to know of all targets.

    Attributes:
      active: targets of positive weight.
      scatter: see the function.
      excess: the scatter less what chance gives it.
      pairs: estimate of the sum of w^2 / nu^2.
      triples: estimate of the sum of w^3 / nu^2.
    """

    active: Int[Array, ""]
    scatter: Float[Array, ""]
    excess: Float[Array, ""]
    pairs: Float[Array, ""]
    triples: Float[Array, ""]


def scatter(counts: Counts, nu: Weights, num_samples: ArrayLike) -> Float[Array, ""]:
    """Sum over active targets of (c - n nu)^2 / nu."""
    expected = jnp.asarray(num_samples, jnp.float32) * nu
    excess = jnp.where(nu > 0, counts.astype(jnp.float32) - expected, 0.0)
    return safe_ratio(excess * excess, nu).sum()


def _sums(counts: Counts, nu: Weights, n: Float[Array, ""]) -> _Sums:
    """The sums over some targets."""
    active = nu > 0
    c = jnp.where(active, counts, 0).astype(jnp.float32)
    excess = c - n * nu
    # Factorial moments: E c(c-1) = n(n-1) w^2 and E c(c-1)(c-2) = n(n-1)(n-2) w^3.
    ratio = safe_ratio(c, n * nu)
    pairs = ratio * jnp.maximum(safe_ratio(c - 1, (n - 1) * nu), 0.0)
    return _Sums(
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

    Samples of one stream may depend on each other, as those of an orbit do. With k streams of equal
    size over all batches, :math:`\chi^2` is about what :math:`\sum_i (c_i - n \nu_i)^2 / \nu_i`
    exceeds the sum of the same within streams by, over :math:`n^2 (1 - 1/k)`.

    Args:
      counts: over all streams and batches (m,).
      within: of each stream (s,), summed over batches; from ``draw_counts``.
      nu: weights (m,).
      num_samples: n, the sum of the counts.
      num_batches: batches drawn.
      targets_axis: a mapped axis over whose devices the targets are dealt.

    Returns:
      The estimate, unbiased but for a net that spans the streams, and its standard error, as of
      independent samples.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    between = 1 - 1 / (within.shape[0] * jnp.asarray(num_batches, jnp.float32))
    sums = blockwise.totals(_sums, (counts, nu), n, targets_axis=targets_axis)
    chi2 = (sums.scatter - within.sum()) / (n * n * between)
    return chi2, _chi_square(sums, n)[1] / jnp.sqrt(between)


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
    each estimated from the same counts; :math:`\zeta_2` is not allowed below its value at w = nu,
    m - 1, so that a lucky draw cannot claim certainty.

    Args:
      counts: samples in each cell (m,), independent of the heights that made the cells.
      nu: weights (m,); entries of weight 0 are left out.
      num_samples: n, the sum of the counts; at least 2.
      targets_axis: a mapped axis over whose devices the targets are dealt.

    Returns:
      The estimate and its standard error, scalars.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    return _chi_square(blockwise.totals(_sums, (counts, nu), n, targets_axis=targets_axis), n)


def _chi_square(sums: _Sums, n: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """``chi_square`` from the sums over all targets."""
    chi2 = sums.excess / (n * (n - 1)) + 1 / (n - 1)
    mean = 1 + chi2
    zeta1 = jnp.maximum(sums.triples - mean * mean, 0.0)
    zeta2 = jnp.maximum(sums.pairs - mean * mean, sums.active.astype(jnp.float32) - 1.0)
    variance = (4 * (n - 2) * zeta1 + 2 * zeta2) / (n * (n - 1))
    return chi2, jnp.sqrt(variance)


def mass_error(
    chi2: Float[Array, ""], chi2_se: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Square root of chi^2 with its standard error.

    The error is ``sqrt(chi2 + se) - sqrt(chi2)``: se / (2 sqrt(chi2)) for small se, and the finite
    sqrt(se) at 0, where the linearised formula diverges.
    """
    root = jnp.sqrt(jnp.maximum(chi2, 0.0))
    above = jnp.sqrt(jnp.maximum(chi2, 0.0) + chi2_se)
    return root, above - root


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Certificate:
    """What fresh samples say about heights. Every field is a scalar array.

    Attributes:
      mass_error: square root of chi^2 = sum (w - nu)^2 / nu, at least 0; infinite if a target of
        weight 0 holds mass.
      mass_error_se: its standard error.
      chi2: the unbiased estimate of chi^2; may be negative.
      chi2_se: its standard error.
      total_variation: bound of the total variation between w and nu: half of the mass error plus
        two standard errors, at most 1.
      worst: largest relative error abs(w_i - nu_i) / nu_i beyond what chance explains: the excess
        over a bound that all cells together obey with probability 99 % when w = nu; 0 if none.
      num_empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance if w = nu.
      stray_mass: share of samples in cells of weight 0.
      num_samples: samples used.
    """

    mass_error: Float[Array, "*batch"]
    mass_error_se: Float[Array, "*batch"]
    chi2: Float[Array, "*batch"]
    chi2_se: Float[Array, "*batch"]
    total_variation: Float[Array, "*batch"]
    worst: Float[Array, "*batch"]
    num_empty: Int[Array, "*batch"]
    expected_empty: Float[Array, "*batch"]
    stray_mass: Float[Array, "*batch"]
    num_samples: Int[Array, "*batch"]


class CertificateSums(NamedTuple):
    """What a certificate needs to know of all targets.

    Attributes:
      chi_square: for chi^2 and its standard error.
      stray: samples in cells of weight 0.
      empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance.
      worst: largest relative error beyond what chance explains.
    """

    chi_square: _Sums
    stray: Int[Array, ""]
    empty: Int[Array, ""]
    expected_empty: Float[Array, ""]
    worst: Float[Array, ""]


def certificate(counts: Counts, nu: Weights, num_samples: ArrayLike) -> Certificate:
    """Turn the counts of fresh samples into a certificate; the one residual that everything reads.

    Args:
      counts: samples in each cell (m,).
      nu: weights (m,), sum 1.
      num_samples: the sum of the counts, at least 2.
    """
    return certificate_of(certificate_sums(counts, nu, num_samples), num_samples)


def certificate_sums(
    counts: Counts, nu: Weights, num_samples: ArrayLike, targets_axis: str | None = None
) -> CertificateSums:
    """The part of ``certificate`` that looks at all targets.

    Args:
      counts: samples in each cell (m,).
      nu: weights (m,), sum 1.
      num_samples: the sum of all counts.
      targets_axis: a mapped axis over whose devices the targets are dealt.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    arrays = counts, nu

    def sums(
        counts: Counts, nu: Weights, n: Float[Array, ""]
    ) -> tuple[_Sums, Int[Array, ""], Int[Array, ""], Float[Array, ""]]:
        active = nu > 0
        by_chance = jnp.exp(n * jnp.log1p(-jnp.minimum(nu, 1.0)))
        return (
            _sums(counts, nu, n),
            jnp.where(active, 0, counts).sum(dtype=jnp.int32),
            (active & (counts == 0)).sum(dtype=jnp.int32),
            jnp.where(active, by_chance, 0.0).sum(),
        )

    def beyond(
        counts: Counts, nu: Weights, n: Float[Array, ""], active: Int[Array, ""]
    ) -> Float[Array, ""]:
        # Bernstein's inequality for a binomial share, over all cells and both sides at once.
        log_level = jnp.log(2 * active.astype(jnp.float32) / (1 - _CONFIDENCE))
        bound = jnp.sqrt(2 * nu * (1 - nu) * log_level / n) + 2 * log_level / (3 * n)
        excess = jnp.maximum(jnp.abs(counts.astype(jnp.float32) / n - nu) - bound, 0.0)
        return jnp.max(safe_ratio(jnp.where(nu > 0, excess, 0.0), nu))

    of_all, stray, empty, by_chance = blockwise.totals(sums, arrays, n, targets_axis=targets_axis)
    of_blocks = blockwise.each(beyond, arrays, n, of_all.active, targets_axis=targets_axis)
    worst = jnp.max(blockwise.gathered(of_blocks, targets_axis))
    return CertificateSums(of_all, stray, empty, by_chance, worst)


def certificate_of(sums: CertificateSums, num_samples: ArrayLike) -> Certificate:
    """The part of ``certificate`` that is the same for any number of targets."""
    n = jnp.asarray(num_samples, jnp.float32)
    chi2, chi2_se = _chi_square(sums.chi_square, n)
    stray = sums.stray.astype(jnp.float32) / n
    error, error_se = mass_error(chi2, chi2_se)
    error = jnp.where(stray > 0, jnp.inf, error)
    return Certificate(
        mass_error=error,
        mass_error_se=error_se,
        chi2=chi2,
        chi2_se=chi2_se,
        total_variation=jnp.minimum(error / 2 + error_se, 1.0),
        worst=sums.worst,
        num_empty=sums.empty,
        expected_empty=sums.expected_empty,
        stray_mass=stray,
        num_samples=jnp.asarray(num_samples, jnp.int32),
    )


def samples_to_verify(num_targets: int, error: float, standard_error: float) -> int:
    r"""Samples that estimate a mass error with a given standard error.

    The law is :math:`\sqrt{m/2} / (e s)`: the standard error of chi^2 at w near nu is
    :math:`\sqrt{2 m} / n`, and that of its root is a (2e)-th of it.

    Args:
      num_targets: m, targets of positive weight.
      error: the mass error e to be measured.
      standard_error: the standard error s wanted.
    """
    return max(2, int((num_targets / 2) ** 0.5 / (error * standard_error)) + 1)
