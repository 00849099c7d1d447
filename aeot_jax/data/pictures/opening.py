"""Files of pictures, opened: the header is read, and bounds what may be read after it.

Files are hostile until shown otherwise. A header announces the pixels, at most `MOST_PIXELS`; they
bound the bytes that are read and the work. Errors are reasons, which the caller completes to a
sentence.
"""

import io
import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from PIL import Image, ImageFile, UnidentifiedImageError, features

from aeot_jax.storage.files import reason

MOST_PIXELS = 100_000_000
"""Most pixels of a picture."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF")
"""Allowed formats, whatever the suffix; pillow runs other programs for some other formats."""

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF files, after b"ftyp"."""

_HEAD = 2**24
"""Most bytes beside the pixels: text, profiles, previews."""

_WHOLE = 2**28
"""Most bytes of a file in a format that is read as a whole."""

_BRANDS = 40  # bytes

_PER_PIXEL = 16  # bytes: four channels of sixteen bits, twice

_CALL = 64  # bytes that cost as much as a call to read

_SCANS, _WORK = 64, 2**26
"""Most scans of a progressive JPEG file, which usually has ten; more if it has few pixels."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# pillow also raises what it logs; without a handler Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class SizeError(Exception):
    """A picture has another size than the first.

    Attributes:
      size: height and width, upright.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__(size)
        self.size = size


@contextmanager
def opened(file: io.BufferedIOBase) -> Iterator[tuple[ImageFile.ImageFile, "_Counted"]]:
    """Open a picture and read its header; every error becomes a ValueError with a reason."""
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
    except Exception as error:  # damaged bytes raise almost anything
        raise ValueError(reason(error)) from error


def _too_large(width: int, height: int) -> ValueError:
    return ValueError(
        f"it has {height} x {width} pixels, more than {MOST_PIXELS // 10**6} megapixels"
    )


def _of_brand(first: bytes) -> str:
    """The format of a file, from its brands; pillow needs a plugin for HEIF."""
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


def check_scans(image: ImageFile.ImageFile, file: "_Counted") -> None:
    """Refuse a JPEG file with very many scans: 12 bytes of one may cost as much as all pixels."""
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
    """Count the scans of a JPEG file, up to `most` + 1; previews in its metadata do not count."""
    file.seek(2)
    scans = 0
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xD9:
        if head[1] == 0xFF:  # any number of fill bytes may precede a marker
            file.seek(-3, io.SEEK_CUR)
            continue
        file.seek(int.from_bytes(head[2:]) - 2, io.SEEK_CUR)
        if head[1] == 0xDA:
            scans += 1
            if scans > most or not _seek_marker(file):
                break
    return scans


def _seek_marker(file: "_Counted") -> bool:
    """Seek to the end of a scan's data; False if the file ends first."""
    last = b""
    while data := file.read(2**13):
        if found := _MARKER.search(last + data):
            file.seek(found.start() - len(last + data), io.SEEK_CUR)
            return True
        last = data[-1:]
    return False


class _Counted(io.BufferedIOBase):
    """A file with a limit on the bytes read: comments and empty parts may be endless."""

    def __init__(self, file: io.BufferedIOBase):
        self._file = file
        self.left = _HEAD
        if hasattr(file, "getvalue"):
            return
        # libtiff reads compressed pixels by file descriptor.
        self.fileno = file.fileno

    @staticmethod
    def size_of(pixels: int) -> int:
        """Most bytes to read for a picture of `pixels` pixels."""
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
