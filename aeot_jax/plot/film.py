"""Walks as film strips: the frames, and below them the faces that the walk crosses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aeot_jax import arguments
from aeot_jax.plot.run import to_bytes
from aeot_jax.plot.style import GREY, RED, STYLE
from aeot_jax.typing import Given
from aeot_jax.walk import Walk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT = 0.5
_TITLE, _FACES, _BELOW, _AXIS = 0.25, 0.6, 0.3, 0.2
"""Heights of the parts of a figure, inches; that of the strip follows from the frames."""

_FRAME, _STRIP = 0.92, 1.15
"""Size of a frame and height of a strip, in units of the distance between frames."""
_TITLES = {
    "source": "along the source",
    "codes": "along the codes",
    "displacement": "along the displacement, from noise to its code",
}


def film_strip(
    *walks: Walk, titles: Sequence[str] | None = None, width: Given[float] = 7.0
) -> "Figure":
    """Draw walks, one below the other.

    Each frame is at its time; a red border marks one that the extension rejects. Below is a line
    for each face that the walk crosses, as high as its plane angle. Singular faces are red, and an
    arrow below the frames marks them; the threshold is dashed.

    Args:
      *walks: from ``interpolate``.
      titles: one title per walk; None names its space.
      width: width of a strip, inches.

    Returns:
      The figure; `save` writes it.

    Raises:
      ValueError: if there is no walk, an argument is not a walk, the number of titles differs, or
        the width is not positive.
    """
    import matplotlib
    from matplotlib.figure import Figure

    _check(walks)
    width = arguments.number("width", width, 0.0, above=True, what="a width in inches")
    titles = [_TITLES[walk.along] for walk in walks] if titles is None else titles
    if len(titles) != len(walks):
        raise ValueError(
            f"`titles` has {len(titles)} entries for {len(walks)} walks; pass one each."
        )
    with matplotlib.rc_context(STYLE):
        strips = [_strip_inches(walk, width) for walk in walks]
        total = sum(strips) + len(walks) * (_TITLE + _FACES + _BELOW) + _AXIS
        figure = Figure(figsize=(_LEFT + width + 0.1, total))

        def add(bottom: float, inches: float) -> "Axes":
            # By hand: a layout engine would move frames of equal aspect away from their times.
            whole = figure.get_figwidth()
            return figure.add_axes((_LEFT / whole, bottom / total, width / whole, inches / total))

        top = total
        for walk, title, inches in zip(walks, titles, strips, strict=True):
            frames, faces = (
                add(top - _TITLE - inches, inches),
                add(top - _TITLE - inches - _FACES, _FACES),
            )
            found = walk.crossings
            frames.set_title(title, loc="left", pad=3)
            faces_met = "1 face" if len(found.t) == 1 else f"{len(found.t)} faces"
            counts = f"{faces_met}, {int(found.singular.sum())} singular"
            frames.set_title(counts, loc="right", fontsize=8, pad=3)
            _draw_frames(frames, walk)
            _draw_faces(faces, walk)
            top -= _TITLE + inches + _FACES + _BELOW
        faces.set_xlabel("t")
    return figure


def _check(walks: tuple[object, ...]) -> None:
    if not walks:
        raise ValueError("`walks` is empty; pass at least one walk.")
    others = [walk for walk in walks if not isinstance(walk, Walk)]
    if others:
        several = isinstance(others[0], list | tuple)
        way_out = "unpack it, film_strip(*walks)" if several else "pass what `interpolate` returns"
        raise ValueError(f"`walks` holds a {type(others[0]).__name__}; {way_out}.")


def _strip_inches(walk: Walk, width: float) -> float:
    """Height of a strip, from its width and the shape of its frames."""
    k, rows, columns, _ = walk.images.shape
    return _STRIP * width / k * rows / columns


def _draw_frames(axes: "Axes", walk: Walk) -> None:
    from matplotlib.patches import Rectangle

    images = to_bytes(np.asarray(walk.images))
    k, height, width, channels = images.shape
    pitch = 1 / (k - 1)
    w, h = _FRAME * pitch, _FRAME * pitch * height / width
    for t, image, rejected in zip(walk.t, images, walk.rejected, strict=True):
        axes.imshow(
            image[..., 0] if channels == 1 else image,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(t - w / 2, t + w / 2, 0, h),
            interpolation="nearest",
        )
        edge = Rectangle((t - w / 2, 0), w, h, fill=False, clip_on=False)
        edge.set(edgecolor=RED if rejected else GREY, linewidth=2 if rejected else 0.5)
        axes.add_patch(edge)
    crossed = walk.crossings.t[walk.crossings.singular]
    below = np.full_like(crossed, -0.13 * h)
    axes.plot(crossed, below, linestyle="", marker="^", color=RED, markersize=4, clip_on=False)
    top = 1.02 * h
    axes.set(xlim=_limits(walk), ylim=(top - _STRIP * h / _FRAME, top), aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_faces(axes: "Axes", walk: Walk) -> None:
    found = walk.crossings
    colour = np.where(found.singular, RED, GREY)
    axes.vlines(found.t, 0, found.angle, colors=list(colour), linewidth=1)
    axes.axhline(walk.threshold, color=GREY, linestyle="--", linewidth=0.8)
    axes.set_yticks([0, round(walk.threshold, 2)])
    top = 1.15 * max([walk.threshold, *found.angle])
    axes.set(xlim=_limits(walk), ylim=(0, top), ylabel="angle")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])


def _limits(walk: Walk) -> tuple[float, float]:
    half = 0.5 / (len(walk.t) - 1)
    return -half, 1 + half
