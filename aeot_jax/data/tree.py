"""The meaning of file names: splits, classes, and files to ignore."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from aeot_jax.data.found import NoSplitError
from aeot_jax.reprs import brief

Parts = tuple[str, ...]
"""The path of a file from the root of its data set: folders, then the file."""

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Files with other suffixes are ignored."""

_LEFT_ALONE = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db"})
"""Files of other programs, which are ignored; so are names that begin with a dot."""

ALL = "all"
"""In place of a split: every picture, by name, without classes."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of sub-folders, and the split of each."""


@dataclass(frozen=True, eq=False)
class Arranged:
    """The pictures of one split.

    Attributes:
      places: indices of the pictures into the given names, in order.
      labels: the class of each, or None without sub-folders.
      label_names: names of the classes, sorted.
      notes: remarks for the user.
    """

    places: list[int]
    labels: Int32[np.ndarray, " n"] | None
    label_names: tuple[str, ...] | None
    notes: tuple[str, ...]

    __repr__ = brief


def is_picture(parts: Parts) -> bool:
    """Whether a file is a picture, by its suffix, and not in an ignored folder."""
    suffix = os.path.splitext(parts[-1])[1]
    return suffix.lower() in SUFFIXES and not any(map(is_left_alone, parts))


def is_left_alone(name: str) -> bool:
    """Whether a file or folder of this name is ignored."""
    return name.startswith(".") or name in _LEFT_ALONE


def arrange(names: Sequence[Parts], split: str, source: str) -> Arranged:
    """Find the pictures of a split, and their classes.

    If there is a sub-folder "train", it, "test" and "val" are splits, not classes. "test" is held
    out, and "val" joins "train"; without "test", "val" is held out. The sub-folders of a split are
    its classes; deeper files belong to the class above them.

    Args:
      names: paths of the pictures.
      split: "train", "test" or `ALL`.
      source: name of the data set, for errors.

    Raises:
      NoSplitError: if the split does not exist.
      ValueError: if there are both pictures and sub-folders of pictures.
    """
    if split == ALL:
        return Arranged(sorted(range(len(names)), key=lambda i: names[i]), None, None, ())
    tops = {name[0]: _SPLITS.get(name[0].lower(), "") for name in names if len(name) > 1}
    if "train" not in tops.values():
        _check_unsplit(tops, split, source)
        depth, places, notes = 0, list(range(len(names))), ()
        classes = [name[0] for name in names if len(name) > 1]
    else:
        kept, held_out = _held_out(tops, split, source)
        depth, notes = 1, _notes(names, tops, kept, held_out)
        wanted = {"train": "train", "test": held_out}[split]
        places = [i for i, name in enumerate(names) if len(name) > 1 and kept[name[0]] == wanted]
        classes = [
            name[1] for name in names if len(name) > 2 and kept[name[0]] in ("train", held_out)
        ]
    places = sorted(places, key=lambda i: (names[i][depth:], names[i]))
    flat = [i for i in places if len(names[i]) == depth + 1]
    if flat and len(flat) < len(places):
        inner = next(names[i][depth] for i in places if len(names[i]) > depth + 1)
        raise ValueError(
            f"`source` {source} holds both images ({names[flat[0]][-1]!r}) and sub-folders of "
            f"images ({inner!r}); keep one kind."
        )
    if flat or not places:
        return Arranged(places, None, None, notes)
    raw = sorted(set(classes))
    number = {name: i for i, name in enumerate(raw)}
    labels = np.array([number[names[i][depth]] for i in places], np.int32)
    return Arranged(places, labels, printable(raw), notes)


def _check_unsplit(tops: Mapping[str, str], split: str, source: str) -> None:
    """Refuse a data set without "train" if it has other splits, or if "test" is requested."""
    found = set(tops.values())
    if tops and found <= {"val", "test"}:
        raise ValueError(
            f"`source` {source} holds {' and '.join(sorted(tops))} but no pictures in 'train'; "
            "add that folder, or pass one of these by itself."
        )
    if split == "test":
        raise NoSplitError(
            f"`source` {source} has no sub-folders 'train' and 'test', so all its images are "
            "split 'train'; pass split='train'."
        )


def _held_out(tops: Mapping[str, str], split: str, source: str) -> tuple[dict[str, str], str]:
    """The split of each folder, and the held-out one: "test", "val" or ""."""
    found = set(tops.values())
    held_out = "test" if "test" in found else "val" if "val" in found else ""
    if split == "test" and not held_out:
        raise NoSplitError(
            f"`source` {source} has no sub-folder 'test'; add it or pass another split."
        )
    kept = {top: "train" if kind == "val" != held_out else kind for top, kind in tops.items()}
    return kept, held_out


def _notes(
    names: Sequence[Parts], tops: Mapping[str, str], kept: Mapping[str, str], held_out: str
) -> tuple[str, ...]:
    """Remarks on the splits, one sentence each."""
    notes = []
    if "val" in tops.values():
        notes.append(
            "'val' is held out for evaluation, as there is no 'test'."
            if held_out == "val"
            else "'val' was added to 'train'; 'test' is held out."
        )
    if left := sorted(top for top, kind in kept.items() if not kind):
        notes.append(f"folders beside 'train' were left alone: {', '.join(left[:9])}.")
    if loose := sum(len(name) == 1 for name in names):
        notes.append(f"{loose:,} pictures beside 'train' were left alone.")
    return tuple(notes)


LONGEST = 1000
"""Letters of a class's name, at most."""


def printable(names: Sequence[str]) -> tuple[str, ...]:
    """Make class names printable and distinct."""
    found: dict[str, None] = {}
    for name in names:
        shown = unique = title(unicodedata.normalize("NFC", name)) or "(empty)"
        number = 2
        while unique in found:
            unique, number = f"{shown} ({number})", number + 1
        found[unique] = None
    return tuple(found)


def title(name: str) -> str:
    """Make a name printable, whatever its bytes are."""
    unknown = "\N{REPLACEMENT CHARACTER}"
    return "".join(letter if letter.isprintable() else unknown for letter in name)
