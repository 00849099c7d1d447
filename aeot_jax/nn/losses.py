"""The loss of the autoencoder: squared error of decoding noisy codes, and a penalty on the codes.

No adversary, no likelihood. Two terms prepare the codes for transport. `noise` moves every code by
a fraction of the codes' standard deviation before it is decoded, so that points between
neighbouring codes decode to images too. `whitening` pulls the codes of a batch towards mean 0 and
covariance I, so that the codes use all directions and one scale of noise suits all of them.

Source: Lei et al. 2020 (the autoencoder); Ghosh et al. 2020, "From variational to deterministic
autoencoders" (a regularised deterministic decoder interpolates as well as a VAE's).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from aeot_jax.nn import models
from aeot_jax.nn.schedule import TrainConfig
from aeot_jax.typing import PRNGKey


def as_float(x: UInt8[Array, "b h w c"] | Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Bytes as pixels in [0, 1]; other data unchanged."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x


def noisy_codes(
    key: PRNGKey, z: Float[Array, "b z"], config: TrainConfig
) -> tuple[Float[Array, "b z"], Float[Array, ""]]:
    """The codes of a batch with noise, and the weighted penalty on their mean and covariance."""
    mean = z.mean(0)
    centred = z - mean[None]
    covariance = centred.T @ centred / z.shape[0]
    identity = jnp.eye(z.shape[1], dtype=jnp.float32)
    penalty = (mean**2).mean() + ((covariance - identity) ** 2).sum(0).mean()
    scale = jax.lax.stop_gradient(jnp.sqrt(jnp.diagonal(covariance)))
    noise = jax.random.normal(key, z.shape, jnp.float32)
    return z + config.noise * scale[None] * noise, config.whitening * penalty


def loss(
    params: models.Params,
    key: PRNGKey,
    x: Float[Array, "b ..."],
    functions: models.Functions,
    config: TrainConfig,
) -> Float[Array, ""]:
    """Mean squared error per pixel of decoding noisy codes, plus the whitening penalty."""
    z, penalty = noisy_codes(key, functions.encode(params, x), config)
    return ((functions.decode(params, z) - x) ** 2).mean() + penalty
