"""``aeot-jax evaluate``: the scores of a fitted model."""

import dataclasses
import importlib
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from aeot_jax import metrics
from aeot_jax.cli.options import folder, source
from aeot_jax.cli.options.reading import reading, say
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.screen.notices import warn
from aeot_jax.cli.screen.timing import Pace, clock
from aeot_jax.data.found import Report
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table as Rows
from aeot_jax.data.tree import title
from aeot_jax.evaluate import evaluate, nothing_learned, too_few
from aeot_jax.evaluate.scores import usable_labels
from aeot_jax.inputs.networks import Network
from aeot_jax.metrics.comparison import uncertain
from aeot_jax.model import kind_of
from aeot_jax.ot.counts.words import in_words
from aeot_jax.storage import documents, files, runs

_LARGE = 1e5
"""Larger distances are shown without decimals."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Judge a fitted model, and write evaluation.json into its folder.

    A fresh certificate of the transport; the reconstruction error; Fréchet and kernel distance,
    precision, recall, density and coverage in a feature space learned from the data, each beside
    the score of real data; how new the codes of samples are; and whether the model repeats its
    training data, which needs data that it was not fitted to: test images of the data set, or those
    of `fit --hold-out`. With --real and --generated it compares any two data sets, and writes
    nothing.

    Attributes:
      run: Folder that `aeot-jax fit` wrote.
      data: Where the data are; by default where `fit` found them.
      real: Real data to compare with, in place of a run: whatever `fit --data` takes, images or
        rows of numbers.
      generated: Generated data of the same kind.
      features: Your own function in place of the learned features, as module:function. It takes a
        batch of the data, images as floats in [0, 1], and returns (batch, features). The module is
        imported from the present folder, and its code is run.
      num: Most images, rows or codes to generate, and to compare with; more take longer.
      seed: Seed of the evaluation.
      quiet: Show no progress.
      debug: Show where an error comes from.
    """

    run: Annotated[
        Path | None, tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="", metavar="[RUN]")
    ] = None
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: as in the run)", metavar="DATA")
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
      out: console for the table.
      err: console for progress and warnings.

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
    """Import the user's function, module:name.

    Raises:
      ValueError: if it does not exist.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"`--features` is {name!r}; pass module:function, such as mine:features.")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        missing = isinstance(error, ModuleNotFoundError)
        if missing and error.name in (module, module.partition(".")[0]):
            raise ValueError(
                f"`--features` is {name!r}, but there is no module {module!r} in the present "
                "folder or among those installed; check its name."
            ) from error
        raise _raised(name, f"the import of {module!r}", error) from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ValueError(f"`--features` is {name!r}, but {module!r} has no such function.")

    def features(rows: Any) -> Any:
        try:
            return found(rows)
        except (Exception, SystemExit) as error:
            raise _raised(name, "it", error) from error

    return features


def _raised(name: str, what: str, error: BaseException) -> ValueError:
    """The error for user code that raised one."""
    return ValueError(
        f"`--features` is {name!r}, but {what} raised {type(error).__name__} "
        f"({files.reason(error)}); correct it; --debug shows where."
    )


def _compare(options: Evaluate, features: Network | None, out: Console, err: Console) -> None:
    """Compare two data sets, without a run."""
    assert options.real is not None
    assert options.generated is not None
    with reading(err, quiet=options.quiet) as report:
        splits = _read(options.real, "--real", report)
        made = _read(options.generated, "--generated", report).train
    labels = usable_labels(splits.train)
    results = metrics.compare(
        key(options.seed, Purpose.EVALUATE),
        splits.train.values,
        made.values,
        None if splits.held_out is None else splits.held_out.values,
        labels=None if splits.train.values.ndim == 2 or features is not None else labels,
        features=features,
        num_samples=options.num,
    )
    things = "images" if made.values.ndim > 2 else "rows"
    table = _headed("generated", things)
    _add_distances(table, results, things, splits.held_out)
    out.print(table)
    _say_few(results, things, out)


def _read(path: str, option: str, report: Report | None) -> source.Splits:
    return source.load(source.Source(source.absolute(path)), report, option=option)


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
    if options.data is not None:  # the same selection, perhaps from another place
        where = dataclasses.replace(where, path=source.absolute(options.data))
    with reading(err, quiet=options.quiet) as report:
        splits = source.load(where, report, option="--data")
    say(splits.train, err, quiet=True)
    if sha256 is not None and sha256 != splits.fingerprint():
        warn(
            err, f"the {kind_of(model)} of {where.path} are not those that the model was fitted to."
        )

    def on_stage(name: str) -> None:
        if not options.quiet:
            err.print(f"{clock(pace.elapsed())}  {name}", style="dim", highlight=False)

    pace = Pace()

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
    things = kind_of(model)
    out.print(_table(results, splits, things))
    _say_few(results, things, out)
    measured = results["reconstruction"]
    if measured and (said := nothing_learned(measured.get("held_out", measured["train"]), things)):
        warn(err, said)
    data = [] if options.data is None else ["--data", options.data]
    again = shlex.join(["aeot-jax", "report", title(str(run)), *map(title, data)])
    for line in (f"in {run / runs.EVALUATION}", f"to see more: {again}"):
        out.print(line, soft_wrap=True, markup=False, highlight=False)


def _headed(made: str, things: str) -> Table:
    return Table("what is measured", made, f"real {things}", "better is")


def _say_few(results: dict[str, Any], things: str, out: Console) -> None:
    """Warn if the scores come from few images."""
    if said := uncertain(results["frechet"]["num_samples"], things):
        out.print(said, soft_wrap=True, markup=False, highlight=False)


def _table(results: dict[str, Any], splits: source.Splits, things: str) -> Table:
    table, kind = _headed("model", things), splits.kind
    upper = results["certificate"].get("upper")
    error = in_words(results["mass_error"], results["mass_error_se"], upper)
    table.add_row("mass error of the transport", error, "0", "lower")
    number = "pixel" if things == "images" else "number"
    for name, label in (("held_out", kind), ("train", "training")):
        if name in (results["reconstruction"] or ()):
            measured = results["reconstruction"][name]
            table.add_row(
                f"squared error a {number} of decoded {label} {things}",
                f"{measured['mse']:.4f}",
                "0",
                f"lower; the mean alone has {measured['variance']:.4f}",
            )
    _add_distances(table, results, things, splits.held_out)
    rejected = f"{100 * results['samples']['share_rejected']:.1f} %"
    table.add_row("candidates rejected and drawn again", rejected, "-", "lower")
    return table


def _add_distances(
    table: Table, results: dict[str, Any], things: str, held_out: ImageSet | Rows | None
) -> None:
    """Add the scores of generated and real data."""
    frechet, kernel, prdc = results["frechet"], results["kernel"], results["prdc"]
    floor = frechet["floor_train"] if frechet["floor_test"] is None else frechet["floor_test"]
    size = f"lower; of {frechet['num_samples']:,} {things}"
    table.add_row("Fréchet distance", _short(frechet["distance"], 3), _short(floor, 3), size)
    value, error = kernel["value"], 2 * kernel["standard_error"]
    table.add_row(
        "kernel distance",
        f"{_short(value, 4)} ± {_short(error, 4)}",
        _short(kernel["floor"], 4),
        "lower",
    )
    for name, about in (
        ("precision", f"new {things} that look real"),
        ("recall", f"real {things} that are like new ones"),
        ("density", f"how many real {things} each new one is near"),
        ("coverage", f"real {things} with a new one near"),
    ):
        scores = f"{prdc[name]:.3f}", f"{prdc['floor'][name]:.3f}"
        table.add_row(f"{name}: {about}", *scores, "higher")
    if results.get("decoded"):
        decoded, one = results["decoded"], f"decoded unseen {things}"
        scores = (_short(decoded[name], 3) for name in ("distance", "copies"))
        table.add_row(f"Fréchet distance to {one}", *scores, "lower; real: decoded training ones")
        cost = _short(decoded["decoder"], 3)
        table.add_row(f"Fréchet distance of {one}", cost, "0", "lower; the decoder's part alone")
    if results.get("novelty"):
        _add_novelty(table, results["novelty"])
    classes, memory = results["classes"], results["memory"]
    if classes is not None:
        table.add_row("classes that are made", f"{classes['captured']}", f"{classes['of']}", "all")
    copies = f"near copies: new {things} very near to a training one"
    if memory is None:
        why = f"no {things} were held out" if held_out is None else too_few(len(held_out), things)
        table.add_row(copies, "-", "-", f"unknown: {why}")
    else:
        near, error = memory["share_nearer"], 2 * memory["standard_error"]
        near, error = f"{100 * near:.1f} ± {100 * error:.1f} %", f"{100 * memory['alpha']:.1f} %"
        table.add_row(copies, near, error, "not above real")


def _add_novelty(table: Table, found: dict[str, Any]) -> None:
    """Add how near new codes are to the training codes, beside unseen ones."""
    near, error = 100 * found["share_near"], 200 * found["share_near_se"]
    table.add_row(
        "novelty: new codes very near to a training one",
        f"{near:.1f} ± {error:.1f} %",
        f"{100 * found['alpha']:.1f} %",
        f"as real; these were {found['unseen']}",
    )
    if found["num_twins"]:
        table.add_row(
            "novelty: unseen codes that are near copies of a training one",
            f"{found['num_twins']:,}",
            f"of {found['num_unseen']:,}",
            "few",
        )
    table.add_row(
        "novelty: how often a new code is nearer than an unseen one",
        f"{found['nearer']:.3f} ± {2 * found['nearer_se']:.3f}",
        "0.5",
        "as real",
    )


def _short(value: float, digits: int) -> str:
    """A number with `digits` decimals, or in scientific notation if it is large."""
    return f"{value:.{digits}f}" if abs(value) < _LARGE else f"{value:.{digits}g}"
