"""``aeot-jax sample``: new images from a fitted model."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.cli import pieces
from aeot_jax.cli.options import devices, folder
from aeot_jax.cli.options.devices import Number
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.screen.progress import progress
from aeot_jax.drawing import draw_codes
from aeot_jax.model import kind_of, was_interrupted
from aeot_jax.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_MOST_SHOWN = 10_000
"""Most images in a picture."""

_PIECE = 8192
_PIECE_BYTES = 2**28
"""Most images per piece, and most bytes of a piece as floats."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Make new images, rows of a table or codes from a fitted model.

    Attributes:
      run: Folder that `aeot-jax fit` wrote, or a model file.
      num: Number of images, rows or codes to make; any number, because they are written in pieces.
      out: Picture to write, a .png file with a grid of up to 10,000 images. Rows of a table and
        codes are points in a plane, beside those of the data.
      npz: File to write the numbers to: "images", bytes of shape (num, height, width, channels);
        for a table or codes, "rows" or "codes", floats of shape (num, dimensions). An .npy file
        holds the same, not compressed.
      label: Make images of this class, a name or a number; needs a model of `fit --labels`.
      novelty: How new the images are: 0 decodes codes of the data, 1 is as new as unseen data are,
        and "blend" blends up to five codes. By default 1 where `fit` has learned kernels
        (--extension.form), else "blend".
      reject: Draw images near a jump of the map again, or keep them. By default only what is
        blended is drawn again.
      devices: Number of devices to draw on: 1, 2, 4 and so on, up to 256.
      seed: Seed of the draw; the same seed gives the same images.
      quiet: Show no progress.
      debug: Show where an error comes from.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    num: int = 64
    out: Path | None = None
    npz: Path | None = None
    label: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: all classes)", metavar="CLASS")
    ] = None
    novelty: Annotated[str | None, tyro.conf.arg(help_behavior_hint="", metavar="NUMBER|blend")] = (
        None
    )
    reject: bool | None = None
    devices: Number = None
    seed: int = 0
    quiet: bool = False
    debug: bool = False


def run(options: Sample, out: Console, err: Console) -> None:
    """Draw images and write them.

    Args:
      options: from the command line.
      out: console for the result.
      err: console for progress and warnings.

    Raises:
      ValueError: if an option does not fit, the disk has no room, or the model is damaged.
      FileNotFoundError: if there is no model.
      OSError: before any work, if a file cannot be written.
    """
    _check(options)
    model = folder.load_model(options.run)
    folder.warn_of_pictures(options.run, err)
    folder.warn_of_state(options.run, model, err)
    if options.label is not None and model.classes is None:
        if was_interrupted(model):
            raise ValueError(
                f"`--label` is {options.label}, but the fit in {str(options.run)!r} was "
                "interrupted before the maps of its classes; go on with the same `aeot-jax fit` "
                "and --resume."
            )
        raise ValueError(
            f"`--label` is {options.label}, but the model in {str(options.run)!r} was fitted "
            "without labels; fit one with --labels."
        )
    label, novelty = _label(options.label, model), _novelty(options.novelty)
    name = kind_of(model)
    values = math.prod(model.image_shape or model.centre.shape)
    if options.npz is not None:
        width = 1 if name == "images" else 4
        pieces.check_room(options.npz, options.num * values * width, "--num")
    size = max(64, min(_PIECE, _PIECE_BYTES // (4 * values)))
    shown, tally = [], _Tally()
    quiet = options.quiet or options.num <= size
    with contextlib.ExitStack() as opened:
        report = opened.enter_context(progress(err, quiet=quiet))
        write = None
        for pixels in _drawn(options, model, label, novelty, size, tally):
            if options.npz is not None:
                if write is None:
                    made = pieces.writing(options.npz, name, options.num, pixels[0])
                    write = opened.enter_context(made)
                write(pixels)
            if options.out is not None:
                shown.append(pixels)
            report(aeot.Progress(name, tally.images, options.num, f"{tally.images:,} {name}"))
    if options.out is not None:
        title = "" if label is None else str(label)
        plot.save(_picture(model, name, np.concatenate(shown), title), options.out)
    written = " and ".join(str(path) for path in (options.out, options.npz) if path is not None)
    out.print(
        f"{options.num} {name} -> {written} ({100 * tally.rejected / tally.candidates:.1f} % of "
        "the candidates rejected)",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _picture(model: aeot.AEOT, name: str, made: np.ndarray, title: str) -> "Figure | Image":
    """A grid of images; or a scatter plot of new rows beside decoded codes of the data."""
    if name == "images":
        return plot.image_grid(made, title=title)
    codes = np.asarray(model.extension.y)
    some = codes[:: -(-len(codes) // _MOST_SHOWN)]
    return plot.clouds({"data": np.asarray(aeot.decode(model, some)), "new": made}, title)


@dataclasses.dataclass
class _Tally:
    images: int = 0
    candidates: int = 0
    rejected: int = 0


def _check(options: Sample) -> None:
    """Check the options before the model is read."""
    if options.out is None and options.npz is None:
        raise ValueError("neither `--out` nor `--npz` is given; pass a file to write.")
    if options.num < 1:
        raise ValueError(f"`--num` is {options.num}; pass at least 1.")
    for name, path, endings in (
        ("out", options.out, (".png",)),
        ("npz", options.npz, (".npz", ".npy")),
    ):
        if path is not None and path.suffix.lower() not in endings:
            raise ValueError(
                f"`--{name}` is {str(path)!r}; pass a file that ends in {' or '.join(endings)}."
            )
        if path is not None:
            files.check_writable(path, f"--{name}")
    if options.out is not None and options.num > _MOST_SHOWN:
        raise ValueError(
            f"`--num` is {options.num:,}, but a picture shows {_MOST_SHOWN:,} images at most; "
            "write them with --npz alone."
        )


def _label(given: str | None, model: aeot.AEOT) -> str | int | None:
    """A class name as typed, or the class number."""
    if given is None or (model.label_names is not None and given in model.label_names):
        return given
    try:
        return int(given)
    except ValueError:
        return given


def _novelty(given: str | None) -> str | float | None:
    """A number, or the word as typed."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def _drawn(
    options: Sample,
    model: aeot.AEOT,
    label: str | int | None,
    novelty: str | float | None,
    size: int,
    tally: _Tally,
) -> Iterator[np.ndarray]:
    """Yield images as bytes, in pieces; a single piece equals the result of ``aeot.sample``."""
    own = key(options.seed, Purpose.SAMPLE)
    first = devices.first(options.devices)
    for i, start in enumerate(range(0, options.num, size)):
        codes, info = draw_codes(
            jax.random.fold_in(own, i) if i else own,
            model,
            size if options.num > size else options.num,  # one size, one program
            label=label,
            novelty=novelty,
            reject=options.reject,
            devices=first,
        )
        part = np.asarray(aeot.decode(model, codes))[: options.num - start]
        tally.images += len(part)
        tally.candidates += info.candidates
        tally.rejected += info.rejected
        yield np.rint(part * 255).astype(np.uint8) if part.ndim == 4 else part
