"""Figures of a run: grids of images, reconstructions, histories."""

import math
from typing import TYPE_CHECKING

import numpy as np

from aeot_jax import arguments
from aeot_jax.ot.counts.words import in_words
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.plot.style import BLUE, GREY, ORANGE, STYLE
from aeot_jax.typing import ArrayLike, Given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from PIL.Image import Image

_GRID_PIXELS = 960
"""Longer side of a grid, roughly; tiles are enlarged by whole factors up to it."""

_TILE_PIXELS = 64
"""Largest longer side of an enlarged tile."""


def image_grid(
    images: ArrayLike,
    *,
    columns: Given[int | None] = None,
    scale: Given[int | None] = None,
    title: str = "",
) -> "Image":
    """Arrange images in a grid on white.

    Args:
      images: (n, h, w, c), uint8, or floats in [0, 1]; c 1 or 3.
      columns: images per row; None makes the grid about square.
      scale: integer factor of enlargement; None enlarges small images.
      title: text above the grid, such as the name of a class.

    Returns:
      The picture; `save` writes it.

    Raises:
      ValueError: if the images have another shape or range, or a number is less than 1.
    """
    from PIL import Image

    pixels = to_bytes(images)
    n, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(n * height / width)) if columns is None else columns
    columns = min(arguments.count("columns", columns), n)
    scale = None if scale is None else arguments.count("scale", scale)
    rows = math.ceil(n / columns)
    if scale is None:
        fits = _GRID_PIXELS // max(columns * width, rows * height)
        scale = max(1, min(fits, _TILE_PIXELS // max(height, width)))
    canvas = tiled(pixels, columns, scale)
    grid = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    return _titled(grid, title) if title else grid


def _titled(grid: "Image", title: str) -> "Image":
    """Add a line of text above a grid."""
    from PIL import Image, ImageDraw, ImageFont

    size = 16
    try:  # a font with many alphabets, from matplotlib
        from matplotlib import font_manager

        font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
    except ImportError:
        font = ImageFont.load_default(size)
    left, _, right, _ = map(math.ceil, font.getbbox(title))
    width = max(grid.width, right - left + size)
    titled = Image.new(grid.mode, (width, grid.height + 2 * size), "white")
    titled.paste(grid, ((width - grid.width) // 2, 2 * size))
    ImageDraw.Draw(titled).text((width // 2, size), title, "black", font, anchor="mm")
    return titled


def reconstructions(
    originals: ArrayLike, decoded: ArrayLike, *, title: str = "", columns: Given[int] = 12
) -> "Figure":
    """Draw originals above their reconstructions, in bands.

    Args:
      originals: (n, h, w, c), uint8, or floats in [0, 1].
      decoded: the reconstructions, of the same shape.
      title: title of the figure.
      columns: pairs per band.

    Returns:
      The figure; `save` writes it.

    Raises:
      ValueError: if the shapes differ, or the images have another shape or range.
    """
    import matplotlib
    from matplotlib.figure import Figure

    above, below = to_bytes(originals, "originals"), to_bytes(decoded, "decoded")
    if above.shape != below.shape:
        raise ValueError(
            f"`originals` has shape {above.shape} and `decoded` {below.shape}; pass pairs."
        )
    n, height, width, _ = above.shape
    columns = min(arguments.count("columns", columns), n)
    scale = max(1, _TILE_PIXELS // max(height, width))
    bands = math.ceil(n / columns)
    inches = 6.5  # the text width of a page
    tile = inches / columns * height / width
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(inches + 1, bands * (2 * tile + 0.12) + 0.5), layout="constrained")
        for band, axes in enumerate(figure.subplots(bands, 1, squeeze=False)[:, 0]):
            part = slice(band * columns, (band + 1) * columns)
            missing = columns - len(above[part])
            white = np.full((missing, *above.shape[1:]), 255, np.uint8)
            pairs = np.concatenate([above[part], white, below[part], white])
            strip = tiled(pairs, columns, scale)
            axes.imshow(
                strip.squeeze(-1) if strip.shape[-1] == 1 else strip,
                cmap="gray",
                vmin=0,
                vmax=255,
                interpolation="nearest",
            )
            axes.set_yticks([strip.shape[0] / 4, strip.shape[0] * 3 / 4], ["original", "decoded"])
            axes.set_xticks([])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        if title:
            figure.suptitle(title, fontsize=9)
    return figure


def history(
    losses: ArrayLike, solution: Given[Solution], *, tolerance: Given[float | None]
) -> "Figure":
    """Draw the loss of the autoencoder, and the mass error of the transport.

    On the right, the line is the solver's running estimate. The point with its bar is the certified
    value and its upper bound, from samples that nothing else has used. The dotted line is
    sqrt(m / n), the limit of a solver that only counts n samples.

    Args:
      losses: mean loss of each epoch (epochs,); if empty, only the right side is drawn.
      solution: the solution of the transport problem.
      tolerance: the requested mass error; None if there was none.

    Returns:
      The figure; `save` writes it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    values = _losses(losses)
    arguments.instance("solution", solution, Solution, "what `aeot_jax.solve` returns")
    if tolerance is not None:
        positive = {"above": True, "what": "a positive number, or None"}
        tolerance = arguments.number("tolerance", tolerance, 0.0, **positive)
    with matplotlib.rc_context(STYLE):
        sides = 2 if values.size else 1
        figure = Figure(figsize=(3.75 * sides, 2.9), layout="constrained")
        *left, right = figure.subplots(1, sides, squeeze=False)[0]
        for axes in left:
            draw_losses(axes, values)
        draw_mass_error(right, solution, tolerance)
    return figure


def _losses(losses: ArrayLike) -> np.ndarray:
    values = arguments.known("losses", losses)
    if values.ndim != 1:
        raise ValueError(f"`losses` has shape {values.shape}; pass one number per epoch.")
    return values


def draw_losses(axes: "Axes", losses: ArrayLike) -> None:
    """Draw the mean loss of each epoch (epochs,) on a logarithmic axis.

    Raises:
      ValueError: if the losses are not numbers, one per epoch.
    """
    losses = _losses(losses)
    epochs = np.arange(1, len(losses) + 1)
    axes.plot(epochs, losses, color=BLUE, marker="o" if len(losses) < 3 else "", markersize=3)
    axes.set_yscale("log")
    _number(axes.yaxis, losses)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_title("autoencoder")


def draw_mass_error(axes: "Axes", solution: Solution, tolerance: float | None) -> None:
    """Draw the running estimate, the certified value with its bar, and the tolerance."""
    n = np.asarray(solution.history.num_samples, np.float64)
    error = np.asarray(solution.history.mass_error, np.float64)
    error_se = np.asarray(solution.history.mass_error_se, np.float64)
    drawn = max(float(solution.num_samples), 1.0)
    certified, certified_se = float(solution.mass_error), float(solution.mass_error_se)
    upper = float(solution.certificate.upper)
    words = in_words(certified, certified_se, upper)
    upper = upper if np.isfinite(upper) else certified + 2 * certified_se
    told = certified >= 2 * certified_se  # whether it differs from 0
    certified = certified if told else upper
    axes.set_xscale("log")
    axes.set_yscale("log")
    visible = error > 0  # a logarithmic axis cannot show an estimate at or below 0
    n, error, error_se = n[visible], error[visible], error_se[visible]
    shown = [value for value in (*error, certified, tolerance or 0.0) if 0 < value < np.inf]
    if shown:  # do not extend the axis to the band, which may reach 0
        axes.set_ylim(min(shown) / 3, 1.5 * max(shown))
    axes.fill_between(
        n,
        np.maximum(error - 2 * error_se, error / 10),
        error + 2 * error_se,
        color=BLUE,
        alpha=0.2,
        linewidth=0,
    )
    marker = "o" if len(n) < 3 else ""
    axes.plot(n, error, color=BLUE, marker=marker, markersize=3, label="running estimate")
    m = int(np.isfinite(np.asarray(solution.h)).sum())
    span = np.array([min([*n, drawn]), drawn])
    if span[0] < span[1]:
        axes.plot(span, np.sqrt(m / span), color=GREY, linestyle=":", label="sampling limit")
    if certified > 0 and np.isfinite(upper):
        axes.errorbar(
            [drawn],
            [certified],
            yerr=[[min(upper - certified, 0.9 * certified)], [upper - certified]] if told else None,
            color=ORANGE,
            marker="o" if told else "v",
            markersize=4,
            capsize=3,
            linestyle="",
            zorder=3,
            label=f"certified {words}",
        )
    _number(axes.xaxis, np.array([*n, drawn]))
    _number(axes.yaxis, np.array(shown))
    if tolerance is not None:
        axes.axhline(tolerance, color=GREY, linestyle="--", linewidth=1, label="tolerance")
    axes.set_xlabel("samples")
    axes.set_ylabel("mass error")
    axes.set_title("transport")
    axes.legend()


def _number(axis: "Axis", values: np.ndarray) -> None:
    """Label a logarithmic axis at 1, 2, 5 if it spans less than two decades, with few digits."""
    from matplotlib import ticker

    values = values[(values > 0) & np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(ticker.EngFormatter(sep="") if low >= 1 else "{x:g}")
    if high < 3 * low:  # no tick may lie between
        axis.set_major_locator(ticker.FixedLocator([*{low, high}]))
        axis.set_major_formatter(ticker.EngFormatter(places=0, sep="") if low >= 1 else "{x:.2g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def tiled(tiles: np.ndarray, columns: int, scale: int) -> np.ndarray:
    """Arrange tiles (n, h, w, c) on white, enlarged by an integer factor, with thin gaps."""
    n, height, width, channels = tiles.shape
    rows = math.ceil(n / columns)
    gap = max(1, scale // 2)
    height, width = scale * height, scale * width
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    canvas = np.full(shape, 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        enlarged = tile.repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[top : top + height, left : left + width] = enlarged
    return canvas


def to_bytes(images: ArrayLike, name: str = "images") -> np.ndarray:
    """Convert images to bytes (n, h, w, c); `name` is for errors."""
    x = np.asarray(arguments.host_array(name, images))
    if x.ndim != 4 or x.size == 0 or x.shape[3] not in (1, 3):
        raise ValueError(f"`{name}` has shape {x.shape}; pass (n, height, width, 1 or 3).")
    if x.dtype == np.uint8:
        return x
    # NaN fails both comparisons; decoded images may be outside by a rounding error
    if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        raise ValueError(
            f"`{name}` runs from {x.min():g} to {x.max():g}; pass uint8, or floats in [0, 1]."
        )
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
