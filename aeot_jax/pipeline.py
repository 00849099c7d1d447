"""The pipeline: an autoencoder learns the data manifold, and transport maps noise to its codes.

``fit`` trains the autoencoder, standardises the codes, solves the semi-discrete transport problem
from the source to the codes, and learns where the map is singular. ``fit_codes`` starts from codes.

Source: Lei, An, Guo, Su, Liu, Luo, Yau, Gu, A Geometric Understanding of Deep Learning,
Engineering 6(3), 2020.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import numpy as np

from aeot_jax import arguments
from aeot_jax.checkpoints import checkpoint, identity
from aeot_jax.data.pictures.convert import check_names
from aeot_jax.fitting import stages
from aeot_jax.fitting.events import Event, reporter
from aeot_jax.fitting.inputs import (
    check_config,
    check_data,
    check_rows,
    class_labels,
    devices_for,
    try_decoder,
)
from aeot_jax.fitting.place import Place, config_for, in_folder
from aeot_jax.fitting.stages import STAGES as STAGES
from aeot_jax.fitting.stages import Progress as Progress
from aeot_jax.inputs import columns, networks
from aeot_jax.inputs.networks import Network, Networks
from aeot_jax.machines import processes
from aeot_jax.model import AEOT, Config
from aeot_jax.nn import models
from aeot_jax.ot.solver.planning import max_samples
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey


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
      key: key of the whole fit. The same key, data and config give the same model, unless the
        solver has a time limit.
      images: uint8 in 0..255 or floats in [0, 1], (n, height, width) or (n, height, width,
        channels) with 1 or 3 channels; kept as 8-bit. Or a table (n, D) of real numbers in any
        unit: its columns are standardised, and the autoencoder is the MLP. With ``encode``: any
        array that this function takes, one row for each item.
      config: the user's decisions.
      labels: the class of each image (n,), integers or strings. They add one transport problem per
        class, for ``sample(..., label=)``, and change nothing else.
      label_names: names of the classes, indexed by label. If the labels are strings, the names are
        these strings, sorted.
      encode: the user's own encoder, in place of training one: a pure function, a batch of the data
        (b, ...) -> codes (b, z). It is called outside of any jit of this library, 64 rows at a
        time, and is not saved. For other batch sizes, call it yourself and pass the codes to
        ``fit_codes``.
      decode: its decoder: codes (b, z) -> data (b, ...). The model keeps both functions for
        ``encode``, ``decode`` and ``sample``, until it is saved.
      run_dir: a folder for a checkpoint after each epoch and for the model at the end.
      resume: continue the run in ``run_dir`` from its last finished epoch; the result has the same
        bits as without the interruption.
      overwrite: replace the run in ``run_dir``, which stays unchanged until the new one is
        finished. If the new one is interrupted, it can be resumed.
      devices: 1, 2, 4 or 8 devices, or more with more ``config.solver.streams``; the batches of the
        training and the samples of the transport are sharded over them. None means those of
        ``config.solver``: by default every accelerator (for the training, as many as divide a
        batch), or one CPU device. With other numbers of devices the training agrees to about 1e-5,
        and the transport onto given codes has the same bits.
      on_progress: called on the host as the work proceeds.
      on_event: called on the host with every loss, estimate and certificate, as numbers.

    Returns:
      The model; ``model.solution`` says whether the transport converged.

    Several processes that call this with the same arguments share the training and the transport.
    Only process 0 writes to ``run_dir``; all must be able to read it to resume a run.

    Ctrl-C during the transport stops it early, without the maps of classes. Then the
    ``solution.status`` of the model says so, and a run in ``run_dir`` can be resumed.

    Raises:
      ValueError: if the images, the configuration, the functions or the devices do not fit; if
        ``run_dir`` holds another run; or if another process writes to it.
      OSError: if ``run_dir`` cannot be written.
      FloatingPointError: if the training diverges.
    """
    arguments.refuse_trace("fit", "call it outside of `jax.jit`", key=key, images=images)
    place = Place(run_dir, resume=resume, overwrite=overwrite)
    networks.check_function("encode", encode)
    networks.check_function("decode", decode)
    if encode is not None:
        codes = np.asarray(networks.codes_of(encode, check_rows(images)))
        own = Networks(encode, decode)
        try_decoder(own, codes, images)
        named = labels, label_names
        return _fit_codes(
            key, codes, config, named, own, place, devices, reporter(on_progress, on_event)
        )
    if decode is not None:
        raise ValueError(
            "`decode` is given, but `encode` is not; pass both, or pass codes to `fit_codes` and "
            "`decode` to `sample`."
        )
    return _fit_images(
        key, images, config, (labels, label_names), place, devices, reporter(on_progress, on_event)
    )


def _fit_images(
    key: Given[PRNGKey],
    images: ArrayLike,
    config: Given[Config],
    named: tuple[ArrayLike | None, Given[Sequence[str] | None]],
    place: Place,
    devices: Given[Devices | None],
    report: Callable[[Progress], None],
) -> AEOT:
    labels, label_names = named
    key, solver = check_config(key, config, devices)
    config = config_for(place, config)
    data, classes, names = check_data(images, labels)
    names = check_names(label_names, classes, names)
    max_samples(len(data), config.solver)  # before the training, not after it
    own_devices = devices_for(len(data), config.training, solver)
    models.check_image_shape(data.shape[1:])
    learned_from = columns.varying("images", data, "rows") if data.ndim == 2 else data

    def work(run: checkpoint.Run | None) -> AEOT:
        seconds: dict[str, float] = {}
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
    return in_folder(place, fingerprint, work)


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
    """Fit the transport map and its extension to codes of the user's own encoder.

    The model holds no networks: ``sample_codes`` gives new codes in the units of the encoder, and
    ``sample(..., decode=fn)`` decodes them with the user's own decoder.

    Args:
      key: key of the whole fit. The same key, codes and config give the same model.
      codes: (n, z), real numbers in any unit and dtype; centred and scaled in float64.
      config: the user's decisions; those on networks and training are ignored.
      labels: as in ``fit``.
      label_names: as in ``fit``.
      run_dir: a folder for the model.
      resume: load the finished model in ``run_dir``, or solve an interrupted one again.
      overwrite: as in ``fit``.
      devices: as in ``fit``.
      on_progress: as in ``fit``.
      on_event: as in ``fit``.

    Returns:
      The model; its ``params`` and ``image_shape`` are None.

    Raises:
      ValueError: if the codes, the configuration or the devices do not fit; if ``run_dir`` holds
        another run; or if another process writes to it.
      OSError: if ``run_dir`` cannot be written.
    """
    arguments.refuse_trace("fit_codes", "call it outside of `jax.jit`", key=key, codes=codes)
    place = Place(run_dir, resume=resume, overwrite=overwrite)
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
    place: Place,
    devices: Given[Devices | None],
    report: Callable[[Progress], None],
) -> AEOT:
    key, solver = check_config(key, config, devices)
    config = config_for(place, config)
    data = columns.check("codes", codes)
    classes, names = class_labels(named[0], len(data))
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
    model = in_folder(place, fingerprint, work)
    return replace(model, networks=own)  # which no file holds
