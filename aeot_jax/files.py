"""Files: opened only where they are files, and written whole or not at all."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

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
    """What an error says, on one line and not too long, to stand in a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` if the body succeeds.

    The temporary file stands beside its target, so that the rename stays on one disk, and has the
    same ending, which libraries read as the format. Folders on the way are made.

    Args:
      path: the file to write; an older one stays as it is unless the body succeeds.

    Yields:
      The temporary path.

    Raises:
      OSError: if the folder cannot be written or the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not the process id: in containers that share a folder many writers are process 1.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
