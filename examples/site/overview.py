"""Draw the picture of the first page: cells of the noise, codes, new images."""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import images
from aeot_jax.ot.exact import laguerre

KINDS = (0, 1, 4, 6)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Of the kinds of digits; colour-blind readers can tell them apart (Okabe and Ito)."""

RADIUS = 2.6
"""Of the disc that is shown: 97 % of the noise."""


def cells(axes: Axes, ext: aeot.Extension, colours: np.ndarray) -> None:
    """One cell for each image, in the colour of its kind, with the singular faces in red."""
    polygons = laguerre.power_cells(ext.y, ext.h, half_width=2 * RADIUS)
    shown = PolyCollection(polygons, facecolors=colours, edgecolor="white", linewidth=0.5)
    shown.set_alpha(0.6)
    axes.add_collection(shown)
    before = len(axes.collections)
    plot.draw_faces(axes, ext, half_width=RADIUS)
    for lines in axes.collections[before:]:
        lines.set_linewidth(2.2 if lines is axes.collections[-1] else 0.0)
    disc = Circle((0, 0), RADIUS, transform=axes.transData)
    for collection in axes.collections:
        collection.set_clip_path(disc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/overview.png"), help="the figure")
    out = parser.parse_args().out
    digits = images.load("digits")
    assert digits.labels is not None
    chosen = np.isin(digits.labels, KINDS)
    kind = np.searchsorted(KINDS, digits.labels[chosen])
    colours = np.array([to_rgb(colour) for colour in COLOURS])[kind]
    config = aeot.Config(
        aeot.AutoencoderConfig(latent_dim=2), aeot.TrainConfig(epochs=200), source="gaussian"
    )
    model = aeot.fit(jax.random.key(0), digits.images[chosen], config)
    ext = model.extension
    new_codes = np.asarray(aeot.sample_codes(jax.random.key(5), model, 400))
    new_codes = (new_codes - np.asarray(model.centre)) / np.asarray(model.scale)
    new = np.asarray(aeot.sample(jax.random.key(5), model, 36))

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    cells(left, ext, colours)
    left.set(xlim=(-RADIUS, RADIUS), ylim=(-RADIUS, RADIUS), aspect="equal")
    left.set_title("noise: a cell of equal mass for each image;\nred: the map jumps", fontsize=13)
    codes = np.asarray(ext.y)
    middle.scatter(*codes.T, s=26, c=colours, alpha=0.6, linewidth=0)
    middle.scatter(*new_codes.T, s=5, c="black", linewidth=0)
    middle.set_title("codes of the images, and new ones (black)", fontsize=13)
    middle.set_aspect("equal")
    grid = new[..., 0].reshape(6, 6, 8, 8)
    tiles = np.pad(grid, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3).reshape(60, 60)
    right.imshow(tiles, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    right.set_title("new images, decoded", fontsize=13)
    for axes in (left, middle, right):
        axes.set_axis_off()
    print(f"figure in {plot.save(figure, out)}")


if __name__ == "__main__":
    main()
