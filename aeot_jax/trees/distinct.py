"""Structures that JAX takes for each other."""

import collections
import threading
from collections.abc import Iterator
from typing import Any

import jax

from aeot_jax.trees.records import OWN

_SEEN: collections.deque[Any] = collections.deque(maxlen=64)
"""Structures that were checked."""

_LOCK = threading.Lock()


def check_distinct(name: str, node: Any) -> None:
    """Check that JAX tells the structure of a tree from those that were checked before.

    It looks at the last ones only, of which programs may still be kept. Trees of registered records
    alone are told apart, and not remembered.

    Raises:
      ValueError: if it equals the structure of one that it differs from; see `register`.
    """
    structure = jax.tree.structure(node)
    if OWN.issuperset(_classes(structure)):
        return
    own = hash(structure)
    with _LOCK:
        for other in _SEEN:
            if other == structure and hash(other) != own:
                raise ValueError(
                    f"`{name}` is a {type(node).__name__} that `jax.jit` may take for another "
                    f"class used before, {other}; register these classes by "
                    "`aeot_jax.trees.register` instead of `jax.tree_util.register_dataclass`, with "
                    "`metadata={'static': True}` for fields that are no arrays."
                )
        if structure not in _SEEN:
            _SEEN.append(structure)


def _classes(structure: Any) -> Iterator[type]:
    """Classes of all nodes of a structure."""
    data = structure.node_data()
    if data is not None:
        yield data[0]
        for child in structure.children():
            yield from _classes(child)
