"""The pictures of a run, and the numbers that they show."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.options.source import Splits
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.data.tree import title
from aeot_jax.drawing import SampleError, draw_codes
from aeot_jax.evaluate import mean_image, near_copies, novelty, reconstruction
from aeot_jax.model import name_of_class
from aeot_jax.storage import runs
from aeot_jax.typing import PRNGKey

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN = 64
"""Number of images in samples.png."""

_CLASSES, _OF_CLASS = 16, 8
"""With classes: most classes in samples.png, and images of each."""

_DRAWN = 512
"""Images drawn, to estimate the share rejected."""

_PAIRED = 20
"""Most near copies that are named."""

_PAIRS = 48
"""Number of pairs in reconstructions.png."""


class Drawn(NamedTuple):
    """The numbers behind the figures.

    Attributes:
      samples: number of candidates of the new images.
      reconstruction: from `evaluate.reconstruction`, with ``images``: "test", "held out" or
        "training"; None for codes.
      novelty: from `evaluate.novelty`, with ``twins``, names of near copies, if data that were held
        out have some; None if the model has very few codes.
    """

    samples: aeot.SampleInfo
    reconstruction: dict[str, Any] | None
    novelty: dict[str, Any] | None


def draw(model: aeot.AEOT, splits: Splits, seed: int, out: Path) -> Drawn:
    """Draw the pictures of a run into its folder."""
    draw_key = key(seed, Purpose.FIGURES)
    train, judged = splits.train, splits.train if splits.held_out is None else splits.held_out
    (out / runs.RECONSTRUCTIONS).unlink(missing_ok=True)  # codes have none
    kind = splits.kind or "training"
    # In this process alone: others have ended.
    codes, info = draw_codes(draw_key, model, _DRAWN, parallel="none")
    new = np.asarray(aeot.decode(model, codes))
    if isinstance(train, ImageSet) and isinstance(judged, ImageSet):
        by_class = None if model.classes is None else _by_class(draw_key, model)
        plot.save(by_class or plot.image_grid(new[:_SHOWN]), out / runs.SAMPLES)
        measured = _images(model, train, judged, kind, out)
    else:
        plot.save(plot.clouds({"data": train.values, "new": new}), out / runs.SAMPLES)
        measured = None if model.params is None else _rows(model, judged.values, kind, out)
    figure = plot.history(
        np.asarray(model.losses), model.solution, tolerance=model.config.solver.tolerance
    )
    plot.save(figure, out / runs.HISTORY)
    unseen = None if splits.held_out is None else splits.held_out.values
    found = novelty(model, codes, unseen)
    if found is not None and found["num_twins"] and found["unseen"] == "held out":
        assert splits.held_out is not None
        found["twins"] = _named(near_copies(model, splits.held_out.values), splits)
    return Drawn(info, measured, found)


def _named(pairs: np.ndarray, splits: Splits) -> list[list[str]]:
    """Some pairs of near copies: held-out data, and those that are trained on."""

    def name(of: ImageSet | Table, row: int) -> str:
        files = of.files if isinstance(of, ImageSet) else None
        return f"row {row} (from 0)" if files is None else title(files[row])

    held_out = splits.held_out
    assert held_out is not None
    return [[name(held_out, i), name(splits.train, j)] for i, j in pairs[:_PAIRED].tolist()]


def _images(
    model: aeot.AEOT, train: ImageSet, judged: ImageSet, kind: str, out: Path
) -> dict[str, Any]:
    """Draw images and their reconstructions; the error of all."""
    measured = reconstruction(model, judged.images, mean_image(train.images))
    some = judged.images[:: -(-len(judged) // _PAIRS)]
    plot.save(
        plot.reconstructions(
            some,
            np.asarray(aeot.decode(model, aeot.encode(model, some))),
            title=f"{judged.name}: mean squared error {measured['mse']:.4f} per pixel, "
            f"{measured['num_images']:,} {kind} images",
        ),
        out / runs.RECONSTRUCTIONS,
    )
    return {**measured, "images": kind}


def _by_class(draw_key: PRNGKey, model: aeot.AEOT) -> "Image | None":
    """A row of new images for each class; None if every candidate is rejected."""
    assert model.classes is not None
    rows = []
    for i, label in enumerate(np.asarray(model.classes.labels)[:_CLASSES].tolist()):
        key_ = jax.random.fold_in(draw_key, i)
        with contextlib.suppress(SampleError):  # the other classes are still shown
            images = aeot.sample(key_, model, _OF_CLASS, label=label, parallel="none")
            title = name_of_class(model, label)
            rows.append(plot.image_grid(images, columns=_OF_CLASS, title=title))
    return _stacked(rows) if rows else None


def _stacked(pictures: "list[Image]") -> "Image":
    """Stack pictures vertically, on white."""
    from PIL import Image

    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures)
    whole = Image.new(pictures[0].mode, (width, height), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, ((width - picture.width) // 2, top))
        top += picture.height
    return whole


def _rows(model: aeot.AEOT, judged: np.ndarray, kind: str, out: Path) -> dict[str, Any]:
    """Draw rows of a table and their reconstructions as scatter plots; the error of all."""
    measured = reconstruction(model, judged)
    some = judged[:: -(-len(judged) // _DRAWN)]
    decoded = np.asarray(aeot.decode(model, aeot.encode(model, some)))
    pictured = plot.clouds({f"{kind} rows": some, "decoded": decoded})
    plot.save(pictured, out / runs.RECONSTRUCTIONS)
    return {**measured, "images": kind}
