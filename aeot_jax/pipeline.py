"""The pipeline: an autoencoder learns the data manifold, transport carries noise onto its codes.

``fit`` trains the autoencoder, standardises the codes, solves the semi-discrete transport problem
from the source onto them and learns where the map is singular. ``fit_codes`` begins with codes.

Source: Lei, An, Guo, Su, Liu, Luo, Yau, Gu, A Geometric Understanding of Deep Learning,
Engineering 6(3), 2020.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Shaped

from aeot_jax import arguments, checkpoint, columns, identity, networks, processes, runs, stages
from aeot_jax.data import images as image_data
from aeot_jax.data.convert import check_names, to_labels
from aeot_jax.events import Event, reporter
from aeot_jax.locks import locked
from aeot_jax.model import AEOT, Config
from aeot_jax.networks import Network, Networks
from aeot_jax.nn import models, train
from aeot_jax.nn.train import TrainConfig
from aeot_jax.ot.devices.placement import check_devices
from aeot_jax.ot.solver.config import SolverConfig, placement
from aeot_jax.ot.solver.planning import max_samples
from aeot_jax.ot.solver.result import Status
from aeot_jax.stages import STAGES as STAGES
from aeot_jax.stages import Progress as Progress
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

_TRIED = 2
"""Rows on which somebody's own decoder is tried before any work."""


def fit(
    key: Given[PRNGKey],
    images: ArrayLike,
    config: Given[Config] = Config(),  # noqa: B008 - frozen
    *,
    labels: ArrayLike | None = None,
    label_names: Given[Sequence[str] | None] = None,
    encode: Given[Network | None] = None,
    decode: Given[Network | None] = None,
    run_dir: Given[str | os.PathLike[str] | None] = None,
    resume: Given[bool] = False,
    overwrite: Given[bool] = False,
    devices: Given[Devices | None] = None,
    on_progress: Given[Callable[[Progress], None] | None] = None,
    on_event: Given[Callable[[Event], None] | None] = None,
) -> AEOT:
    """Fit the autoencoder, the transport map and its extension to images or to a table.

    Args:
      key: of the whole fit; the same key, data and config give the same model, unless
        the solver has a time limit.
      images: uint8 in 0..255 or floats in [0, 1], (n, height, width) or (n, height, width,
        channels) with 1 or 3 channels; kept as 8-bit. Or a table (n, D) of real numbers in any
        unit: its columns are standardised, and the autoencoder is the MLP. With ``encode``, any
        array with one row for each of the data, which is given to it as it is.
      config: the user's decisions.
      labels: the class of each image (n,), integers or texts; adds one transport problem per
        class, for ``sample(..., label=)``. All that does not ask for a class stays as it is
        without.
      label_names: names of the classes, of which an integer label is the index; for labels that
        are texts, the names are these texts, sorted.
      encode: somebody's own encoder in place of training one: a pure function, a batch of the data
        (b, ...) -> codes (b, z). It is called outside of any jit of this library, 64 rows at a
        time, and is not saved. With other batches, call it yourself and pass its codes to
        ``fit_codes``.
      decode: the decoder that belongs to it: codes (b, z) -> data (b, ...). The model keeps both
        for ``encode``, ``decode`` and ``sample``, until it is saved.
      run_dir: a folder for a checkpoint after each epoch and for the model at the end.
      resume: continue the run in ``run_dir`` from its last finished epoch; the result is the same
        to the last bit as without the interruption.
      overwrite: replace the run in ``run_dir``, as a whole or not at all: it stays as it is until
        the new one is finished. Interrupted before that, the new one is resumed.
      devices: to compute on, 1, 2, 4 or 8: every batch of the training and the samples of the
        transport are sharded over them. None is those of ``config.solver``, by default every
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

    Ctrl-C while the transport is solved ends it early, without the maps of classes: the model then
    says so in its ``solution.status``, and with ``run_dir`` the run can still be resumed.

    Raises:
      ValueError: if the images, the configuration, the functions or the devices do not fit, or if
        ``run_dir`` holds another run, or is being written by another process.
      OSError: if ``run_dir`` cannot be written.
      FloatingPointError: if the training diverges.
    """
    arguments.refuse_trace("fit", "call it outside of `jax.jit`", key=key, images=images)
    place = _Place(run_dir, resume=resume, overwrite=overwrite)
    networks.check_function("encode", encode)
    networks.check_function("decode", decode)
    if encode is not None:
        codes = np.asarray(networks.codes_of(encode, _rows(images)))
        own = Networks(encode, decode)
        _try_decoder(own, codes, images)
        named = labels, label_names
        return _fit_codes(
            key, codes, config, named, own, place, devices, reporter(on_progress, on_event)
        )
    if decode is not None:
        raise ValueError(
            "`decode` is given, but `encode` is not; pass both, or pass codes to `fit_codes` and "
            "`decode` to `sample`."
        )
    key, solver = _checked(key, config, devices)
    data, classes, names = _data(images, labels)
    names = check_names(label_names, classes, names)
    max_samples(len(data), config.solver)  # what is refused later is better refused now
    own_devices = _devices_for(len(data), config.training, solver)
    models.check_image_shape(data.shape[1:])
    learned_from = columns.varying("images", data, "rows") if data.ndim == 2 else data

    def work(run: checkpoint.Run | None) -> AEOT:
        report, seconds = reporter(on_progress, on_event), {}
        train_key, *keys = jax.random.split(key, 3)
        resumed = stages.Resumed(None, lambda _state, _losses: None)
        if run is not None:
            keep = run.save_training if processes.is_first() else resumed.keep
            resumed = stages.Resumed(run.training, keep)
        found = stages.learn(train_key, learned_from, config, own_devices, report, resumed, seconds)
        own = keys[0], keys[1]
        model = stages.transport(own, found, classes, config, solver, report, seconds)
        return replace(model, label_names=names)

    fingerprint = identity.of(key, data, config, classes, names)
    processes.check_agreement(key=key, images=data, config=fingerprint)
    return _in_folder(place, fingerprint, work)


def fit_codes(
    key: Given[PRNGKey],
    codes: ArrayLike,
    config: Given[Config] = Config(),  # noqa: B008 - frozen
    *,
    labels: ArrayLike | None = None,
    label_names: Given[Sequence[str] | None] = None,
    run_dir: Given[str | os.PathLike[str] | None] = None,
    resume: Given[bool] = False,
    overwrite: Given[bool] = False,
    devices: Given[Devices | None] = None,
    on_progress: Given[Callable[[Progress], None] | None] = None,
    on_event: Given[Callable[[Event], None] | None] = None,
) -> AEOT:
    """Fit the transport map and its extension to codes of somebody's own encoder.

    There are no networks inside: ``sample_codes`` gives new codes in the units that these came in,
    and ``sample(..., decode=fn)`` what somebody's own decoder makes of them.

    Args:
      key: of the whole fit; the same key, codes and config give the same model.
      codes: (n, z), real numbers in any unit and dtype; centred and scaled in float64.
      config: the user's decisions; those of the networks and of their training have no meaning
        here.
      labels: as in ``fit``.
      label_names: as in ``fit``.
      run_dir: a folder for the model.
      resume: take the finished model from ``run_dir``; or solve an interrupted one again.
      overwrite: as in ``fit``.
      devices: as in ``fit``.
      on_progress: as in ``fit``.
      on_event: as in ``fit``.

    Returns:
      The model; its ``params`` and ``image_shape`` are None.

    Raises:
      ValueError: if the codes, the configuration or the devices do not fit, or if ``run_dir`` holds
        another run, or is being written by another process.
      OSError: if ``run_dir`` cannot be written.
    """
    arguments.refuse_trace("fit_codes", "call it outside of `jax.jit`", key=key, codes=codes)
    place = _Place(run_dir, resume=resume, overwrite=overwrite)
    named = labels, label_names
    return _fit_codes(
        key, codes, config, named, None, place, devices, reporter(on_progress, on_event)
    )


def _fit_codes(
    key: Given[PRNGKey],
    codes: ArrayLike,
    config: Given[Config],
    named: tuple[ArrayLike | None, Given[Sequence[str] | None]],
    own: Networks | None,
    place: "_Place",
    devices: Given[Devices | None],
    report: Callable[[Progress], None],
) -> AEOT:
    key, solver = _checked(key, config, devices)
    data = columns.check("codes", codes)
    classes, names = _classes(named[0], len(data))
    names = check_names(named[1], classes, names)
    max_samples(len(data), config.solver)

    def work(_: checkpoint.Run | None) -> AEOT:
        seconds: dict[str, float] = {}
        _, *keys = jax.random.split(key, 3)
        found = stages.given(data, report, seconds)
        own_keys = keys[0], keys[1]
        model = stages.transport(own_keys, found, classes, config, solver, report, seconds)
        return replace(model, label_names=names)

    fingerprint = identity.of(key, data, config, classes, names)
    processes.check_agreement(key=key, codes=data, config=fingerprint)
    model = _in_folder(place, fingerprint, work)
    return replace(model, networks=own)  # which no file holds


class _Place:
    """Where a run is kept, and what may be there."""

    def __init__(
        self,
        run_dir: Given[str | os.PathLike[str] | None],
        *,
        resume: Given[bool],
        overwrite: Given[bool],
    ) -> None:
        self.flags = {
            "resume": arguments.flag("resume", resume),
            "overwrite": arguments.flag("overwrite", overwrite),
        }
        if run_dir is None and (resume or overwrite):
            name = "resume" if resume else "overwrite"
            raise ValueError(f"`{name}` is set, but `run_dir` is None; pass the folder of the run.")
        self.folder = None if run_dir is None else arguments.path("run_dir", run_dir)


def _checked(
    key: Given[PRNGKey], config: Given[Config], devices: Given[Devices | None]
) -> tuple[PRNGKey, SolverConfig]:
    """The key, and what the transport is solved by."""
    found = arguments.key("key", key)
    arguments.instance("config", config, Config, "an `aeot_jax.Config(...)`")
    solver = config.solver
    if devices is not None:
        devices = tuple(devices) if isinstance(devices, list) else devices
        check_devices(devices)
        if solver.devices not in (None, tuple(devices)):
            raise ValueError(
                f"`devices` is {devices} and `config.solver.devices` is {solver.devices}; give one."
            )
        solver = replace(solver, devices=tuple(devices))
    return found, solver


def _data(
    images: ArrayLike, labels: ArrayLike | None
) -> tuple[Shaped[np.ndarray, "n ..."], Int32[np.ndarray, " n"] | None, tuple[str, ...] | None]:
    """Images as bytes, or a table as it came; the labels, and their names if they were texts."""
    if not isinstance(images, list | tuple):  # of these the shapes are compared one by one
        images = arguments.host_array("images", images)
    if _is_table(images):
        table = columns.check("images", images, "rows")
        return table, *_classes(labels, len(table))
    if labels is not None:
        arguments.refuse_containers("labels", labels)
    image_set = image_data.from_arrays(images, labels)
    return image_set.images, image_set.labels, image_set.label_names


def _classes(
    labels: ArrayLike | None, n: int
) -> tuple[Int32[np.ndarray, " n"] | None, tuple[str, ...] | None]:
    """The labels, and their names if they were texts."""
    if labels is None:
        return None, None
    arguments.refuse_containers("labels", labels)
    return to_labels(labels, n)


def _is_table(images: ArrayLike) -> bool:
    """Whether these are rows of floats; two axes of integers are one image, which is refused."""
    if isinstance(images, list | tuple) and (not len(images) or np.ndim(images[0]) != 1):
        return False
    found = arguments.host_array("images", images)
    return found.ndim == 2 and jnp.issubdtype(found.dtype, jnp.floating)


def _rows(data: ArrayLike) -> np.ndarray:
    """What somebody's own encoder is given a batch of."""
    found = np.asarray(arguments.host_array("images", data))
    if found.ndim < 2 or len(found) < 2:
        raise ValueError(
            f"`images` has shape {found.shape}; pass at least 2 rows, (n, ...), for `encode`."
        )
    return found


def _try_decoder(own: Networks, codes: np.ndarray, images: ArrayLike) -> None:
    """Refuse a decoder that does not belong to the encoder before the transport is solved."""
    if own.decode is None:
        return
    shape = np.shape(networks.data_of(own.decode, codes[:_TRIED]))[1:]
    if shape != np.shape(images)[1:]:
        raise ValueError(
            f"`decode` makes rows of shape {shape}, but `images` has rows of shape "
            f"{np.shape(images)[1:]}; pass the decoder of `encode`."
        )


def _in_folder(
    place: _Place, fingerprint: str, work: Callable[[checkpoint.Run | None], AEOT]
) -> AEOT:
    """A model that is kept in a folder, if there is one, and taken from it where it is finished."""
    folder = place.folder
    if folder is None:
        return work(None)
    with ExitStack() as writing:
        run = _open_run(folder, fingerprint, writing, **place.flags)
        first = processes.is_first()
        model = run.finished
        if model is None:
            model = work(run)
            if first:
                run.save_model(model)
        whole = int(model.solution.status) != Status.INTERRUPTED
        if first and run.folder != folder and whole:
            runs.replace(folder)
        return model


def _devices_for(num_images: int, training: TrainConfig, solver: SolverConfig) -> Devices:
    """The devices of the training, none for the default.

    Devices that nobody named are as many as can share a batch: they change no number by much and
    refuse no batch.

    Raises:
      ValueError: if the work cannot be sharded over them.
    """
    found = placement(solver).devices
    if solver.devices is None and jax.process_count() == 1:
        found = found[: math.gcd(train.batch_size(num_images, training), len(found))]
    train.batch_size(num_images, training, max(1, len(found)))
    return found


def _open_run(
    folder: Path, identity: str, writing: ExitStack, *, resume: Given[bool], overwrite: Given[bool]
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
