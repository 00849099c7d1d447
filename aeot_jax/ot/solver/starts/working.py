"""The targets as the steps see them: centred, scaled, and prepared for the way of drawing."""

import jax

from aeot_jax.measures import Measure
from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.typing import PRNGKey, Stored, Targets, WorkingTargets

_MOST_COPIED = 64 << 20
"""Most bytes of targets that are centred and scaled once instead of in every block."""

_MIXING = 2**32 - 1
"""What the key of a solve is folded with to turn the targets; no step has this number."""


def working_targets(
    y: Stored, frame: Frame, key: PRNGKey, mu: Measure, plan: Plan
) -> WorkingTargets | Rows:
    """Centre and scale targets (m, d), and prepare them for the way of drawing.

    If that turns them, a float32 copy of all is made and filled up to whole blocks of the kernel.
    Else many stay as they are stored, and each block is centred and scaled where it is scored.

    Args:
      y: targets of this device, as stored (m, d).
      frame: of the problem.
      key: of the solve.
      mu: source measure.
      plan: of the solve.
    """
    way = plan.batch.way
    key = jax.random.fold_in(key, _MIXING)

    def prepared(y: Stored, frame: Frame, key: PRNGKey) -> Targets:
        return way.prepared(key, mu, frame.normalise(y))

    if way.turns:
        return blockwise.map_rows(prepared, y, frame, key)
    if 4 * y.size > _MOST_COPIED:
        return frame.rows(y)
    return isolated(prepared, y, frame, key)
