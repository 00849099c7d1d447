"""Labels: one integer for each code."""

from typing import Any

import numpy as np
from jaxtyping import Int

from aeot_jax import arguments
from aeot_jax.typing import ArrayLike

SHOWN_LABELS = 20
"""Most labels that are listed."""


def check_labels(
    labels: ArrayLike, num_codes: int, name: str = "labels", what: str = "codes"
) -> Int[np.ndarray, " m"]:
    """One integer of 32 bits for each of so many codes, or targets.

    Raises:
      ValueError: for anything else; it names the argument.
    """
    refuse_texts(name, labels)
    host = np.asarray(arguments.host_array(name, labels))
    if host.shape != (num_codes,) or not np.issubdtype(host.dtype, np.integer):
        raise ValueError(
            f"`{name}` has shape {host.shape} and dtype {host.dtype}; pass one integer for each of "
            f"the {num_codes} {what}, as {_numbered(name)} gives."
        )
    info = np.iinfo(np.int32)
    beyond = (host < info.min) | (host > info.max)
    if beyond.any():
        index = int(beyond.argmax())
        raise ValueError(
            f"`{name}` is {host[index]} at {index}, beyond 32 bits; number the classes from 0, for "
            f"instance with {_numbered(name)}."
        )
    return host.astype(np.int32)


def refuse_texts(name: str, labels: Any) -> None:
    """Raise a ValueError for labels that are texts."""
    kind = labels.dtype.kind if isinstance(labels, np.ndarray) else ""
    several = kind == "O" or isinstance(labels, list | tuple)
    if kind in ("S", "T", "U") or (several and any(isinstance(one, str) for one in labels)):
        found = np.asarray(labels).dtype
        raise ValueError(f"`{name}` has dtype {found}; number texts, as {_numbered(name)} does.")


def _numbered(name: str) -> str:
    return f"np.unique({name}, return_inverse=True)[1]"


def place_of(label: Any, known: Int[np.ndarray, " c"]) -> int:
    """The position of a label among those of the classes."""
    if np.ndim(label) != 0:
        raise ValueError(f"`label` has shape {np.shape(label)}; pass one label, an integer.")
    is_whole = hasattr(label, "__index__") and not isinstance(label, bool | np.bool_)
    found = np.flatnonzero(known == label) if is_whole else np.zeros(0, int)
    if found.size != 1:
        shown = ", ".join(map(str, known[:SHOWN_LABELS]))
        more = ", ..." if known.size > SHOWN_LABELS else ""
        raise ValueError(f"`label` is {label!r}, which no class has; pass one of {shown}{more}.")
    return int(found[0])
