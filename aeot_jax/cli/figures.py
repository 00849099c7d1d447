"""The pictures of a run, and what drawing them tells."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import aeot_jax as aeot
from aeot_jax import plot, runs
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.cli.source import Splits
from aeot_jax.evaluate import mean_image, reconstruction

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
        "training".
    """

    samples: aeot.SampleInfo
    reconstruction: dict[str, Any]


def draw(model: aeot.AEOT, splits: Splits, seed: int, out: Path) -> Drawn:
    """Draw the pictures of a run into its folder."""
    # By this process alone: of several, the others are done.
    draw_key = key(seed, Purpose.FIGURES)
    images, info = aeot.sample_with_info(draw_key, model, _DRAWN, parallel="none")
    plot.save(plot.image_grid(images[:_SHOWN]), out / runs.SAMPLES)

    judged = splits.train if splits.held_out is None else splits.held_out
    kind = splits.kind or "training"
    measured = reconstruction(model, judged.images, mean_image(splits.train.images))
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
    figure = plot.history(
        np.asarray(model.losses), model.solution, tolerance=model.config.solver.tolerance
    )
    plot.save(figure, out / runs.HISTORY)
    return Drawn(info, {**measured, "images": kind})
