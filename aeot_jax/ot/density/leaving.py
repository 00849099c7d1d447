r"""Log-likelihood of codes under kernels that have not seen them, exactly, for many widths at once.

A code z that is left out is missing from every mean and covariance. With u its offset from the mean
of its group g, all covariances change by multiples of :math:`u u^T`:

* of its own group, the mean moves by :math:`-u / (n_g - 1)`, and

  .. math:: C_g' = \frac{(n_g + a) B_g - \frac{n_g}{n_g-1}(1 + \frac{a}{m-1}) u u^T}{n_g - 1 + a};

* of another group k it is :math:`C_k' = B_k - \frac{a}{n_k + a}\frac{n_g}{(n_g-1)(m-1)} u u^T`;

where m are the codes of its family and B is C with the pooled part times m / (m - 1). Groups of
other families stay as they are. By the formulas of Sherman, Morrison and of Sylvester no matrix is
factored anew: a group is whitened once, and then takes products of matrices. Which codes make a
group, and which groups a family, stays as it is.
"""

import enum
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aeot_jax.ot.density.moments import Moments, axes, members

_LOG_2PI = float(np.log(2 * np.pi))


def left_out(
    y: Float[np.ndarray, "m d"],
    rows: Int[np.ndarray, " n"],
    found: Moments,
    weight: int | float,
    widths: Float[np.ndarray, " s"],
) -> Float[np.ndarray, "s n"]:
    """Log-density of some codes, each under the kernels of all others; nats.

    Args:
      y: codes (m, d), float64.
      rows: the codes to leave out, one at a time (n,).
      found: moments of all codes.
      weight: a, what the pooled covariance weighs, in codes.
      widths: shares s of the covariance that kernels have (s,), in (0, 1].
    """
    m, z = len(y), y[rows]
    total = np.full((len(widths), len(rows)), -np.inf)
    groups, kinship = members(found.group), _kinship(found, rows)
    lacking = axes(found, weight, fewer=1)
    bases = lacking, lacking, axes(found, weight) if len(found.sizes) > 1 else lacking
    # Its own group first: then most others are known to add nothing.
    for kin, k in itertools.product(_Kin, range(len(groups))):
        which, codes = np.flatnonzero(kinship[k] == kin), groups[k]
        if which.size == 0 or (kin is _Kin.GROUP and len(codes) == 1):
            continue
        vectors, deviations = (part[k] for part in bases[kin])
        to_white = vectors / deviations
        own = rows[which]
        points, kernels = ((part - found.mean[k]) @ to_white for part in (z[which], y[codes]))
        white = _White(points, kernels, np.log(deviations).sum())
        u = (y[own] - found.mean[found.group[own]]) @ to_white
        change = _change(u, own, found, k, kin, weight)
        if kin is _Kin.GROUP:
            part = _of_own_group(white, change, widths, codes)
            total[:, which] = np.logaddexp(total[:, which], part)
        else:
            _add_group(total, which, white, change, widths)
    return total - np.log(m - 1)


class _Kin(enum.IntEnum):
    """What a group is to a code."""

    GROUP = 0
    FAMILY = 1
    NEITHER = 2


def _kinship(found: Moments, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, "k n"]:
    """What each group is to each of some codes, as `_Kin`."""
    own = found.group[rows]
    result = np.where(found.family[:, None] == found.family[own], _Kin.FAMILY, _Kin.NEITHER)
    result[own, np.arange(len(rows))] = _Kin.GROUP
    return result


_UNSEEN = 50.0
"""A group is passed over if it adds less than e^-50 of what is there: no digit of float64."""


class _Change(NamedTuple):
    """How a group changes for each point (n,): C' = factor * (B - beta u u^T), mean - u / shift.

    Attributes:
      u: whitened (n, d).
      beta: (n,).
      factor: ().
      shift: (n,); 0 where the mean stays.
      row: the code that is missing (n,), or -1.
    """

    u: Float[np.ndarray, "n d"]
    beta: Float[np.ndarray, " n"]
    factor: float
    shift: float
    row: Int[np.ndarray, " n"]


class _White(NamedTuple):
    """Points and a group, whitened by its covariance.

    Attributes:
      z: the points (n, d).
      a: codes of the group (c, d).
      log_scale: logarithm of the volume that a unit is worth.
    """

    z: Float[np.ndarray, "n d"]
    a: Float[np.ndarray, "c d"]
    log_scale: float


def _change(
    u: Float[np.ndarray, "n d"],
    row: Int[np.ndarray, " n"],
    found: Moments,
    k: int,
    kin: _Kin,
    weight: int | float,
) -> _Change:
    """How the group k changes without these codes, one at a time, with whitened offsets u."""
    group, number = found.group[row], found.sizes[found.family[k]]
    n = found.counts[group].astype(np.float64)
    removed = np.divide(n, n - 1, out=np.zeros_like(n), where=n > 1)  # n S loses this times u u^T
    size = found.counts[k]
    if kin is _Kin.GROUP:
        factor = (size + weight) / (size - 1 + weight)
        beta = removed * (1 + weight / (number - 1)) / (size + weight)
        return _Change(u, beta, factor, 1 / (size - 1), row)
    beta = removed * weight / (size + weight) / (number - 1) * (kin is _Kin.FAMILY)
    return _Change(u, beta, 1.0, 0.0, np.full(len(row), -1))


def _add_group(
    total: Float[np.ndarray, "s r"],
    which: Int[np.ndarray, " n"],
    white: _White,
    change: _Change,
    widths: Float[np.ndarray, " s"],
) -> None:
    """Add the kernels of a group that lacks no code, where they can be seen beside the others."""
    (z, a, log_scale), (u, beta, *_) = white, change
    d = z.shape[1]
    kept = np.maximum(1 - beta * (u * u).sum(1), 1e-12)
    keeps, scales = np.sqrt(1 - widths), d * (np.log(widths) + _LOG_2PI)
    norm = log_scale + 0.5 * (scales[:, None] + np.log(kept))
    zz, aa = (z * z).sum(1), (a * a).sum(1)
    nearest = np.maximum(np.sqrt(zz) - keeps[:, None] * np.sqrt(aa.max()), 0.0)
    most = np.log(len(a)) - 0.5 * nearest**2 / widths[:, None] - norm
    seen = most > total[:, which] - _UNSEEN
    rows = np.flatnonzero(seen.any(0))
    if not rows.size:
        return
    # |r|^2 + b <r, u>^2 with r = z - keep a is first - 2 keep second + keep^2 third.
    b, zu, ua = (beta / kept)[rows], (z[rows] * u[rows]).sum(1), u[rows] @ a.T
    first, second = zz[rows] + b * zu * zu, z[rows] @ a.T + (b * zu)[:, None] * ua
    third = aa + b[:, None] * ua * ua
    for number, (s, keep) in enumerate(zip(widths, keeps, strict=True)):
        place = np.flatnonzero(seen[number, rows])
        power = second[place] * (keep / s) - third[place] * (0.5 * keep**2 / s)
        highest = power.max(1)
        power -= highest[:, None]
        part = np.log(np.exp(power, out=power).sum(1)) + highest
        part -= 0.5 * first[place] / s + norm[number, rows[place]]
        own = which[rows[place]]
        total[number, own] = np.logaddexp(total[number, own], part)


def _of_own_group(
    white: _White, change: _Change, widths: Float[np.ndarray, " s"], codes: Int[np.ndarray, " c"]
) -> Float[np.ndarray, "s n"]:
    """Logarithm of the sum of a group's kernels at whitened codes of its own that are left out."""
    z, a, log_scale = white
    d = z.shape[1]
    u, beta, factor, shift, row = change
    uu, keeps = (u * u).sum(1), np.sqrt(1 - widths)
    kept = np.maximum(1 - beta * uu, 1e-12)
    zz, aa, za, zu, au = (z * z).sum(1), (a * a).sum(1), z @ a.T, (z * u).sum(1), a @ u.T
    result = np.empty((len(widths), len(z)))
    for number, (s, keep) in enumerate(zip(widths, keeps, strict=True)):
        # r = z - c, with c = -shift u + keep (a + shift u).
        t = (1 - keep) * shift
        square = zz + t * t * uu + 2 * t * zu
        square = square[:, None] + keep**2 * aa - 2 * keep * (za + t * au.T)
        along = (zu + t * uu)[:, None] - keep * au.T
        square = (square + (beta / kept)[:, None] * along**2) / (s * factor)
        square[row[:, None] == codes] = np.inf
        least = square.min(1)
        sums = np.exp(-0.5 * (square - least[:, None])).sum(1)
        norm = log_scale + 0.5 * (d * (np.log(s * factor) + _LOG_2PI) + np.log(kept))
        result[number] = np.log(sums) - 0.5 * least - norm
    return result
