"""Choices, flags, classes, functions and paths."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.arguments.display import shown


def choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse what is not one of some names.

    Raises:
      ValueError: with the names.
    """
    if not isinstance(value, type(choices[0])) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"`{name}` is {shown(value)}; choose one of {listed}.")


def instance(name: str, value: Any, kind: type | tuple[type, ...], way: str) -> None:
    """Refuse what is not of a class.

    Args:
      name: of the argument, for errors.
      value: what was passed.
      kind: the class, or several.
      way: what to pass, with its article: "a source measure, as `Gaussian(dim=2)`".

    Raises:
      ValueError: if it is of another.
    """
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` is {shown(value)}; pass {way}.")


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that counts as either: a text "no" would count as True.

    Raises:
      ValueError: if it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` is {shown(value)}; pass True or False.")
    return bool(value)


def function(name: str, value: Any, what: str = "a function") -> None:
    """Refuse what cannot be called; None stands for nothing to call.

    Args:
      name: of the argument.
      value: what was passed for it.
      what: to pass, with its article.

    Raises:
      ValueError: if it is something else.
    """
    if value is not None and not callable(value):
        raise ValueError(f"`{name}` is {shown(value)}; pass {what}, or None.")


def path(name: str, value: Any) -> Path:
    """A path of a file or a folder.

    Raises:
      TypeError: if it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` is {shown(value)}; pass a path, as text or a `pathlib.Path`.")
    return Path(value)
