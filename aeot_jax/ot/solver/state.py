"""What one step of the solver hands to the next."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax.ot import frames
from aeot_jax.ot.devices.placement import SHARDED
from aeot_jax.ot.solver.moves.average import Average
from aeot_jax.ot.solver.plan import Phases
from aeot_jax.reprs import brief
from aeot_jax.trees import register


@register
@dataclass(frozen=True)
class SolverState:
    """All that one step needs; arrays only.

    Attributes:
      key: key of the whole solve; step t draws with ``fold_in(key, t)``.
      h: heights of the normalised targets (m,), their weighted mean 0; -inf where the weight is 0.
      step: steps taken.
      batches: batches drawn by them.
      multiplier: batches of the next step.
      phases: steps with which the phases begin and end.
      spread: standard deviation over targets of ``<x, y_i>``.
      adam: what the first phase keeps (``moves/adam.py``).
      method: what the method after it keeps, as ``moves/newton.py``; () where there is none.
      average: mean of the heights of the last steps.
      frame: centre and scale of the targets.
      source: what is taken off the samples (d,): about the source's mean, where that is far from 0.
      tilt: scores of the normalised targets there (m,), which their heights have taken up; one 0
        where nothing is taken off.
      start: which of the plan's starts the solve began from; their number for heights given.
      deviation: standard deviation of every target's score over the mean one (m,).
      worth: samples a target that heights to start from are worth beyond those of new targets (m,);
        one 0 where all are worth the same.
    """

    key: Array
    h: Float[Array, "*batch m"]
    step: Int[Array, "*batch"]
    batches: Int[Array, "*batch"]
    multiplier: Int[Array, "*batch"]
    phases: Phases
    spread: Float[Array, "*batch"]
    adam: Any
    method: Any
    average: Average
    frame: frames.Frame
    source: Float[Array, "*batch d"]
    tilt: Float[Array, "*batch t"]
    start: Int[Array, "*batch"]
    deviation: Float[Array, "*batch m"]
    worth: Float[Array, "*batch w"]

    __repr__ = brief

    @property
    def answer(self) -> Float[Array, "*batch m"]:
        """The answer so far, for the normalised targets and samples (m,)."""
        return jnp.where((self.average.number > 0)[..., None], self.average.heights, self.h)

    @property
    def heights(self) -> Float[Array, "*batch m"]:
        """The answer so far, for the targets as the user gave them (m,)."""
        return (self.answer - self.tilt) * self.frame.scale[..., None]

    def as_dict(self) -> dict[str, Any]:
        """The fields by name; a record takes arrays only, a dict of them may hold anything."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def partition_specs(
    adam: Any, method: Any, shape: tuple[int, ...], vectors: Collection[str]
) -> dict[str, Any]:
    """PartitionSpecs of a state whose vectors have this shape, on a mesh that shards targets.

    Args:
      adam: what the first phase keeps.
      method: what the method after it keeps.
      shape: (m,).
      vectors: which of "tilt" and "worth" are such vectors.
    """

    def specs(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: SHARDED if leaf.shape == shape else P(), tree)

    sharded = {
        "h": SHARDED,
        "deviation": SHARDED,
        "average": Average(cast(Any, SHARDED), cast(Any, P())),
    }
    sharded |= {"adam": specs(adam), "method": specs(method)}
    sharded |= dict.fromkeys(vectors, SHARDED)
    return {field.name: P() for field in fields(SolverState)} | sharded
