"""Choices, flags, classes, functions and paths."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.arguments.display import shown


def choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
      ValueError: it lists the choices.
    """
    if not isinstance(value, type(choices[0])) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"`{name}` is {shown(value)}; choose one of {listed}.")


def instance(name: str, value: Any, kind: type | tuple[type, ...], way: str) -> None:
    """Refuse a value of another class.

    Args:
      name: the name of the argument, for errors.
      value: the value that was passed.
      kind: the class, or several.
      way: what to pass, with its article: "a source measure, as `Gaussian(dim=2)`".

    Raises:
      ValueError: if the value is of another class.
    """
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` is {shown(value)}; pass {way}.")


def flag(name: str, value: Any) -> bool:
    """Check a flag: True or False. Any other value is refused, as the text "no" is truthy.

    Raises:
      ValueError: for anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` is {shown(value)}; pass True or False.")
    return bool(value)


def function(name: str, value: Any, what: str = "a function") -> None:
    """Refuse a value that is neither callable nor None.

    Args:
      name: the name of the argument, for errors.
      value: the value that was passed.
      what: what to pass, with its article.

    Raises:
      ValueError: for anything else.
    """
    if value is not None and not callable(value):
        raise ValueError(f"`{name}` is {shown(value)}; pass {what}, or None.")


def path(name: str, value: Any) -> Path:
    """Check the path of a file or a folder.

    Raises:
      TypeError: for anything else.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` is {shown(value)}; pass a path, as text or a `pathlib.Path`.")
    return Path(value)
