"""``aeot-jax data``: the known data sets, and the content of a path."""

import contextlib
import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aeot_jax.cli.options import source
from aeot_jax.cli.options.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.cli.options.reading import reading, say
from aeot_jax.cli.screen import words
from aeot_jax.data import images, sources
from aeot_jax.data.found import Arrays, Files, NoSplitError
from aeot_jax.data.tables import Table as Rows
from aeot_jax.data.tree import title
from aeot_jax.inputs import extras

_SHAPE = "height x width x channels"


@dataclasses.dataclass(frozen=True)
class Data:
    """Say what data sets are known, or what a path holds.

    Of pictures: how many there are, their sizes, colours and classes, which files cannot be read or
    are no pictures, and the `aeot-jax fit` that learns them. It exits with 0 whenever it has
    described something, even if files are broken or `fit` would refuse them, and else with 2.

    Attributes:
      path: A known name, a file or a folder; without it, all data sets and formats are listed.
      pictures: How pictures become images.
      quiet: Show no progress.
      debug: Show where an error comes from.
    """

    path: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="", metavar="[PATH]")
    ] = None
    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = AS_THEY_ARE
    quiet: bool = False
    debug: bool = False


def run(options: Data, out: Console, err: Console) -> None:
    """Print a table, and for pictures the command that learns them.

    Args:
      options: from the command line.
      out: console for the table.
      err: console for progress and remarks.

    Raises:
      ValueError: if nothing at the path can be described.
      FileNotFoundError: if the path does not exist.
      ConnectionError: if a download fails.
    """
    if options.path is None:
        out.print(_known(), highlight=False)
        return
    with source.typed("PATH"):
        options.pictures.pictures()  # refuses options before the files are read
        found, refused = _found(options.path)
    if isinstance(found, dict):
        _describe(options, options.path, found, refused, out, err)
    else:
        _describe_arrays(options, options.path, found, out, err)


def _known() -> Table:
    installed = importlib.util.find_spec("sklearn") is not None
    about = {
        "digits": "1,797 handwritten digits, 8 x 8; "
        + ("installed" if installed else escape("pip install 'aeot-jax[demo]'")),
        "mnist": "60,000 + 10,000 handwritten digits, 28 x 28; downloaded once",
        "fashion-mnist": "60,000 + 10,000 pieces of clothing, 28 x 28; downloaded once",
    }
    table = Table("--data", "what it is")
    for name in images.NAMES:
        table.add_row(name, about[name])
    table.add_row("FOLDER", "pictures; sub-folders are classes by name, or train, val and test")
    table.add_row("FILE.zip, .tar, .tar.gz", "the same, read in place")
    table.add_row("FILE.npz", "x_train, y_train, x_test, y_test; or x, y; or images, labels")
    table.add_row("FILE.npy", "images (n, height, width) or (n, height, width, channels)")
    table.add_row("FILE.npy, .npz, ...", "a table, floats (n, columns); codes as fit --codes")
    table.add_row("FOLDER", "IDX files as MNIST has them, gzipped or raw")
    table.add_row("FOLDER, cifar-10-python.tar.gz", "batches of CIFAR-10 or CIFAR-100")
    table.add_row("FILE.mat, .h5", f"arrays named as in .npz{_extra('h5py', 'hdf5')}")
    table.add_row(
        "FOLDER or FILE.parquet", f"pictures of Hugging Face{_extra('pyarrow', 'parquet')}"
    )
    return table


def _extra(module: str, extra: str) -> str:
    """How to install a missing library; empty if it is installed."""
    if importlib.util.find_spec(module) is not None:
        return ""
    return escape(f"; pip install 'aeot-jax[{extra}]'")


def _found(path: str) -> tuple[dict[str, Files] | source.Found, str | None]:
    """The pictures of each split, and why `fit` takes none; or the arrays to learn, read once."""
    parts: dict[str, Files] = {}
    try:
        for split in ("train", "test"):
            with contextlib.suppress(NoSplitError):
                found, name = sources.find(path, split)
                if not isinstance(found, Files):
                    return (found, name), None
                parts[split] = found
    except ValueError as error:
        # perhaps only its arrangement is wrong
        pictures = None if path in images.NAMES else sources.all_pictures(path)
        if pictures is None:
            raise
        return {"train": pictures}, str(error).replace("`source`", "`--data`")
    return parts, None


def _describe(
    options: Data,
    path: str,
    files: dict[str, Files],
    refused: str | None,
    out: Console,
    err: Console,
) -> None:
    """Say what pictures there are."""
    extras.require("PIL", "cli", "reads pictures")
    from aeot_jax.cli.screen import described  # pillow takes a while to import
    from aeot_jax.data.pictures.survey import survey

    with source.typed("PATH"), reading(err, quiet=options.quiet) as report:
        parts = {split: (found, survey(found, report)) for split, found in files.items()}
    name = title(Path(path).expanduser().resolve().name)
    held = described.Held(path, name, parts, refused)
    if not held.sizes:
        raise described.nothing_read(held)
    described.show(held, options.pictures, out)


def _describe_arrays(
    options: Data, path: str, found: source.Found, out: Console, err: Console
) -> None:
    """Say what arrays there are, and the command that learns them, or why `fit` refuses them."""
    where, refused = source.Source(source.absolute(path), pictures=options.pictures), None
    with source.typed("PATH"), reading(err, quiet=options.quiet) as report:
        try:
            splits = source.load(where, report, found=found)
            train, test = splits.train, splits.held_out
        except ValueError as error:
            refused, test = str(error), None
            try:
                train = images.made(*found, path, pictures=options.pictures.pictures())
            except ValueError:
                _show_stored(*found, out)
                _say(words.refused(refused), out)
                return
        options.pictures.check(train)
    what = ("rows", "columns") if isinstance(train, Rows) else ("images", _SHAPE)
    table = Table("split", *what, "labels", title=escape(train.name))
    for part, one in {"train": train, "test": test}.items():
        if one is not None:
            shape = " x ".join(str(side) for side in one.values.shape[1:])
            own = words.classes(one.labels, one.label_names)
            table.add_row(part, f"{len(one):,}", shape, escape(own))
            say(one, err, quiet=options.quiet or one is test)  # print notes once
    out.print(table, highlight=False)
    way = words.to_learn(path, options.pictures.as_typed())
    _say(way if refused is None else words.refused(refused), out)


def _show_stored(found: Arrays | Files, name: str, out: Console) -> None:
    """Show an array as it is stored."""
    assert isinstance(found, Arrays)
    shape = " x ".join(map(str, found.images.shape))
    table = Table("shape", "type", "labels", title=escape(name))
    labels = "none" if found.labels is None else f"{np.size(found.labels):,}"
    table.add_row(shape, str(found.images.dtype), labels)
    out.print(table, highlight=False)


def _say(line: str, out: Console) -> None:
    out.print(line, soft_wrap=True, markup=False, highlight=False)
