"""The folder of a run: writing its files, and reading them with errors that say what is wrong."""

import dataclasses
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

import aeot_jax as aeot
from aeot_jax.checkpoints.checkpoint import MODEL_FILE, config_to_json
from aeot_jax.checkpoints.configs import config_from_json, from_json
from aeot_jax.cli.options.recipe import SCHEMA
from aeot_jax.cli.options.source import Source
from aeot_jax.cli.screen.notices import warn
from aeot_jax.storage import documents, records, runs
from aeot_jax.storage.locks import locked
from aeot_jax.storage.runs import CONFIG, EVALUATION, METRICS, PICTURES


@contextmanager
def opened(run: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Own the folder of a run while the body runs, and tidy up after a killed command.

    Before any work it refuses a folder that holds another run or cannot be written. A new folder
    that stays empty is removed.

    Raises:
      ValueError: if both flags are set; if neither is and the folder holds a run; or if another
        process writes to it.
      OSError: if the folder is a file, one of its files is a folder, or it cannot be written.
    """
    if resume and overwrite:
        raise ValueError("`--resume` and `--overwrite` exclude each other; give one of them.")
    runs.check_place(run, "--out")
    made = not run.exists()
    try:
        with locked(run, "--out"):
            runs.tidy(run)
            _check_free(run, resume=resume, overwrite=overwrite)
            try:
                yield
            finally:
                runs.remove_if_empty(run / runs.NEXT)
    finally:
        if made:
            runs.remove_if_empty(run)


def _check_free(run: Path, *, resume: bool, overwrite: bool) -> None:
    started = runs.held(run / runs.NEXT)
    held = runs.held(run) or (started and f"{runs.NEXT}/{started}")
    if held and not (resume or overwrite):
        raise ValueError(
            f"`--out` is {str(run)!r}, which holds another run ({held}); continue it with "
            "--resume, replace it with --overwrite, or pass another folder."
        )


def model_checksum(run: Path) -> str | None:
    """The checksum of the model in a folder, which its other files state; None without a model."""
    path = run / MODEL_FILE
    return records.read_meta(path, "model")["sha256"] if path.exists() else None


def drop_foreign_evaluation(run: Path) -> None:
    """Remove the evaluation of another model."""
    try:
        runs.check_together(run, (EVALUATION,))
    except ValueError:
        (run / EVALUATION).unlink()


def write_config(
    run: Path,
    source: Source,
    described: dict[str, Any],
    seed: int,
    config: aeot.Config,
    *,
    labels: bool,
) -> None:
    """Write config.json: the options, the source of the data, and the checksum of the model."""
    content = {
        "schema": SCHEMA,
        "version": aeot.__version__,
        runs.MODEL: model_checksum(run),
        "seed": seed,
        "source": dataclasses.asdict(source),
        "data": described,
        "labels": labels,
        "config": config_to_json(config),
    }
    documents.write(run / CONFIG, content)


def write_metrics(run: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json, with the checksums of the model and of the pictures."""
    there = [name for name in PICTURES if (run / name).exists()]
    pictures = {name: documents.checksum(run / name) for name in there}
    known = {runs.MODEL: model_checksum(run), "pictures": pictures}
    documents.write(run / METRICS, {**metrics, **known})


def read_source(run: Path) -> tuple[Source, str]:
    """Read the source of a run's data and its fingerprint from config.json.

    Raises:
      FileNotFoundError: if there is no config.json.
      ValueError: if it is damaged or of a later version.
    """
    path = run / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(run)!r} has no {CONFIG}, which says where its images came from; pass --data."
        )
    content = runs.read_document(path)
    schema = content.get("schema")
    if type(schema) is not int or schema not in (1, SCHEMA):
        raise ValueError(
            f"{str(path)!r} has schema {_short(schema)}, this version reads {SCHEMA}; "
            "install the version that wrote it, or pass another run."
        )
    try:
        return _source(content, sealed=schema == SCHEMA)
    except records.NewerError as error:
        raise ValueError(f"{str(path)!r} is of another version: {error}.") from error
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{str(path)!r} is damaged or was changed ({reason}); repeat the `aeot-jax fit` that "
            "made the run with --resume, which writes it again."
        ) from error


def _source(content: dict[str, Any], *, sealed: bool) -> tuple[Source, str]:
    """Read the source and its fingerprint; raises ValueError with a reason."""
    version = content.get("version")
    source = from_json(Source, content.get("source"), "source", version)
    source.check()
    config_from_json(content.get("config"), version)
    for name, kind, words in (
        ("seed", int, "a whole number"),
        ("labels", bool, "true or false"),
        ("version", str, "a text"),
        ("data", dict, "an object"),
    ):
        if type(content.get(name)) is not kind:
            raise ValueError(f"`{name}` is {_short(content.get(name))}, not {words}")
    if sealed and not _is_checksum(content.get(runs.MODEL)):
        raise ValueError(f"`{runs.MODEL}` is {_short(content.get(runs.MODEL))}, not a checksum")
    fingerprint = content["data"].get("sha256")
    if not _is_checksum(fingerprint):
        raise ValueError(f"`data.sha256` is {_short(fingerprint)}, not a checksum")
    return source, fingerprint


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _short(value: Any) -> str:
    return reprlib.repr(value)


def check_folder(run: Path) -> None:
    """Raise a FileNotFoundError unless the path is a folder."""
    if not run.is_dir():
        raise FileNotFoundError(
            f"{str(run)!r} is not a folder; pass the one that `aeot-jax fit --out` wrote."
        )


def load_model(run: Path) -> aeot.AEOT:
    """Load the model of a run's folder, or of the file that the path names.

    Raises:
      FileNotFoundError: if there is no model.
      ValueError: if it is damaged, or the folder holds files of another run.
    """
    if run.is_dir():
        runs.settle(run)
    path = run / MODEL_FILE if run.is_dir() else run
    if not path.exists():
        hint = (
            f"the folder holds no {MODEL_FILE}"
            if run.is_dir()
            else "there is no such file or folder"
        )
        raise FileNotFoundError(
            f"{str(run)!r} is not a finished run: {hint}; pass the folder that "
            "`aeot-jax fit --out` wrote."
        )
    if run.is_dir():
        runs.check_together(run)
    return aeot.load(path)


def warn_of_pictures(run: Path, err: Console) -> None:
    """Warn about pictures in the folder of a run that are not those of its model."""
    if run.is_dir() and (foreign := runs.foreign_pictures(run)):
        names = " and ".join(foreign)
        warn(err, f"{names} in {str(run)!r} are not the pictures that the fit wrote.")


def warn_of_state(run: Path, model: aeot.AEOT, err: Console) -> None:
    """Warn if the model has not converged, or has learned nothing."""
    if int(model.solution.status) != aeot.Status.CONVERGED:
        warn(err, f"the model is short of its tolerance. {aeot.message(model.solution)}")
    known = (run / METRICS).is_file() and runs.read_document(run / METRICS)
    if known and known.get("learned") is False:
        warn(err, "the autoencoder has learned nothing; see reconstructions.png in the run.")
