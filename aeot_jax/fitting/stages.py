"""The stages of a fit: the autoencoder, the codes, the transport, and the map."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Shaped, UInt8

from aeot_jax import arguments
from aeot_jax.checkpoints import checkpoint
from aeot_jax.classes import ClassMaps, solve_classes
from aeot_jax.fitting.events import Progress as Progress
from aeot_jax.inputs import columns
from aeot_jax.inputs.columns import Columns, Standardised
from aeot_jax.machines import processes
from aeot_jax.measures import Measure, table
from aeot_jax.model import AEOT, Config
from aeot_jax.nn import models, train
from aeot_jax.nn.encode import encode_all
from aeot_jax.ot.counts.words import in_words
from aeot_jax.ot.extension.config import ExtensionConfig
from aeot_jax.ot.extension.extension import calibrate, has_enough
from aeot_jax.ot.extension.extension import extension as extension_of_map
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, SolveProgress
from aeot_jax.ot.solver.solve import solve
from aeot_jax.typing import Devices, PRNGKey

STAGES = ("autoencoder", "codes", "transport", "map")
"""Stages of ``fit``, in order; ``fit_codes`` begins with the second."""

_SCALE_FLOOR = 1e-3
"""A code coordinate is constant if its standard deviation is below this part of the largest: the
networks do not use it."""


Report = Callable[[Progress], None]


class Resumed(NamedTuple):
    """A training to resume, and a function that saves its states.

    Attributes:
      training: the interrupted training, if there is one.
      keep: called with the state and the losses after each epoch.
    """

    training: checkpoint.Training | None
    keep: Callable[[train.TrainState, list[float]], None]


class Learned(NamedTuple):
    """Standardised codes of the data, and the networks that they come from.

    Attributes:
      codes: (m, z).
      units: centre and scale of the raw codes.
      params: parameters of the networks; None for the user's own codes.
      losses: mean loss of each epoch.
      shape: shape of one row of the data: (height, width, channels), (D,), or None for codes.
      table: centre and scale of the columns of a table.
    """

    codes: Float[Array, "m z"]
    units: Columns
    params: models.Params | None = None
    losses: tuple[float, ...] = ()
    shape: tuple[int, ...] | None = None
    table: Columns | None = None


def learn(
    key: PRNGKey,
    data: UInt8[np.ndarray, "n h w c"] | Standardised,
    config: Config,
    devices: Devices,
    report: Report,
    resumed: Resumed,
    seconds: dict[str, float],
) -> Learned:
    """Train the autoencoder on images or a standardised table, and encode them."""
    table = None
    if isinstance(data, Standardised):
        data, table = data
    with timed(seconds, "autoencoder"):
        params, losses = _train(key, data, config, devices, report, resumed)
        params = processes.from_first(params)
    with timed(seconds, "codes"):
        report(Progress("codes", 0, len(data), ""))
        raw = encode_all(params, data, config.autoencoder)
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
    shape = tuple(data.shape[1:])
    return Learned(codes, Columns(centre, scale), params, tuple(losses), shape, table)


def given(
    codes: Shaped[np.ndarray, "n z"],
    report: Report,
    seconds: dict[str, float],
) -> Learned:
    """Standardise the user's own codes.

    Raises:
      ValueError: if all codes are the same.
    """
    with timed(seconds, "codes"):
        report(Progress("codes", 0, len(codes), ""))
        made = columns.varying("codes", codes)
        found = arguments.placed(made.rows)
        units = processes.from_first(made.units)
        report(Progress("codes", len(codes), len(codes), f"{codes.shape[1]} dimensions"))
    return Learned(found, units)


def transport(
    keys: tuple[PRNGKey, PRNGKey],
    learned: Learned,
    labels: Int32[np.ndarray, " n"] | None,
    config: Config,
    solver: SolverConfig,
    report: Report,
    seconds: dict[str, float],
) -> AEOT:
    """Solve the transport onto the codes, and learn the extension; with labels, one per class too.

    Args:
      keys: keys of the solve and of the extension; consumed.
      learned: from ``learn`` or ``given``.
      labels: labels of the codes, or None.
      config: the user's decisions.
      solver: ``config.solver`` with the devices to use.
      report: called as the work proceeds.
      seconds: gets the time of each stage.
    """
    solve_key, map_key = keys
    codes = learned.codes
    mu = table.CHOICES[config.source](codes.shape[1])
    with timed(seconds, "transport"):
        solution = _solved(solve_key, mu, codes, solver, report)
    with timed(seconds, "map"):
        parts = 1
        report(Progress("map", 0, parts, ""))
        options = config.extension
        extension = extension_of_map(
            map_key,
            mu,
            codes,
            solution.h,
            num_samples=options.num_samples,
            threshold=options.threshold,
            parallel=solver.parallel,
            devices=solver.devices,
        )
        interrupted = int(solution.status) == Status.INTERRUPTED
        kernels = options.form == "kernels" and not interrupted
        if kernels and has_enough(extension):
            extension = calibrate(jax.random.fold_in(map_key, 1), extension)
        classes = None
        if labels is not None and not interrupted:
            classes = _classes(solve_key, mu, codes, labels, solver, options, report)
            parts += len(classes.labels)
            if kernels:
                classes = classes.calibrated(jax.random.fold_in(map_key, 2))
        report(Progress("map", parts, parts, f"threshold {float(extension.threshold):.3f} rad"))
    return AEOT(
        params=learned.params,
        centre=learned.units.centre,
        scale=learned.units.scale,
        losses=jnp.asarray(learned.losses, jnp.float32),
        solution=solution,
        extension=extension,
        seconds={stage: jnp.float32(value) for stage, value in seconds.items()},
        config=config,
        image_shape=learned.shape,
        classes=classes,
        columns=learned.table,
    )


def _solved(
    key: PRNGKey, mu: Measure, codes: Float[Array, "m z"], solver: SolverConfig, report: Report
) -> Solution:
    """Solve the transport, and report each estimate and the certificate."""

    def on_solve(progress: SolveProgress) -> None:
        done, total = progress.num_samples, progress.planned_samples
        values = {"mass_error": progress.mass_error, "mass_error_se": progress.mass_error_se}
        report(Progress("transport", done, total, str(progress), values))

    solution = solve(key, mu, codes, config=solver, on_progress=on_solve)
    if int(solution.status) != Status.INTERRUPTED:
        report(_certified(solution))
    return replace(solution, problem=None)  # the extension holds it


def _classes(
    key: PRNGKey,
    mu: Measure,
    codes: Array,
    labels: np.ndarray,
    solver: SolverConfig,
    options: ExtensionConfig,
    report: Report,
) -> ClassMaps:
    """One transport and one extension per class; each is a part of the stage, beside the first."""

    def on_class(done: int, of: int) -> None:
        report(Progress("map", done, of + 1, f"{done} of {of} classes solved"))

    return solve_classes(
        jax.random.fold_in(key, 1),
        mu,
        codes,
        labels,
        solver,
        threshold=options.threshold,
        num_samples=options.num_samples,
        on_progress=on_class,
    )


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record the wall time of a stage."""
    started = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - started


def _train(
    key: PRNGKey,
    data: Shaped[np.ndarray, "n ..."],
    config: Config,
    devices: Devices,
    report: Report,
    resumed: Resumed,
) -> tuple[models.Params, list[float]]:
    """Train the autoencoder, from a checkpoint if there is one, and save one after each epoch."""
    training = resumed.training
    total = train.total_epochs(data.shape, config.training)
    losses = [] if training is None else list(training.losses)
    report(Progress("autoencoder", len(losses), total, ""))

    def on_epoch(state: train.TrainState, loss: float) -> None:
        losses.append(loss)
        resumed.keep(state, losses)
        report(Progress("autoencoder", len(losses), total, f"loss {loss:.4f}", {"loss": loss}))

    state = None
    if training is not None:
        like = train.like(key, data.shape, config.autoencoder, config.training, len(losses))
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


def _certified(solution: Solution) -> Progress:
    """The certificate as an event."""
    values = {
        "mass_error": float(solution.mass_error),
        "mass_error_se": float(solution.mass_error_se),
        "upper": float(solution.certificate.upper),
    }
    drawn = max(1, int(solution.num_samples))  # the exact solver takes none
    note = f"mass error {in_words(*values.values())}, certified"
    values["converged"] = float(solution.converged)
    return Progress("transport", drawn, drawn, note, values)
