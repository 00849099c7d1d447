"""Leading principal components of pixels, streamed."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax.typing import PRNGKey

_CHUNK_BYTES = 16 * 2**20

_PASSES = 6
"""Passes of the subspace iteration."""


def leading_directions(key: PRNGKey, x: np.ndarray, k: int) -> Float[Array, "p k"]:
    """Find the k leading principal directions by subspace iteration, x streamed.

    Neither the covariance (12,288^2 for 64x64 colour) nor the Gram matrix (n^2) is formed. With 16
    extra columns and a few passes, the error of the last directions is far below their sampling
    error (Halko, Martinsson, Tropp, SIAM Review 2011).
    """
    n, p = x.shape
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(k + 16, p)
    q = np.asarray(jax.random.normal(key, (p, width), jnp.float32))
    q = np.linalg.qr(q)[0]
    step = max(1, _CHUNK_BYTES // (4 * p))
    for _ in range(_PASSES):
        product = np.zeros((p, width), np.float32)
        for start in range(0, n, step):
            part = x[start : start + step].astype(np.float32) - mean
            product += part.T @ (part @ q)
        q, triangle = np.linalg.qr(product)
    # The covariance in the subspace is q' C q = triangle q_before' q; its left singular vectors
    # rotate q to the principal directions.
    rotation = np.linalg.svd(triangle)[0]
    return jnp.asarray((q @ rotation)[:, :k])
