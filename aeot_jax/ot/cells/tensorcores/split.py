r"""Products of split numbers on tensor cores, and a bound on how far they are from float32.

Tensor cores multiply bfloat16 numbers, exactly, and add the products in float32, a dozen times as
fast as float32 numbers are multiplied. A number is split in two of them: :math:`x = a + b + r` with
:math:`a` the nearest bfloat16 to :math:`x` and :math:`b` that to :math:`x - a`. The score that is
looked at is

.. math:: A_i = a \cdot a_i + a \cdot b_i + b \cdot a_i + h_i .

**The bound.** With :math:`v = 2^{-8}` and :math:`u = 2^{-24}`, the units of the two formats,
:math:`|b| \le v(1+v)|x|` and :math:`|r| \le v^2 |x|` in every coordinate, so that by Cauchy and
Schwarz what is left out is at most :math:`3.1\, v^2 \|x\| \|y_i\|`. A sum of N terms in any order,
each addition off by at most a relative t, is off by at most :math:`N t / (1 - N t)` times the sum
of the terms' sizes. Tensor cores add several products and the sum so far at once: all are shifted
to the exponent of the largest, cut there, and the result is cut again (Fasi et al. 2021). If they
add at least 8 products and keep at least 24 bits, that is :math:`t = 1.25 \cdot 2^{-23}` for each
term. For a float32 sum, t = u. Let S be *any* float32 evaluation of the scores that adds runs of at
most k coordinates in any order, and then the runs. Together, for a sum of three products in one,

.. math:: |A_i - S_i| \le e = \Big(3.1\, v^2 + 1.02 \frac{3 k t}{1 - 3 k t} + 1.02\,(k + 16)\, u
          \Big) \|x\| \max_i \|y_i\| + 4 u \max_i |h_i| .

Where a is summed by itself, 3 k t is k t (and 4 v k t for the small products). What is smaller than
float32's least normal number may become 0; ``bound`` adds that, too.

Source: Ootomo and Yokota 2022 for split products; Fasi, Higham, Mikaitis and Pranesh 2021 for sums
on tensor cores.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_APART = 1024
"""Least number of coordinates of a product for which the large terms are summed by themselves: that
is written and read once more, and leaves fewer samples open."""

_BFLOAT = 2.0**-8
_UNIT = 2.0**-24
_TENSOR_UNIT = 1.25 * 2.0**-23
_TINY = 2.0**-126
"""Units of bfloat16, float32 and sums on tensor cores, and float32's least normal number."""

_LARGEST = 2.0**60
"""Samples and targets with larger norms are not split: their halves or scores could overflow."""


def split(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two bfloat16 numbers whose sum is a float32 number but for its last 8 bits."""
    # A conversion there and back may be dropped by the compiler; this rounding is not.
    near = lax.reduce_precision(rows, exponent_bits=8, mantissa_bits=7)
    return near.astype(jnp.bfloat16), (rows - near).astype(jnp.bfloat16)


def apart(length: int) -> bool:
    """Whether products of so many coordinates keep their large terms to themselves."""
    return length >= _APART


def left(rows: jax.Array, length: int) -> tuple[jax.Array, ...]:
    """Samples (..., n, k) as ``products`` takes them; ``length`` is the number of coordinates."""
    near, rest = split(rows)
    if apart(length):
        return near, jnp.concatenate([near, rest], axis=-1)
    return (jnp.concatenate([near, near, rest], axis=-1),)


def right(rows: jax.Array, length: int) -> tuple[jax.Array, ...]:
    """The same for targets (..., b, k)."""
    near, rest = split(rows)
    if apart(length):
        return near, jnp.concatenate([rest, near], axis=-1)
    return (jnp.concatenate([near, rest, near], axis=-1),)


def products(x: tuple[jax.Array, ...], y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Arrays (..., n, b) whose sum are approximate inner products, from ``left`` and ``right``."""
    return tuple(
        jnp.einsum("...nk,...bk->...nb", a, b, preferred_element_type=jnp.float32)
        for a, b in zip(x, y, strict=True)
    )


def error(dim: int, length: int) -> float:
    """The bound on the error of a score, over the norms of the sample and of the target.

    Args:
      dim: d.
      length: coordinates of a product; d, unless a score is a sum of several.
    """
    terms = (1 if apart(length) else 3) * length * _TENSOR_UNIT
    small = 4 * _BFLOAT * length * _TENSOR_UNIT if apart(length) else 0.0
    if terms >= 0.5 or dim * _UNIT >= 0.01:
        return np.inf
    return 3.1 * _BFLOAT**2 + 1.02 * (terms / (1 - terms) + small + (length + 16) * _UNIT)


def norm(squares: jax.Array, dim: int) -> jax.Array:
    """An upper bound on a norm from a computed sum of squares, some of which may have become 0."""
    return (1 + 2 * dim * _UNIT) * jnp.sqrt(squares + 2 * dim * _TINY)


def bound(x_norm: jax.Array, y_norm: jax.Array, h_size: jax.Array, dim: int, length: int):
    """The e of this file, for each sample.

    Args:
      x_norm: at least the norm of each sample (n,).
      y_norm: at least the largest norm of a target.
      h_size: the largest finite height, without its sign.
      dim: d.
      length: as for ``error``.
    """
    lost = 4 * dim * _TINY * (1 + x_norm + y_norm)
    e = error(dim, length) * x_norm * y_norm + 4 * _UNIT * h_size + lost
    fits = (x_norm < _LARGEST) & (y_norm < _LARGEST) & (h_size < _LARGEST)
    return jnp.where(fits, 1.01 * e, jnp.inf)  # what rounds here is far below a hundredth
