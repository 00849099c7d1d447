"""Cells of a table: what determines one, which stand in the records, and the table itself.

A cell is one method with one seed on one data set. Its line in the records holds the digest of all
that determines it, so that a run that was cut off goes on where it stopped, and a cell whose
settings have changed is run again.
"""

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

NOTHING = "Nothing is recorded on this device; run without --table."

PROTOCOL = 1
"""Counts changes of what is measured that no setting shows: all cells are run again."""


@dataclass(frozen=True)
class Cell:
    """One result to come.

    Attributes:
      data: the data set.
      method: what generates.
      seed: of everything.
      settings: all else that determines the result; JSON.
    """

    data: str
    method: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        """What its line begins with."""
        own = {"data": self.data, "method": self.method, "seed": self.seed}
        return {**own, "settings": dict(self.settings), "digest": self.digest}

    @property
    def digest(self) -> str:
        """Sixteen digits that change with whatever determines the result."""
        own = [PROTOCOL, self.data, self.method, self.seed, dict(self.settings)]
        text = json.dumps(own, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class MissingError(ValueError):
    """Samples that no cell has left on this machine."""


def draw(picture: Callable[[], None]) -> None:
    """Draw a picture of cells, or say why there is none: records come without samples."""
    try:
        picture()
    except MissingError as error:
        print(error)


def lines(place: Path, name: str) -> list[dict[str, Any]]:
    """The records of a name in a file; none if there is no file.

    Raises:
      ValueError: if a line is no record.
    """
    found = []
    for number, text in enumerate(place.read_text().splitlines() if place.exists() else (), 1):
        try:
            line = json.loads(text)
            named = line["name"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"line {number} of {place.name} is no record; remove it, and its cell is run again."
            ) from error
        if named == name:
            found.append(line)
    return found


def run(
    cells: Iterable[Cell],
    make: Callable[[Cell], Mapping[str, Any]],
    known: Iterable[Mapping[str, Any]],
    keep: Callable[[Mapping[str, Any]], None],
    again: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Make the cells that are not known, and keep each as soon as it is made.

    Args:
      cells: in the order in which they are run.
      make: from a cell to its scores.
      known: lines of the records.
      keep: puts one line into the records.
      again: methods whose cells are made whatever is known.

    Returns:
      The lines that were made.
    """
    there = {line["digest"] for line in known if line["method"] not in again}
    made = []
    for cell in cells:
        if cell.digest in there:
            continue
        line = {**cell.row, **make(cell)}
        keep(line)
        made.append(line)
        there.add(cell.digest)
    return made


def chosen(flag: str, given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """What a flag names, or everything that is known.

    Raises:
      ValueError: if it names what is not known.
    """
    for name in given or ():
        if name not in known:
            raise ValueError(f"`{flag}` names {name!r}; pass some of: {', '.join(known)}.")
    return list(given or known)


def seconds_of(line: Mapping[str, Any]) -> float | None:
    """The CPU-seconds that a method was allowed; None if it has no budget."""
    return line.get("settings", {}).get("budget", {}).get("seconds")


def newest(known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each data set, method, seed and budget, in the order of the file."""
    keys = ("data", "method", "seed")
    last = {(*(line[k] for k in keys), seconds_of(line)): dict(line) for line in known}
    return list(last.values())


def newest_of(known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each cell, whatever its settings."""
    return list({line["digest"]: dict(line) for line in known}.values())


def sorted_budgets(known: Iterable[Mapping[str, Any]]) -> list[float | None]:
    """All budgets, the smallest first."""
    return sorted({seconds_of(line) for line in known}, key=lambda seconds: seconds or 0)


def text_of(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean of some seeds, and half their range; nothing where one has no value."""
    if not values or any(value is None for value in values):
        return ""
    numbers = [float(value) for value in values if value is not None]
    mean = f"{statistics.fmean(numbers):.{digits}f}"
    half = (max(numbers) - min(numbers)) / 2
    return f"{mean} ± {half:.{digits}f}" if half >= 0.5 * 10**-digits else mean


def table(
    known: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], float | None]],
    digits: Mapping[str, int],
    order: Sequence[str],
) -> str:
    """A table in Markdown: a row a method and budget; means over seeds ± half their range.

    Args:
      known: the lines of one data set.
      columns: from a line to a number, by the head of the column.
      digits: digits after the point, by the head of the column.
      order: the methods.

    Returns:
      The table; methods without a line are left out.
    """
    lines = list(known)
    rows = [["method", "seeds", *columns], ["---"] * (2 + len(columns))]
    for method, seconds in product(order, sorted_budgets(lines)):
        own = [at for at in lines if (at["method"], seconds_of(at)) == (method, seconds)]
        if not own:
            continue
        values = [
            text_of([column(line) for line in own], digits[head])
            for head, column in columns.items()
        ]
        rows.append([method, str(len(own)), *values])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
