"""``aeot-jax data``: what can be learned, and what a path holds."""

import dataclasses
import importlib.util
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from aeot_jax.cli import source
from aeot_jax.data import images
from aeot_jax.data.images import ImageSet


@dataclasses.dataclass(frozen=True)
class Data:
    """Say what data sets are known, or what a path holds.

    Attributes:
      path: A known name, an .npz file, a folder of IDX files or a folder of images; without it,
        the known names are listed.
      debug: Show where an error comes from.
    """

    path: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="", metavar="[PATH]")
    ] = None
    debug: bool = False


def run(options: Data, out: Console, err: Console) -> None:
    """Print a table.

    Args:
      options: from the command line.
      out: for the table.
      err: for nothing.

    Raises:
      ValueError: if what is at the path cannot be used.
      FileNotFoundError: if there is nothing.
      ConnectionError: if a download fails.
    """
    del err
    out.print(_known() if options.path is None else _held(options.path), highlight=False)


def _known() -> Table:
    installed = importlib.util.find_spec("sklearn") is not None
    about = {
        "digits": "1,797 handwritten digits, 8 x 8; "
        + ("installed" if installed else "pip install 'aeot-jax[demo]'"),
        "mnist": "60,000 + 10,000 handwritten digits, 28 x 28; downloaded once",
        "fashion-mnist": "60,000 + 10,000 pieces of clothing, 28 x 28; downloaded once",
    }
    table = Table("--data", "what it is")
    for name in images.NAMES:
        table.add_row(name, about[name])
    table.add_row("FILE.npz", "x_train, y_train, x_test, y_test; or x, y; or images, labels")
    table.add_row("FOLDER", "IDX files as MNIST has them, gzipped or raw")
    table.add_row("FOLDER", "images of one size; one sub-folder per class gives labels")
    return table


def _held(path: str) -> Table:
    train = images.load(path)
    table = Table("split", "images", "height x width x channels", "labels", title=train.name)
    splits = {"train": train, "test": source.load_test(path)}
    for name, found in splits.items():
        if found is not None:
            shape = " x ".join(str(side) for side in found.images.shape[1:])
            table.add_row(name, f"{len(found):,}", shape, _labels(found))
    return table


def _labels(found: ImageSet) -> str:
    if found.labels is None:
        return "none"
    classes, counts = np.unique(found.labels, return_counts=True)
    return f"{len(classes)} classes of {counts.min():,} to {counts.max():,}"
