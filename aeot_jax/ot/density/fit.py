"""Learn kernels: how large groups are and how wide the kernels, by codes that are left out."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments
from aeot_jax.ot import checks, merging
from aeot_jax.ot.density import leaving, neighbours
from aeot_jax.ot.density.grouping import Groups, Planes, settled, together
from aeot_jax.ot.density.kernels import Kernels
from aeot_jax.ot.density.moments import Moments, axes, moments
from aeot_jax.typing import ArrayLike

_SIZES = tuple(3 << k for k in range(16))
"""Mean sizes of groups to choose from, in multiples of d + 1: the first three at least, and on
while the last is the likeliest. Modes of many codes are too tight if groups hold parts of them."""

_LEAST_SIZES = 3
"""Sizes that are tried in any case."""

_WIDTHS = np.array([0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
"""Widths to choose from."""

_LEFT_OUT = 500
"""Most codes that are left out, one at a time."""

_LEAST_SPREAD = 1e-33
"""Least standard deviation of the codes: below, float32 does not hold that of thin groups."""

_COARSE = 0.25
"""Most that two neighbouring numbers of float32 may differ by, in standard deviations: at half of
it a log-density is wrong by 0.03, at a hundred times it is one for all points."""

LEAST = 20
"""Fewest codes: with fewer a choice would be chance."""


def kernels(y: ArrayLike) -> Kernels:
    """Learn kernels around codes; their density, ``log_density``, is likeliest for codes not seen.

    Of several sizes of groups, two ways to borrow from others (``moments.py``), and seven widths
    those are chosen under which codes are most likely that are left out, one at a time, of every
    mean and covariance: exactly, in float64 on the host (``leaving.py``). Up to 500 codes are left
    out, evenly spaced. Equal codes count once there, as a code would be near to its own copy; in
    the density each of them counts.

    Args:
      y: codes (m, d), all coordinates in one unit, such as standardised ones.

    Returns:
      The kernels.

    Raises:
      ValueError: if there are fewer than 20 different codes or no more than d + 1, a value is not
        finite, or codes differ by less than float32 holds.
    """
    arguments.refuse_trace("kernels", "call it outside of `jax.jit`", y=y)
    codes = np.asarray(checks.points("y", y), np.float64)
    check_enough(codes)
    same = merging.representatives(codes)
    if same is None:
        return learn(codes)
    first, place, times = np.unique(same, return_inverse=True, return_counts=True)
    check_enough(codes[first], what="different codes")
    found = learn(codes[first], mass=times / len(codes))
    return replace(found, group=found.group[jnp.asarray(place)])


def check_enough(y: Float[np.ndarray, "m d"], name: str = "y", what: str = "codes") -> None:
    """Raise a ValueError if there are too few codes for kernels, or they hardly differ."""
    m, d = y.shape
    least = max(LEAST, d + 2)
    if m < least:
        raise ValueError(
            f"`{name}` has {m} {what} in {d} dimensions, too few to learn kernels from; pass at "
            f"least {least}."
        )
    if (y == y[0]).all():
        raise ValueError(f"`{name}` holds one code {m} times; kernels need codes that differ.")
    spread = float(np.sqrt(y.var(0).mean()))
    if spread < _LEAST_SPREAD:
        raise ValueError(
            f"`{name}` holds codes that differ by {spread:.1g}, which is too little for float32; "
            "divide them by their scale."
        )
    far = float(np.abs(y).max())
    if float(np.finfo(np.float32).eps) * far > _COARSE * spread:
        raise ValueError(
            f"`{name}` holds codes that differ by {spread:.1g}, up to {far:.1g} from 0, where "
            "float32 is too coarse; subtract their mean first."
        )


def learn(
    y: Float[np.ndarray, "m d"],
    planes: Planes | None = None,
    mass: Float[np.ndarray, " m"] | None = None,
) -> Kernels:
    """``kernels`` of checked codes.

    Args:
      y: codes (m, d), float64, all different.
      planes: so that no group lies across a singular face; None cuts no group.
      mass: weights of the codes in mean and covariance of their groups (m,), sum 1; None is
        uniform. What is chosen does not depend on them.
    """
    m, d = y.shape
    rows = np.unique(np.linspace(0, m - 1, _LEFT_OUT).round().astype(int))
    start = Groups(_likeliest_groups(y, rows, float(d), planes))
    tried = [(settled(y, start, float(d), planes), float(d))]
    if neighbours.may_pay(m, d):
        tried.append((neighbours.neighbourhoods(y, planes), neighbours.weight(d)))
    made = [groups.moments(y) for groups, _ in tried]
    scores = [
        leaving.left_out(y, rows, own, weight, _WIDTHS)
        for own, (_, weight) in zip(made, tried, strict=True)
    ]
    at = int(np.argmax([likely.mean(1).max() for likely in scores]))
    (groups, weight), likely = tried[at], scores[at]
    best = int(np.argmax(likely.mean(1)))
    found = made[at] if mass is None else groups.moments(y, mass)
    return _record(found, weight, float(_WIDTHS[best]), likely[best])


def _likeliest_groups(
    y: Float[np.ndarray, "m d"], rows: Int[np.ndarray, " n"], weight: float, planes: Planes | None
) -> Int[np.ndarray, " m"]:
    """Groups of the size under which codes that are left out are likeliest."""
    m, d = y.shape
    best, start = -np.inf, np.zeros(m, int)
    for number, size in enumerate(sorted({min(m, times * (d + 1)) for times in _SIZES})):
        groups = together(y, size, planes)
        likely = leaving.left_out(y, rows, moments(y, groups), weight, _WIDTHS).mean(1).max()
        if likely > best:
            best, start = likely, groups
        elif number + 1 >= _LEAST_SIZES:
            break
    return start


def _record(
    found: Moments, weight: int | float, width: float, likely: Float[np.ndarray, " n"]
) -> Kernels:
    vectors, deviations = axes(found, weight)
    return Kernels(
        group=jnp.asarray(found.group, jnp.int32),
        counts=jnp.asarray(found.counts, jnp.int32),
        mean=jnp.asarray(found.mean, jnp.float32),
        axes=jnp.asarray(vectors, jnp.float32),
        deviations=jnp.asarray(deviations, jnp.float32),
        width=jnp.float32(width),
        log_likelihood=jnp.float32(likely.mean()),
        log_likelihood_se=jnp.float32(likely.std(ddof=1) / np.sqrt(len(likely))),
    )
