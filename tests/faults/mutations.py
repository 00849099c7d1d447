"""Random changes of files that are in order, and what the readers make of them."""

import functools
import gzip
import importlib.util
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

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


def zip_set(method: int) -> bytes:
    """A zip file of two classes of a picture each."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, pixels in zip(("a/1.png", "b/2.png"), PIXELS, strict=True):
            made.writestr(name, encoded("PNG", pixels))
    return file.getvalue()


def tar_set(mode: Literal["w", "w:gz"]) -> bytes:
    """The same in a tar file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as made:
        for name, pixels in zip(("a/1.png", "b/2.png"), PIXELS, strict=True):
            info, data = tarfile.TarInfo(name), encoded("PNG", pixels)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return file.getvalue()


def mat_set(**options: Any) -> bytes:
    """A MATLAB file of images and labels; of version 4 of the images alone, as doubles."""
    from scipy import io as scipy_io

    held: dict[str, Any] = {"x": IMAGES, "y": LABELS}
    if options.get("format") == "4":
        held = {"x": np.linspace(0, 1, 60).reshape(6, 10)}
    file = io.BytesIO()
    scipy_io.savemat(file, held, **options)
    return file.getvalue()


def hdf5_set(**options: Any) -> bytes:
    """An HDF5 file of images and labels."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made.create_dataset("x", data=IMAGES, **options)
        made["y"] = LABELS
    return file.getvalue()


def parquet_set(**options: Any) -> bytes:
    """A parquet file of pictures and labels, as Hugging Face keeps them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"bytes": encoded("PNG", pixels), "path": f"{i}.png"} for i, pixels in enumerate(PIXELS)
    ]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": [0, 1]}), file, **options)
    return file.getvalue()


# By the library that reads them, those that are installed.
_SETS: dict[str, dict[str, Callable[[], bytes]]] = {
    "zipfile": {
        "stored.zip": lambda: zip_set(zipfile.ZIP_STORED),
        "deflated.zip": lambda: zip_set(zipfile.ZIP_DEFLATED),
    },
    "tarfile": {"plain.tar": lambda: tar_set("w"), "packed.tar.gz": lambda: tar_set("w:gz")},
    "scipy": {
        "plain.mat": mat_set,
        "packed.mat": lambda: mat_set(do_compression=True),
        "old.mat": lambda: mat_set(format="4"),
    },
    "h5py": {
        "plain.h5": hdf5_set,
        "packed.h5": lambda: hdf5_set(chunks=(1, *IMAGES.shape[1:]), compression="gzip"),
    },
    "pyarrow": {
        "plain.parquet": lambda: parquet_set(compression="none", use_dictionary=False),
        "packed.parquet": lambda: parquet_set(compression="snappy"),
    },
}


def _sets() -> dict[str, tuple[str, Callable[[Rng], bytes]]]:
    found = {}
    for library, files in _SETS.items():
        if importlib.util.find_spec(library) is not None:
            for name, make in files.items():
                made = functools.cache(make)  # by the process that changes it
                inside = f"set.{name.partition('.')[2]}"
                found[name] = (inside, lambda rng, made=made: changed(made(), rng))
    return found


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
FILES |= _sets()

CHECKED = ("stored archive", "deflated archive", "gzip")
"""Files with checksums: what is read of them must be what was written."""


def run(name: str, seed: int, tries: int, folder: str) -> dict[str, Any]:
    """Read so many changed files; say how many were read, and what else happened than a sentence.

    The folder must be empty. A change is told by its number: it does not depend on the others.
    """
    from aeot_jax.data import images

    root = Path(folder)
    inside, make = FILES[name]
    source = root / inside if inside.startswith("set.") else root
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
