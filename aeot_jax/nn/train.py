"""Training of the autoencoder: one step, one compiled epoch, and a loop on the host.

The first stage trains both networks (`losses`), the second the decoder alone (`refine`).

Over several devices, every batch is sharded and the compiler partitions the same program: it sums
the gradients, and `whitening` reads the moments of the whole batch. The order of float sums depends
on the number of devices, so results agree to a few of the last digits; the transport agrees to the
bit.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from aeot_jax import arguments
from aeot_jax.machines import meshes, processes
from aeot_jax.nn import epochs, models, refine
from aeot_jax.nn.losses import as_float
from aeot_jax.nn.losses import loss as loss
from aeot_jax.nn.schedule import TrainConfig as TrainConfig
from aeot_jax.nn.schedule import batch_size as batch_size
from aeot_jax.nn.schedule import num_epochs as num_epochs
from aeot_jax.nn.schedule import optimizer as optimizer
from aeot_jax.nn.schedule import total_epochs as total_epochs
from aeot_jax.nn.state import TrainState as TrainState
from aeot_jax.numerics import usual_dtypes
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

_T = TypeVar("_T")

_LOST = 10.0
"""Times the least loss of a stage beyond which its end is no noise; and it is above its begin."""


class TrainingWarning(UserWarning):
    """A stage of the training lost what it had learned."""


def init(
    key: PRNGKey,
    image_shape: tuple[int, ...],
    model_config: models.AutoencoderConfig,
    train_config: TrainConfig,
    num_images: int,
) -> TrainState:
    """The state before the first epoch.

    Raises:
      ValueError: if the image size is not supported or the images are fewer than a batch.
    """
    tx = optimizer(num_images, train_config)
    params = models.functions(image_shape, model_config).init(key)
    with usual_dtypes():
        opt_state = tx.init(params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32))


def like(
    key: PRNGKey,
    shape: tuple[int, ...],
    model_config: models.AutoencoderConfig,
    train_config: TrainConfig,
    epoch: int,
) -> TrainState:
    """A state with the structure and shapes of that after an epoch, for data of this shape.

    Raises:
      ValueError: as ``init``.
    """
    n, *sides = shape
    state = init(key, tuple(sides), model_config, train_config, n)
    if epoch <= num_epochs(n, train_config):
        return state
    return refine.begin(state, shape, train_config)


def train_step(
    params: models.Params,
    opt_state: optax.OptState,
    key: PRNGKey,
    x: UInt8[Array, "b h w c"] | Float[Array, "b D"],
    functions: models.Functions,
    tx: optax.GradientTransformation,
    config: TrainConfig,
) -> tuple[Any, Any, Float[Array, ""]]:
    """One step of the optimiser on one batch; the loss is the one before the step."""
    value, grads = jax.value_and_grad(loss)(params, key, as_float(x), functions, config)
    with usual_dtypes():
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value


@functools.partial(jax.jit, static_argnames=("model_config", "train_config", "devices"))
def run_epoch(
    state: TrainState,
    key: PRNGKey,
    images: UInt8[Array, "n h w c"] | Float[Array, "n D"],
    *,
    model_config: models.AutoencoderConfig,
    train_config: TrainConfig,
    devices: Devices = (),
) -> tuple[TrainState, Float[Array, ""]]:
    """One pass over the images in random order, compiled as one scan.

    Images that do not fill the last batch are skipped; they are others in each epoch.

    Args:
      state: the state after the previous epoch.
      key: key of the whole run; the number of the epoch is folded in.
      images: the data set, on the device.
      model_config: the networks.
      train_config: the training.
      devices: two or more devices over which every batch is sharded; `state` and `images` are
        replicated on them. Empty: the arrays stay where they are.

    Returns:
      The state after the epoch, replicated on the devices, and the mean loss over its batches.
    """
    n, image_shape = images.shape[0], images.shape[1:]
    functions = models.functions(image_shape, model_config)
    tx = optimizer(n, train_config)

    def step(carry, key, x):
        params, opt_state = carry
        params, opt_state, value = train_step(
            params, opt_state, key, x, functions, tx, train_config
        )
        return (params, opt_state), value

    (params, opt_state), value = epochs.one_pass(
        step,
        (state.params, state.opt_state),
        jax.random.fold_in(key, state.epoch),
        images,
        batch_size(n, train_config),
        devices,
    )
    # The output is sharded like the input, so that the next epoch runs the same program.
    return epochs.constrained((TrainState(params, opt_state, state.epoch + 1), value), devices)


def fit(
    key: Given[PRNGKey],
    images: ArrayLike,
    model_config: Given[models.AutoencoderConfig],
    train_config: Given[TrainConfig],
    *,
    state: Given[TrainState | None] = None,
    devices: Given[Devices] = (),
    on_epoch: Callable[[TrainState, float], Any] | None = None,
) -> tuple[TrainState, list[float]]:
    """Train the autoencoder, and then refine its decoder.

    A run that stops after any epoch, and continues from that state with the same key, images,
    configs and devices, gives the same bits.

    Several processes must call this with the same arguments, and with devices of all processes.

    Args:
      key: key of the parameters, the order of the images and the noise.
      images: uint8 (n, height, width, channels), or float32 (n, D), the standardised columns
        of a table.
      model_config: the networks.
      train_config: the training.
      state: the state to continue from; None starts a new run.
      devices: devices to train on; every batch is sharded over them. Empty: the default device.
        Losses and parameters with different numbers of devices agree to about 1e-5.
      on_epoch: called with the state and the mean loss after each epoch.

    Returns:
      The last state, on the first device of this process, and the mean loss of each epoch of this
      call.

    Raises:
      ValueError: if the images have the wrong shape or dtype, an unsupported size, or are fewer
        than a batch; if the state is of another training; if the devices cannot share a batch, or
        one is named twice; if the decoder of a table is to be refined.
      FloatingPointError: if the loss of an epoch is not finite; `on_epoch` has got every earlier
        state.
    """
    key = arguments.key("key", key)
    kinds = {"model_config": models.AutoencoderConfig, "train_config": TrainConfig}
    for name, config in (("model_config", model_config), ("train_config", train_config)):
        way = f"an `aeot_jax.{kinds[name].__name__}(...)`"
        arguments.instance(name, config, kinds[name], way)
    images = _check_images(images)
    n = images.shape[0]
    devices = tuple(devices)
    meshes.check_distinct(devices)
    several = devices if len(devices) > 1 else ()
    if several:
        size = batch_size(n, train_config, len(devices))
        train_config = dataclasses.replace(train_config, batch_size=size)
    init_key, run_key = jax.random.split(key)
    if state is None:
        state = init(init_key, images.shape[1:], model_config, train_config, n)
    else:
        _check_state(state, init_key, images.shape, model_config, train_config)
    images = _placed(images, devices)
    first, last = num_epochs(n, train_config), total_epochs(images.shape, train_config)
    history, begun = [], 0
    current = _placed(state, devices)
    for epoch in range(int(current.epoch), last):
        if epoch == first:
            _warn_if_lost(history, "first", train_config)
            begun = len(history)
            current = _placed(
                refine.begin(_own(current, several), images.shape, train_config), devices
            )
        run = run_epoch if epoch < first else refine.run_epoch
        current, value = run(
            current,
            run_key,
            images,
            model_config=model_config,
            train_config=train_config,
            devices=several,
        )
        history.append(_finite(float(value), epoch, first, train_config))
        if on_epoch is not None:
            on_epoch(current, history[-1])
    _warn_if_lost(
        history[begun:], "second" if int(current.epoch) > first else "first", train_config
    )
    return _own(current, several), history


def _check_state(
    state: Given[TrainState],
    key: PRNGKey,
    shape: tuple[int, ...],
    model_config: models.AutoencoderConfig,
    train_config: TrainConfig,
) -> None:
    """Refuse a state of another training: other networks, or another stage after so many epochs."""
    arguments.instance("state", state, TrainState, "a state of this function, or None")
    done, first = int(state.epoch), num_epochs(shape[0], train_config)
    wanted = jax.eval_shape(lambda key: like(key, shape, model_config, train_config, done), key)
    if _form(state) != _form(wanted):
        stage = "second" if done > first else "first"
        raise ValueError(
            f"`state` is of another training: after {done} epochs, this one, of {first} and "
            f"{total_epochs(shape, train_config) - first} epochs, is in its {stage} stage; pass "
            "the images, `model_config` and `train_config` with which it was made."
        )


def _form(state: TrainState) -> Any:
    """Structure and shapes."""
    leaves, structure = jax.tree.flatten(state)
    return structure, [(np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves]


def _own(state: TrainState, several: Devices) -> TrainState:
    """The state on the first device of this process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), state) if several else state


def _placed(tree: _T, devices: Devices) -> _T:
    """A state or images on one device, or a copy on each of several."""
    if not devices:
        return tree
    first, *others = devices
    where = epochs.sharding(devices) if others else first
    return jax.device_put(jax.tree.map(np.asarray, processes.from_first(tree)), where)


def _finite(loss: float, epoch: int, first: int, config: TrainConfig) -> float:
    """The loss of an epoch, of which ``first`` are in the first stage; raises if it is none."""
    if not np.isfinite(loss):
        number = f"{epoch + 1}" if epoch < first else f"{epoch + 1 - first} of the second stage"
        raise FloatingPointError(
            f"the loss of epoch {number} is {loss}; lower `learning_rate`, now "
            f"{config.learning_rate}, and train again."
        )
    return loss


def _warn_if_lost(losses: list[float], stage: str, config: TrainConfig) -> None:
    """Tell of a stage that ended worse than it began, after it had been far better.

    Args:
      losses: of its epochs, as far as this call ran them.
      stage: its name.
      config: the training.
    """
    if losses and losses[-1] > max(losses[0], _LOST * min(losses)):
        warnings.warn(
            TrainingWarning(
                f"the loss of the {stage} stage was {min(losses):.3g} after epoch "
                f"{int(np.argmin(losses)) + 1}, and is {losses[-1]:.3g} at its end; lower "
                f"`learning_rate`, now {config.learning_rate}, and train again."
            ),
            stacklevel=3,
        )


def _check_images(images: ArrayLike) -> Array:
    images = arguments.array("images", images)
    if images.ndim == 2 and images.dtype == jnp.float32:
        return jnp.asarray(images)
    if images.ndim != 4 or images.dtype != jnp.uint8:
        raise ValueError(
            f"`images` has shape {images.shape} and dtype {images.dtype}; pass uint8 of shape "
            "(n, height, width, channels), or float32 of shape (n, D)."
        )
    return jnp.asarray(images)
