"""What ``solve_conditional`` gives: heights, what their pairs tell, and the pairs themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from aeot_jax import arguments
from aeot_jax.conditions.coupling import ConditionalCoupling, ConditionalPairs, parted, told
from aeot_jax.measures import draw
from aeot_jax.ot import problem
from aeot_jax.ot.couplings import states
from aeot_jax.ot.couplings.coupling import coupling, coupling_from_state
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given, PRNGKey


class Trials(NamedTuple):
    """What the search for beta has seen, in its order; one entry where beta was given.

    Attributes:
      beta: weights of the condition (t,).
      leakage: share of the variance of the condition that the noise explained (t,).
      kept: share of the conditions drawn that the targets had (t,); see ``Conditional``.
    """

    beta: Float[np.ndarray, " t"]
    leakage: Float[np.ndarray, " t"]
    kept: Float[np.ndarray, " t"]

    __repr__ = brief


@register
@dataclass(frozen=True)
class Conditional:
    """Heights of a problem with conditions, and what its pairs tell of them.

    Attributes:
      solution: of the augmented problem, in d + k dimensions: ``solution.problem`` holds the
        product of the noise and the conditions, and the targets beside theirs.
      z: conditions of the targets: labels (m,), or vectors (m, k).
      beta: weight of the condition in the cost; inf where each label was solved by itself.
      leakage: share of the variance of the target's condition that the noise explains.
      leakage_se: its standard error.
      kept: share of the labels drawn that the target has; of vectors, the correlation of the one
        drawn and the target's.
      trials: what the search for beta has seen.
    """

    solution: Solution
    z: Shaped[Array, "..."]
    beta: Float[Array, ""]
    leakage: Float[Array, ""]
    leakage_se: Float[Array, ""]
    kept: Float[Array, ""]
    trials: Trials

    __repr__ = brief

    @property
    def _asked(self) -> problem.Problem:
        assert self.solution.problem is not None  # solve_conditional has put it there
        return self.solution.problem

    def pairs(self, key: Given[PRNGKey], n: Given[int]) -> ConditionalPairs:
        """Draw n samples of the noise with the targets that they are carried to.

        The noise is drawn beside a condition; what is returned as ``z`` is the target's own. All
        samples of equal targets go to the first of them.

        Args:
          key: consumed.
          n: how many.

        Raises:
          ValueError: if `key` is not one key, or `n` is not a whole number of at least 1.
        """
        key = arguments.key("key", key)
        n = arguments.count("n", n, what="how many pairs to draw")
        x = draw(key, self._asked.mu, n)
        return self.split(x, assign(x, self._asked.y, self.solution.h)[1])

    def coupling(
        self,
        *,
        seed: Given[int] = 0,
        batch_size: Given[int] = 256,
        num_batches: Given[int | None] = None,
        sharding: Given[Sharding | None] = None,
        dtype: Given[DTypeLike | None] = None,
    ) -> ConditionalCoupling:
        """Pairs (x, z, y, index) to train on: ``c[k]`` is batch k, which costs one batch for any k.

        Equal targets of equal conditions take turns.

        Args:
          seed: as for ``aeot_jax.coupling``; so is all that follows.
          batch_size: pairs in a batch.
          num_batches: how many batches there are; None is no end.
          sharding: where a batch shall lie.
          dtype: of x and y; conditions keep their own.

        Raises:
          ValueError: as ``aeot_jax.coupling``.
        """
        inner = coupling(
            self.solution,
            seed=seed,
            batch_size=batch_size,
            num_batches=num_batches,
            sharding=sharding,
            dtype=dtype,
        )
        return ConditionalCoupling(inner, self.z)

    def coupling_from_state(
        self, state: Given[Mapping[str, Any]], *, sharding: Given[Sharding | None] = None
    ) -> ConditionalCoupling:
        """The coupling of a state, which iterates from the batch on before which it was taken.

        Args:
          state: what ``ConditionalCoupling.state`` gave, in this process or another.
          sharding: as for ``coupling``.

        Raises:
          ValueError: as ``aeot_jax.coupling_from_state``.
        """
        states.check_kind(state)
        found = coupling_from_state(told(state, self.z), self.solution, sharding=sharding)
        return ConditionalCoupling(found, self.z)

    def split(self, x: ArrayLike, index: ArrayLike) -> ConditionalPairs:
        """What samples of the augmented source, and the targets of their cells, are to a user.

        Args:
          x: samples (n, d + k) of ``solution.problem.mu``.
          index: of the targets that they are carried to (n,), as ``assign`` and couplings give it.

        Raises:
          ValueError: if `x` has not so many columns, or `index` not its length or no such target.
        """
        x, given = arguments.real("x", x), arguments.array("index", index)
        count = np.shape(self.z)[0]
        known = np.asarray(given) if arguments.is_concrete(given) else np.zeros(0, int)
        if not np.issubdtype(given.dtype, np.integer) or ((known < 0) | (known >= count)).any():
            raise ValueError(
                f"`index` is {arguments.shown(index)}; pass integers from 0 to {count - 1}, the "
                "targets that the samples are carried to."
            )
        index = jnp.asarray(given)
        if x.shape[-1:] != (self._asked.mu.dim,) or x.shape[:-1] != index.shape:
            raise ValueError(
                f"`x` has shape {x.shape} and `index` {index.shape}; pass samples (n, "
                f"{self._asked.mu.dim}) of the augmented source, and one index for each."
            )
        parts: Any = self._asked.mu
        y = jnp.asarray(self._asked.y, jnp.float32)[index]
        return parted(x, self.z, y, index, dim=parts.mu_a.dim)
