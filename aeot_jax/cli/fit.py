"""``aeot-jax fit``: from images to a model that makes new ones, in one folder."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import platform
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import aeot_jax as aeot
from aeot_jax import checkpoint, plot, processes, runs
from aeot_jax.cli import devices, folder, source
from aeot_jax.cli.devices import Number
from aeot_jax.cli.interrupts import Interrupted
from aeot_jax.cli.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.cli.progress import progress
from aeot_jax.cli.reading import reading, say
from aeot_jax.cli.seeds import Purpose, key
from aeot_jax.cli.source import Splits
from aeot_jax.data.images import ImageSet
from aeot_jax.evaluate import mean_image, nothing_learned, reconstruction
from aeot_jax.model import name_of_class
from aeot_jax.ot.words import in_words

_SHOWN = 64
"""Images in samples.png."""

_DRAWN = 512
"""Images drawn, to know the share rejected."""

_PAIRS = 48
"""Pairs in reconstructions.png."""

_DEFAULT = aeot.Config()


def _short_for(name: str, default: str) -> Any:
    return tyro.conf.arg(
        help=f"Short for --{name}.", help_behavior_hint=f"(default: {default})", metavar="NUMBER"
    )


@dataclasses.dataclass(frozen=True)
class Fit:
    """Learn images, and make new ones.

    Trains the autoencoder, transports the source onto its codes until the mass error is certified,
    and leaves in the folder: model.npz, config.json, metrics.json, samples.png,
    reconstructions.png and history.png. Ends with 0 and a warning where the tolerance was not
    reached ("converged" in metrics.json says which).

    Attributes:
      data: What to learn: "digits" (1,797 handwritten digits of 8x8 pixels; needs no network),
        "mnist" or "fashion-mnist" (downloaded once), an .npz file, a folder of IDX files (MNIST's
        format, gzipped or raw), a folder, a .zip or a .tar file of pictures, or one of the other
        formats that `aeot-jax data` lists.
      out: Folder of the run; made if it is not there.
      seed: Of everything random; the same seed gives the same model.
      tolerance: See below.
      epochs: See below.
      latent_dim: See below.
      limit: Learn only so many images, chosen at random, of every class the same share.
      hold_out: Images set aside, at random, for `aeot-jax evaluate`, where the data has no test
        images of its own.
      labels: Learn one more map per class, for `aeot-jax sample --label`, by the labels of the
        data where it has any: digits, mnist, y_train or y in an .npz file, labels beside IDX files,
        sub-folders of pictures (by their names).
      labels_file: Labels from an .npy file, one integer or text per image of the data, in place of
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
      quiet: Show no progress.
      debug: Show where an error comes from.
      config: Everything else; the defaults serve most data.
    """

    data: str
    out: Path
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
        int | None, tyro.conf.arg(help_behavior_hint="(default: all)", metavar="IMAGES")
    ] = None
    hold_out: Annotated[int, tyro.conf.arg(metavar="IMAGES")] = 0
    labels: bool = False
    labels_file: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: none)", metavar="FILE.npy")
    ] = None
    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = AS_THEY_ARE
    resume: bool = False
    overwrite: bool = False
    devices: Number = None
    distributed: bool = False
    quiet: bool = False
    debug: bool = False
    config: Annotated[aeot.Config, tyro.conf.arg(name="")] = _DEFAULT

    def full_config(self) -> aeot.Config:
        """The configuration, with the short options put in their places.

        Raises:
          ValueError: if an option is given twice, with different values.
        """
        config = self.config
        for part, name, value in (
            ("solver", "tolerance", self.tolerance),
            ("training", "epochs", self.epochs),
            ("autoencoder", "latent_dim", self.latent_dim),
        ):
            if value is None:
                continue
            record = getattr(config, part)
            nested = getattr(record, name)
            if nested not in (value, getattr(getattr(_DEFAULT, part), name)):
                option = name.replace("_", "-")
                raise ValueError(
                    f"`--{option}` is {value} and `--{part}.{option}` is {nested}; give one."
                )
            record = dataclasses.replace(record, **{name: value})
            config = dataclasses.replace(config, **{part: record})
        return config


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
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "matplotlib, which draws the figures of a run, is missing; install it with: "
            "pip install 'aeot-jax[plot]'."
        )
    started = time.monotonic()
    config = options.full_config()
    if options.distributed:
        processes.join()
    spread = devices.first(options.devices)
    with contextlib.ExitStack() as writing:
        if processes.is_first():
            opened = folder.opened(options.out, resume=options.resume, overwrite=options.overwrite)
            writing.enter_context(opened)
        where, splits = _load(options, err)
        _announce(options, splits, err)
        labels = _labels(options, splits.train)
        fit_key = key(options.seed, Purpose.FIT)
        names = None if labels is None else splits.train.label_names
        identity = checkpoint.identity(fit_key, splits.train.images, config, labels, names)
        work = _place(options, identity)
        try:
            with progress(err, quiet=options.quiet or not processes.is_first()) as report:
                model = aeot.fit(
                    fit_key,
                    splits.train.images,
                    config,
                    labels=labels,
                    label_names=names,
                    run_dir=work,
                    resume=options.resume,
                    devices=spread,
                    on_progress=report,
                )
            if processes.is_first():
                _complete(model, options, work, where, splits, started, out, err)
        except KeyboardInterrupt as error:
            raise _interrupted(options, work) from error


def _interrupted(options: Fit, work: Path) -> Interrupted:
    """How to go on from where the run is written."""
    kept = runs.held(work) is not None or not work.exists()  # it has replaced the earlier run
    if work != options.out and not kept:
        return Interrupted("--overwrite", kept=False)
    return Interrupted("--resume", kept=kept)


def _complete(
    model: aeot.AEOT,
    options: Fit,
    work: Path,
    where: source.Source,
    splits: Splits,
    started: float,
    out: Console,
    err: Console,
) -> None:
    """Write what belongs to the model, put it in its place, and say how it went."""
    metrics = _draw(model, splits, options.seed, work)
    described = splits.describe()
    metrics |= {
        "seconds": time.monotonic() - started,
        "peak_memory_mib": peak_memory_mib(),
        "seed": options.seed,
        "data": described,
        "versions": versions(),
        "device": device(),
    }
    folder.drop_foreign_evaluation(work)
    folder.write_config(
        work,
        where,
        described,
        options.seed,
        options.full_config(),
        labels=_labelled(options),
    )
    folder.write_metrics(work, metrics)
    interrupted = int(model.solution.status) == aeot.Status.INTERRUPTED
    if work != options.out and not interrupted:
        runs.replace(options.out)
    _summary(metrics, options.out, out)
    if said := nothing_learned(metrics["reconstruction"]):
        _warn(err, said)
    if interrupted:
        raise KeyboardInterrupt  # the solver stopped in good order; the command still was stopped
    if not metrics["converged"]:
        _warn(err, metrics["status"])
    short = [str(one["name"]) for one in metrics["classes"] or () if not one["converged"]]
    if short:
        _warn(err, f"the maps of these classes did not reach the tolerance: {', '.join(short)}.")


def _place(options: Fit, identity: str) -> Path:
    """Where the run is written, which the first process decides for all."""
    place, problem = options.out, None
    if processes.is_first():
        try:
            flags = {"resume": options.resume, "overwrite": options.overwrite}
            place = checkpoint.place(options.out, identity, **flags)
            place.mkdir(parents=True, exist_ok=True)
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


def _warn(err: Console, text: str) -> None:
    err.print(f"Warning: {text}", style="yellow", soft_wrap=True, markup=False)


def _load(options: Fit, err: Console) -> tuple[source.Source, Splits]:
    where = source.Source(
        source.absolute(options.data),
        options.limit,
        options.hold_out,
        options.seed,
        None if options.labels_file is None else source.absolute(str(options.labels_file)),
        at_random=True,
        pictures=options.pictures,
    )
    quiet = options.quiet or not processes.is_first()
    with reading(err, quiet=quiet) as report:
        splits = source.load(where, report)
    if processes.is_first():
        say(splits.train, err, quiet=options.quiet)
    return where, splits


def _announce(options: Fit, splits: Splits, err: Console) -> None:
    if options.quiet or not processes.is_first():
        return
    height, width, channels = splits.train.images.shape[1:]
    err.print(
        f"{splits.train.name}: {len(splits.train):,} images of {height} x {width} x {channels}"
        f" -> {options.out}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _labelled(options: Fit) -> bool:
    return options.labels or options.labels_file is not None


def _labels(options: Fit, train: ImageSet) -> np.ndarray | None:
    if not _labelled(options):
        return None
    if train.labels is None:
        raise ValueError(
            f"`--labels` is given, but {options.data!r} has no labels; pass them with "
            "--labels-file, an .npy file of one integer or text per image."
        )
    return train.labels


def _draw(model: aeot.AEOT, splits: Splits, seed: int, out: Path) -> dict[str, Any]:
    """Draw the figures, and collect what they and the model tell."""
    solution, tolerance = model.solution, model.config.solver.tolerance
    certificate = solution.certificate
    # By this process alone: of several, the others are done.
    draw_key = key(seed, Purpose.FIGURES)
    images, info = aeot.sample_with_info(draw_key, model, _DRAWN, parallel="none")
    plot.save(plot.image_grid(images[:_SHOWN]), out / runs.SAMPLES)

    judged = splits.train if splits.held_out is None else splits.held_out
    kind = splits.kind or "training"
    measured = reconstruction(model, judged.images, mean_image(splits.train.images))
    some = judged.images[:: -(-len(judged) // _PAIRS)]
    plot.save(
        plot.reconstructions(
            some,
            np.asarray(aeot.decode(model, aeot.encode(model, some))),
            title=f"{judged.name}: mean squared error {measured['mse']:.4f} a pixel, "
            f"{measured['num_images']:,} {kind} images",
        ),
        out / runs.RECONSTRUCTIONS,
    )
    losses = np.asarray(model.losses)
    plot.save(plot.history(losses, solution, tolerance=tolerance), out / runs.HISTORY)
    seconds = {name: float(value) for name, value in model.seconds.items()}
    samples = {
        "autoencoder": len(losses) * len(splits.train),
        "codes": len(splits.train),
        "transport": int(solution.num_samples),
    }
    return {
        "mass_error": float(solution.mass_error),
        "mass_error_se": float(solution.mass_error_se),
        "upper": float(certificate.upper),
        "converged": bool(solution.converged),
        "status": aeot.message(solution),
        "tolerance": tolerance,
        "total_variation": float(certificate.total_variation),
        "worst": float(certificate.worst),
        "num_empty": int(certificate.num_empty),
        "expected_empty": float(certificate.expected_empty),
        "num_unverified": int(certificate.num_unverified),
        "unverified_weight": float(certificate.unverified_weight),
        "num_targets": len(splits.train),
        "classes": None if model.classes is None else _class_metrics(model),
        "reconstruction_mse": measured["mse"],
        "mean_image_error": measured["variance"],
        "learned": measured["learned"],
        "reconstruction": {
            **measured,
            "images": kind,
            "meaning": "mean squared error a pixel, pixels in [0, 1]; variance is that of the "
            "training images' mean; learned is whether the error is clearly below it",
        },
        "share_rejected": float(info.share_rejected),
        "rejection": {
            "candidates": int(info.candidates),
            "rejected": int(info.rejected),
            "copies": int(info.copies),
        },
        "stages": {
            name: {"seconds": value} | ({"samples": samples[name]} if name in samples else {})
            for name, value in seconds.items()
        },
        "num_steps": int(solution.num_steps),
        "num_samples": int(solution.num_samples),
        "num_check_samples": int(solution.num_check_samples),
        "epochs": len(losses),
        "final_loss": float(losses[-1]),
    }


def _class_metrics(model: aeot.AEOT) -> list[dict[str, Any]]:
    classes = model.classes
    assert classes is not None  # as the caller saw
    certificate = classes.solution.certificate
    columns = {
        "label": classes.labels,
        "name": np.array([name_of_class(model, label) for label in np.asarray(classes.labels)]),
        "share": classes.shares,
        "mass_error": certificate.mass_error,
        "mass_error_se": certificate.mass_error_se,
        "upper": certificate.upper,
        "converged": classes.solution.converged,
    }
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _summary(metrics: dict[str, Any], run: Path, out: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    error = in_words(metrics["mass_error"], metrics["mass_error_se"], metrics.get("upper"))
    table.add_row("mass error", f"{error} (two standard errors)")
    table.add_row(
        "empty cells",
        f"{metrics['num_empty']} of {metrics['num_targets']:,}, "
        f"{metrics['expected_empty']:.1f} expected by chance",
    )
    if metrics["classes"] is not None:
        done = sum(one["converged"] for one in metrics["classes"])
        table.add_row("classes", f"{len(metrics['classes'])}, {done} of them to the tolerance")
        worst = max(
            metrics["classes"], key=lambda one: one["mass_error"] + 2 * one["mass_error_se"]
        )
        error = in_words(worst["mass_error"], worst["mass_error_se"], worst.get("upper"))
        table.add_row("least sure class", f"{worst['name']}, mass error {error}")
    measured = metrics["reconstruction"]
    table.add_row(
        "reconstruction",
        f"{measured['mse']:.4f} a pixel ({measured['images']} images); "
        f"mean image: {measured['variance']:.4f}",
    )
    table.add_row("rejected", f"{100 * metrics['share_rejected']:.1f} % of the candidates")
    table.add_row("time", f"{metrics['seconds']:.1f} s")
    table.add_row("in", str(run))
    out.print(table, highlight=False)


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where it is not counted."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def versions() -> dict[str, str]:
    """Versions of what made the run."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "aeot_jax": aeot.__version__}


def device() -> dict[str, Any]:
    """What the run computed on."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }
