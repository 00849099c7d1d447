"""The pipeline: an autoencoder learns the data manifold, transport carries noise onto its codes.

``fit`` trains the autoencoder, standardises the codes, solves the semi-discrete transport problem
from the source onto them and learns where the map is singular.

Source: Lei, An, Guo, Su, Liu, Luo, Yau, Gu, A Geometric Understanding of Deep Learning,
Engineering 6(3), 2020.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt8

from aeot_jax import arguments, checkpoint, identity, processes, runs
from aeot_jax.classes import solve_classes
from aeot_jax.data import convert
from aeot_jax.data import images as image_data
from aeot_jax.events import Event, reporter
from aeot_jax.events import Progress as Progress
from aeot_jax.locks import locked
from aeot_jax.model import AEOT, SOURCES, Config
from aeot_jax.nn import models, train
from aeot_jax.ot import singular
from aeot_jax.ot.config import SolverConfig, check_budget, layout
from aeot_jax.ot.layouts import check_devices
from aeot_jax.ot.result import Status
from aeot_jax.ot.solution import Solution, SolveProgress
from aeot_jax.ot.solve import solve
from aeot_jax.ot.words import in_words
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

STAGES = ("autoencoder", "codes", "transport", "map")
"""Stages of ``fit``, in order."""

_SCALE_FLOOR = 1e-3
"""A coordinate of the codes that varies less than this part of the widest counts as constant."""


def fit(
    key: Given[PRNGKey],
    images: ArrayLike,
    config: Given[Config] = Config(),  # noqa: B008 - frozen
    *,
    labels: ArrayLike | None = None,
    label_names: Given[Sequence[str] | None] = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    devices: Given[Devices | None] = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> AEOT:
    """Fit the autoencoder, the transport map and its extension to images.

    Args:
      key: of the whole fit; the same key, images and config give the same model, unless
        the solver has a time limit.
      images: uint8 in 0..255 or floats in [0, 1], (n, height, width) or (n, height, width,
        channels) with 1 or 3 channels; kept as 8-bit.
      config: the user's decisions.
      labels: the class of each image (n,), integers or texts; adds one transport problem per
        class, for ``sample(..., label=)``. All that does not ask for a class stays as it is
        without.
      label_names: names of the classes, of which an integer label is the index; for labels that
        are texts, the names are these texts, sorted.
      run_dir: a folder for a checkpoint after each epoch and for the model at the end.
      resume: continue the run in ``run_dir`` from its last finished epoch; the result is the same
        to the last bit as without the interruption.
      overwrite: replace the run in ``run_dir``, as a whole or not at all: it stays as it is until
        the new one is finished. Interrupted before that, the new one is resumed.
      devices: to compute on, 1, 2, 4 or 8: every batch of the training and the samples of the
        transport are dealt to them. None is those of ``config.solver``, by default every
        accelerator (for the training as many as can share a batch), or one device on a CPU. The
        training agrees between numbers of devices to about 1e-5, the transport onto given codes to
        the last bit.
      on_progress: called on the host as the work proceeds.
      on_event: called on the host with every loss, estimate and certificate, as numbers.

    Returns:
      The model; ``model.solution`` says whether the transport converged.

    Several processes, all started with the same arguments, share the work of the training and of
    the transport. The first alone writes to ``run_dir``, which all must be able to read if the run
    is to be resumed.

    Ctrl-C while the transport is solved ends it early: the model then says so in its
    ``solution.status``, and with ``run_dir`` the run can still be resumed.

    Raises:
      ValueError: if the images, the configuration or the devices do not fit, or if ``run_dir``
        holds another run, or is being written by another process.
      OSError: if ``run_dir`` cannot be written.
      FloatingPointError: if the training diverges.
    """
    if run_dir is None and (resume or overwrite):
        name = "resume" if resume else "overwrite"
        raise ValueError(f"`{name}` is set, but `run_dir` is None; pass the folder of the run.")
    arguments.refuse_trace("fit", "call it outside of `jax.jit`", key=key, images=images)
    key = arguments.key("key", key)
    arguments.instance("config", config, Config, "an `aeot_jax.Config(...)`")
    if devices is not None:
        devices = tuple(devices) if isinstance(devices, list) else devices
        check_devices(devices)
    if labels is not None:
        arguments.refuse_containers("labels", labels)
    if not isinstance(images, list | tuple):  # of these the shapes are compared one by one
        images = arguments.host_array("images", images)
    image_set = image_data.from_arrays(images, labels)
    data, classes = image_set.images, image_set.labels
    names = convert.check_names(label_names, classes, image_set.label_names)
    # What is refused later is better refused before the training.
    check_budget(len(data), config.solver)
    spread = _spread(len(data), config, devices)
    report = reporter(on_progress, on_event)
    folder = None if run_dir is None else Path(run_dir)
    fingerprint = identity.of(key, data, config, classes, names)
    processes.check_agreement(key=key, images=data, config=fingerprint)
    if folder is None:
        keep = lambda _state, _losses: None  # noqa: E731
        return replace(
            _fit(key, data, classes, config, spread, report, None, keep), label_names=names
        )
    # What is wrong with the images shows before anything in the folder is touched.
    models.check_image_shape(data.shape[1:])
    with ExitStack() as writing:
        run = _open_run(folder, fingerprint, writing, resume=resume, overwrite=overwrite)
        first = processes.is_first()
        keep = run.save_training if first else lambda _state, _losses: None
        model = run.finished
        if model is None:
            model = _fit(key, data, classes, config, spread, report, run.training, keep)
            model = replace(model, label_names=names)
            if first:
                run.save_model(model)
        whole = int(model.solution.status) != Status.INTERRUPTED
        if first and run.folder != folder and whole:
            runs.replace(folder)
        return model


def _spread(
    num_images: int, config: Config, devices: Devices | None
) -> tuple[SolverConfig, Devices]:
    """What the transport is solved by, and the devices of the training, none for the default.

    Devices that nobody named are as many as can share a batch: they change no number by much and
    refuse no batch.

    Raises:
      ValueError: if the devices are named twice over, or the work cannot be dealt to them.
    """
    solver = config.solver
    if devices is not None:
        if solver.devices not in (None, tuple(devices)):
            raise ValueError(
                f"`devices` is {devices} and `config.solver.devices` is {solver.devices}; give one."
            )
        solver = replace(solver, devices=tuple(devices))
    found = layout(solver).devices
    if solver.devices is None and jax.process_count() == 1:
        found = found[: math.gcd(train.batch_size(num_images, config.training), len(found))]
    train.batch_size(num_images, config.training, max(1, len(found)))
    return solver, found


def _open_run(
    folder: Path, identity: str, writing: ExitStack, *, resume: bool, overwrite: bool
) -> checkpoint.Run:
    """Open the run in the first process, which owns the folder; the others read what it found."""
    run, problem = None, None
    if processes.is_first():
        try:
            runs.check_place(folder, "run_dir")
            writing.enter_context(locked(folder, "run_dir"))
            runs.tidy(folder)
            run = checkpoint.open_run(folder, identity, resume=resume, overwrite=overwrite)
            writing.callback(runs.remove_if_empty, folder / runs.NEXT)
        except (ValueError, OSError) as error:
            problem = error
    found = run is not None and (run.finished is not None or run.training is not None)
    refused, found = np.asarray(processes.from_first(jnp.array([problem is not None, found], bool)))
    if problem is not None:
        raise problem
    if refused:
        raise ValueError(
            f"`run_dir` {str(folder)!r} was refused by process 0, which says why; repair it there."
        )
    if run is not None:
        return run
    if not found:
        return checkpoint.Run(folder, identity, None, None)
    return checkpoint.open_run(folder, identity, resume=True)


def _fit(
    key: PRNGKey,
    data: UInt8[np.ndarray, "n h w c"],
    labels: Int32[np.ndarray, " n"] | None,
    config: Config,
    spread: tuple[SolverConfig, Devices],
    report: Callable[[Progress], None],
    training: checkpoint.Training | None,
    save_training: Callable[[train.TrainState, list[float]], None],
) -> AEOT:
    solver, devices = spread
    train_key, solve_key, map_key = jax.random.split(key, 3)
    seconds: dict[str, float] = {}
    height, width, channels = data.shape[1:]
    image_shape = (height, width, channels)
    with _timed(seconds, "autoencoder"):
        params, losses = _train(train_key, data, config, devices, report, training, save_training)
        params = processes.from_first(params)
    with _timed(seconds, "codes"):
        report(Progress("codes", 0, len(data), ""))
        raw = train.encode_all(params, data, config.autoencoder)
        if not bool(jnp.isfinite(raw).all()):
            raise FloatingPointError(
                "the encoder gave NaN or infinity; lower `learning_rate` of the training."
            )
        centre = raw.mean(0)
        scale = raw.std(0)
        if not float(scale.max()) > 0:
            raise FloatingPointError(
                "the encoder gave the same code for all images; lower `learning_rate` of the "
                "training, or train for more epochs."
            )
        scale = jnp.where(scale > _SCALE_FLOOR * scale.max(), scale, 1.0)
        codes = (raw - centre[None, :]) / scale[None, :]
        centre, scale, codes = processes.from_first((centre, scale, codes))
        report(Progress("codes", len(data), len(data), f"{codes.shape[1]} dimensions"))
    mu = SOURCES[config.source](codes.shape[1])
    with _timed(seconds, "transport"):

        def on_solve(progress: SolveProgress) -> None:
            done, total = progress.num_samples, progress.planned_samples
            values = {"mass_error": progress.mass_error, "mass_error_se": progress.mass_error_se}
            report(Progress("transport", done, total, str(progress), values))

        solution = solve(solve_key, mu, codes, config=solver, on_progress=on_solve)
        if int(solution.status) != Status.INTERRUPTED:
            report(_certified(solution))
    with _timed(seconds, "map"):
        report(Progress("map", 0, 1, ""))
        options = config.extension
        extension = singular.extension(
            map_key,
            mu,
            codes,
            solution.h,
            num_samples=options.num_samples,
            threshold=options.threshold,
            parallel=solver.parallel,
            devices=solver.devices,
        )
        classes = None
        if labels is not None:
            classes = solve_classes(
                jax.random.fold_in(solve_key, 1),
                mu,
                codes,
                labels,
                config.solver,
                threshold=options.threshold,
                num_samples=options.num_samples,
            )
        report(Progress("map", 1, 1, f"threshold {float(extension.threshold):.3f} rad"))
    return AEOT(
        params=params,
        centre=centre,
        scale=scale,
        losses=jnp.asarray(losses, jnp.float32),
        solution=solution,
        extension=extension,
        seconds={stage: jnp.float32(value) for stage, value in seconds.items()},
        config=config,
        image_shape=image_shape,
        classes=classes,
    )


def _certified(solution: Solution) -> Progress:
    """What the certificate says, in place of the last running estimate."""
    values = {
        "mass_error": float(solution.mass_error),
        "mass_error_se": float(solution.mass_error_se),
        "upper": float(solution.certificate.upper),
    }
    drawn = max(1, int(solution.num_samples))  # exact heights take none
    note = f"mass error {in_words(*values.values())}, certified"
    values["converged"] = float(solution.converged)
    return Progress("transport", drawn, drawn, note, values)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - started


def _train(
    key: PRNGKey,
    data: UInt8[np.ndarray, "n h w c"],
    config: Config,
    devices: Devices,
    report: Callable[[Progress], None],
    training: checkpoint.Training | None,
    save_training: Callable[[train.TrainState, list[float]], None],
) -> tuple[models.Params, list[float]]:
    """Train the autoencoder, from a checkpoint where there is one; a checkpoint an epoch."""
    total = train.num_epochs(len(data), config.training)
    losses = [] if training is None else list(training.losses)
    report(Progress("autoencoder", len(losses), total, ""))

    def on_epoch(state: train.TrainState, loss: float) -> None:
        losses.append(loss)
        save_training(state, losses)
        report(Progress("autoencoder", len(losses), total, f"loss {loss:.4f}", {"loss": loss}))

    state = None
    if training is not None:
        image_shape = data.shape[1:]
        like = train.init(key, image_shape, config.autoencoder, config.training, len(data))
        state = training.restore(like)
    state, _ = train.fit(
        key,
        data,
        config.autoencoder,
        config.training,
        state=state,
        devices=devices,
        on_epoch=on_epoch,
    )
    return state.params, losses
