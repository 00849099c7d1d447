"""The coupling of a problem with conditions: pairs whose conditions follow, any batch at once."""

import functools
import operator
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Shaped

from aeot_jax.ot.couplings import identity, placing
from aeot_jax.ot.couplings.batches import Coupling
from aeot_jax.ot.couplings.states import Options
from aeot_jax.ot.couplings.table import Table
from aeot_jax.reprs import brief
from aeot_jax.typing import Given


class ConditionalPairs(NamedTuple):
    """Noise, and the targets that it is carried to.

    Attributes:
      x: noise (n, d).
      z: conditions of the targets: labels (n,) or vectors (n, k), as they were given.
      y: targets (n, d).
      index: which of the user's targets these are (n,).
    """

    x: Float[Array, "*n d"]
    z: Shaped[Array, "..."]
    y: Float[Array, "*n d"]
    index: Int[Array, "*n"]

    __repr__ = brief


@partial(jax.jit, static_argnames="dim")
def parted(x: Array, z: Array, y: Array, index: Array, *, dim: int) -> ConditionalPairs:
    """Noise and targets without the conditions beside them, and the condition of each target.

    Args:
      x: samples of the augmented source (n, d + k).
      z: conditions of all targets (m, ...).
      y: augmented targets of the samples (n, d + k).
      index: which these are (n,).
      dim: d.
    """
    return ConditionalPairs(x[..., :dim], z[index], y[..., :dim], index)


@functools.lru_cache(maxsize=64)
def _program(sharding: Any, dim: int) -> Any:
    """``parted`` where a batch lies: every device looks up the conditions of its own rows."""
    body = partial(parted, dim=dim)
    if not isinstance(sharding, NamedSharding):
        return body
    rows = P(placing.axes_of(sharding) or None)
    mapped = jax.shard_map(
        body, mesh=sharding.mesh, in_specs=(rows, P(), rows, rows), out_specs=rows
    )
    return jax.jit(mapped)


def told(state: Mapping[str, Any], z: Array) -> dict[str, Any]:
    """A state whose number of the solution tells of the conditions, too; twice gives it back."""
    try:
        number = operator.index(state["solution"])
    except TypeError:  # whoever reads it says so
        return dict(state)
    return {**state, "solution": number ^ identity.of_numbers(z)}


class ConditionalCoupling:
    """A sequence of batches (x, z, y, index); ``Conditional.coupling`` makes it.

    It is a ``Coupling`` of the augmented problem, told in the user's terms: ``c[k]`` is batch k,
    which depends on the seed, k and the batch size alone, ``len(c)`` their number where it is
    known. It pickles, iterates, and serves grain, torch and tf.data as a ``Coupling`` does.

    Attributes:
      augmented: the coupling beside whose samples and targets the conditions lie.
      z: conditions of the targets: labels (m,), or vectors (m, k).
    """

    def __init__(self, augmented: Coupling, z: Array):
        """As ``Conditional.coupling``, from values that are checked."""
        self.augmented, self.z = augmented, z
        self._z = placing.placed(augmented.sharding, z)
        source: Any = augmented.problem.mu
        self._dim = source.mu_a.dim
        self._parted = _program(augmented.sharding, self._dim)

    @property
    def options(self) -> Options:
        """Seed, batch size and the rest."""
        return self.augmented.options

    def __repr__(self) -> str:
        return f"Conditional{self.augmented!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        return ConditionalCoupling, (self.augmented, self.z)

    def __len__(self) -> int:
        return len(self.augmented)

    def __bool__(self) -> bool:
        return True  # also without a length

    def __getitem__(self, k: Given[SupportsIndex]) -> ConditionalPairs:
        """Batch k: noise x (b, d), conditions z (b, ...), targets y (b, d) and index (b,).

        Args:
          k: from 0 on; from -1 down it counts from the end, if there is one.

        Raises:
          IndexError: if there is no such batch.
          ValueError: if it is no integer.
        """
        x, y, index = self.augmented[k]
        return self._parted(x, self._z, y, index)

    def __iter__(self) -> Iterator[ConditionalPairs]:
        return self.iter()

    def iter(self, start: Given[SupportsIndex | None] = None) -> Iterator[ConditionalPairs]:
        """All batches from ``start`` on, as ``Coupling.iter``."""
        found = self.augmented.iter(start)
        return (self._parted(x, self._z, y, index) for x, y, index in found)

    def noise(self, j: Given[SupportsIndex | np.ndarray | Array]) -> Float[Array, "..."]:
        """The noise of draw j, or of several, as ``Coupling.noise``; without the condition."""
        return self.augmented.noise(j)[..., : self._dim]

    def state(self, k: Given[SupportsIndex]) -> dict[str, int]:
        """What ``Conditional.coupling_from_state`` needs to go on before batch k."""
        return told(self.augmented.state(k), self.z)

    def table(
        self,
        n: Given[int],
        path: Given[str | Path | None] = None,
        *,
        shard_size: Given[int] = 2**20,
    ) -> Table:
        """Which target each of the first n draws goes to, as ``Coupling.table``."""
        return self.augmented.table(n, path, shard_size=shard_size)

    def inverse(
        self, i: Given[int], n: Given[int], *, max_draws: Given[int | None] = None
    ) -> Float[Array, "n d"]:
        """Noise (n, d) that is carried to target i beside a condition, as ``Coupling.inverse``."""
        return self.augmented.inverse(i, n, max_draws=max_draws)[:, : self._dim]
