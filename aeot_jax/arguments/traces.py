"""Traced values: what cannot be looked at, and who refuses it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def is_concrete(*values: object) -> bool:
    """Whether no value is traced, so that its numbers can be looked at.

    Look with NumPy: under someone's trace, jax.numpy returns tracers even for known arrays.
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


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
