"""Archives made to harm whoever reads them, and odd ones that are in order."""

import bz2
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.arange(6) % 3

Maker = Callable[[Path], Path]
"""Makes a source in an empty folder, and returns what a user would name."""


def npy(shape: object, data: bytes = b"", descr: object = "|u1", version=1, **more) -> bytes:
    """A single array, whatever its header says."""
    fields = {"descr": descr, "fortran_order": False, "shape": shape} | more
    return npy_text(repr(fields), data, version)


def npy_text(text: str, data: bytes = b"", version=1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + data


def member(name: str, stored: bytes, size: int | None = None, crc=0, method=0, flags=0, extra=b""):
    """One member of a zip file, as (name, local header and data, fields of the directory)."""
    size = len(stored) if size is None else size
    head = struct.pack("<HHHIIII", 20, flags, method, 0, crc, len(stored), size)
    encoded = name.encode()
    local = b"PK\3\4" + head + struct.pack("<HH", len(encoded), 0) + encoded + stored
    central = (
        b"PK\1\2" + b"\x14\0" + head + struct.pack("<HHHHHI", len(encoded), len(extra), 0, 0, 0, 0)
    )
    return local, central, encoded + extra


def zip_of(*members, comment=b"", same_place=False) -> bytes:
    body, directory = bytearray(), bytearray()
    for local, central, tail in members:
        place = 0 if same_place else len(body)
        directory += central + struct.pack("<I", place) + tail
        if not (same_place and body):
            body += local
    counts = struct.pack("<HHHHII", 0, 0, len(members), len(members), len(directory), len(body))
    return bytes(body + directory) + b"PK\5\6" + counts + struct.pack("<H", len(comment)) + comment


def good(name: str, data: bytes):
    return member(name, data, crc=zlib.crc32(data))


def deflated_zeros(mebibytes: int, first: bytes = b"") -> bytes:
    """A raw deflate stream: some bytes, then zeros, a thousandth of the size."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = pack.compress(first) + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)
    return head + block * mebibytes + pack.flush()


def file(data: bytes | Callable[[], bytes]) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "set.npz"
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    return make


def holding(data: bytes, name="x.npy", **more) -> Maker:
    """An archive of one member that is as it should be, but for its content."""
    return file(zip_of(member(name, data, crc=zlib.crc32(data), **more)))


def labelled(labels: bytes) -> Maker:
    return file(zip_of(good("x.npy", npy(IMAGES.shape, IMAGES.tobytes())), good("y.npy", labels)))


def bomb(mebibytes: int, header: bytes, size: int | None = None) -> Maker:
    def make() -> bytes:
        whole = len(header) + mebibytes * 2**20 if size is None else size
        return zip_of(member("x.npy", deflated_zeros(mebibytes, header), whole, method=8))

    return file(make)


def compressed(method: int, pack: Callable[[bytes], bytes]) -> Maker:
    data = npy((8, 1024, 1024), bytes(2**23))
    return file(lambda: zip_of(member("x.npy", pack(data), len(data), zlib.crc32(data), method)))


def lzma_of_a_wide_window(data: bytes) -> bytes:
    """What a zip file holds of LZMA, with a dictionary of 4 GiB announced."""
    return b"\x09\x04\x05\0" + b"\x5d\xff\xff\xff\xff" + bytes(100)


def bzip2_member(name: str, data: bytes):
    return member(name, bz2.compress(data), len(data), zlib.crc32(data), 12)


def many_members(folder: Path) -> Path:
    return file(zip_of(*[good(f"{i}", b"") for i in range(50_000)]))(folder)


def in_place_of_a_file(make: Callable[[Path], object], name="set.npz") -> Maker:
    def build(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return build


def encrypted() -> bytes:
    return zip_of(member("x.npy", npy((4,), bytes(4)), flags=1))


def zip64_of_8_exbibytes() -> bytes:
    extra = struct.pack("<HHQQ", 1, 16, 2**63 - 1, 80)
    local, central, tail = member("x.npy", npy((2**62,)), 0xFFFFFFFF, extra=extra)
    return zip_of((local, central, tail))


def pickle_bytes() -> bytes:
    return b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."


_REAL = npy(IMAGES.shape, IMAGES.tobytes())

REFUSED: dict[str, Maker] = {
    "713 TiB announced": holding(npy((28, 28, 10**12), bytes(80))),
    "a byte more announced": holding(npy((6, 5, 4), bytes(119))),
    "a byte less announced": holding(npy((6, 5, 4), bytes(121))),
    "sides below zero": holding(npy((-6, -5, 4), bytes(120))),
    "a side of 40,000 bits": holding(
        npy_text("{'descr': '|u1', 'fortran_order': False, 'shape': (0x" + "f" * 9000 + ",)}")
    ),
    "5,000 axes": holding(npy((1,) * 3000, b"\0")),
    "99 axes": holding(npy((1,) * 99, b"\0")),
    "empty with huge sides": holding(npy((0, 2**62, 2**62))),
    "no images": holding(npy((0, 28, 28))),
    "2^40 images without pixels": holding(npy((2**40, 0, 28))),
    "objects": holding(npy((4,), pickle_bytes(), "|O")),
    "fields": holding(npy((4,), bytes(32), [("a", "<f8")])),
    "nested fields": holding(npy((4,), bytes(32), [("a", [("b", [("c", "<f8")])], (2**30,))])),
    "texts without letters": holding(npy((2**40, 28, 28), b"", "<U0")),
    "one text of 4 GiB": holding(npy((1,), bytes(9), "<U1000000000")),
    "a type that is none": holding(npy((4,), bytes(4), "|q99")),
    "a shape of texts": holding(npy(("4", "4"), bytes(16))),
    "a shape that is a number": holding(npy(4, bytes(4))),
    "more keys": holding(npy((4,), bytes(4), more=1)),
    "brackets 9,000 deep": holding(npy_text("[" * 9000)),
    "signs 9,000 deep": holding(npy_text("-" * 9000 + "1")),
    "sums 4,500 deep": holding(npy_text("1+" * 4500 + "1")),
    "a call": holding(npy_text("__import__('os').abort()")),
    "a header of 60,000 bytes": holding(npy_text(" " * 60_000)),
    "a header of 4 GiB": holding(b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(9)),
    "a header of 4 GiB that unpacks": bomb(512, b"\x93NUMPY\2\0\xff\xff\xff\xff"),
    "format 3": holding(npy((4,), bytes(4), version=3)),
    "format 255": holding(npy((4,), bytes(4), version=255)),
    "a pickle in an archive": holding(pickle_bytes()),
    "an archive in an archive": holding(zip_of(good("x.npy", _REAL))),
    "zeros of 3 GiB": bomb(3072, npy((3072, 1024, 1024))),
    "zeros of 3 GiB, said to be 120 bytes": bomb(3072, npy((6, 5, 4)), len(npy((6, 5, 4))) + 120),
    "zeros of 100 MiB, said to be 127": bomb(
        100, npy((127, 1024, 1024)), len(npy((127, 1024, 1024))) + 127 * 2**20
    ),
    "bzip2": compressed(12, bz2.compress),
    "LZMA with a window of 4 GiB": compressed(14, lzma_of_a_wide_window),
    "another compression": holding(_REAL, method=97),
    "encrypted": file(encrypted),
    "two members of one name": file(zip_of(good("x.npy", _REAL), good("x.npy", _REAL))),
    "a member named like an array": file(zip_of(good("x.npy", _REAL), good("x", _REAL))),
    "two members in one place": file(
        zip_of(good("x.npy", _REAL), good("y.npy", _REAL), same_place=True)
    ),
    "names with lines and colours": file(zip_of(good("\n\n\x1b[31m.npy", _REAL), good("\r", b""))),
    "names of 60,000 letters": file(zip_of(*[good(f"{i:060000}", _REAL) for i in range(9)])),
    "50,000 members": many_members,
    "no members": file(zip_of()),
    "8 EiB by zip64": file(zip64_of_8_exbibytes),
    "another checksum": file(zip_of(member("x.npy", _REAL, crc=1))),
    "cut short": file(zip_of(good("x.npy", _REAL))[:-30]),
    "without its beginning": file(zip_of(good("x.npy", _REAL))[60:]),
    "no bytes": file(b""),
    "only an end": file(b"PK\5\6" + b"\xff" * 18),
    "text": file(b"x, y\n1, 2\n"),
    "a pickle": file(pickle_bytes()),
    "a single array": file(_REAL),
    "a folder": in_place_of_a_file(Path.mkdir),
    "a pipe": in_place_of_a_file(os.mkfifo),
    "a device without end": in_place_of_a_file(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": in_place_of_a_file(lambda path: path.symlink_to(path.name)),
    "a link to nothing": in_place_of_a_file(lambda path: path.symlink_to("nothing")),
    "labels of 713 TiB": labelled(npy((10**14,), bytes(6), "<i8")),
    "labels that are objects": labelled(npy((6,), pickle_bytes(), "|O")),
    "labels of long texts": labelled(npy((6,), bytes(6 * 10**6), "|S1000000")),
    "labels that are dates": labelled(npy((6,), bytes(48), "<M8[D]")),
}
"""Each must be refused in one sentence."""


def saved(save: Callable[..., object] = np.savez, **arrays) -> Maker:
    def make(folder: Path) -> Path:
        save(folder / "set.npz", **arrays)
        return folder / "set.npz"

    return make


def zip64_throughout(folder: Path) -> Path:
    with (
        zipfile.ZipFile(folder / "set.npz", "w") as archive,
        archive.open("x.npy", "w", force_zip64=True) as inside,
    ):
        inside.write(_REAL)
    return folder / "set.npz"


READ: dict[str, Maker] = {
    "labels that are text": labelled(npy((6,), b"abcd\xff\0", "|S1")),
    "stored": saved(x=IMAGES, y=LABELS),
    "deflated": saved(np.savez_compressed, x=IMAGES, y=LABELS),
    "columns first": saved(x=np.asfortranarray(IMAGES)),
    "big-endian": saved(x=IMAGES.astype(">i4")),
    "zip64": zip64_throughout,
    "a name that leads out of the folder": file(zip_of(good("../../x.npy", _REAL))),
    "a comment of 60,000 bytes": file(zip_of(good("x.npy", _REAL), comment=bytes(60_000))),
    "something before it": file(bytes(99) + zip_of(good("x.npy", _REAL))),
}
"""Each holds `IMAGES` and must be read."""
