"""Options on how pictures become images of one size."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from aeot_jax.data.pictures.convert import MAX_SIDE, MIN_SIDE

Resize = Literal["crop", "pad", "stretch"]
Colour = Literal["grey", "colour"]


@dataclass(frozen=True)
class Pictures:
    """How pictures become images of one size.

    Attributes:
      size: height and width of the images, pixels; None keeps the size of the pictures, which must
        be the same for all.
      resize: what to do with a picture of another aspect ratio: "crop" keeps its middle, "pad" adds
        white margins, "stretch" distorts it.
      colour: "grey" or "colour" converts all images; None makes them grey if every picture is.
      skip_broken: leave out pictures that cannot be read, and name them.
    """

    size: Any = None  # checked below
    resize: str = "crop"
    colour: str | None = None
    skip_broken: Any = False  # checked below

    def __post_init__(self):
        if self.size is not None:
            check_size(self.size)
        for name, value, known in (
            ("resize", self.resize, get_args(Resize)),
            ("colour", self.colour, (None, *get_args(Colour))),
        ):
            if value not in known:
                ways = ", ".join(map(repr, known))
                raise ValueError(f"`{name}` is {value!r}; pass one of {ways}.")
        if not isinstance(self.skip_broken, bool):
            raise ValueError(f"`skip_broken` is {self.skip_broken!r:.80}; pass True or False.")

    @property
    def channels(self) -> int | None:
        """Channels of the images; None if they depend on the pictures."""
        return None if self.colour is None else 1 if self.colour == "grey" else 3


def check_size(size: Any) -> None:
    """Raise a ValueError unless a size is a supported (height, width)."""
    good = (
        isinstance(size, tuple)
        and len(size) == 2
        and all(type(side) is int and MIN_SIDE <= side <= MAX_SIDE for side in size)
    )
    if not good:
        raise ValueError(
            f"`size` is {size!r}; pass (height, width), each from {MIN_SIDE} to {MAX_SIDE} pixels."
        )


def usual_side(pixels: int) -> int:
    """The side, a power of two up to 64, to which pictures of this shorter side are resized."""
    return min(64, 2 ** int(math.log2(max(MIN_SIDE, pixels))))


def way_out(height: int, width: int) -> str:
    """The option that resizes pictures of this size to a usual one, for errors."""
    side = usual_side(min(height, width))
    return (
        f"learn all at one size: --image-size {side} "
        f"(in Python `pictures=images.Pictures(size=({side}, {side}))`)"
    )


def check_sides(height: int, width: int, what: str) -> None:
    """Raise a ValueError unless the size of a picture is supported.

    Args:
      height: height, pixels.
      width: width, pixels.
      what: name of the picture, for the error.
    """
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
        large = max(height, width) > MAX_SIDE
        raise ValueError(
            f"the size {height} x {width} of {what} is outside {MIN_SIDE} to {MAX_SIDE} pixels a "
            f"side; {'crop or shrink' if large else 'enlarge'} to fit, or {way_out(height, width)}."
        )
