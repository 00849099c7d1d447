"""The command line: aeot-jax fit | sample | evaluate | report | compare | data.

Each command is a module with a dataclass, from which tyro makes the options and their help, and a
function ``run``. A user's mistake ends with one sentence and exit code 2, an interruption with 130,
and a run that did not reach its tolerance with 0 and a warning.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

import aeot_jax
from aeot_jax.cli import cache, commands, parsing
from aeot_jax.cli.screen import interrupts, letters, manual, notices
from aeot_jax.inputs.nearest import nearest
from aeot_jax.storage import files

_BAD_INPUT = 2
_CLOSED = 141
"""Exit code of a broken pipe, as in a shell."""


def parse(arguments: Sequence[str]) -> Any:
    """Read a command and its options.

    Raises:
      SystemExit: with code 0, for ``--help``.
      ValueError: with a sentence, for options that do not parse.
    """
    return _command(arguments)[1]


def prepare() -> None:
    """Import the command that the process was started with, and its libraries.

    Raises:
      ImportError: if a library is missing.
    """
    if sys.argv[1:2] and sys.argv[1] in commands.ABOUT:
        commands.load(sys.argv[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      argv: the arguments without the program's name; None takes the process's own.

    Returns:
      The exit code: 0 done, 2 bad input, 130 interrupted.

    Raises:
      SystemExit: with code 0, for ``--help``.
    """
    with letters.plain():
        return _guarded(list(sys.argv[1:] if argv is None else argv))


def _guarded(arguments: list[str]) -> int:
    """Run a command, and say its errors in a sentence."""
    out, err = Console(), Console(stderr=True)
    debug = "--debug" in arguments
    try:
        with interrupts.stoppable(), notices.in_words(err):
            try:
                return _run(arguments, out, err)
            finally:
                sys.stdout.flush()  # here, where a broken pipe is handled
    except KeyboardInterrupt as error:
        _say(err, interrupts.sentence(error, arguments))
        return interrupts.CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python reports an error when it exits
        return _CLOSED
    except _expected() as error:
        if debug:
            raise
        _say(err, f"Error: {_sentence(error)}")
        return _BAD_INPUT


def _run(arguments: list[str], out: Console, err: Console) -> int:
    if arguments[:1] == ["--version"]:
        out.print(f"aeot-jax {aeot_jax.__version__}", highlight=False)
        return 0
    if arguments[:1] in (["--help"], ["-h"]):
        print(_overview(manual.width()))
        raise SystemExit(0)
    if arguments[:1] and arguments[0] in parsing.COMPLETION:
        parsing.complete(arguments)
    command, options = _command(arguments)
    cache.enable(err)
    try:
        command.run(options, out, err)
    except ValueError as error:
        text = parsing.as_typed(command, arguments[1:], str(error))
        if text == str(error):
            raise
        raise ValueError(text) from error
    return 0


def _command(arguments: Sequence[str]) -> tuple[commands.Command, Any]:
    name = arguments[0] if arguments else ""
    if name not in commands.ABOUT:
        known = ", ".join(commands.ABOUT)
        said = f"`{name}` is not a command" if name else "no command is given"
        raise ValueError(
            f"{said}{nearest(name, commands.ABOUT)}; there are {known}, and `aeot-jax --help`."
        )
    command = commands.load(name)
    return command, parsing.options(command, arguments[1:])


def _overview(columns: int) -> str:
    lines = manual.wrap("usage: aeot-jax [--help] [--version] COMMAND ...", columns)
    lines += ["", *manual.wrap(str(aeot_jax.__doc__).partition("\n")[0], columns), ""]
    for name, about in commands.ABOUT.items():
        lines += manual.entry(name, about, columns)
    more = (
        "aeot-jax COMMAND --help says more. To begin: aeot-jax fit --data digits --out runs/digits"
    )
    return "\n".join([*lines, "", *manual.wrap(more, columns)])


def _expected() -> tuple[type[BaseException], ...]:
    """Errors that a user's input, disk or network may cause (missing files are OSErrors)."""
    drawing = sys.modules.get("aeot_jax.drawing")
    sampling = () if drawing is None else (drawing.SampleError,)
    return (ValueError, OSError, ImportError, FloatingPointError, *sampling)


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in files.FULL:
        return (
            f"no space is left on the disk ({error.filename or 'while writing'}); files from "
            "before are whole. Free some space and run the command again, a fit with --resume."
        )
    return " ".join(str(error).split()) or type(error).__name__


def _say(err: Console, text: str) -> None:
    err.print(text, soft_wrap=True, markup=False, highlight=False)
