"""Options of commands that read pictures: size, and grey or colour."""

import dataclasses
import re
from typing import Annotated

import tyro

from aeot_jax.data.images import ImageSet
from aeot_jax.data.pictures.shaping import Pictures, Resize
from aeot_jax.data.tables import Table
from aeot_jax.nn.config import MAX_SIDE, MIN_SIDE


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """How pictures become images of one size.

    Attributes:
      image_size: Size of the images, height x width or one number for both, such as 64 or 48x64;
        needed if pictures differ in size.
      resize: What to do with a picture of another aspect ratio: crop keeps its middle, pad adds
        white margins, stretch distorts it.
      grey: Make all images grey.
      colour: Make all images colour; without either they are grey if every picture is.
      skip_broken: Leave out pictures that cannot be read, and name them.
    """

    image_size: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: as it is)", metavar="SIZE")
    ] = None
    resize: Resize = "crop"
    grey: bool = False
    colour: bool = False
    skip_broken: bool = False

    def pictures(self) -> Pictures:
        """The options as the readers take them.

        Raises:
          ValueError: if the size is not valid, or both --grey and --colour are given.
        """
        if self.grey and self.colour:
            raise ValueError("`--grey` and `--colour` exclude each other; give one of them.")
        colour = "grey" if self.grey else "colour" if self.colour else None
        return Pictures(self._size(), self.resize, colour, self.skip_broken)

    def as_typed(self) -> list[str]:
        """The options as the user types them, without those that are as by default."""
        size = [] if self.image_size is None else ["--image-size", self.image_size]
        resize = [] if self.resize == AS_THEY_ARE.resize else ["--resize", self.resize]
        flags = {"--grey": self.grey, "--colour": self.colour, "--skip-broken": self.skip_broken}
        return size + resize + [name for name, given in flags.items() if given]

    def check(self, found: ImageSet | Table) -> None:
        """Refuse options of pictures for data that are no pictures.

        Raises:
          ValueError: if one is given for a table.
        """
        if isinstance(found, Table) and self != AS_THEY_ARE:
            raise ValueError(
                f"the data are a table of {found.values.shape[1]} columns, but options of pictures "
                "are given; leave out --image-size, --resize, --grey, --colour and --skip-broken."
            )

    def _size(self) -> tuple[int, int] | None:
        if self.image_size is None:
            return None
        found = re.fullmatch(r"(\d{1,4})(?:[xX](\d{1,4}))?", self.image_size, re.ASCII)
        if found is not None:
            height = int(found[1])
            width = int(found[2] or height)
            if all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
                return height, width
        raise ValueError(
            f"`--image-size` is {self.image_size!r:.40}; pass one number or height x width, each "
            f"from {MIN_SIDE} to {MAX_SIDE}, as 64 or 48x64."
        )


AS_THEY_ARE = PictureOptions()
"""The default."""
