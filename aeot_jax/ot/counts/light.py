r"""Targets too light for a draw to see, and bounds of what their masses can be.

A target that none of n samples met can still hold a mass of 3/n, which adds 9 / (n^2 nu_i) to
chi^2. That is small if nu_i is about 1/m, and has no limit as nu_i falls. The estimate of chi^2 and
its standard error (``chi_square.py``) do not include it. So the targets are split, by their weights
and n alone, before anything is drawn:

* The heavier targets are pooled: chi^2 is estimated for all of them together. A single one of them
  can hide about :math:`E / (n^2 \nu_i)`. At w = nu every target adds 2 / n^2 to the variance of the
  estimate, so the standard error is at least :math:`\sqrt{2 m} / n`. The ratio of the two depends
  on the *sight* :math:`S = n \nu_i \sqrt{2 m}`. Suppose that one target holds too much and all
  others their share. From S = 300 on, the error is within two estimated standard errors in 94 draws
  of 100 or more, whatever the target holds; below, with :math:`E = 150 (1 - S / 300)` added. These
  shares were computed for 10 to 1,000 targets; an error that several targets share is seen better.
  Uniform weights have :math:`S = n \sqrt{2 / m}`, which is 300 where chi^2 is known to 0.007: a
  draw of the planned size sees every target.
* The lighter targets fall into groups of weights within a factor of 4. The mass p of a group is
  bounded by the number of samples in it (``most_mass``). Its part of chi^2 is convex in the masses,
  so it is largest in a corner of :math:`\{w \ge 0, \sum w \le p\}`: at 0, where it is
  :math:`\sum \nu_i`, or with all mass in one target j, where it is
  :math:`\sum \nu_i + p^2 / \nu_j - 2 p`, largest for the lightest target of the group.

Of all splits the one is taken whose bound would be the least if all masses were right.
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
"""Groups of weights, each within a factor of 4: they cover every float32 up to 1."""

_EXPONENT_PAIRS = 24
"""Shift that leaves the exponent of a float32 without its last bit: two exponents to a group."""

_NO_WEIGHT = 2.0
"""Least weight of an empty group: finite, and above all weights."""

_SEEN = 300.0
"""Sight S from which two standard errors cover what a single target can hide."""

_HIDDEN = 150.0
"""Largest E: what one target hides beyond two standard errors, in units of 1 / (n^2 nu)."""

_MISSED = 0.01
"""Probability that the bound of the mass of any group is wrong."""

_NEWTON_STEPS = 5
"""Newton steps for the bound of a group's mass."""

_LARGEST = 2_000_000_000
"""Most samples of a draw: counts are int32."""


class Groups(NamedTuple):
    """Targets of positive weight in groups, from the lightest up.

    Attributes:
      count: targets of each group.
      hits: samples in their cells.
      least: their least weight; 2 in an empty group.
    """

    count: Int[Array, " g"]
    hits: Int[Array, " g"]
    least: Float[Array, " g"]


class Split(NamedTuple):
    """Which targets are pooled, and which of them are seen.

    Attributes:
      first: the first group that is pooled.
      seen: least weight of a target that is seen, so that it can hide nothing.
    """

    first: Int[Array, ""]
    seen: Float[Array, ""]


class Bound(NamedTuple):
    """Bounds of what the draw cannot see.

    Attributes:
      chi2: what the light targets add to chi^2, less their weight.
      mass: mass of the light targets together.
      hidden: what one pooled target can hide of chi^2.
    """

    chi2: Float[Array, ""]
    mass: Float[Array, ""]
    hidden: Float[Array, ""]


def group_of(nu: Weights) -> Int[Array, " m"]:
    """The group of each weight: half of its binary exponent, which no program rounds."""
    return lax.bitcast_convert_type(nu.astype(jnp.float32), jnp.int32) >> _EXPONENT_PAIRS


def grouped(counts: Counts, nu: Weights) -> Groups:
    """Group some targets. The order of the targets changes no bit: only integers are added."""
    active, group = nu > 0, group_of(nu)
    zero = jnp.zeros_like(counts, shape=_NUM_GROUPS)
    none = jnp.full_like(nu, _NO_WEIGHT, shape=_NUM_GROUPS)
    return Groups(
        count=zero.at[group].add(active.astype(counts.dtype)),
        hits=zero.at[group].add(jnp.where(active, counts, 0)),
        least=none.at[group].min(jnp.where(active, nu, _NO_WEIGHT)),
    )


def merged(blocks: Groups) -> Groups:
    """Merge the groups of several blocks of targets, stacked along the first axis."""
    return Groups(
        blocks.count.sum(0, jnp.int32), blocks.hits.sum(0, jnp.int32), blocks.least.min(0)
    )


def split(groups: Groups, num_samples: Float[Array, ""]) -> Split:
    """Split the targets, with the same bits in every program.

    The split depends on weights and number of samples only, so a draw cannot choose its own bound.
    """
    return isolated(_split, groups, num_samples)


def _split(groups: Groups, n: Float[Array, ""]) -> Split:
    first = jnp.argmin(_expected(groups, n)).astype(jnp.int32)
    pooled = jnp.where(jnp.arange(_NUM_GROUPS, dtype=jnp.int32) < first, 0, groups.count)
    number = pooled.sum(dtype=jnp.int32).astype(jnp.float32)
    return Split(first, _SEEN / (n * jnp.sqrt(2 * number)))


def _expected(groups: Groups, n: Float[Array, ""]) -> Float[Array, " g"]:
    """Bound of what is not seen of chi^2 at w = nu, for each group as the first pooled one."""
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
    """What one pooled target can hide, E / (n^2 nu), for the lightest of them of weight ``least``.

    Args:
      least: least weight of the pooled targets.
      number: how many they are.
      n: samples.
    """
    hits = n * least
    sight = hits * jnp.sqrt(2 * number)  # S
    return _HIDDEN * jnp.maximum(1 - sight / _SEEN, 0.0) / (n * hits)


def _light(
    groups: Groups, hits: Float[Array, " g"], n: Float[Array, ""]
) -> tuple[Float[Array, " g"], Float[Array, " g"]]:
    """Bounds p^2 / nu_j - 2 p of each group's part of chi^2, less its weight, and p of its mass."""
    present = (groups.count > 0).astype(jnp.float32)
    # Probabilities of error, from the lightest group up, are _MISSED times 1 / (1 * 2),
    # 1 / (2 * 3), ..., whose sum is at most 1. The lightest group matters most and has the largest.
    rank = lax.cumsum(present)
    log_level = jnp.log(jnp.maximum(rank, 1.0) * (rank + 1) / _MISSED)
    mass = present * most_mass(hits, n, log_level)
    return jnp.maximum(mass * (mass / groups.least - 2), 0.0), mass


def most_mass(
    hits: Float[Array, "*g"], num_samples: Float[Array, ""], log_level: Float[Array, "*g"]
) -> Float[Array, "*g"]:
    r"""Upper confidence bound of the mass of a set that c of n samples hit.

    With L = log(1 / probability of error), the bound is the :math:`\lambda / n` above c / n at
    which :math:`f(\lambda) = \lambda - c - c \log(\lambda / c)` equals L. A binomial count X of
    mean :math:`\lambda` has :math:`E e^{-tX} \le \exp(\lambda (e^{-t} - 1))`, hence
    :math:`P(X \le c) \le \exp(-f(\lambda))`: with a larger mass, so few hits are less probable
    than the error allowed. f is convex and at least :math:`(\lambda - c)^2 / (2 \lambda)`, so
    :math:`c + L + \sqrt{L^2 + 2 c L}` lies above the solution, and so does every Newton step from
    there: the bound holds after any number of steps. The code solves for :math:`\lambda - c`.

    Args:
      hits: c, samples in the set.
      num_samples: n.
      log_level: L.

    Source: Boucheron, Lugosi, Massart, "Concentration Inequalities", 2013, section 2.2.
    """
    some = jnp.where(hits > 0, hits, 1.0)  # c

    def newton(_: Int[Array, ""], above: Float[Array, "*g"]) -> Float[Array, "*g"]:
        value = above - some * jnp.log1p(above / some) - log_level  # f(lambda) - L
        return above - jnp.maximum(value, 0.0) * (some + above) / above

    above = log_level + jnp.sqrt(log_level * log_level + 2 * some * log_level)  # lambda - c
    above = repeat(_NEWTON_STEPS, newton, above)
    return jnp.minimum((hits + jnp.where(hits > 0, above, log_level)) / num_samples, 1.0)


def bound(groups: Groups, first: Int[Array, ""], num_samples: Float[Array, ""]) -> Bound:
    """Bound what is not seen, where the groups before ``first`` are light."""
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
    """Samples from which ``number`` targets hide nothing, the lightest of weight ``least``."""
    return _SEEN / (least * jnp.sqrt(2 * number.astype(jnp.float32)))


def samples_to_see_equal(num_targets: int) -> int:
    """``samples_to_see`` for equal weights, plus 1 because float32 weights are rounded."""
    return math.ceil(_SEEN * math.sqrt(num_targets / 2)) + 1


def samples_to_bound(nu: HostWeights, allowed: float, num_samples: int, most: int) -> int:
    """Samples after which the bound of what is not seen should be at most ``allowed``.

    Args:
      nu: weights (m,) on the host.
      allowed: of chi^2, if all masses are right.
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
