"""Colours and fonts of all figures, and `save`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeot_jax.storage import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#c8551b", "#6b6b6b", "#c8102e"

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}

SUFFIXES = (".png", ".pdf", ".svg")
"""Suffixes of the files that `save` writes; a grid of images is always a .png."""


def save(picture: "Figure | Image", path: str | os.PathLike[str]) -> Path:
    """Write a picture atomically: under another name first, renamed when it is complete.

    Args:
      picture: a figure or a grid of images.
      path: ends in .png, or for a figure in .pdf or .svg; missing parent folders are made.

    Returns:
      The path.

    Raises:
      ValueError: if the suffix is another.
      OSError: if the folder cannot be written or the disk is full; an older file stays.
    """
    from PIL.Image import Image

    target = Path(path)
    suffix = target.suffix.lower()
    allowed = SUFFIXES[:1] if isinstance(picture, Image) else SUFFIXES
    if suffix not in allowed:
        raise ValueError(
            f"`path` {str(target)!r} ends in {suffix!r}; this picture is written as "
            f"{' or '.join(allowed)}."
        )
    with files.replacing(target) as temporary:
        if isinstance(picture, Image):
            picture.save(temporary, optimize=True)
        else:
            picture.savefig(temporary, dpi=200, bbox_inches="tight", pad_inches=0.05)
    return target
