"""What the user decides about a coupling, and the small dict by which it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax import arguments
from aeot_jax.ot.couplings import numbers

_SCHEMA = 1
"""Version of the draws: a state of another version names other pairs."""

_DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Dtypes of a batch; a state holds the place in this list."""

_NAMES = ("schema", "solution", "seed", "batch_size", "num_batches", "dtype", "antithetic", "k")

_WAY = "the dict that `Coupling.state` gave"


@dataclass(frozen=True)
class Options:
    """What the user decides.

    Attributes:
      seed: of all draws, 0 to 2^63 - 1.
      batch_size: pairs in a batch.
      num_batches: batches; None for no end.
      dtype: of x and y.
      antithetic: whether eight draws are one with changed signs.
      start: where iteration begins.
    """

    seed: int = 0
    batch_size: int = 256
    num_batches: int | None = None
    dtype: str = "float32"
    antithetic: bool = False
    start: int = 0

    @property
    def end(self) -> int:
        """Number of batches; without an end, of those whose draws all have a number."""
        return most_batches(self.batch_size) if self.num_batches is None else self.num_batches


def checked(
    seed: Any, batch_size: Any, num_batches: Any, dtype: Any, antithetic: Any, start: Any = 0
) -> Options:
    """Check what the user decides.

    Raises:
      ValueError: if a value does not fit; it names the argument.
    """
    seed = arguments.whole("seed", seed, "a whole number from 0 on")
    if not 0 <= seed < numbers.MOST:
        raise ValueError(f"`seed` is {seed}; pass a whole number, 0 to 2^63 - 1.")
    batch_size = arguments.count("batch_size", batch_size, what="how many pairs a batch holds")
    options = Options(
        seed, batch_size, None, _dtype(dtype), arguments.flag("antithetic", antithetic)
    )
    if num_batches is not None:
        num_batches = arguments.whole("num_batches", num_batches, "how many batches there are")
        if not 1 <= num_batches <= most_batches(batch_size):
            raise ValueError(
                f"`num_batches` is {num_batches}; pass at least 1, and at most 2^63 draws in all, "
                "or None for no end."
            )
    return replace(options, num_batches=num_batches, start=start)


def most_batches(batch_size: int) -> int:
    """Batches whose draws all have a number."""
    return numbers.MOST // batch_size


def _dtype(dtype: Any) -> str:
    if dtype is None:
        return _DTYPES[0]
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in _DTYPES:
        raise ValueError(
            f"`dtype` is {arguments.shown(dtype)}; pass one of {', '.join(_DTYPES)}, or None for "
            "float32."
        )
    if name == "float64" and jnp.zeros(0, jax.dtypes.canonicalize_dtype(name)).dtype != name:
        raise ValueError(
            "`dtype` is float64, which JAX has only in 64-bit mode; set `jax_enable_x64`, or pass "
            "float32."
        )
    return name


def of(options: Options, solution: int, k: int) -> dict[str, int]:
    """The state before batch k: plain integers below 2^63, as any checkpoint or JSON holds them."""
    values = (
        *(_SCHEMA, solution, options.seed, options.batch_size, options.num_batches or 0),
        *(_DTYPES.index(options.dtype), int(options.antithetic), k),
    )
    return dict(zip(_NAMES, values, strict=True))


def check_kind(state: Any) -> None:
    """Refuse what is no state.

    Raises:
      ValueError: if it is no dict, or lacks an entry.
    """
    arguments.instance("state", state, Mapping, _WAY)
    missing = [name for name in _NAMES if name not in state]
    if missing:
        raise ValueError(f"`state` has no {missing[0]!r}; pass {_WAY}.")


def read(state: Any, solution: int) -> Options:
    """The options in a state, of the right kind; iteration begins where it was taken.

    Raises:
      ValueError: if it is of another version or of another solution, or was changed.
    """
    found = {name: _integer(name, state[name]) for name in _NAMES}
    if found["schema"] != _SCHEMA:
        raise ValueError(
            f"`state` has schema {found['schema']}, but this version reads {_SCHEMA}; go on with "
            "the version that made it."
        )
    if found["solution"] != solution:
        raise ValueError(
            "`state` is that of another solution: its source, targets, heights or weights differ; "
            "pass the solution whose coupling gave it."
        )
    if not 0 <= found["dtype"] < len(_DTYPES) or found["antithetic"] not in (0, 1):
        raise ValueError(f"`state` was changed after it was taken; pass {_WAY}.")
    options = checked(
        found["seed"],
        found["batch_size"],
        found["num_batches"] or None,
        _DTYPES[found["dtype"]],
        bool(found["antithetic"]),
    )
    return replace(options, start=check_start("state", found["k"], options))


def _integer(name: str, value: Any) -> int:
    """A number of a state, as a checkpoint may give it back."""
    if isinstance(value, np.ndarray | jax.Array) and not np.ndim(value):
        value = np.asarray(value).item()
    try:
        return arguments.whole("state", value)
    except ValueError as error:
        raise ValueError(
            f"`state` has {name!r} {arguments.shown(value)}, which is no integer; pass {_WAY}."
        ) from error


def check_start(name: str, k: Any, options: Options) -> int:
    """Check where iteration begins: a batch, or the end.

    Raises:
      ValueError: if there is no such batch.
    """
    k = arguments.whole(name, k, "the number of a batch")
    if not 0 <= k <= options.end:
        raise ValueError(
            f"`{name}` is {k}, but there are {options.end:,} batches; pass 0 to {options.end:,}."
        )
    return k
