"""Folders of pictures, one per file."""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

from aeot_jax.data.found import Files, Item
from aeot_jax.data.tree import SUFFIXES, Parts, arrange, is_left_alone, is_picture
from aeot_jax.storage.files import open_file


def find(folder: Path, split: str) -> Files:
    """Find every picture of a folder, sorted by name; see `tree.arrange`.

    Links to folders are followed at the top level only, but not to the folder itself or to one that
    holds it, where no end would be.

    Args:
      folder: the folder.
      split: "train", "test" or `tree.ALL`.

    Raises:
      NoSplitError: if the split does not exist.
      ValueError: if there is no picture.
    """
    shown = repr(str(folder))
    names, others = _files_in(folder)
    if not names:
        what = "no images and no IDX files" if any(folder.iterdir()) else "nothing"
        raise ValueError(
            f"`source` {shown} holds {what}; pass a folder of images "
            f"({', '.join(sorted(SUFFIXES))}) or one that holds train-images-idx3-ubyte[.gz]."
        )
    arranged = arrange(names, split, shown)
    chosen = ["/".join(names[place]) for place in arranged.places]

    def stream(rows: Sequence[int]) -> Generator[Item, None, None]:
        for row in rows:
            path = os.path.join(folder, chosen[row])
            yield Item(row, lambda path=path: open_file(path))

    return Files(
        chosen,
        stream,
        arranged.labels,
        arranged.label_names,
        arranged.notes,
        full_name=lambda name: os.path.join(folder, name),
        others=tuple(sorted("/".join(parts) for parts in others)),
    )


def _files_in(folder: Path) -> tuple[list[Parts], list[Parts]]:
    """The pictures of a folder, and its other files."""
    found: tuple[list[Parts], list[Parts]] = [], []
    own = os.path.realpath(folder)
    for entry in os.scandir(folder):
        if is_left_alone(entry.name) or _leads_back(entry, own):
            continue
        if not _is_folder(entry):
            # Include files that cannot be read, such as broken links: they are reported later.
            found[not is_picture((entry.name,))].append((entry.name,))
            continue
        for place, folders, files in os.walk(entry.path):
            folders[:] = [name for name in folders if not is_left_alone(name)]
            inner = os.path.relpath(place, folder).split(os.sep)
            for name in files:
                if not is_left_alone(name):
                    found[not is_picture((*inner, name))].append((*inner, name))
    return found


def _leads_back(entry: os.DirEntry, folder: str) -> bool:
    """Whether an entry is a link to its folder, or to one above: its pictures are there already."""
    if not (entry.is_symlink() and _is_folder(entry)):
        return False
    return Path(folder).is_relative_to(os.path.realpath(entry.path))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
