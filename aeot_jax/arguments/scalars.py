"""Whole numbers and real numbers that are known when a program is compiled."""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from aeot_jax.arguments.display import shown

MOST = 2**31 - 1
"""Largest count: sizes and counts are int32."""


def whole(name: str, value: Any, what: str = "a whole number") -> int:
    """A whole number that is known: a Python or NumPy integer, or an array of one without axes.

    Args:
      name: of the argument, for errors.
      value: the number.
      what: it says, for errors.

    Raises:
      ValueError: if it is something else: a boolean, a float, text, traced.
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
    """``whole`` from ``least`` to ``most``, by default what int32 holds.

    Raises:
      ValueError: as ``whole``, and if it is out of this range.
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
    what: str = "a number",
) -> float:
    """A finite real number that is known.

    Args:
      name: of the argument, for errors.
      value: a number, or an array of one without axes; no boolean and no text.
      least: smallest that serves.
      most: largest that serves.
      above: whether it must be larger than ``least``.
      what: serves, for errors.

    Raises:
      ValueError: if it is something else.
    """
    if isinstance(value, Tracer):
        raise ValueError(f"`{name}` is {shown(value)}; pass a number that is known.")
    try:
        no_number = _is_bool(value) or isinstance(value, str | bytes) or np.ndim(value)
        found = None if no_number else float(value)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None:
        raise ValueError(f"`{name}` is {shown(value)}; pass a number.")
    enough = found > least if above else found >= least
    if not math.isfinite(found) or not enough or found > most:
        is_infinite = math.isinf(found) and not math.isfinite(most)
        wanted = "a finite number" if is_infinite and what == "a number" else what
        also = ", and finite" if is_infinite and what != "a number" else ""
        raise ValueError(f"`{name}` is {shown(value)}; pass {wanted}{also}.")
    return found


def replace_field(
    record: Any, name: str, check: Callable[..., int | float], *bounds: int | float, **options: Any
) -> None:
    """Check a number in a frozen record, by ``count`` or ``number``; keep it as Python's own.

    Args:
      record: as ``__post_init__`` has it.
      name: of the field.
      check: of the number.
      *bounds: for the check.
      **options: for the check.

    Raises:
      ValueError: as the check does.
    """
    value = getattr(record, name)
    found = check(name, value, *bounds, **options)
    if type(value) not in (int, float):  # NumPy's has another hash, repr and JSON
        object.__setattr__(record, name, found)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or jnp.issubdtype(getattr(value, "dtype", object), np.bool_)
