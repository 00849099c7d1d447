"""IDX files made to harm whoever reads them, and odd ones that are in order."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from hostile_archives import IMAGES, LABELS, Maker, deflated_zeros

IMAGE_FILE, LABEL_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(shape: tuple[int, ...], data: bytes = b"", kind=8, axes: int | None = None) -> bytes:
    axes = len(shape) if axes is None else axes
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, axes, *shape) + data


REAL = idx(IMAGES.shape, IMAGES.tobytes())
REAL_LABELS = idx(LABELS.shape, LABELS.astype("u1").tobytes())


def folder_of(
    images: bytes | Callable[[], bytes], labels: bytes | Callable[[], bytes] = b""
) -> Maker:
    def make(folder: Path) -> Path:
        for name, data in ((IMAGE_FILE, images), (LABEL_FILE, labels)):
            data = data if isinstance(data, bytes) else data()
            if data or name == IMAGE_FILE:
                (folder / name).write_bytes(data)
        return folder

    return make


def zeros(mebibytes: int, header: bytes) -> Callable[[], bytes]:
    """A gzip file of a header and zeros, a thousandth of the size."""
    return lambda: gzip_head() + deflated_zeros(mebibytes, header) + bytes(8)


def gzip_head(flags: int = 0) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\x02\xff"


def beside(make: Callable[[Path], object], name: str) -> Maker:
    """Images that are in order, and something else in the place of another file."""

    def build(folder: Path) -> Path:
        if name != IMAGE_FILE:
            (folder / IMAGE_FILE).write_bytes(REAL)
        make(folder / name)
        return folder

    return build


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


REFUSED: dict[str, Maker] = {
    "zeros of 3 GiB": folder_of(zeros(3072, idx((3072, 1024, 1024)))),
    "zeros of 3 GiB, announced as 120 bytes": folder_of(zeros(3072, idx((6, 5, 4)))),
    "zeros of 3 GiB, announced as 120 MiB": folder_of(zeros(3072, idx((120, 1024, 1024)))),
    "labels of 3 GiB": folder_of(REAL, zeros(3072, idx((3072 * 2**20,)))),
    "labels of 3 GiB, announced as 6": folder_of(REAL, zeros(3072, idx((6,)))),
    "3 GiB announced": folder_of(idx((3072, 1024, 1024), bytes(9))),
    "3 GiB announced in gzip": folder_of(gzip.compress(idx((3072, 1024, 1024), bytes(9)))),
    "2^96 bytes announced": folder_of(idx((2**32 - 1,) * 3, bytes(9))),
    "2^96 bytes announced in gzip": folder_of(gzip.compress(idx((2**32 - 1,) * 3, bytes(9)))),
    "255 axes": folder_of(idx((1,) * 255, b"\0")),
    "255 axes in gzip": folder_of(gzip.compress(idx((1,) * 255, b"\0"))),
    "255 axes of which 3 are there": folder_of(idx((6, 5, 4), bytes(120), axes=255)),
    "no axes": folder_of(idx((), b"\0")),
    "no images": folder_of(idx((0, 28, 28))),
    "no images of huge sides": folder_of(idx((0, 2**32 - 1, 2**32 - 1))),
    "no images of huge sides in gzip": folder_of(gzip.compress(idx((0, 2**32 - 1, 2**32 - 1)))),
    "images without pixels": folder_of(idx((2**32 - 1, 0, 28))),
    "cut short": folder_of(REAL[:-1]),
    "cut short in gzip": folder_of(gzip.compress(REAL[:-1])),
    "too long": folder_of(REAL + b"\0"),
    "too long in gzip": folder_of(gzip.compress(REAL + b"\0")),
    "cut in its header": folder_of(REAL[:9]),
    "cut in its header in gzip": folder_of(gzip.compress(REAL[:9])),
    "cut in the gzip header": folder_of(gzip.compress(REAL)[:5]),
    "cut before the gzip checksum": folder_of(gzip.compress(REAL)[:-8]),
    "another gzip checksum": folder_of(gzip.compress(REAL)[:-8] + bytes(8)),
    "something behind the gzip": folder_of(gzip.compress(REAL) + b"more"),
    "a gzip name of 20 MB": folder_of(lambda: gzip_head(flags=8) + b"a" * 20_000_000),
    "a million gzip parts of nothing": folder_of(lambda: gzip.compress(b"") * 1_000_000),
    "a million gzip parts after the first": folder_of(
        lambda: gzip.compress(REAL[:50]) + gzip.compress(b"") * 1_000_000
    ),
    "gzip in gzip": folder_of(gzip.compress(gzip.compress(REAL))),
    "zlib, not gzip": folder_of(zlib.compress(REAL)),
    "floats": folder_of(idx((6, 5, 4), bytes(480), kind=13)),
    "text": folder_of(b"images"),
    "no bytes": folder_of(b""),
    "a label too few": folder_of(REAL, idx((5,), bytes(5))),
    "labels with two axes": folder_of(REAL, idx((6, 3), bytes(18))),
    "a pipe": beside(os.mkfifo, IMAGE_FILE),
    "a device without end": beside(to_device, IMAGE_FILE),
    "a folder": beside(Path.mkdir, IMAGE_FILE),
    "a link to itself": beside(lambda path: path.symlink_to(path.name), IMAGE_FILE),
    "a link to nothing": beside(to_nothing, IMAGE_FILE),
    "labels that are a pipe": beside(os.mkfifo, LABEL_FILE),
    "labels that are a device": beside(to_device, LABEL_FILE),
    "labels that are a link to nothing": beside(to_nothing, LABEL_FILE),
    "two sets with odd names": beside(
        lambda path: path.write_bytes(REAL), f"\x1b[31m-{IMAGE_FILE}"
    ),
}
"""Each must be refused in one sentence."""

READ: dict[str, Maker] = {
    "raw": folder_of(REAL, REAL_LABELS),
    "gzip": folder_of(gzip.compress(REAL), gzip.compress(REAL_LABELS)),
    "gzip in two parts": folder_of(gzip.compress(REAL[:50]) + gzip.compress(REAL[50:])),
    "gzip with zeros behind it": folder_of(gzip.compress(REAL) + bytes(512)),
}
"""Each holds `IMAGES` and must be read."""
