"""``aeot-jax fit``: from images to a model that makes new ones, in one folder."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import aeot_jax as aeot
from aeot_jax import checkpoint, extras, identity, processes, report, runs
from aeot_jax.cli import devices, figures, folder, manual, metrics, presets, recipe, source, summary
from aeot_jax.cli.devices import Number
from aeot_jax.cli.interrupts import Interrupted
from aeot_jax.cli.notices import warn
from aeot_jax.cli.parsing import value_of
from aeot_jax.cli.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.cli.progress import progress
from aeot_jax.cli.reading import reading, say
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.cli.source import Splits
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.evaluate import nothing_learned

_DEFAULT = aeot.Config()


def _short_for(name: str, default: str) -> Any:
    return tyro.conf.arg(
        help=f"Short for --{name}.", help_behavior_hint=f"(default: {default})", metavar="NUMBER"
    )


_PRESET = tyro.conf.arg(
    help="Options that go together; those that are given besides win: "
    + " ".join(
        f"{manual.ITEM} {name}: {preset.about}." for name, preset in presets.PRESETS.items()
    ),
    help_behavior_hint="",
    metavar="NAME",
)

WORDS = {
    "--solver.tolerance": "What the mass error shall be at most, with confidence 95 %; None runs "
    "to a limit.",
    "--solver.method": '"newton" follows Adam by stochastic Newton steps; "adam" is Adam to the '
    'end; "exact" draws no samples, for codes in 1 or 2 dimensions and a Gaussian or a cube. '
    '"auto" is "exact" where that can be had and nothing below says otherwise, else "newton".',
    "--solver.learning-rate": "Learning rate of Adam.",
    "--solver.plateau-steps": 'Under "adam", steps without a smaller residual after which the '
    "samples of a step are doubled and the rate multiplied by 0.8; by default never.",
    "--solver.parallel": 'How samples are spread over devices; "auto" is "shard_map" over several '
    'devices or processes, and "none" on one device or a CPU. It changes no bit of the answer on a '
    "CPU.",
    "--solver.target-shards": "Devices over which the targets are sharded, 1, 2, 4 or 8, where one "
    "device cannot hold them all: of 8 devices and 4 shards, 2 rows of 4 devices share the "
    "samples. It changes no bit of the answer. The maps of --labels are solved on one device each.",
    "--extension.threshold": "Plane angle above which a face of the cells is singular, radians in "
    "(0, pi]; by default learned from the codes.",
}
"""Options whose docstrings are for Python, in the words of this command."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """Learn images, a table of numbers or codes, and make new ones.

    Trains the autoencoder, transports noise onto its codes until the mass error is certified, and
    leaves in the folder: model.npz, config.json, metrics.json, samples.png,
    reconstructions.png, history.png and report.html, a page that shows it all. Ends with 0 and a
    warning where the tolerance was not reached ("converged" in metrics.json says which).

    Attributes:
      preset: Options that go together, named; those that are given besides win.
      config_file: Options from the config.json of a run, or from its folder, edited or not; those
        that are given besides win.
      data: What to learn: "digits" (1,797 handwritten digits of 8x8 pixels; needs no network),
        "mnist" or "fashion-mnist" (downloaded once), an .npz file, a folder of IDX files (MNIST's
        format, gzipped or raw), a folder, a .zip or a .tar file of pictures, or one of the other
        formats that `aeot-jax data` lists. Floats of shape (n, columns) are a table.
      codes: Codes of an encoder of your own, floats of shape (n, dimensions), in place of --data:
        nothing is trained, and `aeot-jax sample RUN --npz new.npz` gives new ones.
      out: Folder of the run; made if it is not there.
      seed: Of everything random; the same seed gives the same model.
      tolerance: See below.
      epochs: See below.
      latent_dim: See below.
      limit: Learn only so many images, rows or codes, chosen at random, of every class the same
        share.
      hold_out: So many images, rows or codes set aside, at random, for `aeot-jax evaluate`, where
        the data has no test images of its own.
      labels: Learn one more map per class, for `aeot-jax sample --label`, by the labels of the
        data where it has any: digits, mnist, y_train or y in an .npz file, labels beside IDX files,
        sub-folders of pictures (by their names).
      labels_file: Labels from an .npy file, one integer or text per image or row, in place of
        the data's own; implies --labels.
      pictures: How pictures become images.
      resume: Continue an interrupted run in the folder, with the same data and options; the model
        is the same as without the interruption.
      overwrite: Replace the run that is in the folder, which stays until the new one is finished.
        Interrupted, the new one continues with --resume.
      devices: Devices to train and to solve on, the first so many (of each process): 1, 2, 4 or 8
        together.
      distributed: Join the other processes that run this same command (under SLURM, on a TPU pod
        slice, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID); the first
        writes the folder.
      no_report: Write no report.html, which takes some seconds; `aeot-jax report` can do it later.
      quiet: Show no progress.
      debug: Show where an error comes from.
      config: Everything else; the defaults serve most data.
    """

    out: Path
    data: Annotated[str | None, tyro.conf.arg(help_behavior_hint="", metavar="DATA")] = None
    codes: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: none)", metavar="FILE.npy")
    ] = None
    preset: Annotated[str | None, _PRESET] = None
    config_file: Annotated[
        Path | None,
        tyro.conf.arg(name="config", help_behavior_hint="(default: none)", metavar="FILE"),
    ] = None
    seed: int = 0
    tolerance: Annotated[
        float | None, _short_for("solver.tolerance", f"{_DEFAULT.solver.tolerance}")
    ] = None
    epochs: Annotated[
        int | None, _short_for("training.epochs", "chosen from the number of images")
    ] = None
    latent_dim: Annotated[
        int | None, _short_for("autoencoder.latent-dim", "chosen from the image size")
    ] = None
    limit: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: all)", metavar="NUMBER")
    ] = None
    hold_out: Annotated[int, tyro.conf.arg(metavar="NUMBER")] = 0
    labels: bool = False
    labels_file: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: none)", metavar="FILE.npy")
    ] = None
    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = AS_THEY_ARE
    resume: bool = False
    overwrite: bool = False
    devices: Number = None
    distributed: bool = False
    no_report: bool = False
    quiet: bool = False
    debug: bool = False
    config: Annotated[aeot.Config, tyro.conf.arg(name="")] = _DEFAULT

    def full_config(self) -> aeot.Config:
        """The configuration, with the short options put in their places."""
        config = self.config
        for part, name, value in self._short():
            if value is not None:
                record = dataclasses.replace(getattr(config, part), **{name: value})
                config = dataclasses.replace(config, **{part: record})
        return config

    def check(self, arguments: Sequence[str]) -> None:
        """Refuse an option that is given twice, with different values.

        Raises:
          ValueError: if one is.
        """
        for part, name, value in self._short():
            option = name.replace("_", "-")
            nested = getattr(getattr(self.config, part), name)
            given = value_of(arguments, f"--{part}.{option}") is not None
            if given and value not in (None, nested):
                raise ValueError(
                    f"`--{option}` is {value} and `--{part}.{option}` is {nested}; give one."
                )

    def _short(self) -> tuple[tuple[str, str, int | float | None], ...]:
        return (
            ("solver", "tolerance", self.tolerance),
            ("training", "epochs", self.epochs),
            ("autoencoder", "latent_dim", self.latent_dim),
        )


def base(arguments: Sequence[str]) -> Fit | None:
    """The options that hold where the arguments say nothing else.

    Raises:
      FileNotFoundError: if the file of --config is not there.
      ValueError: if there is no such preset, or the file cannot be used.
    """
    values: dict[str, Any] = {}
    if (file := value_of(arguments, "--config")) is not None:
        values |= recipe.read(Path(file))
    if (preset := value_of(arguments, "--preset")) is not None:
        values |= presets.of(preset)
    if not values:
        return None
    options = object.__new__(Fit)  # what is missing has a mark of tyro, which is no text or path
    for field in dataclasses.fields(Fit):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        object.__setattr__(options, field.name, values.get(field.name, default))
    return options


def run(options: Fit, out: Console, err: Console) -> None:
    """Fit a model and write its folder.

    Args:
      options: from the command line.
      out: for the result.
      err: for progress and warnings.

    Raises:
      ImportError: before any work, if a library for the figures is missing.
      ValueError: if options, images or the folder do not fit, or another process writes to it.
      OSError: before any work, if the folder cannot be written.
      KeyboardInterrupt: after Ctrl-C; if the transport was under way, once the model reached so far
        is written.
    """
    extras.require("matplotlib", "plot", "draws the figures of a run")
    if not options.no_report:
        report.check_libraries()
    started = time.monotonic()
    config = options.full_config()
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
        fit_key = key(options.seed, Purpose.FIT)
        names = None if labels is None else splits.train.label_names
        fingerprint = identity.of(fit_key, splits.train.values, config, labels, names)
        work = _place(options, fingerprint)
        resumed = options.resume and runs.held(work) is not None
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
                since = _Since(started, resumed=resumed)
                _complete(model, options, work, where, splits, since, peaks, out, err)
        except KeyboardInterrupt as error:
            raise _interrupted(options, work) from error


def _interrupted(options: Fit, work: Path) -> Interrupted:
    """How to go on from where the run is written."""
    kept = runs.held(work) is not None or not work.exists()  # it has replaced the earlier run
    if work != options.out and not kept:
        return Interrupted("--overwrite", kept=False)
    return Interrupted("--resume", kept=kept)


@dataclasses.dataclass(frozen=True)
class _Since:
    """When this command began, and whether it went on with what an earlier one had left."""

    started: float
    resumed: bool


def _complete(
    model: aeot.AEOT,
    options: Fit,
    work: Path,
    where: source.Source,
    splits: Splits,
    since: "_Since",
    peaks: metrics.Peaks,
    out: Console,
    err: Console,
) -> None:
    """Write what belongs to the model, put it in its place, and say how it went."""
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
        options.full_config(),
        labels=_labelled(options),
    )
    folder.write_metrics(work, known)
    interrupted = int(model.solution.status) == aeot.Status.INTERRUPTED
    (work / runs.REPORT).unlink(missing_ok=True)  # it may be of another model
    if not options.no_report and not interrupted:
        _report(model, options, work, splits)
    if work != options.out and not interrupted:
        runs.replace(options.out)
    summary.show(known, options.out, out)
    measured = known["reconstruction"]
    if measured is not None and (said := nothing_learned(measured)):
        warn(err, said)
    if interrupted:
        raise KeyboardInterrupt  # the solver stopped in good order; the command still was stopped
    if not known["converged"]:
        warn(err, known["status"])
    short = [str(one["name"]) for one in known["classes"] or () if not one["converged"]]
    if short:
        warn(err, f"the maps of these classes did not reach the tolerance: {', '.join(short)}.")


def _report(model: aeot.AEOT, options: Fit, work: Path, splits: Splits) -> None:
    """Write report.html of what has just been written."""
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
    """Where the run is written, which the first process decides for all."""
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
    found = jnp.array([problem is not None, place != options.out], jnp.bool_)
    refused, inside = np.asarray(processes.from_first(found))
    if problem is not None:
        raise problem
    if refused:
        raise ValueError(
            f"`--out` {str(options.out)!r} was refused by process 0, which says why; repair it "
            "there."
        )
    return options.out / runs.NEXT if inside else options.out


def _other(options: Fit, differences: list[str]) -> ValueError:
    """The error for a run to resume that was begun with other options."""
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
    if processes.is_first():
        say(splits.train, err, quiet=options.quiet)
    return where, splits


def _path(options: Fit) -> str:
    """What to learn from.

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


def _labelled(options: Fit) -> bool:
    return options.labels or options.labels_file is not None


def _labels(options: Fit, train: ImageSet | Table) -> np.ndarray | None:
    if not _labelled(options):
        return None
    if train.labels is None:
        raise ValueError(
            f"`--labels` is given, but {_path(options)!r} has no labels; pass them with "
            "--labels-file, an .npy file of one integer or text per image."
        )
    return train.labels
