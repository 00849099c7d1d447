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
from aeot_jax.arguments.rows import PART_BYTES, check_file, parts
from aeot_jax.arguments.traces import is_concrete

_ALIGNMENT = 64
"""Bytes to which memory must be aligned for JAX to take it over on a CPU."""


def array(name: str, value: Any) -> np.ndarray | Array:
    """Check that a value is an array of real numbers, and keep its dtype.

    JAX arrays, known or traced, are returned unchanged; anything else becomes a NumPy array in the
    byte order of this machine. A list with integers that no integer type holds becomes float64.

    Args:
      name: the name of the argument, for errors.
      value: an array, a number, or lists of numbers.

    Raises:
      ValueError: for anything else: objects, text, complex numbers, dates, records, masked or
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
            f"`{name}` is {shown(value)}, which is not an array: {_first_line(error)}; pass real "
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
    """``array`` for work on the host: a NumPy array unless the value is traced.

    Integers beyond int32 keep their digits, and positions can be centred in float64 before they are
    rounded.
    """
    found = array(name, value)
    return found if isinstance(found, Tracer) else np.asarray(found)


def known(name: str, value: Any, *, infinite_below: bool = False) -> Float[np.ndarray, "..."]:
    """Convert a known array to float64 on the host, for computation there.

    Args:
      name: the name of the argument, for errors.
      value: see ``array``.
      infinite_below: whether -inf is allowed, as for heights.

    Raises:
      ValueError: as ``array``; if it is traced; or if a number is not finite.
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
    """Convert an array to float32, rounded once from its own dtype.

    Args:
      name: the name of the argument, for errors.
      value: see ``array``.
      infinite_below: whether -inf is allowed, as for heights.

    Raises:
      ValueError: as ``array``, and if a known number is not finite or too large for float32.
    """
    found = array(name, value)
    if isinstance(found, Tracer):
        return found.astype(jnp.float32)
    if isinstance(found, jax.Array) and not _is_near(found):
        with jax.ensure_compile_time_eval():  # a known array, perhaps under a caller's trace
            if _is_usable(found, infinite_below=infinite_below):
                return found.astype(jnp.float32)
    rounded = rounded_to_float32(name, np.asarray(found), infinite_below=infinite_below)
    if isinstance(found, jax.Array) and found.dtype == jnp.float32:
        return found
    return placed(rounded)


def check_real(name: str, found: np.ndarray | Array) -> None:
    """Refuse an array of which a known number is not finite in float32; nothing is copied whole.

    Args:
      name: the name of the argument, for errors.
      found: from ``array``.

    Raises:
      ValueError: it names the first such number; or if the file of a memory map has shrunk.
    """
    if isinstance(found, np.ndarray):
        check_file(name, found)
    if isinstance(found, Tracer) or found.dtype.kind in "iub":
        return
    if isinstance(found, jax.Array) and not _is_near(found):
        with jax.ensure_compile_time_eval():
            if _is_usable(found, infinite_below=False):
                return
    host = np.asarray(found)
    if not host.ndim:
        rounded_to_float32(name, host)
        return
    for part in parts(name, host):
        _rounded_part(name, host[part], False, part.start)


def placed(values: np.ndarray) -> Array:
    """Copy a NumPy array to the device; ``jnp.asarray`` would compile a copy for every shape.

    On a CPU JAX takes over memory that is aligned, and copies any other once more.
    """
    if values.nbytes <= PART_BYTES or jax.default_backend() != "cpu":
        return jax.device_put(np.array(values))
    memory = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    own = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    for part in parts("y", values):
        own[part] = values[part]
    return jax.device_put(own)


def rounded_to_float32(
    name: str, values: np.ndarray, *, infinite_below: bool = False
) -> Float[np.ndarray, "..."]:
    """Round a NumPy array to float32, or name the number that float32 cannot hold.

    Args:
      name: the name of the argument, for errors.
      values: from ``host_array``, or computed from it.
      infinite_below: whether -inf is allowed, as for heights.

    Raises:
      ValueError: if a number is not finite, or too large for float32.
    """
    if values.nbytes <= PART_BYTES:
        return _rounded_part(name, values, infinite_below)
    is_new = values.dtype != np.float32
    rounded = np.empty(values.shape, np.float32) if is_new else values
    for part in parts(name, values):
        own = _rounded_part(name, values[part], infinite_below, part.start)
        if is_new:
            rounded[part] = own
    return rounded


def _rounded_part(
    name: str, values: np.ndarray, infinite_below: bool, first: int = 0
) -> Float[np.ndarray, "..."]:
    """``rounded_to_float32`` of some rows, of which ``first`` is the number of the first."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values.astype(np.float32, copy=False)
    usable = np.isfinite(rounded)
    if infinite_below:
        usable = usable | np.isneginf(values)
    kind = "float32, in which all is computed"
    _check_usable(name, values, np.asarray(usable), infinite_below, kind, first)
    return rounded


def refuse_containers(name: str, value: Any) -> None:
    """Refuse what NumPy would misread: masked and sparse arrays, dicts, None.

    Raises:
      ValueError: it says what the value is.
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
    """Convert a list whose integers no integer type holds to float64; leave anything else."""
    if not all(isinstance(item, numbers.Real) for item in found.flat):
        return found
    try:
        return found.astype(np.float64)
    except OverflowError as error:
        raise ValueError(
            f"`{name}` holds an integer beyond 1e308, too large for any float; divide by a scale."
        ) from error


def _check_dtype(name: str, dtype: Any) -> None:
    """Refuse dtypes that are not real numbers."""
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
    name: str,
    values: np.ndarray,
    usable: np.ndarray,
    infinite_below: bool,
    kind: str,
    first: int = 0,
) -> None:
    """Raise an error that names the first number that is not finite, or too large for a type."""
    if usable.all():
        return
    where = tuple(np.argwhere(~usable)[0].tolist())
    at = f" at {', '.join(map(str, (first + where[0], *where[1:])))}" if where else ""
    if np.isfinite(values[where]):
        raise ValueError(
            f"`{name}` is {values[where]!s}{at}, too large for {kind}; divide by a scale."
        )
    allowed = "finite numbers or -inf" if infinite_below else "finite numbers"
    raise ValueError(f"`{name}` is {values[where]!s}{at}; pass {allowed}.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _is_near(value: Array) -> bool:
    """Whether the whole array lies in host memory, so that NumPy needs no copy from a device."""
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
