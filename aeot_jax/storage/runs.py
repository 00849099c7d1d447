"""The folder of a run: its files, which belong together, and how one run replaces another.

A run that replaces another is built in a folder inside, ``.next``, beside which the earlier run
stays whole; not in a sibling, because a run's folder may be the root of a disk, and may hold files
of others. One rename, of ``.next`` to ``.ready``, is the decision: before it the earlier run is the
run of the folder, after it the new one is. What is left to do then can be done again after a kill
at any moment: to remove the files of the earlier run that the new one lacks, to rename ``.ready``
to ``.done``, and to move its files up.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from aeot_jax.storage import documents, files, records
from aeot_jax.storage.locks import LOCK_FILE, locked

MODEL_FILE = "model.npz"
"""The fitted model in a run's folder."""

TRAINING_FILE = "checkpoint.npz"
"""The autoencoder after its last finished epoch; removed once the model is saved."""

CONFIG, METRICS, EVALUATION = "config.json", "metrics.json", "evaluation.json"
SAMPLES, RECONSTRUCTIONS, HISTORY = "samples.png", "reconstructions.png", "history.png"
PICTURES = (SAMPLES, RECONSTRUCTIONS, HISTORY)
REPORT = "report.html"

FILES = (MODEL_FILE, TRAINING_FILE, CONFIG, METRICS, EVALUATION, *PICTURES, REPORT)
"""All that a run may leave."""

NEXT, READY, DONE = ".next", ".ready", ".done"

MODEL = "model"
"""Key of a JSON file of a run under which the checksum of its model stands."""


def held(folder: Path) -> str | None:
    """The file that makes a folder that of a run, if there is one."""
    return next((name for name in (MODEL_FILE, TRAINING_FILE) if (folder / name).exists()), None)


def check_place(folder: Path, name: str) -> None:
    """Refuse, before any work, a folder that a run cannot be written to.

    Args:
      folder: of the run; it may be missing.
      name: of the argument, for the error.

    Raises:
      OSError: if there is a file in the place of the folder, a folder in the place of one of its
        files, or nothing can be written there.
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
    """Finish what an earlier process was killed in; by the only writer of the folder."""
    _finish(folder)
    for place in (folder, folder / NEXT):
        for name in FILES:
            files.remove_leftovers(place / name)
    (folder / NEXT / LOCK_FILE).unlink(missing_ok=True)
    remove_if_empty(folder / NEXT)


def settle(folder: Path) -> None:
    """Let a reader see one whole run where a replacement was cut off, by finishing it.

    Raises:
      ValueError: if another process is just doing that, or it cannot be done.
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
    """Put the run in ``.next`` in the place of that in the folder, as a whole or not at all."""
    os.rename(folder / NEXT, folder / READY)
    _finish(folder)


def _finish(folder: Path) -> None:
    """What is left to do after the decision; may be done again."""
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
    """Give up a run that was to replace that of the folder."""
    if (folder / NEXT).is_dir():
        shutil.rmtree(folder / NEXT)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing; leave any other."""
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
    """Refuse a folder in which the files of two runs are mixed.

    Files that are missing are no mistake, and neither are those of earlier versions, which do not
    say whose they are.

    Args:
      folder: of a run with a model.
      names: files of JSON to look at.

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
    """Pictures that are not as ``metrics.json`` says; none where it does not say."""
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
