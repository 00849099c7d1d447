"""Arrays that callers pass.

Every array enters through ``array`` or ``host_array``, in the dtype it came in, and by NumPy where
its values are known: jax.numpy would wrap integers beyond int32, turn 1e300 into infinity and
return tracers for known arrays under a caller's trace. ``real`` then rounds to float32, once.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from aeot_jax.arguments.display import shown
from aeot_jax.arguments.traces import is_concrete


def array(name: str, value: Any) -> np.ndarray | Array:
    """An array of real numbers in the dtype that it came in.

    JAX's arrays, known or traced, stay what they are; anything else becomes a NumPy array in this
    machine's byte order. Integers of a list that no integer type holds become float64.

    Args:
      name: of the argument, for errors.
      value: an array, a number, or lists of numbers.

    Raises:
      ValueError: if it is something else: objects, text, complex numbers, dates, records, masked or
        sparse arrays, lists of uneven lengths, a Solution.
    """
    if not isinstance(value, jax.Array) and hasattr(value, "__jax_array__"):
        value = value.__jax_array__()
    if isinstance(value, jax.Array):
        _check_dtype(name, value.dtype)
        return value
    refuse_containers(name, value)
    has_traced = isinstance(value, list | tuple) and not is_concrete(value)
    try:
        found = jnp.asarray(value) if has_traced else np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(
            f"`{name}` is {shown(value)}, which is no array: {_first_line(error)}; pass real "
            "numbers, with as many in each row."
        ) from error
    if isinstance(found, jax.Array):
        return array(name, found)
    if found.dtype == object and isinstance(value, Sequence | numbers.Real):
        found = _from_large_integers(name, found)
    if found.dtype == object and not found.ndim:
        raise ValueError(f"`{name}` is {shown(value)}; pass an array of real numbers.")
    _check_dtype(name, found.dtype)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def host_array(name: str, value: Any) -> np.ndarray | Array:
    """``array`` for work on the host: with NumPy wherever the values are known.

    What comes back is traced or of NumPy. So integers beyond int32 keep their digits, and
    positions can be centred in float64 before they are rounded.
    """
    found = array(name, value)
    return found if isinstance(found, Tracer) else np.asarray(found)


def known(name: str, value: Any, *, infinite_below: bool = False) -> Float[np.ndarray, "..."]:
    """A known array as float64 on the host, for what is computed there.

    Args:
      name: of the argument, for errors.
      value: as for ``array``.
      infinite_below: whether -inf is a number, as it is for heights.

    Raises:
      ValueError: as ``array``, and if it is traced or a number is not finite.
    """
    given = array(name, value)
    if isinstance(given, Tracer):
        raise ValueError(
            f"`{name}` is {shown(given)}, but is computed with on the host; call this outside of "
            "`jax.jit` and `jax.vmap`."
        )
    found = np.asarray(given)
    with np.errstate(over="ignore"):
        wide = found.astype(np.float64)
    usable = np.isfinite(wide)
    if infinite_below:
        usable = usable | np.isneginf(wide)
    _check_usable(
        name, found, np.asarray(usable), infinite_below, "float64, in which it is computed with"
    )
    return wide


def real(name: str, value: Any, *, infinite_below: bool = False) -> Float[Array, "..."]:
    """An array as float32, rounded once from the dtype that it came in.

    Args:
      name: of the argument, for errors.
      value: as for ``array``.
      infinite_below: whether -inf is a number, as it is for heights.

    Raises:
      ValueError: as ``array``, and if a known number is not finite or too large for float32.
    """
    found = array(name, value)
    if isinstance(found, Tracer):
        return found.astype(jnp.float32)
    if isinstance(found, jax.Array) and not _is_near(found):
        with jax.ensure_compile_time_eval():  # a known array, perhaps under someone's trace
            if _is_usable(found, infinite_below=infinite_below):
                return found.astype(jnp.float32)
    rounded = rounded_to_float32(name, np.asarray(found), infinite_below=infinite_below)
    if isinstance(found, jax.Array) and found.dtype == jnp.float32:
        return found
    return placed(rounded)


def placed(values: np.ndarray) -> Array:
    """A copy of NumPy's array as one of JAX's; ``jnp.asarray`` compiles a copy for every shape."""
    return jax.device_put(np.array(values))


def rounded_to_float32(
    name: str, values: np.ndarray, *, infinite_below: bool = False
) -> Float[np.ndarray, "..."]:
    """NumPy's numbers as float32, or an error that says which one float32 cannot hold.

    Args:
      name: of the argument, for errors.
      values: from ``host_array``, or made of such.
      infinite_below: whether -inf is a number, as it is for heights.

    Raises:
      ValueError: if a number is not finite, or too large for float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values.astype(np.float32, copy=False)
    usable = np.isfinite(rounded)
    if infinite_below:
        usable = usable | np.isneginf(values)
    _check_usable(
        name, values, np.asarray(usable), infinite_below, "float32, in which all is computed"
    )
    return rounded


def refuse_containers(name: str, value: Any) -> None:
    """Refuse what NumPy would take for something else: masked and sparse arrays, dicts, None.

    Raises:
      ValueError: that says what it is.
    """
    if value is None or isinstance(value, str | bytes | dict | set):
        raise ValueError(f"`{name}` is {shown(value)}; pass an array of real numbers.")
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"`{name}` is a masked array of shape {value.shape}; fill what is masked, by "
            "`.filled(...)`, or leave it out."
        )
    if callable(getattr(value, "todense", None)):
        raise ValueError(
            f"`{name}` is sparse, a {type(value).__name__} of shape "
            f"{getattr(value, 'shape', None)}; pass a dense array, as `.todense()` gives."
        )
    if not hasattr(value, "__array__") and hasattr(value, "h"):
        raise ValueError(
            f"`{name}` is of type {type(value).__name__}; pass an array, as its heights `sol.h`."
        )


def _from_large_integers(name: str, found: np.ndarray) -> np.ndarray:
    """Float64 of a list whose integers no integer type holds; anything else stays as it is."""
    if not all(isinstance(item, numbers.Real) for item in found.flat):
        return found
    try:
        return found.astype(np.float64)
    except OverflowError as error:
        raise ValueError(
            f"`{name}` holds an integer beyond 1e308, too large for any float; divide by a scale."
        ) from error


def _check_dtype(name: str, dtype: Any) -> None:
    """Refuse what holds no real numbers."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(f"`{name}` holds random keys, {dtype}; pass an array of real numbers.")
    if jnp.issubdtype(dtype, np.complexfloating):
        raise ValueError(f"`{name}` has dtype {dtype}; pass real numbers.")
    if not jnp.issubdtype(dtype, np.bool_) and (
        not jnp.issubdtype(dtype, np.number) or np.dtype(dtype).kind in "mM"
    ):
        raise ValueError(
            f"`{name}` has dtype {dtype}; pass real numbers, as `.astype(float)` gives where they "
            "are."
        )


def _check_usable(
    name: str, values: np.ndarray, usable: np.ndarray, infinite_below: bool, kind: str
) -> None:
    """Name the first number that is not finite, or too large for a type."""
    if usable.all():
        return
    where = tuple(np.argwhere(~usable)[0].tolist())
    at = f" at {', '.join(map(str, where))}" if where else ""
    if np.isfinite(values[where]):
        raise ValueError(
            f"`{name}` is {values[where]!s}{at}, too large for {kind}; divide by a scale."
        )
    allowed = "finite numbers or -inf" if infinite_below else "finite numbers"
    raise ValueError(f"`{name}` is {values[where]!s}{at}; pass {allowed}.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _is_near(value: Array) -> bool:
    """Whether NumPy sees the array without a copy from a device, and sees all of it."""
    if not value.is_fully_addressable:
        return False
    return all(device.platform == "cpu" for device in value.devices())


def _is_usable_body(values: Array, *, infinite_below: bool) -> Array:
    rounded = values.astype(jnp.float32)
    usable = jnp.isfinite(rounded)
    if infinite_below:
        usable |= values == -jnp.inf
    return usable.all()


_is_usable = jax.jit(_is_usable_body, static_argnames="infinite_below")
