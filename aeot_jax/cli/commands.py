"""The commands by name; each is imported when it is called, so that a help text needs no JAX."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

ABOUT = {
    "fit": "Learn images, a table or codes, and make new ones.",
    "sample": "Make new images, rows or codes from a fitted model.",
    "evaluate": "Judge a fitted model, in numbers.",
    "report": "Write a page that shows what a run is worth.",
    "compare": "Compare runs: a table, and a page with their samples.",
    "data": "Say what data sets are known, or what a path holds.",
}
"""What each command does. A command is a module with the same name in this folder: its options are
a class with the capitalised name, and ``run`` runs it."""


class Command(NamedTuple):
    """An imported command.

    Attributes:
      name: its name.
      options: the class of its options.
      run: runs it, with its options, a console for results and a console for messages.
      base: makes default options from the arguments; None if the class has the only defaults.
      words: help texts, by option, in place of docstrings that are written for Python.
    """

    name: str
    options: type
    run: Callable[..., None]
    base: Callable[[Sequence[str]], Any] | None
    words: Mapping[str, str]


def load(name: str) -> Command:
    """Import a command."""
    module: Any = importlib.import_module(f"aeot_jax.cli.{name}")
    return Command(
        name,
        getattr(module, name.capitalize()),
        module.run,
        getattr(module, "base", None),
        getattr(module, "WORDS", {}),
    )
