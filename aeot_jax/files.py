"""Files that are written whole or not at all."""

import os
import uuid
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
    # Not the process id: in containers that share a folder many writers are process 1.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
