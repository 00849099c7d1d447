"""Pictures made to harm whoever reads them, and odd ones that are in order."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_archives import IMAGES, Maker
from PIL import Image

SIDE = 16
PIXELS = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    length = len(data) if length is None else length
    return struct.pack(">I", length) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *before: bytes, data: bytes | None = None) -> bytes:
    """A grey PNG file with chunks before its pixels, whatever its header says."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((SIDE + 1) * SIDE)) if data is None else data
    parts = [chunk(b"IHDR", head), *before, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(form: str, pixels: np.ndarray = PIXELS[1], **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def beside(bad: bytes | Callable[[], bytes], end: str = "png", *, side: int = SIDE) -> Maker:
    """A folder of a picture that is in order, and one that is not."""

    def make(folder: Path) -> Path:
        good = np.resize(PIXELS[0], (side, side, 3))
        (folder / "a.png").write_bytes(encoded("PNG", good))
        (folder / f"b.{end}").write_bytes(bad if isinstance(bad, bytes) else bad())
        return folder

    return make


def in_place(make: Callable[[Path], object]) -> Maker:
    def build(folder: Path) -> Path:
        (folder / "a.png").write_bytes(encoded("PNG", PIXELS[0]))
        make(folder / "b.png")
        return folder

    return build


def zlib_zeros(mebibytes: int) -> bytes:
    pack = zlib.compressobj(9)
    head = pack.compress(b"") + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)
    return head + block * mebibytes + pack.flush()


def gif(width: int, height: int, before: bytes = b"", at: tuple[int, int] = (0, 0)) -> bytes:
    """A GIF file of one colour with blocks before its frame, whatever its header says."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", *at, SIDE, SIDE, 0) + b"\2\2\x4c\1\0"
    return b"GIF89a" + screen + before + frame + b";"


def jpeg(width: int, height: int) -> bytes:
    """A JPEG file whose header has been given other sides."""
    data = bytearray(encoded("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_many_scans(size: int) -> bytes:
    """A progressive JPEG file whose last scan comes again and again: little data, much work."""
    grey = np.zeros((256, 256), np.uint8)
    data = encoded("JPEG", grey, progressive=True)
    head, last = data[: data.rindex(b"\xff\xda")], data[data.rindex(b"\xff\xda") : -2]
    return head + last * ((size - len(data)) // len(last)) + data[-2:]


def tiff(tags: dict[int, tuple[int, int, int]], offset: int = 8, next_offset: int = 0) -> bytes:
    """A TIFF file of tags (type, count, value), and nothing else."""
    entries = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_offset)
    return b"II*\0" + struct.pack("<I", offset) + directory + bytes(SIDE * SIDE)


def tags(width=SIDE, height=SIDE, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """The tags of a grey image; more of them by number, as t322."""
    usual = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height}
    found = {tag: (4, 1, value) for tag, value in usual.items()}
    found |= {273: (4, 1, 200), 279: (4, 1, SIDE * SIDE)}
    return found | {int(tag[1:]): rest for tag, rest in more.items()}


def bmp(width: int, height: int, bits: int = 24, method: int = 0, data: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, method, len(data), 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + head + data


def webp(width: int, height: int) -> bytes:
    """An extended WEBP file of which only the canvas is there."""
    canvas = struct.pack("<I", 0x10) + struct.pack("<I", width - 1)[:3]
    canvas += struct.pack("<I", height - 1)[:3]
    frame = encoded("WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_animation(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", 2) + struct.pack("<I", width - 1)[:3]
    canvas += struct.pack("<I", height - 1)[:3]
    frame = encoded("WEBP", lossless=True)[12:]
    place = bytes(6) + struct.pack("<I", SIDE - 1)[:3] * 2 + bytes(4)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(place + frame)) + place + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of_comments(size: int) -> bytes:
    return gif(SIDE, SIDE, b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 256) + b"\0")


def png_of_text(name: bytes, mebibytes: int) -> bytes:
    return png(SIDE, SIDE, chunk(name, b"Comment\0\0" + zlib_zeros(mebibytes)))


def a_program(folder: Path) -> Path:
    """PostScript, which pillow would hand to another program."""
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n0 1 0 { } loop\n"
    return beside(text)(folder)


def of_1_tebibyte(folder: Path) -> Path:
    beside(png(SIDE, SIDE))(folder)
    os.truncate(folder / "b.png", 2**40)
    return folder


def unprintable(folder: Path) -> Path:
    beside(b"")(folder)
    os.rename(folder / "b.png", os.fsencode(folder) + b"/\xff\x1b[31m\n.png")
    return folder


def unreadable(path: Path) -> None:
    path.write_bytes(encoded("PNG"))
    path.chmod(0)


def a_class_that_is_the_folder(folder: Path) -> Path:
    beside(encoded("PNG"))(folder)
    (folder / "class").symlink_to(".")
    return folder


REFUSED: dict[str, Maker] = {
    "10^10 pixels in PNG": beside(png(100_000, 100_000)),
    "2^62 pixels in PNG": beside(png(2**31 - 1, 2**31 - 1)),
    "225 million pixels in PNG": beside(png(15_000, 15_000)),
    "no pixels in PNG": beside(png(0, 0)),
    "one side in PNG": beside(png(2**31 - 1, 1)),
    "text that unpacks to 2 GiB": beside(lambda: png_of_text(b"zTXt", 2048)),
    "a profile that unpacks to 2 GiB": beside(lambda: png_of_text(b"iCCP", 2048)),
    "a chunk of 4 GiB": beside(png(SIDE, SIDE, chunk(b"tEXt", b"", 2**32 - 1))),
    "a million chunks": beside(lambda: png(SIDE, SIDE, chunk(b"prVt", b"") * 1_000_000)),
    "a palette without colours": beside(encoded("PNG")[:25] + b"\3" + encoded("PNG")[26:]),
    "PNG cut short": beside(encoded("PNG")[:-60]),
    "PNG cut in its header": beside(encoded("PNG")[:20]),
    "no bytes": beside(b""),
    "text": beside(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "PostScript": a_program,
    "an archive": beside(b"PK\5\6" + bytes(18)),
    "GIF of 65535 a side": beside(gif(65535, 65535), "gif"),
    "GIF with its frame far outside": beside(gif(SIDE, SIDE, at=(65000, 65000)), "gif"),
    "GIF with 16 MiB of comments": beside(lambda: gif_of_comments(2**24), "gif"),
    "GIF without a frame": beside(gif(SIDE, SIDE)[:19] + b";", "gif"),
    "GIF cut short": beside(encoded("GIF")[:-40], "gif"),
    "JPEG of 65535 a side": beside(jpeg(65535, 65535), "jpg"),
    "JPEG of no side": beside(jpeg(0, 0), "jpg"),
    "JPEG cut short": beside(encoded("JPEG")[:300], "jpg"),
    "TIFF of 2^32 a side": beside(tiff(tags(2**32 - 1, 2**32 - 1)), "tif"),
    "TIFF with 2^32 strips": beside(tiff(tags(t273=(4, 2**32 - 1, 8))), "tif"),
    "TIFF with a tag of 4 GiB": beside(tiff(tags(t270=(2, 2**32 - 1, 8))), "tif"),
    "TIFF with tiles of 2^31": beside(
        tiff(tags(t322=(4, 1, 2**31), t323=(4, 1, 2**31), t324=(4, 1, 8), t259=(4, 1, 5))), "tif"
    ),
    "TIFF with tiles of 60,000": beside(
        tiff(tags(t322=(4, 1, 60_000), t323=(4, 1, 60_000), t324=(4, 1, 8), t259=(4, 1, 5))), "tif"
    ),
    "TIFF with 65535 samples": beside(tiff(tags(t277=(4, 1, 65535))), "tif"),
    "TIFF without tags": beside(tiff({}), "tif"),
    "TIFF whose tags are elsewhere": beside(tiff(tags(), offset=2**31), "tif"),
    "BMP of 2^31 a side": beside(bmp(2**31 - 1, 2**31 - 1), "bmp"),
    "BMP of sides below zero": beside(bmp(-16, -(2**31)), "bmp"),
    "BMP without pixels": beside(bmp(SIDE, SIDE), "bmp"),
    "BMP with runs outside": beside(bmp(SIDE, SIDE, 8, 1, b"\0\2\xff\xff" * 99), "bmp"),
    "WEBP of 16,383 a side": beside(webp(16_383, 16_383), "webp"),
    "WEBP of 2^24 a side": beside(webp(2**24, 2**24), "webp"),
    "animated WEBP of 16,383 a side": beside(webp_animation(16_383, 16_383), "webp"),
    "WEBP cut short": beside(encoded("WEBP")[:60], "webp"),
    "PPM of 10^10 pixels": beside(b"P6 100000 100000 255 ", "ppm"),
    "PPM of a side of 10^6 digits": beside(b"P6 " + b"9" * 1_000_000 + b" 4 255 ", "ppm"),
    "PPM with sides below zero": beside(b"P6 -16 -16 255 " + bytes(768), "ppm"),
    "PPM with 16 MiB of comment": beside(b"P2 #" + b"c" * 2**24, "ppm"),
    "PPM with 16 MiB of blanks": beside(b"P2 16 16 255 " + b" " * 2**24, "ppm"),
    "PPM with levels up to 0": beside(b"P5 16 16 0 " + bytes(256), "pgm"),
    "PPM without pixels": beside(b"P5 16 16 255 ", "pgm"),
    "a pipe": in_place(os.mkfifo),
    "a device without end": in_place(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": in_place(lambda path: path.symlink_to(path.name)),
    "a link to nothing": in_place(lambda path: path.symlink_to("nothing")),
    "a name that cannot be printed": unprintable,
}
"""Each must be refused in one sentence."""

BORNE: dict[str, Maker] = {
    "pixels that unpack to 2 GiB": beside(lambda: png(SIDE, SIDE, data=zlib_zeros(2048))),
    "JPEG of many scans": beside(lambda: jpeg_of_many_scans(2**22), "jpg", side=256),
    "a file of 1 TiB, most of it a hole": of_1_tebibyte,
    "a class that is the folder": a_class_that_is_the_folder,
}
"""Each must be refused in one sentence, or be read at no more cost."""

if os.name == "posix" and os.geteuid() != 0:  # the superuser may read everything
    REFUSED["a file that may not be read"] = in_place(unreadable)


def pair(*files: bytes | str, end="png") -> Maker:
    def make(folder: Path) -> Path:
        for name, data in zip("ab", files, strict=True):
            assert isinstance(data, bytes)
            (folder / f"{name}.{end}").write_bytes(data)
        return folder

    return make


def twice(form: str, end: str, pixels: np.ndarray = IMAGES[:2], **options) -> Maker:
    return pair(*[encoded(form, image, **options) for image in pixels], end=end)


def animated(form: str) -> bytes:
    file, (first, second) = io.BytesIO(), map(Image.fromarray, IMAGES[:2])
    first.save(file, form, save_all=True, append_images=[second], lossless=True)
    return file.getvalue()


def in_mode(mode: str, form: str = "PNG") -> Maker:
    def make(folder: Path) -> Path:
        for name, image in zip("ab", IMAGES[:2], strict=True):
            Image.fromarray(image).convert(mode).save(folder / f"{name}.{form.lower()}")
        return folder

    return make


def named_in_other_bytes(folder: Path) -> Path:
    inner = os.fsencode(folder) + b"/\xff\xfe"
    os.mkdir(inner)
    for name, image in zip((b"\xc0.png", b"\xc1.png"), IMAGES[:2], strict=True):
        with open(inner + b"/" + name, "wb") as file:
            file.write(encoded("PNG", image))
    return Path(os.fsdecode(inner))


def beside_a_folder(folder: Path) -> Path:
    (folder / "c.png").mkdir()
    (folder / "d").symlink_to("d")
    return twice("PNG", "png")(folder)


READ: dict[str, Maker] = {
    "PNG": twice("PNG", "png"),
    "PNG named JPEG": twice("PNG", "jpg"),
    "16 bits": twice("PNG", "png", IMAGES[:2].astype(np.uint16) * 257),
    "palette": in_mode("P"),
    "colour": in_mode("RGB"),
    "alpha": in_mode("RGBA"),
    "inks": in_mode("CMYK", "TIFF"),
    "animated PNG": pair(animated("PNG"), encoded("PNG", IMAGES[1])),
    "animated WEBP": pair(animated("WEBP"), encoded("WEBP", IMAGES[1], lossless=True), end="webp"),
    "a folder with a picture's name": beside_a_folder,
    "names in other bytes": named_in_other_bytes,
}
"""Each holds the first two of `hostile_archives.IMAGES`, in grey or as three equal channels."""
