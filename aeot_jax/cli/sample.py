"""``aeot-jax sample``: new images from a fitted model."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import files, plot
from aeot_jax.cli import devices, folder
from aeot_jax.cli.devices import Number
from aeot_jax.cli.seeds import Purpose, key


@dataclasses.dataclass(frozen=True)
class Sample:
    """Make new images from a fitted model.

    Attributes:
      run: Folder that `aeot-jax fit` wrote, or a model file.
      num: Images to make.
      out: Picture to write, a .png file with all of them in a grid.
      npz: File to write them to as numbers: "images", bytes of shape (num, height, width,
        channels).
      label: Make images of this class, by its name or number; the model must be one of `fit
        --labels`.
      devices: Devices to draw on, the first so many: 1, 2, 4 or 8.
      seed: Of the draw; the same seed gives the same images.
      debug: Show where an error comes from.
    """

    run: tyro.conf.Positional[Path]
    num: int = 64
    out: Path | None = None
    npz: Path | None = None
    label: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: all classes)", metavar="CLASS")
    ] = None
    devices: Number = None
    seed: int = 0
    debug: bool = False


def run(options: Sample, out: Console, err: Console) -> None:
    """Draw images and write them.

    Args:
      options: from the command line.
      out: for the result.
      err: for warnings.

    Raises:
      ValueError: if an option does not fit or the model is damaged.
      FileNotFoundError: if there is no model.
      OSError: before any work, if a file cannot be written.
    """
    if options.out is None and options.npz is None:
        raise ValueError("neither `--out` nor `--npz` is given; pass a file to write.")
    if options.num < 1:
        raise ValueError(f"`--num` is {options.num}; pass at least 1.")
    for name, path, suffix in (("out", options.out, ".png"), ("npz", options.npz, ".npz")):
        if path is not None and path.suffix.lower() != suffix:
            raise ValueError(f"`--{name}` is {str(path)!r}; pass a file that ends in {suffix}.")
        if path is not None:
            files.check_writable(path, f"--{name}")
    model = folder.load_model(options.run)
    folder.warn_of_pictures(options.run, err)
    if options.label is not None and model.classes is None:
        raise ValueError(
            f"`--label` is {options.label}, but the model in {str(options.run)!r} was fitted "
            "without labels; fit one with --labels."
        )
    label = _label(options.label, model)
    images, info = aeot.sample_with_info(
        key(options.seed, Purpose.SAMPLE),
        model,
        options.num,
        label=label,
        devices=devices.first(options.devices),
    )
    pixels = np.rint(np.asarray(images) * 255).astype(np.uint8)
    if options.npz is not None:
        with files.replacing(options.npz) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, images=pixels)
    if options.out is not None:
        title = "" if label is None else str(label)
        plot.save(plot.image_grid(pixels, title=title), options.out)
    written = " and ".join(str(path) for path in (options.out, options.npz) if path is not None)
    out.print(
        f"{options.num} images -> {written} ({100 * float(info.share_rejected):.1f} % of the "
        "candidates rejected)",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _label(given: str | None, model: aeot.AEOT) -> str | int | None:
    """A class as it was typed: by its name where it has one, else by its number."""
    if given is None or (model.label_names is not None and given in model.label_names):
        return given
    try:
        return int(given)
    except ValueError:
        return given
