"""Folders: one image a file, read through pillow."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from aeot_jax.data.convert import check_sides
from aeot_jax.files import open_file, reason

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Files with other endings are left alone."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What a file may hold, whatever its ending; pillow runs other programs for some other formats."""

_GREY = frozenset({"1", "L", "LA"})
_MOST = 2**21
"""Most bytes to read of a file: pixels of the sides that are kept take half a megabyte at most."""

_SCANS = 1000  # of a progressive JPEG file, which has about ten

# What pillow logs it raises too; without a handler Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read every image of a folder, sorted by name.

    Sub-folders of images are classes, numbered in the order of their names. A sub-folder "train"
    is not a class: it and its sibling "test" are the splits. Hidden files are left alone.

    The result is grey if every file is, else colour. Alpha is composited on white, sixteen bits
    are rounded to eight, and of an animation the first frame is read. Only headers are read before
    sizes have been compared; then images are decoded one by one into the result.

    Args:
      folder: the folder.
      split: "train" or "test".

    Returns:
      Images (n, h, w, c) uint8 and labels (n,) int32, or None where there are no sub-folders.

    Raises:
      FileNotFoundError: if the split is not there.
      ValueError: if there is no image, one is damaged, or two differ in size.
    """
    root = folder
    if (folder / "train").is_dir():
        root = folder / split
        if not root.is_dir():
            raise FileNotFoundError(
                f"`source` {str(folder)!r} has no sub-folder {split!r}; add it or pass another "
                "split."
            )
    elif split == "test":
        raise FileNotFoundError(
            f"`source` {str(folder)!r} has no sub-folders 'train' and 'test', so all its images "
            "are split 'train'; pass split='train'."
        )
    paths, labels = _list(root)
    shape = _shape(paths)
    images = np.empty((len(paths), *shape), np.uint8)
    for image, path in zip(images, paths, strict=True):
        image[...] = _decode(path, channels=shape[-1])
    return images, labels


def _list(root: Path) -> tuple[list[Path], np.ndarray | None]:
    flat = _images_in(root)
    classes = [_images_in(path) for path in sorted(root.iterdir()) if path.is_dir()]
    classes = [paths for paths in classes if paths]
    if flat and classes:
        raise ValueError(
            f"`source` {str(root)!r} holds both images ({flat[0].name!r}) and sub-folders of "
            f"images ({classes[0][0].parent.name!r}); keep one kind."
        )
    if classes:
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(c) for c in classes])
        return [path for paths in classes for path in paths], labels
    if not flat:
        what = "no images and no IDX files" if any(root.iterdir()) else "nothing"
        raise ValueError(
            f"`source` {str(root)!r} holds {what}; pass a folder of images "
            f"({', '.join(sorted(SUFFIXES))}) or one that holds train-images-idx3-ubyte[.gz]."
        )
    return flat, None


def _images_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        # what is there but cannot be read, such as a broken link, is not left out in silence
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]


def _shape(paths: list[Path]) -> tuple[int, int, int]:
    """Return height, width and channels, from the headers alone."""
    first: tuple[int, int] | None = None
    channels = 1
    for path in paths:
        with _opened(path) as image:
            size, mode = image.size, image.mode
        if first is None:
            check_sides(size[1], size[0], f"the image {str(path)!r} in `source`")
            first = size
        if size != first:
            raise ValueError(
                f"`source` has {paths[0].name!r} of {first[1]} x {first[0]} pixels but "
                f"{path.name!r} of {size[1]} x {size[0]} (height x width); crop or resize them to "
                "one size."
            )
        if mode not in _GREY and not mode.startswith("I;16"):
            channels = 3
    assert first is not None  # `_list` returns at least one path
    return first[1], first[0], channels


def _decode(path: Path, channels: int) -> np.ndarray:
    """Decode to uint8, in a shape that broadcasts to (h, w, channels)."""
    with _opened(path) as image:
        _check_scans(path, image.format)
        image.load()
        if image.mode in ("I", "F"):
            raise ValueError(f"mode {image.mode!r} has no fixed range; save it with 8 bits")
        if image.mode.startswith("I;16"):
            return np.rint(np.asarray(image)[..., None] / 257).astype(np.uint8)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            opaque = Image.alpha_composite(white, image.convert("RGBA"))
        else:
            opaque = image
        pixels = np.asarray(opaque.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _check_scans(path: Path, form: str | None) -> None:
    """Refuse a JPEG file of very many scans: twelve bytes may cost as much work as all pixels."""
    if form not in ("JPEG", "MPO"):
        return
    with open_file(path) as file:
        scans = file.read(_MOST).count(b"\xff\xda")
    if scans > _SCANS:
        raise ValueError(f"it has {scans} scans")


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image of which the header has been read; whatever goes wrong with it names the file."""
    try:
        # pillow warns of some damage before it fails, and of sizes that are refused anyway
        with (
            warnings.catch_warnings(action="ignore"),
            _Bounded(open_file(path).detach()) as file,
            Image.open(file, formats=_FORMATS) as image,
        ):
            yield image
    except UnidentifiedImageError as error:
        raise _damaged(path, f"it is none of {', '.join(_FORMATS)}, or damaged") from error
    except Exception as error:  # what pillow raises at damaged bytes depends on the format
        raise _damaged(path, reason(error)) from error


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"`source` holds {str(path)!r}, which cannot be read as an image ({why}); "
        "repair or remove it."
    )


class _Bounded(io.BufferedReader):
    """A file of which so many bytes can be read: comments and empty parts may go on for ever."""

    left = _MOST

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(self.left + 1 if size is None or size < 0 else size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"it takes more than {_MOST:,} bytes")
        return data
