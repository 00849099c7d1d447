"""Array types used throughout: n samples, m targets, d dimensions, k neighbours.

Records annotate their arrays with ``*batch`` in front: under ``vmap`` a record holds a batch.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

Samples = Float[Array, "n d"]
"""Samples of the source measure, one a row."""

Targets = Float[Array, "m d"]
"""Target points (codes), one a row."""

WorkingTargets = Float[Array, "rows d"]
"""Targets as the kernel takes them; rows beyond the heights own no cell."""

Heights = Float[Array, " m"]
"""Heights of the supporting planes of Brenier's potential, one a target."""

Weights = Float[Array, " m"]
"""Weights of the targets; they sum to 1."""

HostWeights = Float[np.ndarray, " m"]
"""Weights, or heights, that no device holds whole."""

Counts = Int[Array, " m"]
"""Number of samples that fell into each cell."""

Index = Int[Array, " n"]
"""Index of the target whose cell holds each sample."""

PRNGKey = PRNGKeyArray | UInt32[Array, "2"]
"""A random key, typed or legacy."""

_T = TypeVar("_T")

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike

    Given = Annotated[_T, "looked at by the function itself"]
    Devices = tuple[Any, ...]  # JAX does not tell checkers what a Device is
else:
    Devices = tuple[jax.Device, ...]
    """Devices to compute on."""

    # A checker of types at run time shall not come before the sentence that names the argument.
    ArrayLike = Annotated[Any, "an array of real numbers, or lists of them"]

    class Given:
        """An argument at the border: the type that it should have, which ``arguments`` checks."""

        def __class_getitem__(cls, kind: object) -> object:
            return Annotated[Any, kind]
