"""Arguments to options, by tyro; its messages become sentences here."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

import tyro

from aeot_jax.cli import commands
from aeot_jax.cli.screen import manual
from aeot_jax.inputs.nearest import nearest

_MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
"""--resume but no --no-resume; an unset optimizer is not a sub-command of its own."""

_OTHER_NAMES = {"num_samples": "num"}
"""Options that are not called as the argument that they set."""

COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")
"""Options of tyro that write a shell completion."""


def options(command: commands.Command, arguments: Sequence[str]) -> Any:
    """Read the options of a command.

    Args:
      command: the command.
      arguments: the arguments without the name of the command.

    Raises:
      SystemExit: with code 0, after ``--help``.
      ValueError: with a sentence, for options that do not parse or are out of range.
    """
    base = None if command.base is None else command.base(arguments)
    known = {} if base is None else {"default": base}
    said, wrong = _paper(), _paper()
    try:
        with _captured(said, wrong):
            read = tyro.cli(
                command.options,
                prog=f"aeot-jax {command.name}",
                args=arguments,
                config=_MARKERS,
                **known,
            )
        if hasattr(read, "check"):
            read.check(arguments)
        return read
    except SystemExit as stop:
        if not stop.code:
            read = manual.reworded(manual.read(_read(said)), command.words)
            print(manual.show(read, manual.width()))
            raise
    raise ValueError(_sentence(command, arguments, _read(wrong)))


def complete(arguments: Sequence[str]) -> None:
    """Write a shell completion; raises SystemExit."""
    kinds: list[Any] = [
        Annotated[commands.load(name).options, tyro.conf.subcommand(name)]
        for name in commands.ABOUT
    ]
    union: Any = reduce(or_, kinds)
    tyro.cli(union, prog="aeot-jax", args=arguments, config=_MARKERS)


def names(command: commands.Command) -> list[str]:
    """The names of all options of a command."""
    said = _paper()
    with contextlib.suppress(SystemExit), _captured(said, said):
        tyro.cli(command.options, prog="aeot-jax", args=["--help"], config=_MARKERS)
    return [
        option.name.split()[0].rstrip(",")
        for part in manual.read(_read(said)).parts
        for option in part.options
        if option.name.startswith("--")
    ]


def as_typed(command: commands.Command, arguments: Sequence[str], text: str) -> str:
    """A sentence on arguments of functions, in terms of the options that set these.

    Args:
      command: whose options they are.
      arguments: what was typed: where several options have a name, one of these is meant, if the
        sentence tells its value.
      text: has names of arguments between back quotes, those of functions followed by (...).
    """
    known, typed = names(command), options_in(arguments)

    def option(name: str, value: str | None) -> str:
        other = f"--{_OTHER_NAMES.get(name, name)}"
        name = name.replace("_", "-")
        short = [option for option in known if option in (f"--{name}", other)]
        nested = [option for option in known if option.endswith(f".{name}")]
        said = [option for option in (*short, *nested) if option in typed]
        if len(nested) > 1:  # of different parts: the sentence says the value of the one it means
            said = [option for option in said if value_of(arguments, option) == value]
        return next((found[0] for found in (said, short, nested) if len(found) == 1), "")

    named = r"`(\w+)(?=(?:\(\.\.\.\))?`(?:,? (?:is|now) ([\w+-]+(?:\.[\w+-]+)*))?)"
    return re.sub(named, lambda found: f"`{option(found[1], found[2]) or found[1]}", text)


def _sentence(command: commands.Command, arguments: Sequence[str], said: str) -> str:
    """A sentence on arguments that tyro refuses."""
    known = [*names(command), "--help"]
    for part in arguments:
        name = part.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name != "--" and name not in known:
            return (
                f"`{name}` is not an option of `aeot-jax {command.name}`{nearest(name, known)}; "
                f"`aeot-jax {command.name} --help` lists all."
            )
    lines = [re.sub(r"^[│╭╰] ?| *[│╮╯]$", "", line) for line in said.splitlines()]
    if any(line.startswith("Missing from") for line in lines):
        missing = re.findall(r"^ {4}(--[\w.-]+|[A-Z]+)", "\n".join(lines), re.MULTILINE)
        return (
            f"`aeot-jax {command.name}` needs {' and '.join(missing)}; "
            f"`aeot-jax {command.name} --help` says what they are."
        )
    first = re.split(r"\n\s*\n|\n─", "\n".join(lines[1:]))[0]
    text = " ".join(first.split()).rstrip(".")
    value = re.fullmatch(r"Error parsing (\S+): .*?\[(.*)\]", text)
    if value:
        text = f"`{value[1]}` is {value[2]}, which cannot be read as what it takes"
    text = text.replace("Expected 1 values", "It takes one")
    return f"{text}; see `aeot-jax {command.name} --help`."


def value_of(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, before parsing: ``--name VALUE`` or ``--name=VALUE``."""
    found = None
    for i, part in enumerate(arguments):
        option, equals, value = part.partition("=")
        if option.replace("_", "-") == name:
            found = value if equals else arguments[i + 1] if i + 1 < len(arguments) else None
    return found


def options_in(arguments: Sequence[str]) -> list[str]:
    """The options that are typed, with hyphens and without values."""
    typed = (part.partition("=")[0] for part in arguments if part.startswith("--"))
    return [option.replace("_", "-") for option in typed]


def _paper() -> io.TextIOWrapper:
    """A buffer to print to; it has an encoding, because tyro draws no boxes otherwise."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def _read(paper: io.TextIOWrapper) -> str:
    paper.seek(0)
    return paper.read()


@contextlib.contextmanager
def _captured(out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    """Let tyro print to buffers, at the width that `manual` can parse."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(manual.TYRO_WIDTH)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
