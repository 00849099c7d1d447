"""``aeot-jax evaluate``: how good a fitted model is."""

import dataclasses
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from aeot_jax import documents, files, metrics, runs
from aeot_jax.cli import folder, source
from aeot_jax.cli.notices import warn
from aeot_jax.cli.reading import reading, say
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.evaluate import evaluate, nothing_learned
from aeot_jax.networks import Network
from aeot_jax.ot.counts.words import in_words

_LARGE = 1e5
"""Distances from which on decimals say nothing."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Judge a fitted model, and write evaluation.json into its folder.

    A fresh certificate of the transport; reconstruction; Fréchet and kernel distance, precision,
    recall, density and coverage in a feature space learned from the data, each beside its floor
    (what real images score); and whether the model repeats its training images, for which it needs
    images that it was not fitted to: the data's own test images, or those of `fit --hold-out`.
    With --real and --generated it compares data that come from elsewhere, and writes nothing.

    Attributes:
      run: Folder that `aeot-jax fit` wrote.
      data: Where the images are; by default where `fit` found them.
      real: Real data to compare with, in place of a run: whatever `fit --data` takes, images or
        rows of numbers.
      generated: Generated data of the same kind.
      features: A function of your own in place of the learned features, as module:function; it
        takes a batch of the data, images as floats in [0, 1], and gives (batch, features). The
        module is imported from the present folder, and its code is run.
      num: Images to generate, and to compare with, at most; more take longer.
      seed: Of the evaluation.
      quiet: Show no progress.
      debug: Show where an error comes from.
    """

    run: Annotated[
        Path | None, tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="", metavar="[RUN]")
    ] = None
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: as in the run)", metavar="STR")
    ] = None
    real: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: a run's)", metavar="DATA")
    ] = None
    generated: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: a run's)", metavar="DATA")
    ] = None
    features: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: learned)", metavar="MODULE:NAME")
    ] = None
    num: int = 5000
    seed: int = 0
    quiet: bool = False
    debug: bool = False


def run(options: Evaluate, out: Console, err: Console) -> None:
    """Evaluate a run and write evaluation.json.

    Args:
      options: from the command line.
      out: for the table.
      err: for progress and warnings.

    Raises:
      ValueError: if an option, the model or the images do not fit.
      FileNotFoundError: if there is no model, or no images.
      OSError: before any work, if evaluation.json cannot be written.
    """
    if (options.real is None) != (options.generated is None):
        raise ValueError("only one of `--real` and `--generated` is given; pass both.")
    if (options.run is None) == (options.real is None):
        raise ValueError(
            "pass either the folder of a run, or --real and --generated, to compare data alone."
        )
    features = None if options.features is None else _function(options.features)
    if options.run is None:
        _compare(options, features, out, err)
    else:
        _judge(options, options.run, features, out, err)


def _function(name: str) -> Network:
    """Somebody's own function, by module:name.

    Raises:
      ValueError: if there is none.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"`--features` is {name!r}; pass module:function, such as mine:features.")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
        raise ValueError(
            f"`--features` is {name!r}, but there is no module {module!r} in the present folder or "
            "among those installed; check its name."
        ) from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ValueError(f"`--features` is {name!r}, but {module!r} has no such function.")
    return found


def _compare(options: Evaluate, features: Network | None, out: Console, err: Console) -> None:
    """Compare data that come from elsewhere."""
    assert options.real is not None
    assert options.generated is not None
    with reading(err, quiet=options.quiet) as report:
        splits = source.load(source.Source(source.absolute(options.real)), report)
        made = source.load(source.Source(source.absolute(options.generated)), report).train
    labels = splits.train.labels
    results = metrics.compare(
        key(options.seed, Purpose.EVALUATE),
        splits.train.values,
        made.values,
        None if splits.held_out is None else splits.held_out.values,
        labels=None if splits.train.values.ndim == 2 else labels,
        features=features,
        num_samples=options.num,
    )
    table = Table("", "generated", "real", "")
    _add_distances(table, results)
    out.print(table)


def _judge(
    options: Evaluate, run: Path, features: Network | None, out: Console, err: Console
) -> None:
    """Evaluate a run and write evaluation.json."""
    folder.check_folder(run)
    started = time.monotonic()
    files.check_writable(run / runs.EVALUATION, "run")
    model = folder.load_model(run)
    folder.warn_of_pictures(run, err)
    where, sha256 = source.Source(""), None
    if options.data is None or (run / runs.CONFIG).is_file():
        where, sha256 = folder.read_source(run)
    if options.data is not None:  # moved, perhaps, but cut as it was
        where = dataclasses.replace(where, path=source.absolute(options.data))
    with reading(err, quiet=options.quiet) as report:
        splits = source.load(where, report)
    say(splits.train, err, quiet=True)
    if sha256 is not None and sha256 != splits.fingerprint():
        warn(err, f"the images of {where.path} are not those that the model was fitted to.")

    def on_stage(name: str) -> None:
        if not options.quiet:
            err.print(name, style="dim")

    results = evaluate(
        key(options.seed, Purpose.EVALUATE),
        model,
        splits.train,
        splits.held_out,
        features=features,
        num_samples=options.num,
        on_stage=on_stage,
    )
    results |= {
        "seconds": time.monotonic() - started,
        "seed": options.seed,
        "data": splits.describe(),
        runs.MODEL: folder.model_checksum(run),
    }
    documents.write(run / runs.EVALUATION, results)
    out.print(_table(results, splits.kind))
    measured = results["reconstruction"]
    if measured and (said := nothing_learned(measured.get("held_out", measured["train"]))):
        warn(err, said)


def _table(results: dict[str, Any], kind: str | None) -> Table:
    table = Table("", "model", "real", "")
    upper = results["certificate"].get("upper")
    error = in_words(results["mass_error"], results["mass_error_se"], upper)
    table.add_row("mass error", error, "0", "lower")
    for name, label in (("held_out", kind), ("train", "train")):
        if name in (results["reconstruction"] or ()):
            measured = results["reconstruction"][name]
            table.add_row(
                f"error, {label}",
                f"{measured['mse']:.4f}",
                "0",
                f"the mean alone: {measured['variance']:.4f}",
            )
    _add_distances(table, results)
    rejected = f"{100 * results['samples']['share_rejected']:.1f} %"
    table.add_row("rejected", rejected, "-", "of the candidates")
    return table


def _add_distances(table: Table, results: dict[str, Any]) -> None:
    """Rows of what generated and real data score."""
    frechet, kernel, prdc = results["frechet"], results["kernel"], results["prdc"]
    floor = frechet["floor_train"] if frechet["floor_test"] is None else frechet["floor_test"]
    size = f"lower; {frechet['num_samples']:,} images"
    table.add_row("Fréchet distance", _short(frechet["distance"], 3), _short(floor, 3), size)
    value, error = kernel["value"], 2 * kernel["standard_error"]
    table.add_row(
        "kernel distance",
        f"{_short(value, 4)} ± {_short(error, 4)}",
        _short(kernel["floor"], 4),
        "lower",
    )
    for name in ("precision", "recall", "density", "coverage"):
        table.add_row(name, f"{prdc[name]:.3f}", f"{prdc['floor'][name]:.3f}", "higher")
    classes, memory = results["classes"], results["memory"]
    if classes is not None:
        table.add_row("classes", f"{classes['captured']}", f"{classes['of']}", "all")
    if memory is None:
        table.add_row("near copies", "-", "-", "no test images")
    else:
        near, error = memory["share_nearer"], 2 * memory["standard_error"]
        near, error = f"{100 * near:.1f} ± {100 * error:.1f} %", f"{100 * memory['alpha']:.1f} %"
        table.add_row("near copies", near, error, "not above")


def _short(value: float, digits: int) -> str:
    """A number with so many decimals; in powers of ten where features of one's own are large."""
    return f"{value:.{digits}f}" if abs(value) < _LARGE else f"{value:.{digits}g}"
