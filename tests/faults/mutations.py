"""Random changes of files that are in order, and what the readers make of them."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confined import said
from hostile_archives import IMAGES, LABELS, good, npy, zip_of
from hostile_idx import IMAGE_FILE, LABEL_FILE, REAL, REAL_LABELS
from hostile_pictures import PIXELS, chunk, encoded

Rng = np.random.Generator


def changed(data: bytes, rng: Rng) -> bytes:
    """One to four changes: bits, bytes, numbers, pieces lost, doubled, moved or put in."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        # beginnings hold the headers
        end = len(found) if rng.random() < 0.5 else min(len(found), 200)
        at, width = int(rng.integers(0, max(1, end))), int(rng.choice([1, 2, 4, 8, 64]))
        piece = bytes(found[at : at + width])
        match rng.integers(0, 8):
            case 0 if found:
                found[min(at, len(found) - 1)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                found[at : at + width] = rng.bytes(len(piece))
            case 2:
                extreme = bytes([int(rng.choice([0, 0x7F, 0x80, 0xFF]))])
                found[at : at + width] = extreme * len(piece)
            case 3:
                found[at : at + width] = b""
            case 4:
                found[at:at] = piece
            case 5:
                found[at:at] = rng.bytes(width)
            case 6:
                other = int(rng.integers(0, max(1, len(found))))
                found[other : other + len(piece)] = piece
            case _:
                if rng.random() < 0.3:
                    del found[at:]
    return bytes(found)


def archive(save: Callable[..., Any]) -> bytes:
    file = io.BytesIO()
    save(file, x=IMAGES, y=LABELS)
    return file.getvalue()


def png_parts() -> list[tuple[bytes, bytes]]:
    """Names and contents of the chunks of a PNG file."""
    data, at, parts = encoded("PNG"), 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def png_inside(rng: Rng) -> bytes:
    """A PNG file of which one chunk is changed, or its packed pixels are, with right checksums."""
    parts = png_parts()
    which = int(rng.integers(0, len(parts)))
    name, data = parts[which]
    if name == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(changed(zlib.decompress(data), rng))
    else:
        data = changed(data, rng)
    parts[which] = (name, data)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def archive_inside(rng: Rng) -> bytes:
    """An archive of which the arrays are changed, with right checksums."""
    x = npy(IMAGES.shape, IMAGES.tobytes())
    y = npy(LABELS.shape, LABELS.astype("<i8").tobytes(), "<i8")
    if rng.random() < 0.5:
        x = changed(x, rng)
    else:
        y = changed(y, rng)
    return zip_of(good("x.npy", x), good("y.npy", y))


_STORED, _DEFLATED = archive(np.savez), archive(np.savez_compressed)
_PICTURES = {
    "png": encoded("PNG"),
    "jpg": encoded("JPEG"),
    "gif": encoded("GIF"),
    "bmp": encoded("BMP"),
    "tif": encoded("TIFF"),
    "packed.tif": encoded("TIFF", compression="tiff_lzw"),
    "webp": encoded("WEBP"),
    "ppm": encoded("PPM"),
}

# Each makes a changed file, and says where in a folder it stands.
FILES: dict[str, tuple[str, Callable[[Rng], bytes]]] = {
    "stored archive": ("set.npz", lambda rng: changed(_STORED, rng)),
    "deflated archive": ("set.npz", lambda rng: changed(_DEFLATED, rng)),
    "arrays": ("set.npz", archive_inside),
    "images": (IMAGE_FILE, lambda rng: changed(REAL, rng)),
    "labels": (LABEL_FILE, lambda rng: changed(REAL_LABELS, rng)),
    "gzip": (IMAGE_FILE, lambda rng: changed(gzip.compress(REAL), rng)),
    "images in gzip": (IMAGE_FILE, lambda rng: gzip.compress(changed(REAL, rng))),
    "chunks": ("b.png", png_inside),
} | {
    end: (f"b.{end}", lambda rng, data=data: changed(data, rng)) for end, data in _PICTURES.items()
}

CHECKED = ("stored archive", "deflated archive", "gzip")
"""Files with checksums: what is read of them must be what was written."""


def run(name: str, seed: int, tries: int, folder: str) -> dict[str, Any]:
    """Read so many changed files; say how many were read, and what else happened than a sentence.

    The folder must be empty. A change is told by its number: it does not depend on the others.
    """
    from aeot_jax.data import images

    root = Path(folder)
    inside, make = FILES[name]
    source = root / inside if inside.endswith(".npz") else root
    if inside == LABEL_FILE:
        (root / IMAGE_FILE).write_bytes(REAL)
    if inside.startswith("b."):
        (root / "a.png").write_bytes(encoded("PNG", PIXELS[0]))
    problems, read = [], 0
    for i in range(tries):
        (root / inside).write_bytes(make(np.random.default_rng([seed, i])))
        try:
            found = images.load(source)
        except Exception as error:
            answer = said(error)
            text = answer["text"]
            if not (answer["foreseen"] and text.endswith(".") and text.isprintable()):
                problems.append(f"{name} {seed} {i}: {answer['error']}: {text[:200]}")
            continue
        read += 1
        if name in CHECKED and not np.array_equal(found.images[..., 0], IMAGES):
            problems.append(f"{name} {seed} {i}: it was read as other images")
        if name.endswith("archive") and (
            found.labels is None or not np.array_equal(found.labels, LABELS)
        ):
            problems.append(f"{name} {seed} {i}: it was read with other labels")
    return {"error": None, "read": read, "problems": problems}
