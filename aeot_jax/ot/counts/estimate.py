"""The certificate: what counts of fresh samples tell about heights, and what they cannot tell."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import safe_ratio
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts import light
from aeot_jax.ot.counts.chi_square import ChiSums, chi_square_of, chi_sums, mass_error
from aeot_jax.ot.counts.words import in_words
from aeot_jax.reprs import number, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import Counts, HostWeights, Weights

_CONFIDENCE = 0.99
"""Simultaneous level of the bound behind ``Certificate.worst``."""


@register
@dataclass(frozen=True)
class Certificate:
    """What fresh samples say about heights. Every field is a scalar array.

    Attributes:
      mass_error: square root of chi^2 = sum (w - nu)^2 / nu, at least 0; infinite if a target of
        weight 0 holds mass.
      mass_error_se: its standard error.
      upper: bound of the mass error with confidence 95 %: the estimate plus two standard errors
        where the draw sees every target, and more where it does not (see ``light``). Infinite if a
        target of weight 0 holds a sample. It decides whether a solve converged.
      chi2: the unbiased estimate of chi^2; may be negative.
      chi2_se: its standard error.
      total_variation: bound of the total variation between w and nu: half of ``upper``, or less
        where light targets add much to the mass error and little mass; at most 1.
      worst: largest relative error abs(w_i - nu_i) / nu_i beyond chance: its excess over a bound
        that holds for all cells at once with probability 99 % if w = nu; 0 if none exceeds it. It
        says nothing of targets too light for the draw to see.
      num_empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance if w = nu.
      stray_mass: share of samples in cells of weight 0.
      num_samples: samples used.
      num_unverified: targets of positive weight that are too light for so many samples: one of them
        can hide an error, which only ``upper`` and ``total_variation`` take into account.
      unverified_weight: their total weight.
      samples_to_verify: samples that a draw needs to verify every target.
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
        """A sentence on the targets that the draw could not verify; empty if there are none.

        It reads one certificate: of a batch of them, as ``solve_classes`` returns, take one first.
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


class PooledSums(NamedTuple):
    """Sums over targets, split by ``light`` into light and pooled ones, that ``upper`` is made of.

    Attributes:
      chi_square: those of the pooled targets.
      light_hits: samples in the cells of the light targets.
      light_weight: total weight of the light targets.
      unseen: number of targets that are light, or pooled but too light to be seen.
      unseen_weight: total weight of those.
    """

    chi_square: ChiSums
    light_hits: Int[Array, ""]
    light_weight: Float[Array, ""]
    unseen: Int[Array, ""]
    unseen_weight: Float[Array, ""]


def _pooled_sums(
    counts: Counts, nu: Weights, n: Float[Array, ""], split: light.Split
) -> PooledSums:
    """The sums over one block of targets."""
    is_light = (nu > 0) & (light.group_of(nu) < split.first)
    is_unseen = (nu > 0) & (nu < split.seen)
    return PooledSums(
        chi_square=chi_sums(counts, jnp.where(is_light, 0.0, nu), n),
        light_hits=jnp.where(is_light, counts, 0).sum(dtype=jnp.int32),
        light_weight=jnp.where(is_light, nu, 0.0).sum(),
        unseen=is_unseen.sum(dtype=jnp.int32),
        unseen_weight=jnp.where(is_unseen, nu, 0.0).sum(),
    )


class CertificateSums(NamedTuple):
    """Sums over all targets from which a certificate is made.

    Attributes:
      chi_square: for chi^2 and its standard error.
      pooled: for the bound of the mass error.
      groups: the targets by weight.
      split: which groups are light, and which pooled.
      stray: samples in cells of weight 0.
      empty: targets of positive weight that no sample reached.
      expected_empty: how many would be empty by chance.
      worst: largest relative error beyond chance.
    """

    chi_square: ChiSums
    pooled: PooledSums
    groups: light.Groups
    split: light.Split
    stray: Int[Array, ""]
    empty: Int[Array, ""]
    expected_empty: Float[Array, ""]
    worst: Float[Array, ""]


def certificate(counts: Counts, nu: Weights, num_samples: ArrayLike) -> Certificate:
    """Make a certificate from the counts of fresh samples.

    Args:
      counts: samples in each cell (m,).
      nu: weights (m,), sum 1.
      num_samples: the sum of the counts, at least 2.
    """
    return certificate_of(certificate_sums(counts, nu, num_samples), num_samples)


def certificate_sums(
    counts: Counts, nu: Weights, num_samples: ArrayLike, targets_axis: str | None = None
) -> CertificateSums:
    """The part of ``certificate`` that reads all targets.

    Args:
      counts: samples in each cell (m,).
      nu: weights (m,), sum 1.
      num_samples: the sum of all counts.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    n = jnp.asarray(num_samples, jnp.float32)
    arrays = counts, nu
    of_blocks, groups = blockwise.map_blocks(_block_sums, arrays, n, targets_axis=targets_axis)
    chi, stray, empty, by_chance = blockwise.add_blocks(of_blocks, targets_axis)
    groups = light.merged(blockwise.gather_blocks(groups, targets_axis))
    split = light.split(groups, n)
    pooled = blockwise.sum_blocks(_pooled_sums, arrays, n, split, targets_axis=targets_axis)
    worst = blockwise.map_blocks(_worst, arrays, n, chi.active, targets_axis=targets_axis)
    worst = jnp.max(blockwise.gather_blocks(worst, targets_axis))
    return CertificateSums(chi, pooled, groups, split, stray, empty, by_chance, worst)


def _block_sums(
    counts: Counts, nu: Weights, n: Float[Array, ""]
) -> tuple[tuple[ChiSums, Int[Array, ""], Int[Array, ""], Float[Array, ""]], light.Groups]:
    """Of one block of targets: sums for chi^2, stray samples, empty cells, those by chance; groups.

    A cell of mass nu_i is empty with probability (1 - nu_i)^n.
    """
    active = nu > 0
    by_chance = jnp.exp(n * jnp.log1p(-jnp.minimum(nu, 1.0)))
    sums = (
        chi_sums(counts, nu, n),
        jnp.where(active, 0, counts).sum(dtype=jnp.int32),
        (active & (counts == 0)).sum(dtype=jnp.int32),
        jnp.where(active, by_chance, 0.0).sum(),
    )
    return sums, light.grouped(counts, nu)


def _worst(
    counts: Counts, nu: Weights, n: Float[Array, ""], active: Int[Array, ""]
) -> Float[Array, ""]:
    """Largest relative error in one block of targets beyond chance.

    Bernstein's inequality bounds the deviation of a binomial share, in all cells and in both
    directions at once: sqrt(2 nu (1 - nu) L / n) + 2 L / (3 n), L = log(2 m / (1 - confidence)).
    """
    log_level = jnp.log(2 * active.astype(jnp.float32) / (1 - _CONFIDENCE))  # L
    bound = jnp.sqrt(2 * nu * (1 - nu) * log_level / n) + 2 * log_level / (3 * n)
    excess = jnp.maximum(jnp.abs(counts.astype(jnp.float32) / n - nu) - bound, 0.0)
    return jnp.max(safe_ratio(jnp.where(nu > 0, excess, 0.0), nu))


def certificate_of(sums: CertificateSums, num_samples: ArrayLike) -> Certificate:
    """The part of ``certificate`` that follows from the sums."""
    n = jnp.asarray(num_samples, jnp.float32)
    chi2, chi2_se = chi_square_of(sums.chi_square, n, sums.stray)
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

    Chi^2 is at most the sum of three parts: chi^2 of the pooled targets, what one of them can hide,
    and the part of the light targets. It is never more than 1 / min nu - 1, where the lightest
    target holds all mass. The total variation is half of the sum of abs(w - nu). Over the pooled
    targets that sum is at most the root of their weight times their chi^2 (Cauchy-Schwarz), over
    the light targets at most their mass plus their weight.
    """
    unseen = light.bound(sums.groups, sums.split.first, n)
    outside, weight = sums.stray + sums.pooled.light_hits, sums.pooled.light_weight
    error, error_se = mass_error(*chi_square_of(sums.pooled.chi_square, n, outside, weight))
    seen = error + 2 * error_se
    more = unseen.hidden + unseen.chi2 + weight
    upper = jnp.where(more > 0, jnp.sqrt(seen * seen + more), seen)
    upper = jnp.minimum(upper, jnp.sqrt(jnp.maximum(1 / jnp.min(sums.groups.least) - 1, 0.0)))
    pooled = jnp.sqrt((1 - weight) * (seen * seen + unseen.hidden)) + unseen.mass + weight
    return upper, jnp.minimum(jnp.minimum(upper, pooled) / 2, 1.0)


def with_masses(
    found: Certificate, masses: Float[np.ndarray, " m"], nu: HostWeights
) -> Certificate:
    """Certificate of heights whose exact masses are known, so that no target is unverified.

    The draw must agree with these masses: ``upper`` is the root of the sum of two squares, those of
    the draw's own bound for the targets that it sees and of the exact mass error.

    Args:
      found: certificate of the same heights, from samples.
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
    """The error that more samples must reduce: the bound where light targets are unverified."""
    return float(found.upper if int(found.num_unverified) else found.mass_error)
