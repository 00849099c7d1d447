"""Novelty: are new codes as far from the training codes as codes are that nobody has seen?

A generator that repeats its training data scores best in most distances between distributions. Here
it does not: the distance of each new code to its nearest training code is compared with the same
distance of unseen codes. New codes should be neither nearer nor farther.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.newness.memory import near_cutoff, near_share_se, share_nearer, share_within
from aeot_jax.metrics.newness.twins import Twins, kept, rounding, twins
from aeot_jax.metrics.points import Rows, together
from aeot_jax.typing import ArrayLike, Given

_LEFT_OUT = 1000
"""Most training codes that are left out, one at a time."""

_PAIRED = 1.4
"""Times that pairs of mutual neighbours among left-out codes make the standard error larger: 1.05
to 1.5 times for 25 to 2,000 codes in three dimensions."""

_FEW_PAIRS = 2**23
"""Up to this many pairs are compared in float64 on the host, which compiles nothing."""


@dataclasses.dataclass(frozen=True)
class NoveltyReport:
    """Distances to the nearest training code, of new codes against those of unseen ones.

    Attributes:
      share_near: share of new codes within `cutoff` of a training code; of those at the cutoff, as
        many count as of the unseen ones there. It is about `alpha` if they are as new as unseen
        ones, and 1 if they are copies.
      share_near_se: its standard error, if new codes were distributed like unseen ones. Codes that
        are left out are often nearest to each other, which makes it larger.
      cutoff: the `alpha`-quantile of the distances of unseen codes, unbiased for any number.
      alpha: chosen share of unseen codes within `cutoff`.
      nearer: probability that a new code is nearer to the training codes than an unseen one, ties
        counted half: 0.5 if they are as new, 1 for copies (the Mann-Whitney statistic).
      nearer_se: its standard error, if new codes were distributed like unseen ones.
      num_copies: number of new codes at distance 0.
      num_repeated: number of unseen codes that equal a training code up to rounding. Beside such
        codes any sampler looks new: where they are more than the share `alpha`, all that is said
        here is about copies.
      median_new: median distance from a new code to its nearest training code.
      median_unseen: the same for unseen codes.
      num_twins: number of unseen codes that are near copies of a training code, but not equal to
        it. Unless they are most of them, shares and medians leave them out, and as large a share
        of near copies among the new codes.
      unseen: "held out", or "left out": each of some training codes against all others.
      num_new: number of new codes.
      num_unseen: number of unseen codes.
    """

    share_near: float
    share_near_se: float
    cutoff: float
    alpha: float
    nearer: float
    nearer_se: float
    num_copies: int
    num_repeated: int
    median_new: float
    median_unseen: float
    num_twins: int
    unseen: str
    num_new: int
    num_unseen: int


def novelty_report(
    new: ArrayLike,
    known: ArrayLike,
    unseen: ArrayLike | None = None,
    *,
    alpha: Given[float] = 0.05,
    block: Given[int] = 64,
) -> NoveltyReport:
    """Compare how far new and unseen codes are from the training codes.

    Distances are exact and computed in chunks, so memory stays bounded (see ``nearest``).

    Args:
      new: codes that were generated, (n, d), all coordinates in one unit, such as standardised
        codes; features and pixels will do, as in ``nearest``.
      known: codes of the training data, (m, d).
      unseen: codes of data that were not trained on, (p, d). None leaves out 1,000 training codes
        at most, evenly spaced, and compares each with all others.
      alpha: the share of unseen codes that counts as near.
      block: training codes scored at once.

    Returns:
      The comparison.

    Raises:
      ValueError: if sizes differ, a value is not finite, `alpha` is not in (0, 1), or there are
        fewer than 1 / alpha unseen codes.

    Source: Meehan, Chaudhuri, Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
    Models", AISTATS 2020 (its statistic over all of the space, and a quantile).
    """
    if not 0 < arguments.number("alpha", alpha) < 1:
        raise ValueError(f"`alpha` is {alpha}; pass a share between 0 and 1, such as 0.05.")
    block = arguments.count("block", block)
    sets = {"new": new} | ({} if unseen is None else {"unseen": unseen}) | {"known": known}
    made, *others = together(**sets)
    least, reference = math.ceil(1 / alpha), others[-1]
    if unseen is None and len(reference) <= least:
        raise ValueError(
            f"`known` has {len(reference)} rows, too few to leave some out for `alpha` = {alpha}; "
            f"pass at least {least + 1}, or `unseen`."
        )
    if unseen is not None and len(others[0]) < least:
        raise ValueError(
            f"`unseen` has {len(others[0])} rows, too few for the quantile `alpha` = {alpha}; pass "
            f"at least {least}, or None to leave out training codes."
        )
    rows = None
    if unseen is None:
        rows = left_out_rows(len(reference), least)
        near, far = to_nearest(made, reference, block), left_out(reference, rows, block)
    elif made.dtype == others[0].dtype:  # together they compile once
        both = to_nearest(np.concatenate([made, others[0]]), reference, block)
        near, far = both[: len(made)], both[len(made) :]
    else:
        near, far = (to_nearest(rows, reference, block) for rows in (made, others[0]))
    some, kind = (others[0], "held out") if rows is None else (reference[rows], "left out")
    found = twins(some, reference, far, rows)
    sides = (near, kept(made, reference, near, found)), (far, found.others)
    repeated = int((far <= rounding(reference)).sum())
    return _compared(sides, found, repeated, alpha, kind)


def to_nearest(points: Rows, reference: Rows, block: int = 64) -> Float[np.ndarray, " n"]:
    """The distance of each point to its nearest reference."""
    few = len(points) * len(reference) <= _FEW_PAIRS
    if few and np.uint8 not in (points.dtype, reference.dtype):
        points, reference = points.astype(np.float64), reference.astype(np.float64)
    return nearest(points, reference, block=block)[0]


def left_out_rows(number: int, least: int = 20) -> Int[np.ndarray, " p"]:
    """Which of so many codes to leave out, evenly spaced.

    About half of them at most, so that most of the nearest others are found in one call.

    Args:
      number: of codes.
      least: fewest codes to leave out.
    """
    count = min(_LEFT_OUT, max(least, number // 2))
    return np.linspace(0, number - 1, count).round().astype(int)


def left_out(known: Rows, rows: Int[np.ndarray, " p"], block: int = 64) -> Float[np.ndarray, " p"]:
    """The distances of some training codes to their nearest others.

    Args:
      known: codes (m, d).
      rows: which to leave out, one at a time; from ``left_out_rows``.
      block: codes scored at once.
    """
    from scipy.spatial.distance import cdist

    some = known[rows]
    unit = some.astype(np.float64) / (255 if some.dtype == np.uint8 else 1)
    inside = cdist(unit, unit)
    np.fill_diagonal(inside, np.inf)
    others = np.delete(known, rows, axis=0)
    if not len(others):
        return inside.min(axis=1).astype(np.float32)
    return np.minimum(inside.min(axis=1), to_nearest(some, others, block)).astype(np.float32)


def _compared(
    sides: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    copied: Twins,
    repeated: int,
    alpha: float,
    unseen: str,
) -> NoveltyReport:
    """The report, from distances of new and of unseen codes.

    Args:
      sides: distances of new codes, and which of them to compare; the same of unseen codes.
      copied: which unseen codes are near copies.
      repeated: unseen codes that equal a training code.
      alpha: share of the unseen codes, without near copies, that counts as near.
      unseen: where the unseen codes are from.
    """
    all_near, all_far = (distances for distances, _ in sides)
    near, far = (distances[some] for distances, some in sides)
    n, p, chance = len(near), len(far), copied.share_se(len(all_near))
    cutoff = near_cutoff(far, alpha)
    near_se = near_share_se(alpha, n, p) * (_PAIRED if unseen == "left out" else 1)
    return NoveltyReport(
        share_near=share_within(near, far, cutoff, alpha),
        share_near_se=float(np.hypot(near_se, chance)),
        cutoff=cutoff,
        alpha=float(alpha),
        nearer=share_nearer(near, far),
        nearer_se=float(np.hypot(np.sqrt((n + p + 1) / (12 * n * p)), chance / 2)),
        num_copies=int((all_near == 0).sum()),
        num_repeated=repeated,
        num_twins=int(copied.copied.sum()),
        median_new=float(np.median(near)),
        median_unseen=float(np.median(far)),
        unseen=unseen,
        num_new=len(all_near),
        num_unseen=len(all_far),
    )
