"""What a folder or an archive of pictures holds, in words, and how to learn it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aeot_jax.cli.options.pictures import PictureOptions
from aeot_jax.cli.screen import words
from aeot_jax.data.found import Files
from aeot_jax.data.pictures.shaping import MAX_SIDE, MIN_SIDE, usual_side
from aeot_jax.data.pictures.survey import Survey
from aeot_jax.data.tree import title

_FEW_SIZES = 3
"""Most sizes that are all listed."""

_REACHED = 0.1
"""Share of the pictures that may be smaller than the side that is proposed."""


@dataclass(frozen=True, eq=False)
class Held:
    """Pictures and what was found in their files.

    Attributes:
      path: the path as the user typed it.
      name: the name of the set.
      parts: the pictures of each split, by its name.
      refused: why `fit` takes none of them, or None.
    """

    path: str
    name: str
    parts: Mapping[str, tuple[Files, Survey]]
    refused: str | None = None

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of pictures of each height and width, in all splits."""
        return sum((seen.sizes for _, seen in self.parts.values()), Counter())

    @property
    def broken(self) -> list[str]:
        """The files that cannot be read, each with the reason."""
        return [
            f"{title(files.names[row])!r} ({why})"
            for files, seen in self.parts.values()
            for row, why in seen.broken.items()
        ]


def show(held: Held, options: PictureOptions, out: Console) -> None:
    """Print a table of the pictures, then remarks, and last the command that learns them.

    Args:
      held: at least one picture that can be read.
      options: how pictures become images, as far as the user has said.
      out: console for all of it.
    """
    table = Table("", *(_of_split(name, held) for name in held.parts), title=escape(held.name))
    for what, say in (
        ("pictures", lambda _, seen: f"{len(seen.headers):,}"),
        ("height x width", lambda _, seen: _sizes(seen.sizes)),
        ("colours", lambda _, seen: _colours(seen)),
        ("classes", _classes),
        ("as images", lambda _, seen: _shape(held, seen, options)),
    ):
        table.add_row(what, *(escape(say(*part)) for part in held.parts.values()))
    out.print(table, highlight=False)
    for line in (*_remarks(held), *_way(held, options)):
        out.print(line, soft_wrap=True, markup=False, highlight=False)


def _of_split(name: str, held: Held) -> str:
    return name if held.refused is None else "all"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    ordered = sizes.most_common()
    if len(ordered) == 1:
        return _size(ordered[0][0])
    if len(ordered) <= _FEW_SIZES:
        return ", ".join(f"{_size(size)} ({count:,})" for size, count in ordered)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    most, count = ordered[0]
    return (
        f"{len(sizes):,} sizes from {_size(by_area[0])} to {_size(by_area[-1])}; most often "
        f"{_size(most)} ({count:,})"
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _colours(seen: Survey) -> str:
    grey = sum(header.grey for header in seen.headers.values())
    clear = sum(header.transparent for header in seen.headers.values())
    colour = len(seen.headers) - grey
    parts = [f"{grey:,} grey"] * (grey > 0) + [f"{colour:,} in colour"] * (colour > 0)
    own = f"; {clear:,} can be transparent, which becomes white" if clear else ""
    return ", ".join(parts) + own


def _classes(files: Files, seen: Survey) -> str:
    rows = list(seen.headers)
    return words.classes(None if files.labels is None else files.labels[rows], files.label_names)


def _shape(held: Held, seen: Survey, options: PictureOptions) -> str:
    """The images that `fit` makes of them."""
    wanted = options.pictures()
    _, learned = next(iter(held.parts.values()))  # the others become like these
    grey = all(header.grey for header in learned.headers.values())
    channels = wanted.channels or (1 if grey else 3)
    if held.refused is not None:
        return "-"
    side = _proposed(held)
    size = wanted.size or _common(held) or (side, side)
    return f"{len(seen.headers):,} of {_size(size)} x {channels}"


def _common(held: Held) -> tuple[int, int] | None:
    """The one size of all pictures, if `fit` takes it as it is."""
    size = next(iter(held.sizes))
    fits = all(MIN_SIDE <= side <= MAX_SIDE for side in size)
    return size if fits and len(held.sizes) == 1 else None


def _proposed(held: Held) -> int:
    """A side for images of pictures of several sizes."""
    shorter = sorted(min(size) for size in held.sizes.elements())
    return usual_side(shorter[int(_REACHED * len(shorter))])


def _remarks(held: Held) -> list[str]:
    """What is in none of the images, and what was looked at."""
    lines = []
    if broken := held.broken:
        count = "1 file cannot" if len(broken) == 1 else f"{len(broken):,} files cannot"
        lines.append(f"{count} be read: {words.listed(broken)}.")
    files, _ = next(iter(held.parts.values()))
    if others := [repr(title(name)) for name in files.others]:
        one = "1 file is no picture by its name and is"
        several = f"{len(others):,} files are no pictures by their names and are"
        lines.append(f"{one if len(others) == 1 else several} left alone: {words.listed(others)}.")
    lines += [note[:1].upper() + note[1:] for note in files.notes]
    step = max(seen.step for _, seen in held.parts.values())
    if step == 1:
        lines.append("Every picture was decoded to its end.")
    else:
        lines.append(
            f"Every header was read, and 1 in {step:,} pictures decoded to its end; a fit decodes "
            "all and may find more that are broken."
        )
    return lines


def _way(held: Held, options: PictureOptions) -> list[str]:
    """The command that learns the pictures, and what it does with those that are broken."""
    missing = next((seen.missing for _, seen in held.parts.values() if seen.missing), None)
    why = held.refused or missing
    train, seen = next(iter(held.parts.values()))
    if why is None and len(seen.headers) < 2:
        why = "one picture is too few; a fit needs two at least, and should have a thousand."
    if why is not None:
        return [words.refused(why)]
    lines = [words.to_learn(held.path, _options(held, options))]
    if train.labels is not None:
        lines.append("With --labels, each class gets a map of its own.")
    if held.broken:
        lines.append("--skip-broken leaves broken files out; without it, fit stops and names them.")
    elif any(part.step > 1 for _, part in held.parts.values()):
        lines.append("If it finds a broken file, it stops and names it; see --skip-broken.")
    return lines


def _options(held: Held, options: PictureOptions) -> list[str]:
    """Options of `fit` for these pictures: those that they need, and those that the user gave."""
    size = options.image_size
    if size is None and _common(held) is None:
        size = str(_proposed(held))
    skip = bool(held.broken or options.skip_broken)
    return dataclasses.replace(options, image_size=size, skip_broken=skip).as_typed()


def nothing_read(held: Held) -> ValueError:
    """The error for files none of which is a picture."""
    broken = held.broken
    return ValueError(
        f"`PATH` {held.path!r} holds {len(broken):,} files with names of pictures, none of "
        f"which can be read: {words.listed(broken)}; replace them, or pass another folder."
    )
