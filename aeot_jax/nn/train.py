"""Training of the autoencoder: the loss, one step, one compiled epoch, and a loop on the host.

The loss is the squared error of the reconstruction: no adversary, no likelihood. Two terms prepare
the codes for transport. `noise` moves every code by a fraction of the codes' standard deviation
before it is decoded, so that points between neighbouring codes decode to images too. `whitening`
pulls the codes of a batch towards mean 0 and covariance I, so that the codes use all directions and
one scale of noise suits all of them.

Over several devices, every batch is sharded and the compiler partitions the same program: it sums
the gradients, and `whitening` reads the moments of the whole batch. The order of float sums depends
on the number of devices, so results agree to a few of the last digits; the transport agrees to the
bit.

Source: Lei et al. 2020 (the autoencoder); Ghosh et al. 2020, "From variational to deterministic
autoencoders" (a regularised deterministic decoder interpolates as well as a VAE's).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, UInt8

from aeot_jax import arguments
from aeot_jax.machines import meshes, processes
from aeot_jax.nn import models
from aeot_jax.nn.schedule import TrainConfig as TrainConfig
from aeot_jax.nn.schedule import batch_size as batch_size
from aeot_jax.nn.schedule import num_epochs as num_epochs
from aeot_jax.nn.schedule import optimizer as optimizer
from aeot_jax.numerics import usual_dtypes
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

_BATCH = "batch"
"""Name of the mesh axis over which the images of a batch are sharded."""


@register
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of the training between two epochs.

    Attributes:
      params: parameters of the networks, {"encoder": ..., "decoder": ...}.
      opt_state: state of the optimiser.
      epoch: number of finished epochs, int32.
    """

    params: models.Params
    opt_state: optax.OptState
    epoch: Any


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


def loss(
    params: models.Params,
    key: PRNGKey,
    x: Float[Array, "b ..."],
    functions: models.Functions,
    config: TrainConfig,
) -> Float[Array, ""]:
    """Mean squared error per pixel of decoding noisy codes, plus the whitening penalty."""
    z = functions.encode(params, x)
    mean = z.mean(0)
    centred = z - mean[None]
    covariance = centred.T @ centred / z.shape[0]
    identity = jnp.eye(z.shape[1], dtype=jnp.float32)
    penalty = (mean**2).mean() + ((covariance - identity) ** 2).sum(0).mean()
    scale = jax.lax.stop_gradient(jnp.sqrt(jnp.diagonal(covariance)))
    z = z + config.noise * scale[None] * jax.random.normal(key, z.shape, jnp.float32)
    return ((functions.decode(params, z) - x) ** 2).mean() + config.whitening * penalty


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
    x = x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x
    value, grads = jax.value_and_grad(loss)(params, key, x, functions, config)
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
    size = batch_size(n, train_config)
    order_key, noise_key = jax.random.split(jax.random.fold_in(key, state.epoch))
    order = jax.random.permutation(order_key, jnp.arange(n, dtype=jnp.int32))
    order = order[: n // size * size].reshape(-1, size)

    def shard(tree: Any, *axes: str) -> Any:
        if not devices:
            return tree
        return jax.lax.with_sharding_constraint(tree, _sharding(devices, *axes))

    def body(carry, inputs):
        params, opt_state = carry
        step, rows = inputs
        params, opt_state, value = train_step(
            params,
            opt_state,
            jax.random.fold_in(noise_key, step),
            shard(images[rows], _BATCH),
            functions,
            tx,
            train_config,
        )
        return (params, opt_state), value

    (params, opt_state), values = jax.lax.scan(
        body, (state.params, state.opt_state), (jnp.arange(order.shape[0], dtype=jnp.int32), order)
    )
    # The output is sharded like the input, so that the next epoch runs the same program.
    return shard((TrainState(params, opt_state, state.epoch + 1), values.mean()))


def _sharding(devices: Devices, *axes: str) -> NamedSharding:
    """The sharding of leading axes over the devices; without axes, a copy on each device."""
    return NamedSharding(meshes.row(devices, _BATCH), P(*axes))


def fit(
    key: Given[PRNGKey],
    images: ArrayLike,
    model_config: Given[models.AutoencoderConfig],
    train_config: Given[TrainConfig],
    *,
    state: TrainState | None = None,
    devices: Devices = (),
    on_epoch: Callable[[TrainState, float], Any] | None = None,
) -> tuple[TrainState, list[float]]:
    """Train the autoencoder.

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
        than a batch; if the devices cannot share a batch, or one is named twice.
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
    meshes.check_distinct(devices)
    several = devices if len(devices) > 1 else ()
    if several:
        size = batch_size(n, train_config, len(devices))
        train_config = dataclasses.replace(train_config, batch_size=size)
    init_key, run_key = jax.random.split(key)
    if state is None:
        state = init(init_key, images.shape[1:], model_config, train_config, n)
    current, images = _placed(state, images, devices)
    history = []
    for epoch in range(int(current.epoch), num_epochs(n, train_config)):
        current, value = run_epoch(
            current,
            run_key,
            images,
            model_config=model_config,
            train_config=train_config,
            devices=several,
        )
        history.append(_finite(float(value), epoch, train_config))
        if on_epoch is not None:
            on_epoch(current, history[-1])
    if several:
        current = jax.tree.map(lambda leaf: leaf.addressable_data(0), current)
    return current, history


def _placed(state: TrainState, images: Array, devices: Devices) -> tuple[TrainState, Array]:
    """The state and the images on one device, or a copy of both on each of several."""
    if not devices:
        return state, images
    first, *others = devices
    where = _sharding(devices) if others else first
    host = jax.tree.map(np.asarray, (processes.from_first(state), images))
    return jax.device_put(host, where)


def _finite(loss: float, epoch: int, config: TrainConfig) -> float:
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss of epoch {epoch + 1} is {loss}; lower `learning_rate`, now "
            f"{config.learning_rate}, and train again."
        )
    return loss


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
