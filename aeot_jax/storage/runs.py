"""The folder of a run: its files, and how one run replaces another.

A new run is built in a subfolder, ``.next``, while the earlier run stays complete. (A sibling will
not do: the folder of a run may be the root of a disk, and may hold other files.) One rename, of
``.next`` to ``.ready``, decides: before it the folder holds the earlier run, after it the new one.
The remaining steps can be repeated after a kill at any moment: remove the files of the earlier run
that the new one lacks, rename ``.ready`` to ``.done``, and move its files up.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from aeot_jax.storage import documents, files, records
from aeot_jax.storage.locks import LOCK_FILE, locked

MODEL_FILE = "model.npz"
"""File of the fitted model."""

TRAINING_FILE = "checkpoint.npz"
"""File of the autoencoder after its last finished epoch; removed once the model is saved."""

CONFIG, METRICS, EVALUATION = "config.json", "metrics.json", "evaluation.json"
SAMPLES, RECONSTRUCTIONS, HISTORY = "samples.png", "reconstructions.png", "history.png"
PICTURES = (SAMPLES, RECONSTRUCTIONS, HISTORY)
REPORT = "report.html"

FILES = (MODEL_FILE, TRAINING_FILE, CONFIG, METRICS, EVALUATION, *PICTURES, REPORT)
"""All files that a run may write."""

NEXT, READY, DONE = ".next", ".ready", ".done"

MODEL = "model"
"""Key of the model's checksum in the JSON files of a run."""


def held(folder: Path) -> str | None:
    """The name of the model or checkpoint in a folder; None if it holds no run."""
    return next((name for name in (MODEL_FILE, TRAINING_FILE) if (folder / name).exists()), None)


def check_place(folder: Path, name: str) -> None:
    """Check, before any work, that a run can be written to a folder.

    Args:
      folder: the folder of the run; it may be missing.
      name: the name of the argument, for the error.

    Raises:
      OSError: if `folder` is a file, one of its files is a folder, or it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`{name}` is {str(folder)!r}, which is a file; pass a folder.")
    for part in (*FILES, LOCK_FILE):
        if (folder / part).is_dir():
            raise IsADirectoryError(
                f"`{name}` is {str(folder)!r}, which has a folder in the place of the file {part}; "
                "move that away, or pass another folder."
            )
    for part in (NEXT, READY, DONE):
        if (folder / part).exists() and not (folder / part).is_dir():
            raise NotADirectoryError(
                f"`{name}` is {str(folder)!r}, which has a file {part}, where a run would be "
                "replaced; move that away, or pass another folder."
            )
    files.check_writable(folder / LOCK_FILE, name)


def tidy(folder: Path) -> None:
    """Finish what a killed process has begun; called by the owner of the folder."""
    _finish(folder)
    for place in (folder, folder / NEXT):
        for name in FILES:
            files.remove_leftovers(place / name)
    (folder / NEXT / LOCK_FILE).unlink(missing_ok=True)
    remove_if_empty(folder / NEXT)


def settle(folder: Path) -> None:
    """Finish a replacement that was cut off, so that a reader sees one complete run.

    Raises:
      ValueError: if another process is doing so, or the folder cannot be written.
    """
    if not any((folder / name).is_dir() for name in (READY, DONE)):
        return
    try:
        with locked(folder, "path"):
            _finish(folder)
    except OSError as error:
        raise ValueError(
            f"`path` {str(folder)!r} holds a run that was cut off while it replaced another "
            f"({files.reason(error)}); make the folder writable and try again."
        ) from error


def replace(folder: Path) -> None:
    """Replace the run of the folder by the one in ``.next``, atomically."""
    os.rename(folder / NEXT, folder / READY)
    _finish(folder)


def _finish(folder: Path) -> None:
    """Do the steps after the decision; they can be repeated."""
    ready, done = folder / READY, folder / DONE
    if ready.is_dir():
        for name in FILES:
            if not (ready / name).exists():
                (folder / name).unlink(missing_ok=True)
        os.rename(ready, done)
    if done.is_dir():
        for name in FILES:
            if (done / name).exists():
                os.replace(done / name, folder / name)
        shutil.rmtree(done)


def drop_next(folder: Path) -> None:
    """Drop a run that was to replace the one of the folder."""
    if (folder / NEXT).is_dir():
        shutil.rmtree(folder / NEXT)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    if folder.is_dir() and not files.list_folder(folder):
        folder.rmdir()


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run; raises ValueError with a sentence if it is damaged."""
    try:
        content = documents.read(path)
        if MODEL in content and documents.SEAL not in content:
            raise ValueError(f"its {documents.SEAL!r} is gone")
        return content
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is damaged or was changed ({error}); repeat the `aeot-jax fit` that "
            "made the run with --resume, which writes it again."
        ) from error


def check_together(folder: Path, names: tuple[str, ...] = (CONFIG, METRICS)) -> None:
    """Refuse a folder that holds files of two runs.

    Missing files are allowed, and so are files of earlier versions, which do not name their model.

    Args:
      folder: the folder of a run with a model.
      names: JSON files to check.

    Raises:
      ValueError: if a file is damaged, or belongs to another model.
    """
    present = [name for name in names if (folder / name).exists()]
    if not present or not (folder / MODEL_FILE).exists():
        return
    own = records.read_meta(folder / MODEL_FILE, "model").get("sha256")
    for name in present:
        content = read_document(folder / name)
        if content.get(MODEL, own) != own:
            raise ValueError(
                f"{str(folder)!r} holds files of two runs: {name} belongs to another model than "
                f"{MODEL_FILE}; repeat the `aeot-jax fit` that made the run with --resume, which "
                f"writes all again, or pass {str(folder / MODEL_FILE)!r} to take the model alone."
            )


def foreign_pictures(folder: Path) -> list[str]:
    """Pictures whose checksums differ from those in ``metrics.json``, if it has any."""
    if not (folder / METRICS).exists():
        return []
    known = read_document(folder / METRICS).get("pictures")
    return [
        name
        for name in PICTURES
        if isinstance(known, dict)
        and name in known
        and (folder / name).is_file()
        and documents.checksum(folder / name) != known[name]
    ]
