"""The fingerprint of a fit: a text of all that determines it, saved with its files."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from aeot_jax.checkpoints.configs import config_to_json
from aeot_jax.model import Config
from aeot_jax.numerics import key_numbers
from aeot_jax.typing import PRNGKey

_WORDS = {"key": "the key", "data": "the data", "labels": "the labels"}
_WORDS |= {"names": "the names of the labels", "config": ""}
"""Parts of the text, in words; differences in the configuration are named by option."""


def of(
    key: PRNGKey,
    data: Shaped[np.ndarray, "n ..."],
    config: Config,
    labels: Int32[np.ndarray, " n"] | None = None,
    label_names: tuple[str, ...] | None = None,
) -> str:
    """JSON with the checksums of key, data and labels, and the configuration of a fit.

    An optax transformation is code; the text only states whether there is one.
    """
    raw = key_numbers(key)
    options = config_to_json(config)
    options["solver"]["optimizer"] = config.solver.optimizer is not None
    parts = {
        "key": _checksum(np.asarray(raw)),
        "data": _checksum(data),
        "labels": None if labels is None else _checksum(labels),
        "names": None if label_names is None else list(label_names),
        "config": options,
    }
    return json.dumps(parts, sort_keys=True, default=lambda value: value.item())


def _checksum(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # bfloat16 too
    return digest.hexdigest()


def differences(now: str, before: Any) -> list[str]:
    """The differences of two fits, in words: "the data", "`solver.tolerance` was 0.1 and is 0.2".

    Args:
      now: from ``of``.
      before: the text in a file; if it is not such a text, the result is empty.
    """
    try:
        old = json.loads(before)
    except (TypeError, ValueError):
        return []
    new = json.loads(now)
    if not isinstance(old, dict) or set(old) != set(new):
        return []
    found = [words for name, words in _WORDS.items() if words and old[name] != new[name]]
    return [*found, *_options(new["config"], old["config"], "")]


def _options(new: Mapping[str, Any], old: Any, where: str) -> Iterator[str]:
    if not isinstance(old, Mapping):
        return
    for name in sorted({*new, *old}):
        mine, theirs = new.get(name), old.get(name)
        if isinstance(mine, Mapping):
            yield from _options(mine, theirs, f"{where}{name}.")
        elif mine != theirs:
            yield f"`{where}{name}` was {theirs} and is {mine}"
