"""Eight samples for the price of little more than one, by the symmetry of the source."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import antithetic
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.cells.contenders import Contenders
from aeot_jax.ot.counts.ways.way import Way
from aeot_jax.typing import PRNGKey, Samples, Targets


@dataclass(frozen=True)
class Orbits(Way):
    """All members of the orbit of each sample (``antithetic.py``); drawn is the first of each."""

    whole: ClassVar[int] = 256  # the kernel is quick on whole vectors of 32 orbits
    least: ClassVar[int] = antithetic.SIZE
    turns: ClassVar[bool] = True

    def lack(self, mu: Measure, batch_size: int | None) -> str | None:
        """See ``Way``."""
        del batch_size
        if getattr(mu, "symmetry", None) is not None:
            return None
        return f"which takes a source with a `symmetry`, but `mu` is {type(mu).__name__}"

    def prepared(self, key: PRNGKey, mu: Measure, y: Targets) -> Targets:
        """Rotate the targets, if the source is invariant under rotations.

        The bounds of the kernel are sharp where the norm of a target is shared by all coordinates.
        """
        if getattr(mu, "symmetry", None) != "rotations":
            return y
        return jnp.matmul(y, antithetic.mixing(key, mu.dim), precision=PRECISION)

    def drawn(self, key: PRNGKey, mu: Measure, stream: Int[Array, ""], num_samples: int) -> Samples:
        """See ``Way``."""
        return draw(jax.random.fold_in(key, stream), mu, num_samples // antithetic.SIZE)

    def owners(self, x: Samples, rows: Rows, h: Float[Array, " rows"]) -> Int[Array, "8 n"]:
        """See ``Way``."""
        return antithetic.assign_orbits(x, rows, h)

    def leaders(
        self, x: Samples, rows: Rows, h: Float[Array, " rows"]
    ) -> tuple[Float[Array, "8 n"], Int[Array, "8 n"]]:
        """See ``Way``."""
        return antithetic.leaders(x, rows, h)

    def contending(self, x: Samples, rows: Rows, h: Float[Array, " rows"]) -> Contenders:
        """See ``Way``."""
        return antithetic.contending(x, rows, h)
