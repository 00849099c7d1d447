"""The part of the source's plane that a figure shows."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from aeot_jax import arguments
from aeot_jax.measures import Gaussian, Measure, UniformBall, UniformCube
from aeot_jax.plot.style import GREY
from aeot_jax.typing import Given

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = Float[np.ndarray, "..."]

_GAUSSIAN_RADIUS = 3.0
"""Radius shown of N(0, I): the disc holds 98.9 % of the mass."""


class Window(NamedTuple):
    """The square [-R, R]^2, or the disc of radius R.

    Attributes:
      half_width: R.
      disc: whether it is the disc.
    """

    half_width: float
    disc: bool


def window(mu: Given[Measure], half_width: Given[float | None] = None) -> Window:
    """The window of a source: the support of a uniform one, or 3 standard deviations of a Gaussian.

    Args:
      mu: source of dimension 2.
      half_width: R; None follows from the source.

    Raises:
      ValueError: if the dimension is not 2, or `half_width` is None for another source.
    """
    arguments.instance("mu", mu, Measure, "a source measure, as `aeot_jax.Gaussian(dim=2)`")
    if mu.dim != 2:
        raise ValueError(f"`mu` has dimension {mu.dim}; only transport in the plane can be drawn.")
    if half_width is not None:
        positive = {"above": True, "what": "a positive number"}
        half_width = arguments.number("half_width", half_width, 0.0, wide=True, **positive)
    if isinstance(mu, UniformCube):
        return Window(half_width or 0.5, disc=False)
    if isinstance(mu, UniformBall | Gaussian):
        radius = 1.0 if isinstance(mu, UniformBall) else _GAUSSIAN_RADIUS
        return Window(half_width or radius, disc=True)
    if half_width is None:
        raise ValueError(
            f"`half_width` is None, but {type(mu).__name__} does not say how far it reaches; pass "
            "half the side of the square to show."
        )
    return Window(half_width, disc=False)


def frame_source(axes: "Axes", shown: Window) -> None:
    """Draw the outline of the window, and set the limits of the axes to it."""
    from matplotlib.patches import Circle, Rectangle

    reach = shown.half_width
    if shown.disc:
        outline = Circle((0, 0), reach)
    else:
        outline = Rectangle((-reach, -reach), 2 * reach, 2 * reach)
    outline.set(fill=False, edgecolor=GREY, linewidth=0.8, zorder=5)
    axes.add_patch(outline)
    axes.set(xlim=(-1.02 * reach, 1.02 * reach), ylim=(-1.02 * reach, 1.02 * reach))
    axes.set_aspect("equal")
    axes.set_axis_off()


def inside(x: Floats, shown: Window) -> Bool[np.ndarray, " n"]:
    """Whether points (n, 2) lie in the window."""
    reach = np.hypot(*x.T) if shown.disc else np.abs(x).max(1)
    return reach <= shown.half_width
