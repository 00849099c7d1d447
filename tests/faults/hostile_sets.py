"""Archives of pictures and data files of other programs, made to harm whoever reads them."""

import gzip
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_archives import (
    IMAGES,
    Maker,
    bzip2_member,
    deflated_zeros,
    good,
    member,
    pickle_bytes,
    zip_of,
)
from hostile_pictures import PIXELS, encoded, png
from scipy import io as scipy_io

PNG = encoded("PNG", PIXELS[0])


def named(name: str, data: bytes | Callable[[], bytes]) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return folder / name

    return make


def zipped(*members) -> Maker:
    return named("set.zip", lambda: zip_of(*members))


def tar_of(*members: tuple[str, bytes], **fields) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def tar_of_zeros(mebibytes: int) -> bytes:
    """A gzipped tar file of one member of zeros."""
    head = header("a.png", mebibytes * 2**20)
    return gzip_of(head, mebibytes)


def gzip_of(head: bytes, mebibytes: int) -> bytes:
    body = deflated_zeros(mebibytes, head)
    crc = zlib.crc32(head)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\3" + body + crc.to_bytes(4, "little") + bytes(4)


def hdf5(write: Callable[[h5py.File], object]) -> Maker:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "set.h5", "w") as file:
            write(file)
        return folder / "set.h5"

    return make


def empty_chunks(file: h5py.File) -> None:
    """A terabyte of which nothing is stored."""
    file.create_dataset("x", (10**6, 1024, 1024), np.uint8, chunks=(1, 1024, 1024))


def outside(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "/x")
    file.create_dataset("images", (2, 8, 8), np.uint8, external=[("/etc/passwd", 0, 128)])


def cifar(data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "data_batch_1").write_bytes(data)
        (folder / "batches.meta").write_bytes(data)
        return folder

    return make


def lists_in_lists(depth: int) -> Maker:
    return cifar(b"]" * depth + b"a" * depth + b".")


def mat(**arrays) -> bytes:
    file = io.BytesIO()
    scipy_io.savemat(file, arrays)
    return file.getvalue()


def mat_of_a_terabyte() -> bytes:
    data = bytearray(mat(x=np.zeros((4, 4, 4), np.uint8)))
    at = data.index((4).to_bytes(4, "little") * 3)
    data[at : at + 12] = (10_000).to_bytes(4, "little") * 3
    return bytes(data)


def parquet(table: pa.Table, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def cells(*data: bytes | None) -> pa.Table:
    return pa.table({"image": [{"bytes": one, "path": "/etc/passwd"} for one in data]})


def parquet_of_zeros() -> bytes:
    table = cells(*[bytes(2**25)] * 5)
    return parquet(table, compression="zstd", use_dictionary=False)


class Evil:
    def __reduce__(self):
        return os.abort, ()


REFUSED: dict[str, Maker] = {
    "a zip file with a name outside": zipped(good("a.png", PNG), good("../b.png", PNG)),
    "a zip file with a name at the root": zipped(good("a.png", PNG), good("/b.png", PNG)),
    "a zip file of zeros of 3 GiB": zipped(
        good("a.png", PNG), member("b.png", deflated_zeros(3072), 3072 * 2**20, method=8)
    ),
    "a zip file of zeros, said to be few": zipped(
        good("a.png", PNG), member("b.png", deflated_zeros(1024), 99, method=8)
    ),
    "a zip file with 10^10 pixels": zipped(good("a.png", PNG), good("b.png", png(10**5, 10**5))),
    "a zip file encrypted": zipped(good("a.png", PNG), member("b.png", PNG, flags=1)),
    "a zip file by bzip2": zipped(good("a.png", PNG), bzip2_member("b.png", PNG)),
    "a zip file of 20,000 members": named(
        "set.zip", lambda: zip_of(*[good(f"{i}", b"") for i in range(20_000)])
    ),
    "a zip file of nothing": zipped(),
    "a zip file of texts": zipped(good("a.txt", b"a")),
    "a zip file with another checksum": zipped(good("a.png", PNG), member("b.png", PNG, crc=1)),
    "a zip file that is text": named("set.zip", b"text"),
    "a tar file with a name outside": named("set.tar", tar_of(("../a.png", PNG), ("b.png", PNG))),
    "a tar file of zeros of 3 GiB": named("set.tar.gz", lambda: tar_of_zeros(3072)),
    "a tar file's member of 8 EiB": named("set.tar", header("a.png", 2**62) + bytes(1024)),
    "a tar file's name of 3 GiB": named(
        "set.tar.gz", lambda: gzip_of(header("a", 3 * 2**30, tarfile.GNUTYPE_LONGNAME), 3072)
    ),
    "a tar file's comment of 3 GiB": named(
        "set.tar.gz", lambda: gzip_of(header("a", 3 * 2**30, tarfile.XHDTYPE), 3072)
    ),
    "a tar file of 5,000 headers": named(
        "set.tar", header("a", 9, tarfile.GNUTYPE_LONGNAME) * 5000 + bytes(1024)
    ),
    "a tar file cut short": named("set.tar", tar_of(("a.png", PNG), ("b.png", PNG))[:1500]),
    "a tar file of links": named("set.tar", tar_of(("a.png", b""), type=tarfile.SYMTYPE)),
    "a tar file that is text": named("set.tar.gz", b"text"),
    "a tar file that is empty": named("set.tar", b""),
    "a tar file in gzip, cut": named("set.tgz", gzip.compress(tar_of(("a.png", PNG)))[:80]),
    "an array of 713 TiB": named(
        "set.npy",
        b"\x93NUMPY\1\0\x46\0{'descr':'|u1','fortran_order':False,'shape':(9999999,28,28)}",
    ),
    "an array of objects": named("set.npy", pickle_bytes()),
    "a batch that runs a program": cifar(pickle.dumps({"data": Evil()}, 2)),
    "a batch that runs another": cifar(pickle_bytes()),
    "a batch of nothing": cifar(b""),
    "a batch of lists in lists": lists_in_lists(10**5),
    "a batch that grows": cifar(b"(lp0\n" + b"0(g0\ng0\nlp0\n" * 10**4 + b"."),
    "a binary batch cut short": lambda folder: (
        named("data_batch_1.bin", b"x" * 3072)(folder).parent
    ),
    "HDF5 of a terabyte": hdf5(empty_chunks),
    "HDF5 that leads outside": hdf5(outside),
    "HDF5 of nothing": hdf5(lambda file: None),
    "HDF5 cut short": named("set.h5", b"\x89HDF\r\n\x1a\n" + bytes(20)),
    "HDF5 that is text": named("set.hdf5", b"text"),
    "MATLAB of a terabyte": named("set.mat", mat_of_a_terabyte),
    "MATLAB of zeros packed": named("set.mat", lambda: mat_of_zeros()),
    "MATLAB of cells": named("set.mat", mat(x=np.array([np.ones(1), "a"], object))),
    "MATLAB that is text": named("set.mat", b"text"),
    "MATLAB cut short": named("set.mat", mat(x=IMAGES)[:200]),
    "parquet of paths": named("set.parquet", parquet(cells(None, None))),
    "parquet of zeros": named("set.parquet", parquet_of_zeros),
    "parquet of 10^10 pixels": named("set.parquet", parquet(cells(PNG, png(10**5, 10**5)))),
    "parquet cut short": named("set.parquet", parquet(cells(PNG))[:-30]),
    "parquet that is text": named("set.parquet", b"PAR1 text PAR1"),
}
"""Each must be refused in one sentence."""


def mat_of_zeros() -> bytes:
    file = io.BytesIO()
    scipy_io.savemat(file, {"x": np.zeros((150, 1000, 1000), np.uint8)}, do_compression=True)
    return file.getvalue()


def picture_folder(folder: Path) -> list[tuple[str, bytes]]:
    return [(f"{name}.png", encoded("PNG", one)) for name, one in zip("ab", IMAGES, strict=False)]


READ: dict[str, Maker] = {
    "a zip file": lambda folder: zipped(*[good(*one) for one in picture_folder(folder)])(folder),
    "a tar file": lambda folder: named("set.tar", tar_of(*picture_folder(folder)))(folder),
    "parquet": named("set.parquet", parquet(cells(*[encoded("PNG", one) for one in IMAGES[:2]]))),
    "HDF5": hdf5(lambda file: file.create_dataset("x", data=IMAGES[:2])),
    "MATLAB": named("set.mat", mat(x=IMAGES[:2])),
}
"""Each holds the first two of `hostile_archives.IMAGES`."""
