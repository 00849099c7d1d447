"""The help of a command, laid out for the width of the screen.

tyro draws the options in a table whose first column is too wide for narrow screens. Its output is
parsed here, and laid out again.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple

TYRO_WIDTH = 129
"""Columns at which tyro prints: the most at which it draws a single table."""

_NARROW = 64
"""On screens with fewer columns, the text of an option is below its name."""

_FIRST = 28
"""Columns of the names, on wider screens."""

ITEM = "\u2022"
"""Marks an item of a list in the text of an option."""

_INDENT = 2
_LEAST, _MOST = 20, 100
"""Fewest and most columns of text."""


class Option(NamedTuple):
    """An option and its text."""

    name: str
    about: str


class Part(NamedTuple):
    """A group of options."""

    title: str
    about: str
    options: list[Option]


class Manual(NamedTuple):
    """The help of a command: its usage, paragraphs, and options."""

    usage: str
    paragraphs: list[str]
    parts: list[Part]


def width() -> int:
    """The number of columns to use."""
    return max(_LEAST, min(_MOST, shutil.get_terminal_size().columns))


def read(text: str) -> Manual:
    """Parse the output of tyro for ``--help`` at ``TYRO_WIDTH``."""
    head, *boxes = re.split(r"^╭─ (.*?) ─*╮$", text.replace("`", ""), flags=re.MULTILINE)
    usage, _, rest = head.strip().partition("\n")
    paragraphs = [" ".join(part.split()) for part in rest.split("\n\n")]
    titles, bodies = boxes[::2], boxes[1::2]
    parts = [_part(title, body) for title, body in zip(titles, bodies, strict=True)]
    return Manual(usage.removeprefix("usage: "), [part for part in paragraphs if part], parts)


def _part(title: str, body: str) -> Part:
    about: list[str] = []
    options: list[Option] = []
    for line in body.splitlines():
        content = re.sub(r"^│ ?| *│$", "", line)
        if not content.strip() or content[0] in "╰─":
            continue
        name, _, said = content.partition("  ")
        if content.startswith(" "):  # continues the line above
            said = content
        elif title == "positional arguments" or content.startswith("-"):
            options.append(Option(name, ""))
        else:
            about.append(content)
            continue
        if options:
            joined = f"{options[-1].about} {said}"
            options[-1] = options[-1]._replace(about=" ".join(joined.split()))
    return Part(title, " ".join(about), options)


def reworded(manual: Manual, words: Mapping[str, str]) -> Manual:
    """Replace the texts of some options, by name; their defaults stay.

    The docstrings of the Python interface do not suit a command line.
    """

    def one(option: Option) -> Option:
        said = words.get(option.name.split()[0])
        default = re.search(r"\(default: [^()]*\)$", option.about)
        if said is None:
            return option
        return option._replace(about=said if default is None else f"{said} {default[0]}")

    parts = [part._replace(options=list(map(one, part.options))) for part in manual.parts]
    return manual._replace(parts=parts)


def show(manual: Manual, columns: int) -> str:
    """Lay out a manual."""
    return "\n".join(_lines(manual, columns))


def _lines(manual: Manual, columns: int) -> Iterator[str]:
    yield from wrap(f"usage: {manual.usage}", columns)
    for paragraph in manual.paragraphs:
        yield ""
        yield from wrap(paragraph, columns)
    for part in manual.parts:
        yield ""
        title = f"{part.title} ({part.about.rstrip('.')}):" if part.about else f"{part.title}:"
        yield from wrap(title, columns)
        for name, about in part.options:
            yield from entry(_unmarked(name), _readable(about), columns)


def entry(name: str, about: str, columns: int) -> list[str]:
    """Lay out a name and its text: side by side if there is room, else one below the other.

    Each item, after an ``ITEM`` in the text, starts a line.
    """
    about, *items = about.split(ITEM)
    lines = _entry(name, about.strip(), columns)
    indent = 3 * _INDENT if columns < _NARROW else _FIRST
    for item in items:
        text = " " * indent + f"- {item.strip()}"
        lines += wrap(text, columns, indent + _INDENT)
    return lines


def _entry(name: str, about: str, columns: int) -> list[str]:
    first = " " * _INDENT + name
    if columns < _NARROW or len(first) + 2 > _FIRST:
        indent = " " * (3 * _INDENT if columns < _NARROW else _FIRST)
        return [*wrap(first, columns, 3 * _INDENT), *wrap(about, columns, indent=len(indent))]
    lines = wrap(about, columns, indent=_FIRST)
    return [first.ljust(_FIRST) + lines[0].lstrip() if lines else first, *lines[1:]]


def wrap(text: str, columns: int, hanging: int | None = None, *, indent: int = 0) -> list[str]:
    """Wrap text at words; a word longer than a line is not broken, so that it can be copied."""
    lead = len(text) - len(text.lstrip())
    return textwrap.wrap(
        text.strip(),
        columns,
        initial_indent=" " * max(lead, indent),
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _unmarked(name: str) -> str:
    """A name without tyro's markers."""
    return re.sub(r"\{None\}\|", "", name)


def _readable(text: str) -> str:
    """A text without tyro's markers."""
    text = re.sub(r" ?\(default: (?:None|False)\)", "", text).strip()
    text = text.replace("None is ", "by default ")  # users do not type None
    return text if text.startswith("-") else text[:1].upper() + text[1:]
