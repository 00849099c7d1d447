"""Short reprs: large arrays are shown by dtype and shape.

A record may hold tracers, shapes or anything else that JAX puts into a pytree. The functions here
read only known values. Records of data use them, too, so JAX is imported only where it is already.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_FEW = 4
"""Most numbers of an array that is shown in full."""


def known(value: object) -> np.ndarray | None:
    """The numbers of an array, or None if they are not known on this host."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if "jax" not in sys.modules:
        return None
    import jax
    import jax.numpy as jnp
    from jax.core import Tracer

    if not isinstance(value, jax.Array) or isinstance(value, Tracer):
        return None
    dead = value.is_deleted() or not value.is_fully_addressable
    if dead or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return None
    return np.asarray(value)


def numbers(value: object) -> np.ndarray:
    """The numbers of an array; raises TypeError if they are not known on this host."""
    found = known(value)
    if found is None:
        raise TypeError(f"{type(value).__name__} has no known numbers")
    return found


def number(value: object) -> float:
    """The number in an array without axes; raises TypeError otherwise."""
    found = numbers(value)
    if found.ndim:
        raise TypeError(f"an array of shape {found.shape} is not a number")
    return float(found)


def short(value: object) -> str:
    """The short repr of a value: a small array by its numbers, a large one by dtype and shape."""
    found = known(value)
    if found is not None and found.size <= _FEW and found.ndim <= 1:
        return np.array2string(found, precision=4, separator=", ")
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{dtype}[{','.join(map(str, shape))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {short(part)}' for name, part in value.items())}}}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return brief(value)
    if isinstance(value, tuple):
        inside = ", ".join(map(short, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def or_brief(function: Callable[[Any], str]) -> Callable[[Any], str]:
    """Decorate a repr that reads numbers: it falls back to ``brief`` if they are not known."""

    @functools.wraps(function)
    def wrapped(self: Any) -> str:
        try:
            return function(self)
        except (TypeError, ValueError, IndexError, AttributeError):
            return brief(self)

    return wrapped


def brief(self: Any) -> str:
    """The repr of a dataclass or named tuple with short arrays; use as `__repr__ = brief`."""
    if dataclasses.is_dataclass(self):
        names = [field.name for field in dataclasses.fields(self) if field.repr]
    else:
        names = self._fields
    inside = ", ".join(f"{name}={short(getattr(self, name))}" for name in names)
    return f"{type(self).__name__}({inside})"
