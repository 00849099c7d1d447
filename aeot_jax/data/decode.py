"""One picture: from a file's bytes to pixels, upright, at the size that was asked for.

Files are hostile until shown otherwise: what is read and how much work it may cause is bounded by
the pixels that a header announces, and these by `MOST_PIXELS`. Errors are reasons, which the caller
completes to a sentence.
"""

import io
import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError, features

from aeot_jax.data.convert import MAX_SIDE, MIN_SIDE
from aeot_jax.data.pictures import Pictures, way_out
from aeot_jax.files import reason

MOST_PIXELS = 100_000_000
"""Most pixels of a picture."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF")
"""What a file may hold, whatever its ending; pillow runs other programs for some other formats."""

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What HEIF files begin with, after b"ftyp"."""

_GREY = frozenset({"1", "L", "LA", "La"})
_HEAD = 2**24
"""Most bytes of what is no pixels: text, profiles, previews."""

_WHOLE = 2**28
"""Most bytes of a file of a format that is read whole."""

_BRANDS = 40  # bytes
_PER_PIXEL = 16  # bytes: four channels of sixteen bits, twice
_CALL = 64  # a call to read costs as much as so many bytes
_SCANS, _WORK = 64, 2**26
"""Scans of a progressive JPEG file, which has about ten; more are read if pixels are few."""

_STRIP = 2**23  # pixels converted at once
_ORIENTATION = 274  # tag of EXIF

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# What pillow logs it raises too; without a handler Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class SizeError(Exception):
    """A picture is of another size than the first.

    Attributes:
      size: height and width, upright.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__(size)
        self.size = size


def decode(
    file: io.BufferedIOBase, pictures: Pictures, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """Decode a picture, upright, its alpha composited on white.

    Sixteen bits are rounded to eight, and of an animation the first frame is read.

    Args:
      file: open to read bytes, at its beginning.
      pictures: how it becomes an image.
      size: height and width that it must have if `pictures.size` is None.

    Returns:
      The image, of one channel if it is grey or shall be.

    Raises:
      SizeError: if it has another size; before it is decoded.
      ImportError: if a library for its format is missing; a sentence.
      ValueError: if it cannot be read; a reason.
    """
    with _opened(file) as (image, counted):
        if pictures.size is None and size is not None and _upright_size(image) != size:
            raise SizeError(_upright_size(image))
        turn = _orientation(image)
        _check_scans(image, counted)
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


def measure(file: io.BufferedIOBase) -> tuple[int, int]:
    """Height and width of a picture, upright, from its header; raises as `decode`."""
    with _opened(file) as (image, _):
        return _upright_size(image)


def fitted(
    image: Image.Image,
    goal: tuple[int, int],
    pictures: Pictures,
    exact: tuple[float, ...] | None = None,
) -> Image.Image:
    """Bring a picture in grey or colour to a size.

    Args:
      image: upright.
      goal: height and width.
      pictures: how.
      exact: width and height of what is in the picture, where the last row and column hold less
        than the others.
    """
    height, width = goal
    if image.size == (width, height) and (exact is None or exact == image.size):
        return image
    w, h = exact or image.size
    resample = Image.Resampling.LANCZOS
    if pictures.resize == "pad":
        scale = min(height / h, width / w)
        inner = max(1, round(w * scale)), max(1, round(h * scale))
        small = image.resize(inner, resample, box=(0, 0, w, h))
        canvas = Image.new(image.mode, (width, height), "white")
        canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    left = top = 0.0
    if pictures.resize == "crop":
        scale = max(height / h, width / w)
        left, top = max(0.0, (w - width / scale) / 2), max(0.0, (h - height / scale) / 2)
    return image.resize((width, height), resample, box=(left, top, w - left, h - top))


class _Gate:
    """Lets so many pixels be decoded at once, or one picture of more."""

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


@contextmanager
def _opened(file: io.BufferedIOBase) -> Iterator[tuple[ImageFile.ImageFile, "_Counted"]]:
    """A picture of which the header has been read; whatever goes wrong becomes a reason."""
    try:
        counted = _Counted(file)
        first = counted.read(_BRANDS)
        counted.seek(0)
        whole = first[:4] == b"RIFF" or first[4:8] == b"ftyp"
        counted.left = _WHOLE if whole else _HEAD
        formats = FORMATS
        if first[4:8] == b"ftyp":
            formats = (_of_brand(first),)
        with Image.open(cast(IO[bytes], counted), formats=formats) as image:
            if math.prod(image.size) > MOST_PIXELS:
                raise _too_large(*image.size)
            counted.left = counted.size_of(math.prod(image.size))
            yield image, counted  # pyright: ignore[reportReturnType]
    except (SizeError, ImportError):
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MOST_PIXELS // 10**6} megapixels") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(sorted(FORMATS))}, or damaged") from error
    except Exception as error:  # what pillow raises at damaged bytes depends on the format
        raise ValueError(reason(error)) from error


def _too_large(width: int, height: int) -> ValueError:
    return ValueError(
        f"it has {height} x {width} pixels, more than {MOST_PIXELS // 10**6} megapixels"
    )


def _of_brand(first: bytes) -> str:
    """The format of a file that begins with its brands; HEIF is read by a plugin of pillow."""
    if b"avif" in first or b"avis" in first or first[8:12] not in _HEIF:
        if not features.check("avif"):
            raise ImportError(
                "pictures in AVIF need a newer pillow; install it with: pip install -U pillow."
            )
        return "AVIF"
    with _HEIF_LOCK:
        try:
            import pillow_heif
        except ImportError as error:
            raise ImportError(
                "pictures in HEIC need pillow-heif, which is missing; install it with: "
                "pip install 'aeot-jax[heic]'."
            ) from error
        if "HEIF" not in Image.OPEN:
            pillow_heif.register_heif_opener()
    return "HEIF"


_HEIF_LOCK = threading.Lock()


def _orientation(image: ImageFile.ImageFile) -> int:
    """How the picture is turned, as EXIF says it: 1 upright to 8; damaged EXIF says nothing."""
    if image.format in ("TIFF", "HEIF"):
        return 1  # turned by those who read them
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return turn if turn in _TURNS else 1


def _upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = image.size
    swapped = _TURNS.get(_orientation(image)) in _SWAPS
    return (width, height) if swapped else (height, width)


def _scale(size: tuple[int, int], goal: tuple[int, int], pictures: Pictures) -> float:
    """How much a picture (width, height) shrinks, at least, along one of its sides."""
    ratios = goal[1] / size[0], goal[0] / size[1]
    return min(ratios) if pictures.resize == "pad" else max(ratios)


def _factor(size: tuple[int, int], goal: tuple[int, int], turn: int, pictures: Pictures) -> int:
    """By how much means of pixels may be taken first, so that a good filter still halves it."""
    if _TURNS.get(turn) in _SWAPS:
        size = size[1], size[0]
    return max(1, int(1 / (2 * _scale(size, goal, pictures))))


def _least(image: ImageFile.ImageFile, goal: tuple[int, int]) -> tuple[int, int]:
    """Size (width, height) to which a JPEG file may be reduced while it is decoded."""
    side = 2 * max(goal)
    scale = side / min(image.size)
    return math.ceil(image.size[0] * scale), math.ceil(image.size[1] * scale)


def _plain(image: Image.Image, factor: int, pictures: Pictures) -> Image.Image:
    """The picture in grey or colour, opaque, reduced by a factor; a strip at a time."""
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode!r} has no fixed range; save it with 8 bits")
    grey = image.mode in _GREY or image.mode.startswith("I;16")
    mode = "L" if pictures.colour == "grey" or (grey and pictures.colour is None) else "RGB"
    width, height = image.size
    rows = max(1, _STRIP // (width * factor)) * factor
    if rows >= height:
        return _opaque(image, mode, factor)
    result = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        result.paste(_opaque(strip, mode, factor), (0, top // factor))
    return result


def _opaque(image: Image.Image, mode: str, factor: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert(mode)
    return image if factor == 1 else image.reduce(factor)


def _check_scans(image: ImageFile.ImageFile, file: "_Counted") -> None:
    """Refuse a JPEG file of very many scans: twelve bytes may cost as much work as all pixels."""
    if image.format not in ("JPEG", "MPO"):
        return
    most = max(_SCANS, _WORK // math.prod(image.size))
    place, left = file.tell(), file.left
    scans = _count_scans(file, most)
    file.seek(place)
    file.left = left
    if scans > most:
        raise ValueError(f"it has more than {most} scans")


def _count_scans(file: "_Counted", most: int) -> int:
    """Scans of a JPEG file, or one more than so many; pictures within its metadata do not count."""
    file.seek(2)
    scans = 0
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xD9:
        if head[1] == 0xFF:  # before a marker there may be any number of these
            file.seek(-3, io.SEEK_CUR)
            continue
        file.seek(int.from_bytes(head[2:]) - 2, io.SEEK_CUR)
        if head[1] == 0xDA:
            scans += 1
            if scans > most or not _seek_marker(file):
                break
    return scans


def _seek_marker(file: "_Counted") -> bool:
    """Go on to the end of a scan's data; False if the file ends there."""
    last = b""
    while data := file.read(2**13):
        if found := _MARKER.search(last + data):
            file.seek(found.start() - len(last + data), io.SEEK_CUR)
            return True
        last = data[-1:]
    return False


class _Counted(io.BufferedIOBase):
    """A file of which so many bytes can be read: comments and empty parts may go on for ever."""

    def __init__(self, file: io.BufferedIOBase):
        self._file = file
        self.left = _HEAD
        if hasattr(file, "getvalue"):
            return
        # The library for TIFF reads packed pixels by itself.
        self.fileno = file.fileno

    @staticmethod
    def size_of(pixels: int) -> int:
        """Most bytes to read of a picture of so many pixels."""
        return _HEAD + _PER_PIXEL * pixels

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        most = max(0, self.left) + 1
        data = self._file.read(most if size is None or size < 0 else min(size, most))
        self.left -= len(data) + _CALL
        if self.left < 0:
            raise ValueError("it takes more bytes than its pixels need")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def check_sides(height: int, width: int, what: str) -> None:
    """Raise a ValueError unless a picture can be learned as it is; it says what to type.

    Args:
      height: in pixels.
      width: in pixels.
      what: the picture, for the message.
    """
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
        large = max(height, width) > MAX_SIDE
        raise ValueError(
            f"the size {height} x {width} of {what} is outside {MIN_SIDE} to {MAX_SIDE} pixels a "
            f"side; {'crop or shrink' if large else 'enlarge'} to fit, or {way_out(height, width)}."
        )
