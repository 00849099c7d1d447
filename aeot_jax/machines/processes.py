"""Several processes that run as one program: one writes, and all must get the same arguments.

Start the same command once for each process; ``jax.distributed.initialize`` joins them. With one
process, the functions here do nothing and cost nothing.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from aeot_jax.numerics import key_numbers

_Tree = TypeVar("_Tree")


def join() -> None:
    """Join the processes that were started with this one; call it before any other use of JAX.

    JAX finds the others under SLURM, Open MPI and Kubernetes, and on a TPU slice. Elsewhere set
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      ValueError: if no other process is found, or the variables are not numbers.
    """
    given = {}
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        text = os.environ.get(name)
        if text is not None and not text.isdecimal():
            raise ValueError(f"`{name}` is {text!r}; set it to a whole number.")
        given[name] = None if text is None else int(text)
    jax.distributed.initialize(
        num_processes=given["JAX_NUM_PROCESSES"], process_id=given["JAX_PROCESS_ID"]
    )


def is_first() -> bool:
    """Whether this is process 0, which writes files and prints."""
    return jax.process_index() == 0


def from_first(tree: _Tree) -> _Tree:
    """Copy the arrays of process 0 to every process; shapes and dtypes must agree."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(jnp.asarray, multihost_utils.broadcast_one_to_all(tree))


def settle(argument: str, place: str, problem: Exception | None, found: bool) -> bool:
    """Tell every process what process 0 found at a place, or stop all of them.

    Args:
      argument: name of the argument that gave the place.
      place: the place, as text.
      problem: why process 0 refuses it, if it does; None in the others.
      found: what process 0 found; of the others it does not matter.

    Raises:
      ValueError: in the other processes, if process 0 refuses the place; it raises ``problem``.
    """
    refused, known = np.asarray(from_first(jnp.array([problem is not None, found], jnp.bool_)))
    if problem is not None:
        raise problem
    if refused:
        raise ValueError(
            f"`{argument}` {place!r} was refused by process 0, which says why; repair it there."
        )
    return bool(known)


def check_agreement(**values: Any) -> None:
    """Refuse arguments that differ between the processes.

    Args:
      **values: the arguments by name: trees of arrays, or strings.

    Raises:
      ValueError: in every process; it names the arguments and the processes that differ.
    """
    if jax.process_count() == 1:
        return
    own = np.stack([np.frombuffer(_digest(value), np.uint8) for value in values.values()])
    everyone = np.asarray(multihost_utils.process_allgather(own))
    differs = (everyone != everyone[:1]).any(2)
    if not differs.any():
        return
    named: Mapping[str, list[int]] = {
        name: np.flatnonzero(differs[:, i]).tolist() for i, name in enumerate(values)
    }
    listed = ", ".join(f"`{name}` ({ids})" for name, ids in named.items() if ids)
    raise ValueError(
        f"the processes were given different arguments: {listed} differ from those of process 0; "
        "start every process with the same command and data."
    )


def _digest(value: Any) -> bytes:
    digest = hashlib.sha256()
    leaves, structure = jax.tree.flatten(value)
    digest.update(str(structure).encode())
    for leaf in leaves:
        leaf = key_numbers(leaf)
        if isinstance(leaf, str):
            digest.update(leaf.encode())
            continue
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()
