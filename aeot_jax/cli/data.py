"""``aeot-jax data``: the known data sets, and the content of a path."""

import dataclasses
import importlib.util
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aeot_jax.cli.options import source
from aeot_jax.cli.options.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.cli.options.reading import reading, say
from aeot_jax.data import images
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table as Rows
from aeot_jax.data.tree import title

_SHOWN = 20
"""Most classes that are listed by name."""

_SHAPE = "height x width x channels"


@dataclasses.dataclass(frozen=True)
class Data:
    """Say what data sets are known, or what a path holds.

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
    """Print a table.

    Args:
      options: from the command line.
      out: console for the table.
      err: console for progress and remarks.

    Raises:
      ValueError: if the data at the path cannot be used.
      FileNotFoundError: if the path does not exist.
      ConnectionError: if a download fails.
    """
    table = _known() if options.path is None else _held(options, options.path, err)
    out.print(table, highlight=False)


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


def _held(options: Data, path: str, err: Console) -> Table:
    pictures = options.pictures.pictures()
    with source.typed("PATH"), reading(err, quiet=options.quiet) as report:
        train = images.read(path, pictures=pictures, on_progress=report)
        options.pictures.check(train)
        test = source.load_test(path, source.like(pictures, train), report)
    what = ("rows", "columns") if isinstance(train, Rows) else ("images", _SHAPE)
    table = Table("split", *what, "labels", title=escape(train.name))
    for name, found in {"train": train, "test": test}.items():
        if found is not None:
            shape = " x ".join(str(side) for side in found.values.shape[1:])
            table.add_row(name, f"{len(found):,}", shape, _labels(found))
            say(found, err, quiet=options.quiet or found is test)  # print notes once
    return table


def _labels(found: ImageSet | Rows) -> str:
    if found.labels is None:
        return "none"
    classes, counts = np.unique(found.labels, return_counts=True)
    if found.label_names is None or len(classes) > _SHOWN:
        return f"{len(classes)} classes of {counts.min():,} to {counts.max():,}"
    names = [title(found.label_names[number]) for number in classes]
    listed = ", ".join(f"{name} ({count:,})" for name, count in zip(names, counts, strict=True))
    return escape(listed)  # names may hold brackets, which are markup for rich
