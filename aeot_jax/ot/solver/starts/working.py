"""The targets as the steps see them: centred, scaled, and prepared for the way of drawing."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.measures import Measure
from aeot_jax.numerics import PRECISION, isolated
from aeot_jax.ot import frames
from aeot_jax.ot.cells import blocks, blockwise
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.typing import PRNGKey, Stored, Targets, Weights, WorkingTargets

_MIXING = 2**32 - 1
"""What the key of a solve is folded with to turn the targets; no step has this number."""


def working_targets(
    y: Stored, frame: Frame, key: PRNGKey, mu: Measure, plan: Plan, targets_axis: str | None = None
) -> WorkingTargets | Rows:
    """Centre and scale targets (m, d), and prepare them for the way of drawing.

    Args:
      y: targets of this device, as stored (m, d).
      frame: of the problem.
      key: of the solve.
      mu: source measure.
      plan: of the solve.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    if plan.batch.way.turns:
        return turned_targets(y, frame, key, mu, plan)
    return normal_targets(y, frame, targets_axis)


def normal_targets(y: Stored, frame: Frame, targets_axis: str | None = None) -> Targets | Rows:
    """Centre and scale targets (m, d).

    Many that take less than float32 stay as they are stored: each block is centred and scaled where
    it is used, which may change a last bit.
    """
    if frames.stays_stored(y, targets_axis):
        return frame.rows(y)
    return isolated(Frame.normalise, frame, y)


def turned_targets(
    y: Stored, frame: Frame, key: PRNGKey, mu: Measure, plan: Plan
) -> WorkingTargets:
    """Centre, scale and turn targets; a float32 copy, filled up to whole blocks of the kernel."""
    key = jax.random.fold_in(key, _MIXING)

    def prepared(y: Stored, frame: Frame, key: PRNGKey) -> Targets:
        return plan.batch.way.prepared(key, mu, frame.normalise(y))

    return blockwise.map_rows(prepared, y, frame, key)


def second_moment(
    y: WorkingTargets | Rows, nu: Weights, targets_axis: str | None = None
) -> Float[Array, "d d"]:
    """Second moment of the targets; rows beyond the weights are none."""

    def of_block(y: Targets | Rows, nu: Weights) -> Float[Array, "d d"]:
        own = blocks.whole(y)
        return jnp.matmul((own * nu[:, None]).T, own, precision=PRECISION)

    return blockwise.sum_blocks(of_block, (y, nu), targets_axis=targets_axis)
