"""A run's folder: its files, written whole, and read with a sentence for what is wrong."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import aeot_jax as aeot
from aeot_jax import files
from aeot_jax.checkpoint import MODEL_FILE, TRAINING_FILE, config_to_json
from aeot_jax.cli.source import Source

CONFIG, METRICS, EVALUATION = "config.json", "metrics.json", "evaluation.json"
SAMPLES, RECONSTRUCTIONS, HISTORY = "samples.png", "reconstructions.png", "history.png"

_SCHEMA = 1
"""Of config.json; raised when older programs could no longer read it."""


def check_out(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse, before any work, a folder that another run would be lost in.

    Raises:
      ValueError: if both flags are set, if neither is and the folder holds a run, or if there is a
        file where the folder should be.
    """
    if resume and overwrite:
        raise ValueError("`--resume` and `--overwrite` exclude each other; give one of them.")
    if run.exists() and not run.is_dir():
        raise ValueError(f"`--out` is {str(run)!r}, which is a file; pass a folder.")
    held = [name for name in (MODEL_FILE, TRAINING_FILE) if (run / name).exists()]
    if held and not (resume or overwrite):
        raise ValueError(
            f"`--out` is {str(run)!r}, which holds another run ({held[0]}); continue it with "
            "--resume, replace it with --overwrite, or pass another folder."
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON whole or not at all; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
    with files.replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of JSON.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); fit the run again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no object of JSON; fit the run again.")
    return content


def write_config(
    run: Path,
    source: Source,
    described: dict[str, Any],
    seed: int,
    config: aeot.Config,
    *,
    labels: bool,
) -> None:
    """Record what the run was asked to do, and on which images."""
    content = {
        "schema": _SCHEMA,
        "version": aeot.__version__,
        "seed": seed,
        "source": dataclasses.asdict(source),
        "data": described,
        "labels": labels,
        "config": config_to_json(config),
    }
    write_json(run / CONFIG, content)


def read_source(run: Path) -> tuple[Source, str]:
    """Read where a run's images came from, and their fingerprint.

    Raises:
      FileNotFoundError: if the folder holds no run of this command.
      ValueError: if its record is damaged or of a later version.
    """
    path = run / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(run)!r} has no {CONFIG}, which says where its images came from; pass --data."
        )
    content = read_json(path)
    if content.get("schema") != _SCHEMA:
        raise ValueError(
            f"{str(path)!r} has schema {content.get('schema')!r}, this version reads {_SCHEMA}; "
            "install the version that wrote it, or pass --data."
        )
    try:
        return Source(**content["source"]), str(content["data"]["sha256"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error!r}); pass --data.") from error


def load_model(run: Path) -> aeot.AEOT:
    """Load the model of a run's folder, or of the file that the path names.

    Raises:
      FileNotFoundError: if there is no model.
      ValueError: if it is damaged.
    """
    path = run / MODEL_FILE if run.is_dir() else run
    if not path.is_file():
        hint = (
            f"the folder holds no {MODEL_FILE}"
            if run.is_dir()
            else "there is no such file or folder"
        )
        raise FileNotFoundError(
            f"{str(run)!r} is not a finished run: {hint}; pass the folder that "
            "`aeot-jax fit --out` wrote."
        )
    return aeot.load(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
