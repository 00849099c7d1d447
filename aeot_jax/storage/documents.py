"""JSON files with a checksum: written atomically, and any later change is detected."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from aeot_jax.storage.files import open_file, reason, replacing

SEAL = "sha256"
"""Key of the checksum."""

_MOST = 2**24
"""Most bytes of a file."""


def write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a JSON file atomically.

    Numbers that are not finite become null. The last entry, "sha256", is the checksum of all others
    as compact JSON with sorted keys.

    Args:
      path: the file.
      content: anything that JSON can hold; the key "sha256" is reserved.

    Raises:
      OSError: if the file cannot be written.
    """
    content = _finite(content)
    sealed = {**content, SEAL: seal(content)}
    text = json.dumps(sealed, indent=2, allow_nan=False, ensure_ascii=False)
    if not _is_unicode(text):  # file names may be any bytes
        text = json.dumps(sealed, indent=2, allow_nan=False, ensure_ascii=True)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read(path: str | os.PathLike[str], *, sealed: bool = True) -> dict[str, Any]:
    """Read a JSON file; files of earlier versions have no checksum.

    Args:
      path: the file.
      sealed: refuse a file that was changed after it was written.

    Returns:
      The content, with its checksum if it has one.

    Raises:
      FileNotFoundError: if the file does not exist.
      ValueError: with a reason, if it is damaged or was changed.
    """
    with open_file(path) as file:
        data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ValueError(f"it has more than {_MOST:,} bytes")
    try:
        content = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(reason(error)) from error
    if not isinstance(content, dict):
        raise ValueError("it holds no object of JSON")
    rest = {name: value for name, value in content.items() if name != SEAL}
    if sealed and SEAL in content and content[SEAL] != seal(rest):
        raise ValueError("it was changed after it was written, as its checksum says")
    return content


def seal(content: dict[str, Any]) -> str:
    """The SHA-256 of a JSON object."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
      OSError: if the file does not exist.
      ValueError: with a reason, if it is not a regular file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
