"""One writer at a time in a folder: a lock file that names the process."""

import datetime
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from aeot_jax.storage import files

LOCK_FILE = ".lock"
"""Holds the process id and the host of the writer of the folder."""

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Own a folder while the body runs: no other process or thread may write to it.

    The lock is reentrant. A killed process leaves the file, but no longer holds its lock, and the
    next process takes it over.

    Args:
      folder: made if it is missing.
      name: the name of the argument, for the error.

    Raises:
      ValueError: if another process or thread writes to the folder.
      OSError: if the folder cannot be written.
    """
    folder = folder.resolve()
    path = folder / LOCK_FILE
    if path in _held.get():
        yield
        return
    descriptor = _take(path, f"`{name}` {str(folder)!r}")
    token = _held.set(_held.get() | {path})
    try:
        yield
    finally:
        _held.reset(token)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path, shown: str) -> int:
    """Make and lock the file, and return its descriptor."""
    while True:
        descriptor = _open(path, shown)
        try:
            if _is_ours(descriptor, path, shown):
                own = {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
                }
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps(own).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path, shown: str) -> int:
    for last in (False, False, True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in files.FULL:
                raise
            # The process that made the folder may have removed it again in between.
            if last or not isinstance(error, FileNotFoundError):
                raise OSError(
                    f"{shown} cannot be written ({error.strerror}); choose another folder."
                ) from error
    raise AssertionError("unreachable")


def _is_ours(descriptor: int, path: Path, shown: str) -> bool:
    """Whether we now hold the open file; False if it was removed meanwhile.

    Raises:
      ValueError: if another process writes to the folder, or may do so.
    """
    held = files.hold(descriptor)
    owner = _owner(descriptor)
    host, own_host = owner.get("host"), socket.gethostname()
    who = f"process {owner.get('pid')} on {host}, since {owner.get('since')}"
    if held is False or (held is None and host == own_host and _lives(owner.get("pid"))):
        raise ValueError(
            f"{shown} is being written by {who if owner else 'another process'}; wait for it, "
            "or choose another folder."
        )
    try:
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return False
    except FileNotFoundError:
        return False
    if owner and host != own_host:  # shared disks may not show the locks of other hosts
        raise ValueError(
            f"{shown} is or was written by {who}, which cannot be seen from {own_host}; if it no "
            f"longer runs, remove {str(path)!r}."
        )
    return True


def _owner(descriptor: int) -> dict[str, Any]:
    """The content of the file; empty if its writer was killed before it wrote any."""
    try:
        found = json.loads(os.read(descriptor, 4096))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: Any) -> bool:
    """Whether a process with this id runs on this host; used only where locks do not work."""
    if os.name == "nt" or type(pid) is not int or pid < 1:
        return os.name == "nt"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
