"""Files: only regular files are opened, and files are written atomically."""

import errno
import os
import re
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error codes of a full disk."""

_OLD = 86_400.0
"""Seconds after which a temporary file counts as abandoned, if locks do not work on this disk."""

_LONGEST = 200  # most characters of another library's error that are repeated


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to read its bytes.

    Opening a pipe would wait for its writer, and a device may never end.

    Args:
      path: the file; links are followed.

    Raises:
      OSError: if the file does not exist or cannot be read.
      ValueError: with a reason, if it is not a regular file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
        raise ValueError(f"it is a {what}, not a file")
    return open(path, "rb")


def reason(error: BaseException) -> str:
    """The text of an error on one short line, for use inside a sentence.

    Libraries put the bytes that they could not read into their errors; unprintable characters
    become "?".
    """
    words = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in words)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` if the body succeeds.

    The temporary file is in the folder of its target, so that the rename stays on one disk, and has
    the same suffix, because libraries infer the format from it. It is empty at first, and locked
    while the body runs. So a file that a killed writer has left is not locked, and the next writer
    of the same target removes it. Missing parent folders are made.

    Args:
      path: the file to write; an older one is replaced only if the body succeeds.

    Yields:
      The temporary path.

    Raises:
      OSError: if the folder cannot be written, the disk is full, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder, where a file is to be written.")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    # Not the process id: many containers that share a folder have a process 1.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        hold(descriptor)
        yield temporary
        with temporary.open("r+b") as file:
            if not os.fstat(file.fileno()).st_size:
                raise FileNotFoundError(f"nothing was written for {str(target)!r}.")
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the new name
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files of killed writers of `target`; those of live writers stay."""
    name = re.compile(
        rf"\.{re.escape(target.stem)}\.[0-9a-f]{{32}}{re.escape(target.suffix)}", re.ASCII
    )
    for found in list_folder(target.parent):
        if name.fullmatch(found.name) and found.is_file() and not _is_held(found):
            found.unlink(missing_ok=True)


def list_folder(folder: Path) -> list[Path]:
    """The paths in a folder; none if it does not exist or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def check_writable(path: str | os.PathLike[str], name: str) -> None:
    """Check, before any work, that a file can be written, by writing another in its folder.

    Missing folders are not made.

    Args:
      path: the file.
      name: the name of the argument, for the error.

    Raises:
      OSError: if `path` is a folder, a parent is a file, or the folder cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(
            f"`{name}` is {str(target)!r}, but that is a folder; pass the name of a file."
        )
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(
            f"`{name}` is {str(target)!r}, but {str(folder)!r} is a file; pass another place."
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        if error.errno in FULL:
            raise
        raise OSError(
            f"`{name}` is {str(target)!r}, but nothing can be written to {str(folder)!r} "
            f"({error.strerror}); pass another place."
        ) from error


def hold(descriptor: int) -> bool | None:
    """Lock an open file until it is closed; the end of a process closes it, however it ends.

    Returns:
      True; False if another process holds it; None if the system or the disk has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            held = hold(descriptor)
            age = time.time() - os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except OSError:
        return True  # not ours to remove
    return age < _OLD if held is None else not held
