"""Codes of a whole data set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.nn import models
from aeot_jax.typing import ArrayLike, Given


def encode_all(
    params: models.Params,
    images: ArrayLike,
    model_config: models.AutoencoderConfig,
    *,
    batch: Given[int] = 1024,
) -> Float[Array, "n z"]:
    """Encode a whole data set, `batch` images at a time.

    One shape is compiled, and memory beyond the codes is bounded by the batch.

    Args:
      params: of the networks.
      images: as in ``train.fit``.
      model_config: the networks.
      batch: images encoded at once.

    Returns:
      One code per row.
    """
    images = arguments.host_array("images", images)
    batch = arguments.count("batch", batch)
    shape = tuple(images.shape[1:])
    parts = []
    for start in range(0, max(1, len(images)), batch):
        part = images[start : start + batch]
        # The last batch is padded, so that it needs no compilation of its own.
        filled = np.pad(part, [(0, batch - len(part))] + [(0, 0)] * (images.ndim - 1))
        parts.append(np.asarray(_encode(params, filled, shape, model_config))[: len(part)])
    return jnp.asarray(np.concatenate(parts))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _encode(params, x, image_shape, config):
    return models.functions(image_shape, config).encode(params, x)
