"""Array types: n samples, m targets, d dimensions, k neighbours.

The arrays of records have ``*batch`` in front, because under ``vmap`` a record holds a batch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import jax
import numpy as np
from jaxtyping import AbstractDtype, Array, Float, Float32, Int, PRNGKeyArray, Real, UInt32

Samples = Float[Array, "n d"]
"""Samples of the source measure, one per row."""

Targets = Float[Array, "m d"]
"""Target points (codes), one per row."""

Stored = Real[Array, "m d"]
"""Target points as they are stored, in a dtype whose numbers float32 holds."""

WorkingTargets = Float[Array, "rows d"]
"""Targets padded for the kernel; rows beyond the heights have no cell."""

Heights = Float[Array, " m"]
"""Heights of the supporting planes of Brenier's potential, one per target."""

Weights = Float[Array, " m"]
"""Weights of the targets; they sum to 1."""

HostWeights = Float[np.ndarray, " m"]
"""Weights, or heights, on the host; no device holds all of them."""

Counts = Int[Array, " m"]
"""Number of samples in each cell."""

Index = Int[Array, " n"]
"""Index of the target whose cell holds each sample."""

PRNGKey = PRNGKeyArray | UInt32[Array, "2"]
"""A random key, typed or legacy."""

_T = TypeVar("_T")

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike

    Given = Annotated[_T, "checked by the function itself"]
    Kept = Real
    Device = Any
    Devices = Sequence[Any]  # JAX does not tell checkers what a Device is
else:
    Device = jax.Device
    Devices = tuple[jax.Device, ...]
    """Devices to compute on."""

    # A run-time type checker must not raise before the function's own error, which names the
    # argument.
    ArrayLike = Annotated[Any, "an array of real numbers, or lists of them"]

    class Kept(AbstractDtype):
        """The dtypes in which targets may be kept: float32 holds their numbers."""

        dtypes = ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16")

    class Given:
        """The type of a public argument, which ``arguments`` checks."""

        def __class_getitem__(cls, kind: object) -> object:
            return Annotated[Any, kind]


HeldTargets = Kept[Array | np.ndarray, "*batch m d"]
"""Target points as a record holds them: NumPy's where they shall be sharded over devices."""

HeldHeights = Float32[Array | np.ndarray, "*batch m"]
"""Heights as such a record holds them."""
