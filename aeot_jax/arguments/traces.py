"""Traced values: their numbers are not known, and functions of the host refuse them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def is_concrete(*values: object) -> bool:
    """Whether no value is traced, so that its numbers are known.

    Read them with NumPy: under a trace, jax.numpy returns tracers even for known arrays.
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def refuse_trace(function: str, way: str, **arguments: Any) -> None:
    """Refuse traced arguments, and a call under a trace: for functions with a loop on the host.

    Args:
      function: the name of the function.
      way: what to do instead.
      **arguments: the arguments that must be known.

    Raises:
      ValueError: it names the first traced argument.
    """
    for name, value in arguments.items():
        if not is_concrete(value):
            raise ValueError(
                f"`{name}` is traced, but `{function}` decides on the host by its values; {way}."
            )
    if isinstance(jnp.zeros((), jnp.float32), Tracer):
        raise ValueError(f"`{function}` decides on the host and cannot be traced; {way}.")
