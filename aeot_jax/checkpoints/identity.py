"""The fingerprint of a fit: a text of all that determines it, saved with its files."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from aeot_jax.checkpoints.configs import BEFORE, completed, config_to_json
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


def same(now: str, before: Any) -> bool:
    """Whether two texts are of the same fit.

    Args:
      now: from ``of``.
      before: the text in a file, perhaps of an earlier version.
    """
    old = _read(before)
    return before == now or (old is not None and old == _read(now))


def as_begun(config: Config, before: Any) -> Config:
    """The configuration with which a fit does what it did when the run was begun.

    Where the text is of a version that lacked an option, and the user leaves it at its default,
    it has the value that changes nothing.
    """
    try:
        known = json.loads(before)["config"]
    except (TypeError, ValueError, KeyError):
        return config
    for part, values in BEFORE.items():
        old = known.get(part) if isinstance(known, dict) else None
        own = getattr(config, part)
        silent = {
            name: value
            for name, value in values.items()
            if isinstance(old, dict)
            and name not in old
            and getattr(own, name) == getattr(type(own)(), name)
        }
        config = dataclasses.replace(config, **{part: dataclasses.replace(own, **silent)})
    return config


def _read(before: Any) -> dict[str, Any] | None:
    """The text in a file, parsed, with the options that came later; None if it is no such text."""
    try:
        old = json.loads(before)
        return {**old, "config": completed(old["config"])}
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def differences(now: str, before: Any) -> list[str]:
    """The differences of two fits, in words: "the data", "`solver.tolerance` was 0.1 and is 0.2".

    Args:
      now: from ``of``.
      before: the text in a file; if it is not such a text, the result is empty.
    """
    old = _read(before)
    if old is None or set(old) != set(new := json.loads(now)):
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
