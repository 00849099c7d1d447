"""What callers pass: arrays, keys, counts and numbers, looked at where they enter.

Every array enters through ``array`` or ``host_array``: in the dtype it came in, by NumPy where its
values are known. jax.numpy would wrap integers beyond int32, turn 1e300 into infinity and return
tracers for known arrays under someone's trace. ``real`` then rounds to float32, once.

Errors are ValueErrors of one sentence: the argument, its value and the way out.
"""

import math
import numbers
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

MOST = 2**31 - 1
"""Largest count: sizes and counts are int32."""

_SHOWN = 80
"""Characters of a value that an error shows."""

_RAW_KEYS = {"threefry2x32": (2,), "rbg": (4,), "unsafe_rbg": (4,)}
"""Shape of a legacy key, by the generator that JAX is set to."""


def is_concrete(*values: object) -> bool:
    """Whether no value is traced, so that its numbers can be looked at.

    Look with NumPy: under someone's trace, jax.numpy returns tracers even for known arrays.
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def shown(value: object) -> str:
    """A value as an error shows it: an array by what it is, anything else by its short repr."""
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, Tracer):
        return f"a traced value of dtype {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


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


def key(name: str, value: Any) -> Array:
    """One random key, typed or legacy.

    Raises:
      ValueError: if it is anything else, several keys among it.
    """
    way = "pass one JAX key, as `jax.random.key(0)`"
    if not isinstance(value, jax.Array | np.ndarray):
        raise ValueError(f"`{name}` is {shown(value)}; {way}.")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape:
            raise ValueError(
                f"`{name}` holds keys of shape {value.shape}; pass one of them, as `{name}[0]`, or "
                "use `jax.vmap` for all."
            )
        return jnp.asarray(value)
    raw = _RAW_KEYS.get(str(jax.config.jax_default_prng_impl), value.shape[-1:])  # pyright: ignore[reportAttributeAccessIssue]
    if value.dtype != np.uint32 or value.shape[-1:] != raw:
        raise ValueError(f"`{name}` is {shown(value)}; {way}.")
    if value.shape != raw:
        raise ValueError(
            f"`{name}` holds legacy keys, of shape {value.shape}; pass one of them, as "
            f"`{name}[0]`, or use `jax.vmap` for all."
        )
    return jnp.asarray(value)


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


def choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse what is not one of some names.

    Raises:
      ValueError: with the names.
    """
    if not isinstance(value, type(choices[0])) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"`{name}` is {shown(value)}; choose one of {listed}.")


def instance(name: str, value: Any, kind: type | tuple[type, ...], way: str) -> None:
    """Refuse what is not of a class.

    Args:
      name: of the argument, for errors.
      value: what was passed.
      kind: the class, or several.
      way: what to pass, with its article: "a source measure, as `Gaussian(dim=2)`".

    Raises:
      ValueError: if it is of another.
    """
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` is {shown(value)}; pass {way}.")


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that counts as either: a text "no" would count as True.

    Raises:
      ValueError: if it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` is {shown(value)}; pass True or False.")
    return bool(value)


def function(name: str, value: Any, what: str = "a function") -> None:
    """Refuse what cannot be called; None stands for nothing to call.

    Args:
      name: of the argument.
      value: what was passed for it.
      what: to pass, with its article.

    Raises:
      ValueError: if it is something else.
    """
    if value is not None and not callable(value):
        raise ValueError(f"`{name}` is {shown(value)}; pass {what}, or None.")


def path(name: str, value: Any) -> Path:
    """A path of a file or a folder.

    Raises:
      TypeError: if it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` is {shown(value)}; pass a path, as text or a `pathlib.Path`.")
    return Path(value)


def refuse_trace(function: str, way: str, **arguments: Any) -> None:
    """Refuse traced arguments and a trace around: for functions with a loop on the host.

    Args:
      function: its name.
      way: what to do instead.
      **arguments: what must be known.

    Raises:
      ValueError: that names the first traced argument.
    """
    for name, value in arguments.items():
        if not is_concrete(value):
            raise ValueError(
                f"`{name}` is traced, but `{function}` decides on the host by its values; {way}."
            )
    if isinstance(jnp.zeros((), jnp.float32), Tracer):
        raise ValueError(f"`{function}` decides on the host and cannot be traced; {way}.")


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


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or jnp.issubdtype(getattr(value, "dtype", object), np.bool_)


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
