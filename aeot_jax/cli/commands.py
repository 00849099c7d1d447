"""The commands by name, each imported when it is called: JAX is not needed to read a help text."""

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
"""What each does. A command is a module here, of the same name: the class of its options has the
name with a capital letter, and ``run`` runs it."""


class Command(NamedTuple):
    """A command that was imported.

    Attributes:
      name: as it is typed.
      options: class of its options.
      run: runs it, given its options and consoles for results and for the rest.
      base: options that hold where the arguments say nothing else, made from the arguments; None
        where a command has none but its class's.
      words: what the help says of options whose docstrings are for Python, by their names.
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
