"""Mode collapse: the number of captured modes, their quality and their shares."""

import dataclasses

import numpy as np
import scipy.special

from aeot_jax import arguments
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.points import together
from aeot_jax.typing import ArrayLike, Given


@dataclasses.dataclass(frozen=True)
class ModeReport:
    """PacGAN's three scores and a bounded fourth.

    Attributes:
      num_captured: modes with at least one high-quality sample.
      num_modes: number of modes.
      high_quality_share: share of samples within `num_sigma` standard deviations of a mode.
      expected_share: the same share for exact samples of isotropic Gaussian modes: the score of a
        perfect generator.
      reverse_kl: KL divergence, in nats, of the high-quality samples' mode histogram from the true
        shares; infinite if no sample is of high quality, or a mode of share 0 has samples.
      total_variation: total variation between the same two.
      num_samples: number of samples.
    """

    num_captured: int
    num_modes: int
    high_quality_share: float
    expected_share: float
    reverse_kl: float
    total_variation: float
    num_samples: int


def mode_report(
    samples: ArrayLike,
    centres: ArrayLike,
    sigma: Given[float],
    shares: ArrayLike | None = None,
    num_sigma: Given[float] = 3.0,
) -> ModeReport:
    """Assign samples to their nearest mode and score the histogram.

    A sample is of high quality if it is within ``num_sigma * sigma`` of the nearest centre. A mode
    is captured if it has one. The histogram counts high-quality samples only, as in the authors'
    code.

    Both distances are biased upwards: n exact draws over k modes of equal shares have a reverse KL
    of about (k - 1) / (2n) and a total variation of about sqrt((k - 1) / (2 pi n)).

    Args:
      samples: samples, (n, d).
      centres: mode centres, (k, d).
      sigma: standard deviation of a mode, the same in every direction.
      shares: true share of each mode, (k,), summing to 1. None: equal.
      num_sigma: radius of high quality, in standard deviations; see `gaussian_radius`.

    Returns:
      The scores.

    Raises:
      ValueError: if shapes disagree, a value is not finite, or `sigma`, `num_sigma` or `shares` is
        out of range.

    Source: Srivastava et al., "VEEGAN", NeurIPS 2017; Lin, Khetan, Fanti, Oh, "PacGAN", NeurIPS
    2018, section 4.1 and its released code.
    """
    sigma = arguments.number("sigma", sigma, 0.0, above=True, wide=True)
    num_sigma = arguments.number("num_sigma", num_sigma, 0.0, above=True, wide=True)
    x, modes = together(samples=samples, centres=centres)
    k, d = modes.shape
    distance, index = nearest(x, modes)
    near = distance <= num_sigma * sigma
    counts = np.bincount(index[near], minlength=k)
    return ModeReport(
        num_captured=int((counts > 0).sum()),
        num_modes=k,
        high_quality_share=float(near.mean()),
        expected_share=gaussian_share(num_sigma, d),
        reverse_kl=reverse_kl(counts, shares),
        total_variation=total_variation(counts, shares),
        num_samples=distance.size,
    )


def reverse_kl(counts: ArrayLike, shares: ArrayLike | None = None) -> float:
    """Compute KL(counts / total || shares) in nats; infinite if nothing was counted.

    Args:
      counts: samples in each mode, (k,), not negative.
      shares: true share of each mode, (k,), summing to 1. None: equal.

    Returns:
      The divergence, at least 0.

    Raises:
      ValueError: if `counts` or `shares` is not a histogram over the same modes.
    """
    p, q = _histograms(counts, shares)
    if p is None:
        return float("inf")
    return max(0.0, float(scipy.special.rel_entr(p, q).sum()))


def total_variation(counts: ArrayLike, shares: ArrayLike | None = None) -> float:
    """Compute half the sum of absolute differences of shares; 1 if nothing was counted.

    Args:
      counts: samples in each mode, (k,), not negative.
      shares: true share of each mode, (k,), summing to 1. None: equal.

    Returns:
      The distance, in [0, 1].

    Raises:
      ValueError: if `counts` or `shares` is not a histogram over the same modes.
    """
    p, q = _histograms(counts, shares)
    return 1.0 if p is None else float(np.abs(p - q).sum() / 2)


def covered_share(distances: ArrayLike, radius: Given[float]) -> float:
    """The share of samples at most `radius` away from the support.

    For supports without modes, such as curves and surfaces.

    Args:
      distances: distance from each sample to the support, (n,).
      radius: radius in the same units.

    Returns:
      The share, in [0, 1].

    Raises:
      ValueError: if there is no distance, one is NaN or negative, or `radius` is negative.
    """
    r = np.asarray(arguments.host_array("distances", distances))
    if r.ndim != 1 or r.size == 0:
        raise ValueError(
            f"`distances` has shape {r.shape}; pass one number of at least 0 per sample."
        )
    if not (r >= 0).all():
        wrong = int((r >= 0).argmin())
        raise ValueError(
            f"`distances` holds {r[wrong]} at {wrong}; pass one number of at least 0 per sample."
        )
    radius = arguments.number("radius", radius, 0.0, wide=True)
    return float((r <= radius).mean())


def gaussian_share(num_sigma: Given[float], dim: Given[int]) -> float:
    """The mass of a standard Gaussian in `dim` dimensions within radius `num_sigma`.

    Three standard deviations hold 0.989 in the plane, but 0.002 in 32 dimensions.

    Raises:
      ValueError: if `num_sigma` is negative, or `dim` is not a positive integer.
    """
    dim = arguments.count("dim", dim)
    num_sigma = arguments.number("num_sigma", num_sigma, 0.0, wide=True)
    return float(scipy.special.gammainc(dim / 2, num_sigma**2 / 2))


def gaussian_radius(share: Given[float], dim: Given[int]) -> float:
    """The radius that holds `share` of a standard Gaussian: 3.41 for 0.997 in the plane.

    Raises:
      ValueError: if `share` is not in (0, 1), or `dim` is not a positive integer.
    """
    dim = arguments.count("dim", dim)
    if not 0 < arguments.number("share", share) < 1:
        raise ValueError(f"`share` is {share}; pass a number between 0 and 1, such as 0.997.")
    return float(np.sqrt(2 * scipy.special.gammaincinv(dim / 2, share)))


def _histograms(
    counts: ArrayLike, shares: ArrayLike | None
) -> tuple[np.ndarray | None, np.ndarray]:
    c = np.asarray(arguments.host_array("counts", counts), np.float64)
    if c.ndim != 1 or c.size == 0 or not (np.isfinite(c) & (c >= 0)).all():
        raise ValueError(
            f"`counts` is {arguments.shown(counts)}; pass one non-negative count per mode."
        )
    q = np.full(c.size, 1 / c.size)
    if shares is not None:
        q = np.asarray(arguments.host_array("shares", shares), np.float64)
    if q.shape != c.shape:
        raise ValueError(
            f"`shares` has shape {q.shape}; pass one share for each of {c.size} modes."
        )
    if not ((q >= 0).all() and abs(q.sum() - 1) < 1e-3):
        raise ValueError(f"`shares` sums to {q.sum()}; pass non-negative shares that sum to 1.")
    total = c.sum()
    return (c / total if total > 0 else None), q / q.sum()
