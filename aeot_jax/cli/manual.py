"""The help of a command, laid out for the width of the screen.

tyro knows the options; it draws them in a table whose first column leaves narrow screens no room.
What it prints is taken apart here, and set again.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

TYRO_WIDTH = 129
"""Columns at which tyro is asked: the most that it fills with a single table."""

_NARROW = 64
"""Columns below which what an option does stands on lines of its own."""

_FIRST = 28
"""Columns of the options, on wider screens."""

_INDENT = 2
_LEAST, _MOST = 20, 100
"""Columns of text."""


class Option(NamedTuple):
    """An option, and what it does."""

    name: str
    about: str


class Part(NamedTuple):
    """Options that belong together."""

    title: str
    about: str
    options: list[Option]


class Manual(NamedTuple):
    """What tyro says of a command: its usage, paragraphs, and options."""

    usage: str
    paragraphs: list[str]
    parts: list[Part]


def width() -> int:
    """Columns of the screen that text is set in."""
    return max(_LEAST, min(_MOST, shutil.get_terminal_size().columns))


def read(text: str) -> Manual:
    """Take apart what tyro prints for ``--help`` at ``TYRO_WIDTH``."""
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
        if content.startswith(" "):  # goes on with what stands above
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


def show(manual: Manual, columns: int) -> str:
    """Set a manual in so many columns."""
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
            yield from entry(_readable(name), _readable(about), columns)


def entry(name: str, about: str, columns: int) -> list[str]:
    """A name and what it means: side by side where there is room, else one below the other."""
    first = " " * _INDENT + name
    if columns < _NARROW or len(first) + 2 > _FIRST:
        indent = " " * (3 * _INDENT if columns < _NARROW else _FIRST)
        return [*wrap(first, columns, 3 * _INDENT), *wrap(about, columns, indent=len(indent))]
    lines = wrap(about, columns, indent=_FIRST)
    return [first.ljust(_FIRST) + lines[0].lstrip() if lines else first, *lines[1:]]


def wrap(text: str, columns: int, hanging: int | None = None, *, indent: int = 0) -> list[str]:
    """Lines of whole words; what is longer than a line stays whole, so that it can be copied."""
    lead = len(text) - len(text.lstrip())
    return textwrap.wrap(
        text.strip(),
        columns,
        initial_indent=" " * max(lead, indent),
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _readable(text: str) -> str:
    """Without what only tyro's reader needs."""
    text = re.sub(r"\{None\}\|", "", text)
    text = re.sub(r" ?\(default: (?:None|False)\)", "", text)
    return text.strip()
