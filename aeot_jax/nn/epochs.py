"""One pass over the images in random batches, on one device or on several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Shaped

from aeot_jax.machines import meshes
from aeot_jax.typing import Devices, PRNGKey

_BATCH = "batch"
"""Name of the mesh axis over which the images of a batch are sharded."""


def sharding(devices: Devices, *axes: str) -> NamedSharding:
    """The sharding of leading axes over the devices; without axes, a copy on each device."""
    return NamedSharding(meshes.row(devices, _BATCH), P(*axes))


def constrained(tree: Any, devices: Devices, *axes: str) -> Any:
    """The tree with that sharding, under jit; as it is without devices."""
    if not devices:
        return tree
    return jax.lax.with_sharding_constraint(tree, sharding(devices, *axes))


def one_pass(
    step: Callable[[Any, PRNGKey, Array], tuple[Any, Float[Array, ""]]],
    carry: Any,
    key: PRNGKey,
    images: Shaped[Array, "n ..."],
    size: int,
    devices: Devices,
) -> tuple[Any, Float[Array, ""]]:
    """Scan over batches of the images in random order; those that do not fill the last are skipped.

    Args:
      step: carry, key of the step, batch -> carry, loss.
      carry: at the start.
      key: of this pass; consumed.
      images: the data set.
      size: images in a batch.
      devices: devices that share each batch; empty for one.

    Returns:
      The last carry, and the mean loss.
    """
    n = images.shape[0]
    order_key, step_key = jax.random.split(key)
    order = jax.random.permutation(order_key, jnp.arange(n, dtype=jnp.int32))
    order = order[: n // size * size].reshape(-1, size)

    def body(carry, inputs):
        number, rows = inputs
        batch = constrained(images[rows], devices, _BATCH)
        return step(carry, jax.random.fold_in(step_key, number), batch)

    numbers = jnp.arange(order.shape[0], dtype=jnp.int32)
    carry, values = jax.lax.scan(body, carry, (numbers, order))
    return carry, values.mean()
