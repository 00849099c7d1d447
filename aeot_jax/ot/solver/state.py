"""What one step of the solver hands to the next."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax.ot import problem
from aeot_jax.ot.devices.placement import SHARDED
from aeot_jax.reprs import brief


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SolverState:
    """All that one step needs; arrays only.

    Attributes:
      key: key of the whole solve; step t draws with ``fold_in(key, t)``.
      h: heights of the normalised targets (m,), their weighted mean 0; -inf where the weight is 0.
      optimizer_state: of the first phase.
      step: steps taken.
      batches: batches drawn by them.
      multiplier: batches of the next step.
      phase_from: step with which the first phase begins.
      phase_steps: step with which it ends, the horizon of its rate.
      gap: mean gap between the best and the second score.
      gap_draws: estimates of it so far.
      spread: standard deviation over targets of <x, y_i>.
      best: least residual norm so far, for the doubling on a plateau.
      stalled: steps since then.
      average: mean of the heights of the last steps (m,), once they are being averaged.
      averaged: how many that are.
      average_from: the step that is the first of them.
      frame: centre and scale of the targets.
      source: what is taken off the samples (d,): about the source's mean, where that is far from 0.
      tilt: scores of the normalised targets there (m,), which their heights have taken up; one 0
        where nothing is taken off.
    """

    key: Array
    h: Float[Array, "*batch m"]
    optimizer_state: Any
    step: Int[Array, "*batch"]
    batches: Int[Array, "*batch"]
    multiplier: Int[Array, "*batch"]
    phase_from: Int[Array, "*batch"]
    phase_steps: Int[Array, "*batch"]
    gap: Float[Array, "*batch"]
    gap_draws: Int[Array, "*batch"]
    spread: Float[Array, "*batch"]
    best: Float[Array, "*batch"]
    stalled: Int[Array, "*batch"]
    average: Float[Array, "*batch m"]
    averaged: Int[Array, "*batch"]
    average_from: Int[Array, "*batch"]
    frame: problem.Frame
    source: Float[Array, "*batch d"]
    tilt: Float[Array, "*batch t"]

    __repr__ = brief

    @property
    def answer(self) -> Float[Array, "*batch m"]:
        """The answer so far, for the normalised targets and samples (m,)."""
        return jnp.where((self.averaged > 0)[..., None], self.average, self.h)

    @property
    def heights(self) -> Float[Array, "*batch m"]:
        """The answer so far, for the targets as the user gave them (m,)."""
        return (self.answer - self.tilt) * self.frame.scale[..., None]

    def as_dict(self) -> dict[str, Any]:
        """The fields by name; a record takes arrays only, a dict of them may hold anything."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def partition_specs(optimizer_state: Any, shape: tuple[int, ...], tilted: bool) -> dict[str, Any]:
    """PartitionSpecs of a state whose vectors have this shape, on a mesh that shards targets."""
    of_optimizer = jax.tree.map(
        lambda leaf: SHARDED if leaf.shape == shape else P(), optimizer_state
    )
    sharded = {"h": SHARDED, "average": SHARDED, "optimizer_state": of_optimizer}
    if tilted:
        sharded["tilt"] = SHARDED
    return {field.name: P() for field in fields(SolverState)} | sharded
