r"""Targets too light for a draw to see, and what their masses can be for all it knows.

A target that n samples did not meet can hold a mass of 3/n, which adds 9 / (n^2 nu_i) to chi^2:
nothing beside other errors where nu_i is 1/m, anything where it is far less. The pooled estimate
of chi^2 and its standard error (``estimate.chi_square``) know nothing of that. So the targets are
split, by their weights and n alone, before anything is drawn:

* The heavier ones are pooled. At w = nu every target adds the same 2 / n^2 to the variance of the
  estimate, so its standard error is at least :math:`\sqrt{2 m} / n`. Beside it stands what a single
  target can hide, about :math:`E / (n^2 \nu_i)`; the ratio is a matter of the *sight*
  :math:`S = n \nu_i \sqrt{2 m}`. One target that holds too much, whatever it is, while all others
  have their share, is within two estimated standard errors in 94 draws of 100 or more from
  S = 300 on; below, with :math:`E = 150 (1 - S / 300)` added (computed, for 10 to 1,000 targets;
  errors that several targets share are seen better). Uniform weights have
  :math:`S = n \sqrt{2 / m}`, 300 where chi^2 is known to 0.007: planned draws see every target.
* The lighter ones fall into groups of weights within a factor of 4. What a group holds together is
  at most p, by the number of samples in it (``most_mass``). Its part of chi^2 is convex in the
  masses, so largest in a corner of :math:`\{w \ge 0, \sum w \le p\}`: at 0, where it is
  :math:`\sum \nu_i`, or with all mass in one target, where it is
  :math:`\sum \nu_i + p^2 / \nu_j - 2 p`, most for the lightest of the group.

The split is the one with the least bound if all masses were right.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import isolated, repeat
from aeot_jax.typing import Counts, HostWeights, Weights

_NUM_GROUPS = 64
"""Every float32 up to 1 is in one of so many groups of weights within a factor of 4."""

_EXPONENT_PAIRS = 24
"""Bits of a float32 below those that two neighbouring exponents share."""

_NO_WEIGHT = 2.0
"""Stands for the least weight of an empty group: finite, and above all weights."""

_SEEN = 300.0
"""Sight from which a single target hides nothing that two standard errors do not cover."""

_HIDDEN = 150.0
"""Most that one target hides beyond two standard errors, in units of 1 / (n^2 nu)."""

_MISSED = 0.01
"""Probability that any bound on what a group holds is wrong."""

_NEWTON_STEPS = 5

_LARGEST = 2_000_000_000
"""Most samples of a draw: counts are int32."""


class Groups(NamedTuple):
    """Targets of positive weight by weight, the lightest first.

    Attributes:
      count: targets of the group.
      hits: samples in their cells.
      least: their least weight; 2 where there is none.
    """

    count: Int[Array, " g"]
    hits: Int[Array, " g"]
    least: Float[Array, " g"]


class Split(NamedTuple):
    """Which targets are pooled, and which of them are seen.

    Attributes:
      first: the first group that is pooled.
      seen: least weight of a target that is seen: from here on it can hide nothing.
    """

    first: Int[Array, ""]
    seen: Float[Array, ""]


class Bound(NamedTuple):
    """What the light targets, and the lightest of the others, can add unseen.

    Attributes:
      chi2: to chi^2 by the light targets, less their weight.
      mass: of the light targets together.
      hidden: to chi^2 by a target of those that are pooled.
    """

    chi2: Float[Array, ""]
    mass: Float[Array, ""]
    hidden: Float[Array, ""]


def group_of(nu: Weights) -> Int[Array, " m"]:
    """The group of each weight: half of its exponent, so that it is exact and the same anywhere."""
    return lax.bitcast_convert_type(nu.astype(jnp.float32), jnp.int32) >> _EXPONENT_PAIRS


def grouped(counts: Counts, nu: Weights) -> Groups:
    """Group some targets; integers and least weights do not depend on any order."""
    active, group = nu > 0, group_of(nu)
    zero = jnp.zeros_like(counts, shape=_NUM_GROUPS)
    none = jnp.full_like(nu, _NO_WEIGHT, shape=_NUM_GROUPS)
    return Groups(
        count=zero.at[group].add(active.astype(counts.dtype)),
        hits=zero.at[group].add(jnp.where(active, counts, 0)),
        least=none.at[group].min(jnp.where(active, nu, _NO_WEIGHT)),
    )


def added(blocks: Groups) -> Groups:
    """The groups of all blocks of targets, each stacked in front."""
    return Groups(
        blocks.count.sum(0, jnp.int32), blocks.hits.sum(0, jnp.int32), blocks.least.min(0)
    )


def split(groups: Groups, num_samples: Float[Array, ""]) -> Split:
    """Split the targets, alike in every program.

    It depends on the weights and the number of samples only, so that no draw chooses its bound.
    """
    return isolated(_split, groups, num_samples)


def _split(groups: Groups, n: Float[Array, ""]) -> Split:
    first = jnp.argmin(_expected(groups, n)).astype(jnp.int32)
    pooled = jnp.where(jnp.arange(_NUM_GROUPS, dtype=jnp.int32) < first, 0, groups.count)
    number = pooled.sum(dtype=jnp.int32).astype(jnp.float32)
    return Split(first, _SEEN / (n * jnp.sqrt(2 * number)))


def _expected(groups: Groups, n: Float[Array, ""]) -> Float[Array, " g"]:
    """What would be added to chi^2 at w = nu, for each group that could be the first pooled."""
    count = groups.count.astype(jnp.float32)
    weight = jnp.minimum(2 * count * groups.least, 1.0)  # within a factor of 2
    own, _ = _light(groups, n * weight, n)
    number = lax.cumsum(count, reverse=True)
    lightest = lax.cummin(groups.least, reverse=True)
    added = lax.cumsum(own) - own + _hidden(lightest, number, n)
    return jnp.where(number > 0, added, jnp.finfo(jnp.float32).max)


def _hidden(
    least: Float[Array, "*g"], number: Float[Array, "*g"], n: Float[Array, ""]
) -> Float[Array, "*g"]:
    """What one of so many pooled targets can hide, the lightest of weight ``least``."""
    hits = n * least
    sight = hits * jnp.sqrt(2 * number)
    return _HIDDEN * jnp.maximum(1 - sight / _SEEN, 0.0) / (n * hits)


def _light(
    groups: Groups, hits: Float[Array, " g"], n: Float[Array, ""]
) -> tuple[Float[Array, " g"], Float[Array, " g"]]:
    """Bounds of every group's part of chi^2, less its weight, and of its mass, if it is light."""
    present = (groups.count > 0).astype(jnp.float32)
    # The probabilities of the groups, the lightest first, sum to at most that of all:
    # 1 / (1 * 2) + 1 / (2 * 3) + ... = 1. The lightest matter most.
    rank = lax.cumsum(present)
    log_level = jnp.log(jnp.maximum(rank, 1.0) * (rank + 1) / _MISSED)
    mass = present * most_mass(hits, n, log_level)
    return jnp.maximum(mass * (mass / groups.least - 2), 0.0), mass


def most_mass(
    hits: Float[Array, "*g"], num_samples: Float[Array, ""], log_level: Float[Array, "*g"]
) -> Float[Array, "*g"]:
    r"""Upper confidence bound of the mass of a set that c of n samples hit.

    With L the logarithm of 1 / (probability of error), it is the :math:`\lambda / n` above c / n
    at which :math:`\lambda - c - c \log(\lambda / c) = L`. For a binomial count X of mean
    :math:`\lambda`, :math:`E e^{-tX} \le \exp(\lambda (e^{-t} - 1))`, hence
    :math:`P(X \le c) \le \exp(-(\lambda - c - c \log(\lambda / c)))`: a larger mass would have
    given so few hits with a smaller probability. The left side is convex in :math:`\lambda` and at
    least :math:`(\lambda - c)^2 / (2 \lambda)`, so :math:`c + L + \sqrt{L^2 + 2 c L}` lies above
    the solution, and so does every Newton step from there: wherever it ends, the bound holds.

    Args:
      hits: c, samples in the set.
      num_samples: n.
      log_level: L.

    Source: Boucheron, Lugosi, Massart, "Concentration Inequalities", 2013, section 2.2.
    """
    some = jnp.where(hits > 0, hits, 1.0)

    def newton(_: Int[Array, ""], above: Float[Array, "*g"]) -> Float[Array, "*g"]:
        value = above - some * jnp.log1p(above / some) - log_level
        return above - jnp.maximum(value, 0.0) * (some + above) / above

    above = log_level + jnp.sqrt(log_level * log_level + 2 * some * log_level)
    above = repeat(_NEWTON_STEPS, newton, above)
    return jnp.minimum((hits + jnp.where(hits > 0, above, log_level)) / num_samples, 1.0)


def bound(groups: Groups, first: Int[Array, ""], num_samples: Float[Array, ""]) -> Bound:
    """Bound what is not seen, with the groups before ``first`` light."""
    is_light = jnp.arange(_NUM_GROUPS, dtype=jnp.int32) < first
    chi2, mass = _light(groups, groups.hits.astype(jnp.float32), num_samples)
    number = jnp.where(is_light, 0, groups.count).sum(dtype=jnp.int32).astype(jnp.float32)
    least = jnp.min(jnp.where(is_light, _NO_WEIGHT, groups.least))
    return Bound(
        chi2=jnp.where(is_light, chi2, 0.0).sum(),
        mass=jnp.where(is_light, mass, 0.0).sum(),
        hidden=_hidden(least, number, num_samples),
    )


def samples_to_see(least: Float[Array, ""], number: Int[Array, ""]) -> Float[Array, ""]:
    """Samples from which so many targets, the lightest of weight ``least``, hide nothing."""
    return _SEEN / (least * jnp.sqrt(2 * number.astype(jnp.float32)))


def samples_to_see_equal(num_targets: int) -> int:
    """``samples_to_see`` for equal weights, and one for what float32 weights are rounded by."""
    return math.ceil(_SEEN * math.sqrt(num_targets / 2)) + 1


def samples_to_bound(nu: HostWeights, allowed: float, num_samples: int, most: int) -> int:
    """Samples after which what is not seen should add at most so much to chi^2.

    Args:
      nu: weights (m,) on the host.
      allowed: what may be added, if all masses are right.
      num_samples: samples at least.
      most: samples at most.
    """
    positive = nu[nu > 0].astype(np.float32)
    if num_samples >= _SEEN / (float(positive.min()) * math.sqrt(2 * positive.size)):
        return num_samples
    group = positive.view(np.int32) >> _EXPONENT_PAIRS
    count = np.bincount(group, minlength=_NUM_GROUPS)
    least = np.full(_NUM_GROUPS, _NO_WEIGHT, np.float32)
    np.minimum.at(least, group, positive)
    number = jnp.asarray(count, jnp.int32)
    groups = Groups(number, jnp.zeros_like(number), jnp.asarray(least))
    wanted = num_samples
    while wanted < most and _least_added(groups, np.float32(wanted)) > allowed:
        wanted *= 2
    return max(num_samples, min(wanted, most, _LARGEST))


@jax.jit
def _least_added(groups: Groups, num_samples: ArrayLike) -> Float[Array, ""]:
    return _expected(groups, jnp.asarray(num_samples, jnp.float32)).min()
