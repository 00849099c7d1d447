"""A scrambled Sobol net, which spans all streams of a batch: its samples repel each other."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Int

from aeot_jax.measures import Measure, sobol
from aeot_jax.ot.counts.ways.way import Way
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.typing import PRNGKey, Samples


@dataclass(frozen=True)
class Net(Way):
    """Points of one net a batch, for a source that maps uniform numbers to samples.

    Attributes:
      streams: that a net spans.
    """

    streams: int = NUM_STREAMS
    independent: ClassVar[bool] = False

    def spanning(self, streams: int) -> Way:
        """See ``Way``."""
        return Net(streams)

    def lack(self, mu: Measure, batch_size: int | None) -> str | None:
        """See ``Way``."""
        few = mu.dim <= sobol.MOST_DIMS and (batch_size or 0) < sobol.MOST_POINTS
        if few and hasattr(mu, "from_uniform"):
            return None
        return (
            f"which takes a source with `from_uniform`, at most {sobol.MOST_DIMS} dimensions and "
            f"steps of less than {sobol.MOST_POINTS} samples, but `mu` is {type(mu).__name__} in "
            f"{mu.dim} and `batch_size` {batch_size}"
        )

    def drawn(self, key: PRNGKey, mu: Measure, stream: Int[Array, ""], num_samples: int) -> Samples:
        """See ``Way``."""
        total = num_samples * self.streams
        points = sobol.uniforms(key, mu.dim, stream * num_samples, num_samples, total)
        x = mu.from_uniform(points)  # pyright: ignore[reportAttributeAccessIssue]
        return jnp.asarray(x, jnp.float32)
