r"""What integer counts of samples in the cells tell: chi^2, the mass error, the certificate.

The mass error is :math:`\sqrt{\chi^2}` with :math:`\chi^2 = \sum_i (w_i - \nu_i)^2 / \nu_i`: the
nu-weighted root mean square of the relative errors of the cell masses. Half of it bounds the total
variation between the masses and the weights (Cauchy-Schwarz).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import safe_ratio
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts import light
from aeot_jax.ot.counts.words import in_words
from aeot_jax.reprs import number, or_brief
from aeot_jax.typing import Counts, HostWeights, Weights

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


class _PooledSums(NamedTuple):
    """What the bound of the mass error needs to know of all targets.

    Attributes:
      chi_square: for chi^2 of the pooled targets.
      light_hits: samples in the cells of the light ones.
      light_weight: their weight.
      unseen: number of targets that are light, or pooled and not seen.
      unseen_weight: their weight.
    """

    chi_square: _Sums
    light_hits: Int[Array, ""]
    light_weight: Float[Array, ""]
    unseen: Int[Array, ""]
    unseen_weight: Float[Array, ""]


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


def _pooled_sums(
    counts: Counts, nu: Weights, n: Float[Array, ""], split: light.Split
) -> _PooledSums:
    """The sums over some targets that tell those that are light, or not seen."""
    is_light = (nu > 0) & (light.group_of(nu) < split.first)
    is_unseen = (nu > 0) & (nu < split.seen)
    return _PooledSums(
        chi_square=_sums(counts, jnp.where(is_light, 0.0, nu), n),
        light_hits=jnp.where(is_light, counts, 0).sum(dtype=jnp.int32),
        light_weight=jnp.where(is_light, nu, 0.0).sum(),
        unseen=is_unseen.sum(dtype=jnp.int32),
        unseen_weight=jnp.where(is_unseen, nu, 0.0).sum(),
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
      targets_axis: a mapped axis over whose devices the targets are sharded.

    Returns:
      The estimate, unbiased but for a net that spans the streams, and its standard error, as of
      independent samples.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    between = 1 - 1 / (within.shape[0] * jnp.asarray(num_batches, jnp.float32))
    sums = blockwise.sum_blocks(_sums, (counts, nu), n, targets_axis=targets_axis)
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
      targets_axis: a mapped axis over whose devices the targets are sharded.

    Returns:
      The estimate and its standard error, scalars.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    return _chi_square(blockwise.sum_blocks(_sums, (counts, nu), n, targets_axis=targets_axis), n)


def _chi_square(
    sums: _Sums, n: Float[Array, ""], outside: ArrayLike = 0, weight: ArrayLike = 0.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""``chi_square`` from the sums over some targets, of all or of those that are pooled.

    A sample in no cell of theirs counts as well: :math:`\sum w_i^2 / \nu_i - 2 \sum w_i +
    \sum \nu_i`, over those targets, is estimated by a U-statistic whose kernel is
    :math:`1 / \nu_i` where both samples are in cell i, plus 1 for each that is outside, less
    1 and the weight outside. Its projection is :math:`w_X / \nu_X`, or 1 outside, plus s, the
    share outside; the sum of its squares is :math:`\sum w_i^2 / \nu_i^2 + 2 s + 2 s^2`.

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
    # Weights near the least float32 may leave the range of its numbers: then nothing is known.
    return chi2, jnp.where(jnp.isnan(variance), jnp.inf, jnp.sqrt(variance))


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
      upper: what the mass error is at most, with confidence 95 %: the estimate plus two standard
        errors where the draw sees every target, and more where it does not (see ``light``).
        Infinite where a sample met a target of weight 0. It decides whether a solve converged.
      chi2: the unbiased estimate of chi^2; may be negative.
      chi2_se: its standard error.
      total_variation: what the total variation between w and nu is at most: half of ``upper``, or
        less where light targets can matter to the mass error only; at most 1.
      worst: largest relative error abs(w_i - nu_i) / nu_i beyond what chance explains: the excess
        over a bound that all cells together obey with probability 99 % when w = nu; 0 if none.
        It is what the draw has shown, and says nothing of targets that it cannot see.
      num_empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance if w = nu.
      stray_mass: share of samples in cells of weight 0.
      num_samples: samples used.
      num_unverified: targets of positive weight so light that one of them can hide an error from so
        few samples; only ``upper`` and ``total_variation`` reckon with that.
      unverified_weight: their total weight.
      samples_to_verify: samples of a draw that would verify every target.
    """

    mass_error: Float[Array, "*batch"]
    mass_error_se: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]
    chi2: Float[Array, "*batch"]
    chi2_se: Float[Array, "*batch"]
    total_variation: Float[Array, "*batch"]
    worst: Float[Array, "*batch"]
    num_empty: Int[Array, "*batch"]
    expected_empty: Float[Array, "*batch"]
    stray_mass: Float[Array, "*batch"]
    num_samples: Int[Array, "*batch"]
    num_unverified: Int[Array, "*batch"]
    unverified_weight: Float[Array, "*batch"]
    samples_to_verify: Float[Array, "*batch"]

    @or_brief
    def __repr__(self) -> str:
        """The error in words, and what the draw could not see."""
        error = in_words(*map(number, (self.mass_error, self.mass_error_se, self.upper)))
        parts = [
            f"mass error {error}",
            f"{number(self.num_empty):,.0f} empty cells "
            f"({number(self.expected_empty):.1f} by chance)",
            f"{number(self.num_samples):,.0f} samples",
        ]
        if light := number(self.num_unverified):
            parts.append(f"{light:,.0f} targets too light to verify")
        return f"Certificate({'; '.join(parts)})"

    def unverified(self) -> str:
        """What the draw could not verify, in a sentence; empty if it saw every target.

        Of several certificates, as of classes, take one.
        """
        number = int(self.num_unverified)
        if number == 0:
            return ""
        targets = "1 target" if number == 1 else f"{number:,} targets"
        return (
            f"{targets} of total weight {float(self.unverified_weight):.2g} could not be verified: "
            f"{int(self.num_samples):,} samples are too few to see such weights; it takes about "
            f"{float(self.samples_to_verify):.2g}."
        )


class CertificateSums(NamedTuple):
    """What a certificate needs to know of all targets.

    Attributes:
      chi_square: for chi^2 and its standard error.
      pooled: for the bound of the mass error.
      groups: of all targets, by weight.
      split: which of them are pooled.
      stray: samples in cells of weight 0.
      empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance.
      worst: largest relative error beyond what chance explains.
    """

    chi_square: _Sums
    pooled: _PooledSums
    groups: light.Groups
    split: light.Split
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
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    arrays = counts, nu

    def sums(
        counts: Counts, nu: Weights, n: Float[Array, ""]
    ) -> tuple[tuple[_Sums, Int[Array, ""], Int[Array, ""], Float[Array, ""]], light.Groups]:
        active = nu > 0
        by_chance = jnp.exp(n * jnp.log1p(-jnp.minimum(nu, 1.0)))
        own = (
            _sums(counts, nu, n),
            jnp.where(active, 0, counts).sum(dtype=jnp.int32),
            (active & (counts == 0)).sum(dtype=jnp.int32),
            jnp.where(active, by_chance, 0.0).sum(),
        )
        return own, light.grouped(counts, nu)

    def beyond(
        counts: Counts, nu: Weights, n: Float[Array, ""], active: Int[Array, ""]
    ) -> Float[Array, ""]:
        # Bernstein's inequality for a binomial share, over all cells and both sides at once.
        log_level = jnp.log(2 * active.astype(jnp.float32) / (1 - _CONFIDENCE))
        bound = jnp.sqrt(2 * nu * (1 - nu) * log_level / n) + 2 * log_level / (3 * n)
        excess = jnp.maximum(jnp.abs(counts.astype(jnp.float32) / n - nu) - bound, 0.0)
        return jnp.max(safe_ratio(jnp.where(nu > 0, excess, 0.0), nu))

    of_blocks, groups = blockwise.map_blocks(sums, arrays, n, targets_axis=targets_axis)
    of_all, stray, empty, by_chance = blockwise.add_blocks(of_blocks, targets_axis)
    groups = light.added(blockwise.gather_blocks(groups, targets_axis))
    split = light.split(groups, n)
    pooled = blockwise.sum_blocks(_pooled_sums, arrays, n, split, targets_axis=targets_axis)
    beyond_chance = blockwise.map_blocks(
        beyond, arrays, n, of_all.active, targets_axis=targets_axis
    )
    worst = jnp.max(blockwise.gather_blocks(beyond_chance, targets_axis))
    return CertificateSums(of_all, pooled, groups, split, stray, empty, by_chance, worst)


def certificate_of(sums: CertificateSums, num_samples: ArrayLike) -> Certificate:
    """The part of ``certificate`` that is the same for any number of targets."""
    n = jnp.asarray(num_samples, jnp.float32)
    chi2, chi2_se = _chi_square(sums.chi_square, n, sums.stray)
    stray = sums.stray.astype(jnp.float32) / n
    error, error_se = mass_error(chi2, chi2_se)
    error = jnp.where(stray > 0, jnp.inf, error)
    upper, total_variation = _bounds(sums, n)
    least = jnp.min(sums.groups.least)
    return Certificate(
        mass_error=error,
        mass_error_se=error_se,
        upper=jnp.where(stray > 0, jnp.inf, upper),
        chi2=chi2,
        chi2_se=chi2_se,
        total_variation=jnp.where(stray > 0, 1.0, total_variation),
        worst=sums.worst,
        num_empty=sums.empty,
        expected_empty=sums.expected_empty,
        stray_mass=stray,
        num_samples=jnp.asarray(num_samples, jnp.int32),
        num_unverified=sums.pooled.unseen,
        unverified_weight=sums.pooled.unseen_weight,
        samples_to_verify=light.samples_to_see(least, sums.chi_square.active),
    )


def _bounds(
    sums: CertificateSums, n: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Bounds of the mass error and of the total variation, if there is no stray mass.

    Chi^2 is at most that of the pooled targets, plus what one of them hides, plus that of the light
    ones, and never more than with all mass in the lightest target. The total variation is half of
    the sum of abs(w - nu): over the pooled targets at most the root of their weight times their
    chi^2 (Cauchy-Schwarz), over the light ones at most what they hold plus their weight.
    """
    unseen = light.bound(sums.groups, sums.split.first, n)
    outside, weight = sums.stray + sums.pooled.light_hits, sums.pooled.light_weight
    error, error_se = mass_error(*_chi_square(sums.pooled.chi_square, n, outside, weight))
    seen = error + 2 * error_se
    more = unseen.hidden + unseen.chi2 + weight
    upper = jnp.where(more > 0, jnp.sqrt(seen * seen + more), seen)
    upper = jnp.minimum(upper, jnp.sqrt(jnp.maximum(1 / jnp.min(sums.groups.least) - 1, 0.0)))
    pooled = jnp.sqrt((1 - weight) * (seen * seen + unseen.hidden)) + unseen.mass + weight
    return upper, jnp.minimum(jnp.minimum(upper, pooled) / 2, 1.0)


def with_masses(
    found: Certificate, masses: Float[np.ndarray, " m"], nu: HostWeights
) -> Certificate:
    """A certificate of heights whose exact masses are known: none of its targets is unverified.

    What was sampled must agree with them: ``upper`` is the root of the sum of the squares of what
    the draw says of the targets that it sees and of the exact mass error.

    Args:
      found: of the same heights.
      masses: of the cells (m,).
      nu: weights (m,).
    """
    active = nu > 0
    exact = np.square(masses[active] - nu[active]) / nu[active]
    seen = float(found.mass_error) + 2 * float(found.mass_error_se)
    upper = jnp.asarray(np.hypot(seen, np.sqrt(exact.sum())), jnp.float32)
    return replace(
        found,
        upper=upper,
        total_variation=jnp.minimum(found.total_variation, upper / 2),
        num_unverified=jnp.zeros_like(found.num_unverified),
        unverified_weight=jnp.zeros_like(found.unverified_weight),
    )


def error_to_reduce(found: Certificate) -> float:
    """The mass error that more samples must bring down: what light targets may hold is in it."""
    return float(found.upper if int(found.num_unverified) else found.mass_error)


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
