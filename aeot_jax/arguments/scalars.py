"""Whole numbers and real numbers that are known when a program is compiled."""

import math
import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from aeot_jax.arguments.display import shown

MOST = 2**31 - 1
"""Largest count: sizes and counts are int32."""

_LARGEST = float(np.finfo(np.float32).max)


def whole(name: str, value: Any, what: str = "a whole number") -> int:
    """Check a known whole number: a Python or NumPy integer, or an integer array without axes.

    Args:
      name: the name of the argument, for errors.
      value: the number.
      what: what the number means, for errors.

    Raises:
      ValueError: for anything else: a boolean, a float, text, a traced value.
    """
    if isinstance(value, Tracer):
        raise ValueError(
            f"`{name}` is {shown(value)}, but sizes are known when a program is compiled; pass a "
            "Python integer, under `jax.jit` by `static_argnames`."
        )
    try:
        number = None if _is_bool(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"`{name}` is {shown(value)}; pass {what}, as an integer.")
    return number


def count(
    name: str, value: Any, least: int = 1, most: int = MOST, what: str = "a whole number"
) -> int:
    """``whole``, at least ``least`` and at most ``most``, by default the largest int32.

    Raises:
      ValueError: as ``whole``, and if the number is out of this range.
    """
    number = whole(name, value, what)
    if not least <= number <= most:
        wanted = "less than 2^31: counts are int32" if number > MOST else f"at least {least}"
        if most < MOST:
            wanted = f"{least} to {most}"
        told = "" if what == "a whole number" else f"{what}, "
        raise ValueError(f"`{name}` is {shown(value)}; pass {told}{wanted}.")
    return number


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: bool = False,
    infinite: bool = False,
    wide: bool = False,
    what: str = "a number",
) -> float:
    """Check a known real number, finite unless infinity is allowed.

    Args:
      name: the name of the argument, for errors.
      value: a number, or an array without axes; booleans and text are refused.
      least: smallest number allowed.
      most: largest number allowed.
      above: whether the number must be larger than ``least``.
      infinite: whether +inf is allowed, of whatever type.
      wide: whether it serves a computation in float64, so that float32 need not hold it.
      what: what to pass, for errors.

    Raises:
      ValueError: for anything else.
    """
    if isinstance(value, Tracer):
        raise ValueError(f"`{name}` is {shown(value)}; pass a known number.")
    try:
        no_number = _is_bool(value) or isinstance(value, str | bytes) or np.ndim(value)
        found = None if no_number else float(value)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None:
        raise ValueError(f"`{name}` is {shown(value)}; pass a number.")
    if infinite and found == math.inf:
        return found
    enough = found > least if above else found >= least
    if not math.isfinite(found) or not enough or found > most:
        is_infinite = math.isinf(found) and not math.isfinite(most)
        wanted = "a finite number" if is_infinite and what == "a number" else what
        also = ", and finite" if is_infinite and what != "a number" else ""
        raise ValueError(f"`{name}` is {shown(value)}; pass {wanted}{also}.")
    if not wide and abs(found) > _LARGEST:
        raise ValueError(
            f"`{name}` is {shown(value)}, too large for float32, in which all is computed; pass a "
            "smaller number."
        )
    return found


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or jnp.issubdtype(getattr(value, "dtype", object), np.bool_)
