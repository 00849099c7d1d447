"""Zip and tar files of pictures, read without unpacking them to disk."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aeot_jax.data.found import Files, Item
from aeot_jax.data.tree import SUFFIXES, Parts, arrange, is_left_alone, is_picture
from aeot_jax.storage.archives import Sparing, check_size
from aeot_jax.storage.files import open_file, reason

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_DIRECTORY = 2**25
"""Most bytes of a zip file's directory, which takes about a hundred per member."""

_MOST_MEMBER = 2**30
"""Most bytes of one member."""

_HEADER = 2**24
"""Most bytes of a tar file's header, with long names and comments."""

_ENCRYPTED = 1  # flag of a member
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar file, by its suffix."""
    return path.name.lower().endswith((*ZIP, *TAR))


def find(path: Path, split: str) -> Files:
    """Find every picture of an archive; its folders have the same meaning as on disk.

    A top folder that holds all others is skipped.

    Args:
      path: a zip or tar file.
      split: "train", "test" or `tree.ALL`.

    Raises:
      NoSplitError: if the split does not exist.
      ValueError: if the archive holds no picture, is damaged, or has a path that leads out of it.
    """
    is_zip = path.name.lower().endswith(ZIP)
    with complete(path):
        members = list(_list_zip(path) if is_zip else _list_tar(path))
    names = [_parts(name, path) for name, _ in members]
    kept = [i for i, parts in enumerate(names) if parts and is_picture(parts)]
    if not kept:
        raise ValueError(
            f"`source` {str(path)!r} holds no pictures ({', '.join(sorted(SUFFIXES))}); pass an "
            "archive of pictures."
        )
    inner = _without_root([names[i] for i in kept])
    arranged = arrange(inner, split, repr(str(path)))
    chosen = [members[kept[place]] for place in arranged.places]

    def stream(rows: Sequence[int]) -> Generator[Item, None, None]:
        wanted = {chosen[row][1]: row for row in rows}
        return _read_zip(path, wanted) if is_zip else _read_tar(path, wanted)

    return Files(
        ["/".join(inner[place]) for place in arranged.places],
        stream if is_zip else _in_order(stream, [key for _, key in chosen]),
        arranged.labels,
        arranged.label_names,
        arranged.notes,
        full_name=lambda name: f"{path}/{name}",
        others=_others(names),
    )


def _others(names: list[Parts]) -> tuple[str, ...]:
    """Names of the members that are no pictures."""
    left = (name for name in names if name and not any(map(is_left_alone, name)))
    return tuple(sorted("/".join(name) for name in left if not is_picture(name)))


def _in_order(
    stream: Callable[[Sequence[int]], Generator[Item, None, None]], keys: list[int]
) -> Callable[[Sequence[int]], Generator[Item, None, None]]:
    """Read the rows of a tar file in the order of the file."""
    return lambda rows: stream(sorted(rows, key=lambda row: keys[row]))


def _parts(name: str, path: Path) -> Parts:
    """Split the path of a member; raises if it leads out of the archive."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        raise ValueError(
            f"`source` {str(path)!r} has a member {name!r:.99}, which leads out of the archive; "
            "make the archive again from inside its folder."
        )
    return tuple(part for part in parts if part != ".")


def _without_root(names: list[Parts]) -> list[Parts]:
    tops = {name[0] for name in names}
    if len(tops) == 1 and min(map(len, names)) > 1 and tops.pop().lower() not in _SPLITS:
        return [name[1:] for name in names]
    return names


def _list_zip(path: Path) -> Iterator[tuple[str, int]]:
    """Names of the members, and their positions."""
    with _zip(path) as (archive, size):
        total = 0
        for place, info in enumerate(archive.infolist()):
            if info.is_dir():
                continue
            total += info.file_size
            yield info.filename, place
        check_size(total, size)


def _read_zip(path: Path, wanted: dict[int, int]) -> Generator[Item, None, None]:
    with complete(path), _zip(path) as (archive, _):
        infos = archive.infolist()
        for place, row in wanted.items():
            try:
                data = _member(archive, infos[place])
            except Exception as error:  # damaged bytes; the other members may be intact
                yield Item(row, lambda error=error: _fail(error))
            else:
                yield Item(row, lambda data=data: io.BytesIO(data), len(data))


def _fail(error: Exception) -> io.BufferedIOBase:
    raise ValueError(reason(error))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & _ENCRYPTED:
        raise ValueError("it is encrypted")
    # zipfile decompresses the other methods without a bound
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"it is compressed by method {info.compress_type}")
    if info.file_size > _MOST_MEMBER:
        raise ValueError(f"it announces {info.file_size:,} bytes")
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError("it is not as long as announced")
    return data


@contextmanager
def _zip(path: Path) -> Iterator[tuple[zipfile.ZipFile, int]]:
    with (
        Sparing(open_file(path).detach(), _DIRECTORY) as file,
        zipfile.ZipFile(file) as archive,
    ):
        file.most = _MOST_MEMBER
        yield archive, os.fstat(file.fileno()).st_size


def _list_tar(path: Path) -> Iterator[tuple[str, int]]:
    for info in members_of_tar(path):
        yield info[0].name, info[0].offset_data


def _read_tar(path: Path, wanted: dict[int, int]) -> Generator[Item, None, None]:
    """Read the members in file order: seeking back in a compressed file would start again."""
    left = len(wanted)
    with complete(path):
        for info, archive in members_of_tar(path):
            row = wanted.get(info.offset_data)
            if row is None:
                continue
            file = archive.extractfile(info)
            assert file is not None  # a regular file, as `members_of_tar` yields
            data = file.read()
            yield Item(row, lambda data=data: io.BytesIO(data), len(data))
            left -= 1
            if not left:
                return


def members_of_tar(path: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield the regular files of a tar file; links and devices are ignored."""
    with open_file(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        bounded: Any = _Bounded(_unpacked(raw), size)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for info in archive:
                bounded.allow(info.size)
                archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - tarfile would keep all
                if info.isreg() and info.sparse is None:  # pyright: ignore[reportAttributeAccessIssue]
                    if info.size > _MOST_MEMBER:
                        raise ValueError(f"a member announces {info.size:,} bytes")
                    yield info, archive
        if not bounded.is_whole():
            raise ValueError("it ends early")


def _unpacked(raw: io.BufferedReader) -> io.BufferedIOBase:
    first = raw.read(6)
    raw.seek(0)
    if first.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if first.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if first.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(raw)
    return raw


class _Bounded:
    """The decompressed tar file, with a limit on the bytes read, from the size of the file."""

    def __init__(self, file: io.BufferedIOBase, size: int):
        self._file, self._size, self._taken = file, size, 0
        self._last = b""
        self.allow(0)

    def allow(self, num_bytes: int) -> None:
        """Allow the bytes of a member and of a header after it; names may have any length."""
        self._most = self._taken + num_bytes + _HEADER

    def read(self, size: int) -> bytes:
        """Read; tarfile requests blocks of ten kilobytes."""
        data = self._file.read(size)
        self._taken += len(data)
        self._last = data[-tarfile.BLOCKSIZE :] or self._last
        check_size(self._taken, self._size)
        if self._taken > self._most:
            raise ValueError(f"a header in it takes more than {_HEADER:,} bytes")
        return data

    def is_whole(self) -> bool:
        """Whether the last block is the end mark of a tar file; tarfile accepts any end."""
        return not any(self._last)


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Turn every error into a ValueError that names the archive: damaged bytes raise anything."""
    try:
        yield
    except (ImportError, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        raise ValueError(
            f"`source` {str(path)!r} cannot be read as an archive of pictures ({reason(error)}); "
            "make it again."
        ) from error
