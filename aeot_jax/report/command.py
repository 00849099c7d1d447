"""The command that makes a run again, from what its config.json says."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from aeot_jax.configs import config_to_json
from aeot_jax.model import Config

_SOURCE = {"path": "data", "labels": "labels-file"}
"""Options that are called otherwise in config.json."""


def command(config: Mapping[str, Any]) -> str | None:
    """The command line, with a folder to fill in; None if config.json does not say.

    Args:
      config: content of config.json.
    """
    source = config.get("source")
    if not isinstance(source, dict) or "path" not in source:
        return None
    parts = ["aeot-jax", "fit"]
    for name, value in source.items():
        if name != "seed" and value not in (None, False, 0):  # one seed is for all
            known = str(name).replace("_", "-")
            parts += _option(_SOURCE.get(known, known), value)
    parts += ["--out", "NEW"]
    if config.get("seed"):
        parts += _option("seed", config["seed"])
    if config.get("labels") and not source.get("labels"):
        parts.append("--labels")
    for name, value in _changed(config.get("config"), config_to_json(Config())):
        parts += _option(name, value)
    return shlex.join(parts)


def _option(name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(str, values)]


def _changed(asked: Any, default: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options that differ from their defaults, by their full names."""
    for name, value in asked.items() if isinstance(asked, dict) else ():
        usual = default.get(name) if isinstance(default, dict) else None
        full = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _changed(value, usual, f"{full}.")
        elif value != usual:
            yield full, value
