"""A picture of a page, with its words: a grid of images, a chart, or a file made smaller.

Charts are SVG, drawn once in the colours of a light page and written again in those of a dark one.
Grids of images are PNG with transparent gaps, which serve both.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aeot_jax.plot.run import to_bytes
from aeot_jax.plot.style import BLUE, GREY, ORANGE, RED, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#20262c"

PAGE_STYLE: Any = {
    **STYLE,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "axes.edgecolor": _INK,
    "svg.hashsalt": "report",  # the same bytes of the same figure
}

_DARK = {
    _INK: "#d9dee4",
    "#000000": "#d9dee4",
    "#ffffff": "#15191e",
    BLUE: "#6aa7ea",
    ORANGE: "#f0894f",
    GREY: "#9aa3ad",
    RED: "#ff6b7d",
}
"""Colours of a light page, and those of a dark page in their place."""

_INCHES = (3.9, 2.7)
"""Size of a chart: as wide as a phone, so that its text stays readable."""

_GRID = 480
"""Longer side of a picture that is made smaller, pixels."""

_TILE = 64
"""Side to which a small image is enlarged, by an integer factor, pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture with its words.

    Attributes:
      title: title, a few words.
      light: data URI for a light page.
      alt: a description, for readers who cannot see it.
      caption: what a good result looks like, a sentence.
      dark: data URI for a dark page; None if `light` serves both.
      labels: labels below the columns of a grid.
      wide: whether it is as wide as the page.
      crisp: whether its pixels must stay sharp squares.
    """

    title: str
    light: str
    alt: str
    caption: str
    dark: str | None = None
    labels: tuple[str, ...] = ()
    wide: bool = False
    crisp: bool = False


def grid(
    images: np.ndarray,
    *,
    columns: int,
    side: int,
    title: str,
    alt: str,
    caption: str,
    labels: Sequence[str] = (),
    wide: bool = False,
) -> Picture:
    """A grid of images.

    Args:
      images: (n, h, w, c), bytes or floats in [0, 1].
      columns: images per row.
      side: largest longer side of an image, pixels.
      title: see ``Picture``.
      alt: see ``Picture``.
      caption: see ``Picture``.
      labels: see ``Picture``.
      wide: see ``Picture``.
    """
    from PIL import Image

    tiles = [_tile(image, side) for image in to_bytes(images)]
    height, width = tiles[0].shape[:2]
    gap = max(2, max(height, width) // 16)
    rows = -(-len(tiles) // columns)
    canvas = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, tiles[0].shape[2] + 1),
        np.uint8,
    )
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width, :-1] = tile
        canvas[top : top + height, left : left + width, -1] = 255
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG", optimize=True)
    uri = _uri("image/png", file.getvalue())
    crisp = tiles[0].shape[0] > images.shape[1]
    return Picture(title, uri, alt, caption, labels=tuple(labels), wide=wide, crisp=crisp)


def _tile(image: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    height, width, _ = image.shape
    longest = max(height, width)
    if longest > side:
        size = max(1, width * side // longest), max(1, height * side // longest)
        plain = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        small = np.asarray(plain.resize(size, Image.Resampling.LANCZOS))
        return small.reshape(*small.shape[:2], -1)
    factor = max(1, min(_TILE, side) // longest)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def chart(
    draw: Callable[["Axes"], None], *, title: str, alt: str, caption: str, wide: bool = False
) -> Picture:
    """A chart with one pair of axes.

    Args:
      draw: a function that draws on the axes.
      title: see ``Picture``.
      alt: see ``Picture``.
      caption: see ``Picture``.
      wide: see ``Picture``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(PAGE_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title("")  # the page has its own title
        light, dark = written(figure)
    return Picture(title, light, alt, caption, dark, wide=wide)


def written(figure: "Figure", **options: Any) -> tuple[str, str]:
    """The data URIs of a figure, for a light page and for a dark one."""
    file = io.StringIO()
    same: Any = {"Date": None}
    figure.savefig(file, format="svg", transparent=True, dpi=160, metadata=same, **options)
    text = file.getvalue()
    dark = text
    for colour, other in _DARK.items():
        dark = dark.replace(colour, other)
    return _uri("image/svg+xml", text.encode()), _uri("image/svg+xml", dark.encode())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def photograph(data: bytes, *, title: str, alt: str, caption: str) -> Picture:
    """An existing picture, made small enough for a page.

    Args:
      data: the bytes of a PNG file.
      title: see ``Picture``.
      alt: see ``Picture``.
      caption: see ``Picture``.

    Raises:
      OSError: if it is not a picture.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((_GRID, _GRID))
        file = io.BytesIO()
        image.convert("L" if image.mode == "L" else "RGB").save(file, "PNG", optimize=True)
    return Picture(title, _uri("image/png", file.getvalue()), alt, caption)
