"""Memorisation: are generated images nearer to the training images than unseen real images are?"""

import dataclasses

import numpy as np
from jaxtyping import Float

from aeot_jax import arguments
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.newness.twins import kept, twins
from aeot_jax.metrics.points import together
from aeot_jax.typing import ArrayLike, Given


@dataclasses.dataclass(frozen=True)
class MemoryReport:
    """Distances to the nearest training image, generated against held out.

    Attributes:
      share_nearer: share of generated images within `cutoff` of a training image; of those at the
        cutoff, as many count as of the held-out ones there. It is about `alpha` if generated images
        are as near as held-out ones, and 1 if they are copies.
      standard_error: standard error of `share_nearer`, if generated images were distributed like
        held-out images.
      cutoff: the `alpha`-quantile of the held-out distances, unbiased for any number of them.
      alpha: chosen share of held-out images within `cutoff`.
      num_copies: number of generated images at distance 0.
      median_generated: median distance from a generated image to its nearest training image.
      median_held_out: the same for held-out images.
      median_ratio: `median_generated / median_held_out`; well below 1 for copies, and for blur.
      num_generated: number of generated images.
      num_held_out: number of held-out images.
      num_twins: number of those that are near copies of a training image, but not equal to it.
        Unless they are most of them, shares and medians leave them out, and as large a share of
        near copies among the generated images.
    """

    share_nearer: float
    standard_error: float
    cutoff: float
    alpha: float
    num_copies: int
    median_generated: float
    median_held_out: float
    median_ratio: float
    num_generated: int
    num_held_out: int
    num_twins: int


def memory_report(
    generated: ArrayLike,
    train: ArrayLike,
    held_out: ArrayLike,
    *,
    alpha: Given[float] = 0.05,
    block: Given[int] = 64,
) -> MemoryReport:
    """Compare the distances of generated and held-out images to their nearest training images.

    The trap: a blurry image is near to all images, so a blurry generator seems to memorise. If an
    autoencoder decodes the samples, encode and decode the held-out images too, so that both sides
    have the same blur; or pass features instead of pixels.

    Args:
      generated: generated images, (n, h, w) or (n, h, w, c), pixels as bytes or floats in [0, 1];
        or features, (n, d), taken as they are unless they are bytes.
      train: training images or features, (m, ...).
      held_out: real images or features that were not trained on, (p, ...).
      alpha: the share of held-out images that counts as near.
      block: training images scored at once.

    Returns:
      The comparison, in the units of the given space.

    Raises:
      ValueError: if sizes or value ranges differ, a value is not finite, `alpha` is not in (0, 1),
        there are fewer than 1 / alpha held-out images, or half of the held-out images are training
        images.

    Source: the nearest-neighbour test of Meehan, Chaudhuri, Dasgupta, "A Non-Parametric Test to
    Detect Data-Copying in Generative Models", AISTATS 2020, reduced to a quantile and a median.
    """
    return remembered(generated, train, held_out, "train", alpha=alpha, block=block)


def remembered(
    generated: ArrayLike,
    train: ArrayLike,
    held_out: ArrayLike,
    name: str,
    *,
    alpha: Given[float] = 0.05,
    block: Given[int] = 64,
) -> MemoryReport:
    """``memory_report``, with the name of the training data for errors."""
    if not 0 < arguments.number("alpha", alpha) < 1:
        raise ValueError(f"`alpha` is {alpha}; pass a share between 0 and 1, such as 0.05.")
    sets = {"generated": generated, "held_out": held_out, name: train}
    new, unseen, known = together(**sets)
    num_held_out = len(unseen)
    if num_held_out * alpha < 1:
        raise ValueError(
            f"`held_out` has {num_held_out} rows, too few for the quantile `alpha` = {alpha}; "
            f"pass at least {int(np.ceil(1 / alpha))}."
        )
    far, _ = nearest(unseen, known, block=block)
    if float(np.median(far)) == 0:
        raise ValueError(
            f"`held_out` is at a median distance of 0 from `{name}`: half of it are copies; pass "
            "data that were not trained on."
        )
    made, _ = nearest(new, known, block=block)
    found = twins(unseen, known, far)
    near, far = made[kept(new, known, made, found)], far[found.others]
    near_se = near_share_se(alpha, near.size, far.size)
    cutoff = near_cutoff(far, alpha)
    median_generated, median_held_out = float(np.median(near)), float(np.median(far))
    return MemoryReport(
        share_nearer=share_within(near, far, cutoff, alpha),
        standard_error=float(np.hypot(near_se, found.share_se(len(new)))),
        cutoff=cutoff,
        alpha=alpha,
        num_copies=int((made == 0).sum()),
        median_generated=median_generated,
        median_held_out=median_held_out,
        median_ratio=median_generated / median_held_out,
        num_generated=len(new),
        num_held_out=num_held_out,
        num_twins=int(found.copied.sum()),
    )


def share_nearer(
    near: Float[np.ndarray, " n"],
    far: Float[np.ndarray, " p"],
    weights: Float[np.ndarray, " p"] | None = None,
) -> float:
    """Probability that a distance of `near` is less than one of `far`, ties counted half.

    Args:
      near: distances (n,).
      far: distances (p,).
      weights: of those (p,), at least 0; None is uniform.
    """
    if weights is not None and weights.any():
        above = np.argsort(far)
        passed = np.r_[0.0, np.cumsum(weights[above])] / weights.sum()
        ends = (np.searchsorted(far[above], near, side=side) for side in ("left", "right"))
        return float(1 - sum(passed[end].mean() for end in ends) / 2)
    order = np.sort(far)
    below, up_to = (np.searchsorted(order, near, side=side) for side in ("left", "right"))
    return float(1 - (below + up_to).mean() / (2 * len(far)))


def share_within(
    near: Float[np.ndarray, " n"], far: Float[np.ndarray, " p"], cutoff: float, alpha: float
) -> float:
    """The share of new distances below the cutoff, and of those equal to it as of unseen ones."""
    ties = (far == cutoff).mean()
    if ties == 0:
        return float((near <= cutoff).mean())
    counted = np.clip((alpha - (far < cutoff).mean()) / ties, 0, 1)
    return float((near < cutoff).mean() + counted * (near == cutoff).mean())


def near_cutoff(far: Float[np.ndarray, " p"], alpha: float) -> float:
    """Weibull's quantile: a new distance of this distribution is below with probability alpha."""
    return float(np.quantile(far, alpha, method="weibull"))


def near_share_se(alpha: float, num_new: int, num_unseen: int) -> float:
    """Standard error of the share of new distances below `near_cutoff` of others like them."""
    return float(np.sqrt(alpha * (1 - alpha) * (1 / num_new + 1 / num_unseen)))
