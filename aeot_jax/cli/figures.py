"""The pictures of a run, and what drawing them tells."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import aeot_jax as aeot
from aeot_jax import plot, runs
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.cli.source import Splits
from aeot_jax.data.images import ImageSet
from aeot_jax.drawing import draw_codes
from aeot_jax.evaluate import mean_image, reconstruction
from aeot_jax.typing import PRNGKey

_SHOWN = 64
"""Images in samples.png."""

_DRAWN = 512
"""Images drawn, to know the share rejected."""

_PAIRS = 48
"""Pairs in reconstructions.png."""


class Drawn(NamedTuple):
    """What the figures show, in numbers.

    Attributes:
      samples: how many candidates the new images took.
      reconstruction: from `evaluate.reconstruction`, and ``images``: "test", "held out" or
        "training"; None of codes.
    """

    samples: aeot.SampleInfo
    reconstruction: dict[str, Any] | None


def draw(model: aeot.AEOT, splits: Splits, seed: int, out: Path) -> Drawn:
    """Draw the pictures of a run into its folder."""
    draw_key = key(seed, Purpose.FIGURES)
    train, judged = splits.train, splits.train if splits.held_out is None else splits.held_out
    (out / runs.RECONSTRUCTIONS).unlink(missing_ok=True)  # codes have none
    if isinstance(train, ImageSet) and isinstance(judged, ImageSet):
        drawn = _images(draw_key, model, train, judged, splits.kind or "training", out)
    else:
        drawn = _rows(draw_key, model, train.values, judged.values, splits.kind or "training", out)
    figure = plot.history(
        np.asarray(model.losses), model.solution, tolerance=model.config.solver.tolerance
    )
    plot.save(figure, out / runs.HISTORY)
    return drawn


def _images(
    draw_key: PRNGKey, model: aeot.AEOT, train: ImageSet, judged: ImageSet, kind: str, out: Path
) -> Drawn:
    # By this process alone: of several, the others are done.
    images, info = aeot.sample_with_info(draw_key, model, _DRAWN, parallel="none")
    plot.save(plot.image_grid(images[:_SHOWN]), out / runs.SAMPLES)
    measured = reconstruction(model, judged.images, mean_image(train.images))
    some = judged.images[:: -(-len(judged) // _PAIRS)]
    plot.save(
        plot.reconstructions(
            some,
            np.asarray(aeot.decode(model, aeot.encode(model, some))),
            title=f"{judged.name}: mean squared error {measured['mse']:.4f} a pixel, "
            f"{measured['num_images']:,} {kind} images",
        ),
        out / runs.RECONSTRUCTIONS,
    )
    return Drawn(info, {**measured, "images": kind})


def _rows(
    draw_key: PRNGKey,
    model: aeot.AEOT,
    train: np.ndarray,
    judged: np.ndarray,
    kind: str,
    out: Path,
) -> Drawn:
    """The same of a table or of codes, as clouds of points."""
    standard, info = draw_codes(draw_key, model, _DRAWN, parallel="none")
    new = np.asarray(aeot.decode(model, standard))
    plot.save(plot.clouds({"data": train, "new": new}), out / runs.SAMPLES)
    if model.params is None:
        return Drawn(info, None)
    measured = reconstruction(model, judged)
    some = judged[:: -(-len(judged) // _DRAWN)]
    decoded = np.asarray(aeot.decode(model, aeot.encode(model, some)))
    pictured = plot.clouds({f"{kind} rows": some, "decoded": decoded})
    plot.save(pictured, out / runs.RECONSTRUCTIONS)
    return Drawn(info, {**measured, "images": kind})
