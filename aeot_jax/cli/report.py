"""``aeot-jax report``: a page that shows the quality of a run."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import report
from aeot_jax.cli.options import folder, source
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.options.source import Splits
from aeot_jax.cli.screen.notices import warn
from aeot_jax.storage import files, runs


@dataclasses.dataclass(frozen=True)
class Report:
    """Write report.html into a run's folder: a page to look at, which needs no network.

    A verdict in words, new images beside real ones, the best and the worst reconstructions, the
    nearest training images of new ones, how the training and the transport went, the cells, angles
    and codes of the map, a walk, and the scores where `aeot-jax evaluate` has been run. `aeot-jax
    fit` writes it at its end.

    Attributes:
      run: Folder that `aeot-jax fit` wrote.
      data: Where the data are; by default where `fit` found them. Without them the page shows
        what it can.
      seed: Seed of the samples on the page.
      debug: Show where an error comes from.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: as in the run)", metavar="DATA")
    ] = None
    seed: int = 0
    debug: bool = False


def run(options: Report, out: Console, err: Console) -> None:
    """Write the report of a run.

    Args:
      options: from the command line.
      out: console for the path of the page.
      err: console for warnings.

    Raises:
      ImportError: before any work, if a library for the page is missing.
      ValueError: if an option does not fit, or the run is damaged or of another version.
      FileNotFoundError: if there is no finished run.
      OSError: before any work, if the page cannot be written.
    """
    report.check_libraries()
    draw_key = key(options.seed, Purpose.REPORT)
    folder.check_folder(options.run)
    path = options.run / runs.REPORT
    files.check_writable(path, "run")
    model = load(options.run)
    folder.warn_of_pictures(options.run, err)
    splits, absent = None, None
    if model.image_shape is not None:  # a model of codes holds its data
        splits, absent = _images(options.run, options.data)
    if absent is not None:
        warn(err, absent)
    report.write(
        draw_key,
        report.Material(
            name=options.run.absolute().name,
            model=model,
            train=None if splits is None else splits.train,
            held_out=None if splits is None else splits.held_out,
            kind=None if splits is None else splits.kind,
            absent=absent,
            metrics=document(options.run, runs.METRICS),
            config=document(options.run, runs.CONFIG),
            evaluation=evaluation(options.run, err),
        ),
        path,
    )
    out.print(str(path), soft_wrap=True, markup=False, highlight=False)


def load(run: Path) -> aeot.AEOT:
    """The model of a finished run.

    Raises:
      FileNotFoundError: if the folder holds no model.
      ValueError: if the model is damaged, of another version, or not that of the folder.
    """
    runs.settle(run)
    if runs.held(run) == runs.TRAINING_FILE:
        raise FileNotFoundError(
            f"{str(run)!r} holds a fit that is not finished; go on with the same `aeot-jax fit` "
            "and --resume."
        )
    return folder.load_model(run)


def document(run: Path, name: str) -> dict[str, Any]:
    """The content of a JSON file in the folder of a run; empty if it does not exist.

    Raises:
      ValueError: if it is damaged.
    """
    return runs.read_document(run / name) if (run / name).exists() else {}


def evaluation(run: Path, err: Console) -> dict[str, Any] | None:
    """The content of evaluation.json, if it belongs to the model in the folder; else None.

    Raises:
      ValueError: if it is damaged.
    """
    found = document(run, runs.EVALUATION)
    if not found:
        return None
    if found.get(runs.MODEL) not in (None, folder.model_checksum(run)):
        warn(err, f"{runs.EVALUATION} in {str(run)!r} is of another model and left out.")
        return None
    return found


def _images(run: Path, data: str | None) -> tuple[Splits | None, str | None]:
    """The images that the model was fitted to, or a sentence on why they are not shown.

    Raises:
      ValueError: if config.json is damaged or of another version.
    """
    if not (run / runs.CONFIG).exists() and data is None:
        return None, f"The images are not shown: {runs.CONFIG}, which says where they are, is gone."
    where, known = source.Source(""), None
    if (run / runs.CONFIG).exists():
        where, known = folder.read_source(run)
    if data is not None:
        where = dataclasses.replace(where, path=source.absolute(data))
    try:
        splits = source.load(where)
    except (ValueError, OSError, ImportError) as error:
        return None, f"The images are not shown, because they cannot be read: {error}"
    if known is not None and known != splits.fingerprint():
        return None, (
            f"The images are not shown, because those of {where.path} are not those that the model "
            "was fitted to."
        )
    return splits, None
