r"""Inverted lists of targets, and the planes that say which of them a sample looks at.

Near targets form a list, and each list has a plane. Its slope is the mean target of the list, and
its offset is learned: at samples whose cell is in the list, the plane is on average as high as
Brenier's potential. A sample scores the targets of the few lists whose planes are highest there.
If the list of its cell is not among them, it gets a wrong cell.

Source: Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011, for
inverted lists; the learned offset is our own (``benchmarks/pruning.py``).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.numerics import PRECISION
from aeot_jax.typing import Heights

BLOCK = 64
"""Targets that are scored together; every list is filled up to whole blocks."""


class Lists(NamedTuple):
    """Lists of a problem whose rows lie list by list; see ``arrange.py``.

    Attributes:
      begin: the first block of each of K lists, and the end of the last (K + 1,).
      own: the list of each row (rows,).
      slopes: mean target of each list (K, d).
      excess: by how much the potential is higher than the plane of mean height, at samples whose
        cell is in the list, on average (K,).
    """

    begin: Int[Array, " k1"]
    own: Int[Array, " rows"]
    slopes: Float[Array, "k d"]
    excess: Float[Array, " k"]

    @property
    def number(self) -> int:
        """K."""
        return self.excess.shape[0]

    def sums(self, values: Float[Array, " rows"]) -> Float[Array, " k"]:
        """Sums of values of rows over each list."""
        return jnp.zeros_like(values, shape=self.number).at[self.own].add(values)

    def mean_heights(self, h: Heights) -> Float[Array, " k"]:
        """Mean height of the rows of each list that have one; -inf where none has."""
        active: Bool[Array, " rows"] = h > -jnp.inf
        count = self.sums(active.astype(h.dtype))
        total = self.sums(jnp.where(active, h, 0.0))
        return jnp.where(count > 0, total / jnp.maximum(count, 1.0), -jnp.inf)


def planes(
    x: Float[Array, "n d"], slopes: Float[Array, "k d"], offsets: Float[Array, " k"]
) -> Float[Array, "n k"]:
    """Heights of the lists' planes at samples."""
    return jnp.matmul(x, slopes.T, precision=PRECISION) + offsets[None, :]
