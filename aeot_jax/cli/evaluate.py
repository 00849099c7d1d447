"""``aeot-jax evaluate``: how good a fitted model is."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from aeot_jax import documents, files, runs
from aeot_jax.cli import folder, source
from aeot_jax.cli.notices import warn
from aeot_jax.cli.reading import reading, say
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.evaluate import evaluate, nothing_learned
from aeot_jax.ot.words import in_words


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Judge a fitted model, and write evaluation.json into its folder.

    A fresh certificate of the transport; reconstruction; Fréchet and kernel distance, precision,
    recall, density and coverage in a feature space learned from the data, each beside its floor
    (what real images score); and whether the model repeats its training images, for which it needs
    images that it was not fitted to: the data's own test images, or those of `fit --hold-out`.

    Attributes:
      run: Folder that `aeot-jax fit` wrote.
      data: Where the images are; by default where `fit` found them.
      num: Images to generate, and to compare with, at most; more take longer.
      seed: Of the evaluation.
      quiet: Show no progress.
      debug: Show where an error comes from.
    """

    run: tyro.conf.Positional[Path]
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: as in the run)", metavar="STR")
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
    if not options.run.is_dir():
        raise FileNotFoundError(
            f"{str(options.run)!r} is not a folder; pass the one that `aeot-jax fit --out` wrote."
        )
    started = time.monotonic()
    files.check_writable(options.run / runs.EVALUATION, "run")
    model = folder.load_model(options.run)
    folder.warn_of_pictures(options.run, err)
    where, sha256 = source.Source(""), None
    if options.data is None or (options.run / runs.CONFIG).is_file():
        where, sha256 = folder.read_source(options.run)
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
        num_samples=options.num,
        on_stage=on_stage,
    )
    results |= {
        "seconds": time.monotonic() - started,
        "seed": options.seed,
        "data": splits.describe(),
        runs.MODEL: folder.model_checksum(options.run),
    }
    documents.write(options.run / runs.EVALUATION, results)
    out.print(_table(results, splits.kind))
    measured = results["reconstruction"]
    if said := nothing_learned(measured.get("held_out", measured["train"])):
        warn(err, said)


def _table(results: dict[str, Any], kind: str | None) -> Table:
    table = Table("", "model", "real", "")
    upper = results["certificate"].get("upper")
    error = in_words(results["mass_error"], results["mass_error_se"], upper)
    table.add_row("mass error", error, "0", "lower")
    for name, label in (("held_out", kind), ("train", "train")):
        if name in results["reconstruction"]:
            measured = results["reconstruction"][name]
            table.add_row(
                f"error, {label}",
                f"{measured['mse']:.4f}",
                "0",
                f"mean image: {measured['variance']:.4f}",
            )
    frechet, kernel, prdc = results["frechet"], results["kernel"], results["prdc"]
    floor = frechet["floor_train"] if frechet["floor_test"] is None else frechet["floor_test"]
    size = f"lower; {frechet['num_samples']:,} images"
    table.add_row("Fréchet distance", f"{frechet['distance']:.3f}", f"{floor:.3f}", size)
    value, error = kernel["value"], 2 * kernel["standard_error"]
    floor = f"{kernel['floor']:.4f}"
    table.add_row("kernel distance", f"{value:.4f} ± {error:.4f}", floor, "lower")
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
    rejected = f"{100 * results['samples']['share_rejected']:.1f} %"
    table.add_row("rejected", rejected, "-", "of the candidates")
    return table
