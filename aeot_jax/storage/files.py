"""Files: opened only where they are files, and written whole or not at all."""

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
"""What a full disk is called."""

_OLD = 86_400.0
"""Seconds after which a temporary file is abandoned where nobody can be seen to hold it."""

_LONGEST = 200  # characters of another library's error that are worth repeating


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read its bytes, or say what stands in its place.

    To open a pipe would wait for its writer, and a device may never end.

    Args:
      path: the file; links are followed.

    Raises:
      OSError: if there is nothing, or it may not be read.
      ValueError: if it is no file; a reason, for the caller to complete.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
        raise ValueError(f"it is a {what}, not a file")
    return open(path, "rb")


def reason(error: BaseException) -> str:
    """What an error says, on one line and not too long, to stand in a sentence.

    Libraries put what they could not read into their errors: what cannot be printed is "?".
    """
    words = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in words)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` if the body succeeds.

    The temporary file stands beside its target, so that the rename stays on one disk, and has the
    same ending, which libraries read as the format. It is empty at first, and held as long as the
    body runs: what a writer that was killed has left is known by nobody holding it, and the next
    one for the same target removes it. Folders on the way are made.

    Args:
      path: the file to write; an older one stays as it is unless the body succeeds.

    Yields:
      The temporary path.

    Raises:
      OSError: if the folder cannot be written, the disk is full, or there is a folder in the place
        of the file.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder, where a file is to be written.")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    # Not the process id: in containers that share a folder many writers are process 1.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        hold(descriptor)
        yield temporary
        with temporary.open("r+b") as file:
            if not os.fstat(file.fileno()).st_size:
                raise FileNotFoundError(f"nothing was written for {str(target)!r}.")
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def remove_leftovers(target: Path) -> None:
    """Remove what writers of a file have left that were killed; those at work keep theirs."""
    name = re.compile(
        rf"\.{re.escape(target.stem)}\.[0-9a-f]{{32}}{re.escape(target.suffix)}", re.ASCII
    )
    for found in list_folder(target.parent):
        if name.fullmatch(found.name) and found.is_file() and not _is_held(found):
            found.unlink(missing_ok=True)


def list_folder(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it is not there or may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def check_writable(path: str | os.PathLike[str], name: str) -> None:
    """Find out, before any work, whether a file can be written, by writing another beside it.

    Folders that are missing are not made.

    Args:
      path: of the file.
      name: of the argument, for the error.

    Raises:
      OSError: a sentence, if there is a folder in the place of the file, a file in the place of a
        folder, or the folder cannot be written.
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
    """Hold an open file until it is closed, which the end of a process does, however it ends.

    Returns:
      False if somebody else holds it; None where the system or the disk cannot tell.
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
