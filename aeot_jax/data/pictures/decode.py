"""One picture: from the bytes of a file to pixels, upright, at the requested size."""

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from aeot_jax.data.pictures.opening import MOST_PIXELS, SizeError, check_scans, opened
from aeot_jax.data.pictures.shaping import Pictures

_GREY = frozenset({"1", "L", "LA", "La"})


_STRIP = 2**23  # pixels converted at once
_ORIENTATION = 274  # tag of EXIF


class Header(NamedTuple):
    """What the header of a picture says.

    Attributes:
      size: height and width, upright.
      grey: whether it has no colour.
      transparent: whether it can be transparent.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool


def decode(
    file: io.BufferedIOBase, pictures: Pictures, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode a picture, upright, with its alpha composited on white.

    Sixteen bits are rounded to eight; of an animation, the first frame is read.

    Args:
      file: a file open to read bytes, at its beginning.
      pictures: how it becomes an image.
      size: the height and width that it must have if `pictures.size` is None.

    Returns:
      The image, with one channel if it is grey or must become so.

    Raises:
      SizeError: if it has another size; raised before it is decoded.
      ImportError: if a library for its format is missing.
      ValueError: with a reason, if it cannot be read.
    """
    with opened(file) as (image, counted):
        if pictures.size is None and size is not None and _upright_size(image) != size:
            raise SizeError(_upright_size(image))
        turn = _orientation(image)
        check_scans(image, counted)
        goal = pictures.size
        if goal is not None:
            if image.format in ("JPEG", "MPO"):
                image.draft("L" if pictures.colour == "grey" else image.mode, _least(image, goal))
            factor = _factor(image.size, goal, turn, pictures)
        else:
            factor = 1
        with GATE.held(math.prod(image.size)):
            image.load()
            plain = _plain(image, factor, pictures)
            exact = tuple(side / factor for side in image.size)
    if turn in _TURNS:
        plain = plain.transpose(_TURNS[turn])
        exact = exact[::-1] if _TURNS[turn] in _SWAPS else exact
    if goal is not None:
        plain = fitted(plain, goal, pictures, exact)
    pixels = np.asarray(plain)
    return pixels.reshape(*pixels.shape[:2], -1)


def look(file: io.BufferedIOBase) -> Header:
    """Read the header of a picture; raises as `decode`."""
    with opened(file) as (image, _):
        return Header(_upright_size(image), _is_grey(image), image.has_transparency_data)


def fitted(
    image: Image.Image,
    goal: tuple[int, int],
    pictures: Pictures,
    exact: tuple[float, ...] | None = None,
) -> Image.Image:
    """Resize a picture in grey or colour.

    Args:
      image: the upright picture.
      goal: height and width of the result.
      pictures: how to resize.
      exact: width and height of the content, in pixels of `image`, if the last row and column are
        only partly filled.
    """
    height, width = goal
    if image.size == (width, height) and (exact is None or exact == image.size):
        return image
    w, h = exact or image.size
    resample = Image.Resampling.LANCZOS
    if pictures.resize == "pad":
        scale = _scale((w, h), goal, pictures)
        inner = max(1, round(w * scale)), max(1, round(h * scale))
        small = image.resize(inner, resample, box=(0, 0, w, h))
        canvas = Image.new(image.mode, (width, height), "white")
        canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    left = top = 0.0
    if pictures.resize == "crop":
        scale = _scale((w, h), goal, pictures)
        left, top = max(0.0, (w - width / scale) / 2), max(0.0, (h - height / scale) / 2)
    return image.resize((width, height), resample, box=(left, top, w - left, h - top))


class _Gate:
    """Limits the pixels that are decoded at the same time; one larger picture may pass alone."""

    def __init__(self, most: int):
        self._most, self._used = most, 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + pixels <= self._most)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


GATE = _Gate(MOST_PIXELS)

_FLIP = Image.Transpose
_TURNS: dict[int, Any] = {
    2: _FLIP.FLIP_LEFT_RIGHT,
    3: _FLIP.ROTATE_180,
    4: _FLIP.FLIP_TOP_BOTTOM,
    5: _FLIP.TRANSPOSE,
    6: _FLIP.ROTATE_270,
    7: _FLIP.TRANSVERSE,
    8: _FLIP.ROTATE_90,
}
_SWAPS = (_FLIP.TRANSPOSE, _FLIP.TRANSVERSE, _FLIP.ROTATE_90, _FLIP.ROTATE_270)


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 (upright) to 8; damaged EXIF counts as 1."""
    if image.format in ("TIFF", "HEIF"):
        return 1  # the reader turns these
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return turn if turn in _TURNS else 1


def _upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = image.size
    swapped = _TURNS.get(_orientation(image)) in _SWAPS
    return (width, height) if swapped else (height, width)


def _scale(
    size: tuple[int | float, int | float], goal: tuple[int, int], pictures: Pictures
) -> float:
    """The scale of a picture (width, height): the larger ratio of sides, for "pad" the smaller."""
    ratios = goal[1] / size[0], goal[0] / size[1]
    return min(ratios) if pictures.resize == "pad" else max(ratios)


def _factor(size: tuple[int, int], goal: tuple[int, int], turn: int, pictures: Pictures) -> int:
    """The factor of a first reduction by box means, so that the filter still halves the picture."""
    if _TURNS.get(turn) in _SWAPS:
        size = size[1], size[0]
    return max(1, int(1 / (2 * _scale(size, goal, pictures))))


def _least(image: ImageFile.ImageFile, goal: tuple[int, int]) -> tuple[int, int]:
    """The least size (width, height) to which a JPEG file may be reduced while it is decoded."""
    side = 2 * max(goal)
    scale = side / min(image.size)
    return math.ceil(image.size[0] * scale), math.ceil(image.size[1] * scale)


def _plain(image: Image.Image, factor: int, pictures: Pictures) -> Image.Image:
    """Convert a picture to opaque grey or colour, reduced by a factor, in strips."""
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode!r} has no fixed range; save it with 8 bits")
    grey = pictures.colour == "grey" or (pictures.colour is None and _is_grey(image))
    mode = "L" if grey else "RGB"
    width, height = image.size
    rows = max(1, _STRIP // (width * factor)) * factor
    if rows >= height:
        return _opaque(image, mode, factor)
    result = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        result.paste(_opaque(strip, mode, factor), (0, top // factor))
    return result


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY or image.mode.startswith("I;16")


def _opaque(image: Image.Image, mode: str, factor: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert(mode)
    return image if factor == 1 else image.reduce(factor)
