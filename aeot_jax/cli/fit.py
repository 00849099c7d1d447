"""``aeot-jax fit``: fit a model, and write the folder of the run."""

import contextlib
import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import report
from aeot_jax.checkpoints import checkpoint, identity
from aeot_jax.cli import figures, metrics
from aeot_jax.cli.options import devices, folder, source
from aeot_jax.cli.options.fit import WORDS as WORDS
from aeot_jax.cli.options.fit import Fit as Fit
from aeot_jax.cli.options.fit import base as base
from aeot_jax.cli.options.reading import reading, say
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.options.source import Splits
from aeot_jax.cli.screen import summary
from aeot_jax.cli.screen.interrupts import Interrupted
from aeot_jax.cli.screen.notices import warn
from aeot_jax.cli.screen.progress import progress
from aeot_jax.data import images
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.evaluate import KEEP_TOGETHER, few_images, nothing_learned, such_as
from aeot_jax.inputs import extras
from aeot_jax.machines import processes
from aeot_jax.model import kind_of
from aeot_jax.storage import runs


def run(options: Fit, out: Console, err: Console) -> None:
    """Fit a model and write its folder.

    Args:
      options: from the command line.
      out: console for the result.
      err: console for progress and warnings.

    Raises:
      ImportError: before any work, if a library for the figures is missing.
      ValueError: if options, images or the folder do not fit, or another process writes to it.
      OSError: before any work, if the folder cannot be written.
      KeyboardInterrupt: after Ctrl-C; during the transport, once the unfinished model is written.
    """
    extras.require("matplotlib", "plot", "draws the figures of a run")
    if not options.no_report:
        report.check_libraries()
    started = time.monotonic()
    config = options.full_config()
    fit_key = key(options.seed, Purpose.FIT)  # refuses a seed before the data are read
    if options.distributed:
        processes.join()
    first = devices.first(options.devices)
    with contextlib.ExitStack() as writing:
        if processes.is_first():
            opened = folder.opened(options.out, resume=options.resume, overwrite=options.overwrite)
            writing.enter_context(opened)
        where, splits = _load(options, err)
        _announce(options, splits, err)
        labels = _labels(options, splits.train)
        config = checkpoint.as_begun(options.out, config) if options.resume else config
        names = None if labels is None else splits.train.label_names
        fingerprint = identity.of(fit_key, splits.train.values, config, labels, names)
        work = _place(options, fingerprint)
        resumed = options.resume and runs.held(work) is not None
        earlier = folder.model_checksum(work) if options.resume else None
        peaks = metrics.Peaks()
        try:
            with progress(err, quiet=options.quiet or not processes.is_first()) as show:
                fit = aeot.fit if options.codes is None else aeot.fit_codes
                model = fit(
                    fit_key,
                    splits.train.values,
                    config,
                    labels=labels,
                    label_names=names,
                    run_dir=work,
                    resume=options.resume,
                    devices=first,
                    on_progress=peaks.watching(show),
                )
            if processes.is_first():
                since = _Since(started, resumed=resumed, earlier=earlier)
                _complete(model, options, work, where, splits, since, peaks, out, err)
        except KeyboardInterrupt as error:
            raise _interrupted(options, work) from error


def _interrupted(options: Fit, work: Path) -> Interrupted:
    """How to continue the run."""
    kept = runs.held(work) is not None or not work.exists()  # then it has replaced the earlier run
    if work != options.out and not kept:
        return Interrupted("--overwrite", kept=False)
    return Interrupted("--resume", kept=kept)


@dataclasses.dataclass(frozen=True)
class _Since:
    """When this command began, whether it resumed an earlier run, and that run's model."""

    started: float
    resumed: bool
    earlier: str | None


def _complete(
    model: aeot.AEOT,
    options: Fit,
    work: Path,
    where: source.Source,
    splits: Splits,
    since: _Since,
    peaks: metrics.Peaks,
    out: Console,
    err: Console,
) -> None:
    """Write the other files of the run, put it in its place, and print a summary."""
    drawn = figures.draw(model, splits, options.seed, work)
    described = splits.describe()
    known = metrics.of(model, splits, drawn) | {
        "seconds": time.monotonic() - since.started,
        "resumed": since.resumed,
        "peak_memory_mib": metrics.peak_memory_mib(),
        "seed": options.seed,
        "data": described,
        "versions": metrics.versions(),
        "device": metrics.device(),
    }
    for name, peak in peaks.mib.items():
        known["stages"][name]["peak_memory_mib"] = peak
    folder.drop_foreign_evaluation(work)
    folder.write_config(
        work,
        where,
        described,
        options.seed,
        model.config,
        labels=_labelled(options),
    )
    folder.write_metrics(work, known)
    interrupted = int(model.solution.status) == aeot.Status.INTERRUPTED
    if folder.model_checksum(work) != since.earlier:
        (work / runs.REPORT).unlink(missing_ok=True)  # it is of another model
    if not options.no_report and not interrupted:
        _report(model, options, work, splits)
    if work != options.out and not interrupted:
        runs.replace(options.out)
    summary.show(known, options.out, out)
    measured = known["reconstruction"]
    if measured is not None and (said := nothing_learned(measured, kind_of(model))):
        warn(err, said)
    if (found := known["novelty"]) and found.get("twins"):
        warn(err, _of_twins(found, kind_of(model)))
    if interrupted:
        raise KeyboardInterrupt  # the solver returned normally, but the command was interrupted
    if not known["converged"]:
        warn(err, known["status"])
    short = [str(one["name"]) for one in known["classes"] or () if not one["converged"]]
    if short:
        warn(err, f"the maps of these classes did not reach the tolerance: {', '.join(short)}.")


def _of_twins(found: dict[str, Any], things: str) -> str:
    """What near copies on both sides mean, with examples."""
    judged = "novelty is judged without them"
    if 2 * found["num_twins"] > found["num_unseen"]:  # see `metrics.newness.twins`
        judged = "as these are most, novelty is judged beside them, where any sampler looks new"
    return (
        f"{found['num_twins']} of {found['num_unseen']} {things} that were held out are near "
        f"copies of {things} that are trained on{such_as(found['twins'])}; {judged}. "
        f"{KEEP_TOGETHER}"
    )


def _report(model: aeot.AEOT, options: Fit, work: Path, splits: Splits) -> None:
    """Write report.html from the files of the run."""
    material = report.Material(
        name=options.out.absolute().name,
        model=model,
        train=splits.train,
        held_out=splits.held_out,
        kind=splits.kind,
        metrics=runs.read_document(work / runs.METRICS),
        config=runs.read_document(work / runs.CONFIG),
    )
    report.write(key(options.seed, Purpose.REPORT), material, work / runs.REPORT)


def _place(options: Fit, fingerprint: str) -> Path:
    """The folder that the run is written to; process 0 decides for all."""
    place, problem = options.out, None
    if processes.is_first():
        try:
            flags = {"resume": options.resume, "overwrite": options.overwrite}
            place = checkpoint.place(options.out, fingerprint, **flags)
            place.mkdir(parents=True, exist_ok=True)
        except checkpoint.OtherRunError as error:
            problem = _other(options, error.differences)
        except (ValueError, OSError) as error:
            problem = error
    inside = processes.settle("--out", str(options.out), problem, place != options.out)
    return options.out / runs.NEXT if inside else options.out


def _other(options: Fit, differences: list[str]) -> ValueError:
    """The error for a run that was started with other options than those to resume with."""
    named = {"the key": "--seed", "the data": "--data, or what is there", "the labels": "--labels"}
    said = [named.get(part, re.sub("`(.*)`", _option, part)) for part in differences]
    inside = f" ({'; '.join(said)})" if said else ""
    return ValueError(
        f"`--out` {str(options.out)!r} holds a run with other options{inside}; give the "
        "same ones with --resume, or replace it with --overwrite."
    )


def _option(name: re.Match[str]) -> str:
    return f"--{name[1].replace('_', '-')}"


def _load(options: Fit, err: Console) -> tuple[source.Source, Splits]:
    where = source.Source(
        source.absolute(_path(options)),
        options.limit,
        options.hold_out,
        options.seed,
        None if options.labels_file is None else source.absolute(str(options.labels_file)),
        at_random=True,
        pictures=options.pictures,
        codes=options.codes is not None,
    )
    quiet = options.quiet or not processes.is_first()
    with reading(err, quiet=quiet) as report:
        splits = source.load(where, report)
    options.pictures.check(splits.train)
    if processes.is_first():
        say(splits.train, err, quiet=options.quiet)
    return where, splits


def _path(options: Fit) -> str:
    """The path of the data or the codes.

    Raises:
      ValueError: unless one of --data and --codes is given.
    """
    if (options.data is None) == (options.codes is None):
        given = "neither" if options.data is None else "both"
        raise ValueError(
            f"{given} of `--data` and `--codes` is given; pass one, such as --data digits."
        )
    return str(options.codes) if options.data is None else options.data


def _announce(options: Fit, splits: Splits, err: Console) -> None:
    if options.quiet or not processes.is_first():
        return
    shape = splits.train.values.shape[1:]
    what = "images" if len(shape) > 1 else "rows" if options.codes is None else "codes"
    sides = " x ".join(map(str, shape)) + ("" if len(shape) > 1 else " numbers")
    err.print(
        f"{splits.train.name}: {len(splits.train):,} {what} of {sides} -> {options.out}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    if options.data not in images.NAMES and (said := few_images(len(splits.train), what)):
        if splits.held_out is None and len(splits.train) >= 2 * source.MIN_HELD_OUT:
            said += " With --hold-out the report says how near they are."
        err.print(f"Note: {said}", soft_wrap=True, markup=False, highlight=False)


def _labelled(options: Fit) -> bool:
    return options.labels or options.labels_file is not None


def _labels(options: Fit, train: ImageSet | Table) -> np.ndarray | None:
    if not _labelled(options):
        return None
    if train.labels is None:
        what = "image" if isinstance(train, ImageSet) else "row"
        raise ValueError(
            f"`--labels` is given, but {_path(options)!r} has no labels; pass them with "
            f"--labels-file, an .npy file of one integer or text per {what}."
        )
    return train.labels
