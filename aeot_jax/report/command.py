"""The command that repeats a run, from its config.json."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from aeot_jax.checkpoints.configs import config_to_json
from aeot_jax.model import Config

_SOURCE = {"path": "data", "labels": "labels-file"}
"""Options with another name in config.json."""

_LEFT_OUT = ("seed", "at_random", "codes")
"""Fields of the source that are not options: one seed serves all, and codes have an option."""

_USUAL = (None, False, 0, "crop")
"""Default values of the options of the source."""


def command(config: Mapping[str, Any]) -> str | None:
    """The command line, with NEW for the folder; None if config.json has no source.

    Args:
      config: content of config.json.
    """
    source = config.get("source")
    if not isinstance(source, dict) or "path" not in source:
        return None
    parts = ["aeot-jax", "fit"]
    pictures = source.get("pictures")
    flat = source | (pictures if isinstance(pictures, dict) else {})
    for name, value in flat.items():
        if name not in _LEFT_OUT and not isinstance(value, dict) and value not in _USUAL:
            known = str(name).replace("_", "-")
            option = "codes" if name == "path" and source.get("codes") else known
            parts += _option(_SOURCE.get(option, option), value)
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
    """Options that differ from their defaults, by full name."""
    for name, value in asked.items() if isinstance(asked, dict) else ():
        usual = default.get(name) if isinstance(default, dict) else None
        full = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _changed(value, usual, f"{full}.")
        elif value != usual:
            yield full, value
