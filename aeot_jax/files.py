"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
