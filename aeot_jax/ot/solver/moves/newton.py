r"""Stochastic Newton with a Hessian in closed form: the phase after Adam.

Near the optimum the winner among many scores behaves like a multinomial logit, whose Hessian is
close to :math:`diag(\nu) / b` with b the mean gap between the best and the second score (for scores
with a Gumbel tail the mean gap is the scale of the tail). In any dimension it is the Jacobi
preconditioner of the true Hessian, a graph Laplacian over faces. The classical 1/t Newton step then
needs no rate,

.. math:: h_i \leftarrow h_i - b\,\gamma\,(\hat w_i / \nu_i - 1), \qquad
          \gamma = \min\left(\frac{a\,(n/m)}{t_0}\,(1 + \tau / t_0)^{-p},\ g\right),

with :math:`\tau` the samples per target drawn so far in this phase, a = 1.2, t_0 = 4, p = 1 and
g = 1. Its error falls like the sampling limit :math:`\sqrt{m / n}`: with p = 1 an error of the
heights along an eigenvector of the preconditioned Hessian with eigenvalue l shrinks like
:math:`\tau^{-a l}`, and any a l > 1/2 leaves the noise of the samples in charge.

In up to three dimensions cells have few neighbours and the Laplacian has eigenvalues near 0, modes
that 1/t steps never reach. There a = 12, t_0 = 6, p = 2/3, g = 1/2, and the answer is the mean of
the last heights (``average.py``).

Sources: Robbins and Monro 1951 and Chung 1954 for the 1/t step; Train 2009, chapter 3, for the
logit.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.measures import draw
from aeot_jax.numerics import isolated, safe_ratio
from aeot_jax.ot.cells import blockwise, power
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights, Targets, Weights


class _Gain(NamedTuple):
    """Gain of the steps; the letters are those of the module's docstring."""

    a: float
    t_0: float
    p: float
    g: float


_GAIN = _Gain(a=1.2, t_0=4.0, p=1.0, g=1.0)
"""Classical steps; a from 1.2 to 1.5 and t_0 from 4 to 6 differ by a tenth
(``benchmarks/solve.py``)."""

_GAIN_IN_FEW_DIMS = _Gain(a=12.0, t_0=6.0, p=2 / 3, g=0.5)
"""Long steps, to be averaged; the preconditioned Laplacian has eigenvalues up to 2."""

_CLIP = 4.0
"""Largest move of one height in a step, in gaps: an empty cell's linear model ends there."""

_GAP_EVERY = 32
"""Steps between two estimates of the gap."""

_GAP_SAMPLES = 128
"""Samples of such an estimate; its relative error is about 9 %."""


class NewtonState(NamedTuple):
    """What the phase keeps.

    Attributes:
      gap: mean gap between the best and the second score.
      gap_draws: estimates of it so far.
    """

    gap: Float[Array, "*batch"]
    gap_draws: Int[Array, "*batch"]


def init(h: Heights, spread: Float[Array, ""]) -> NewtonState:
    """Before the first step: the spread of the scores stands for the gap."""
    del h
    return NewtonState(spread, jnp.zeros((), jnp.int32))


def num_samples(own: NewtonState) -> Int[Array, "*batch"]:
    """Samples that the estimates of the gap have drawn."""
    return own.gap_draws * _GAP_SAMPLES


def update(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """One step of the module's docstring."""
    nu, since = marginals.nu, state.step - state.phases.adam_until
    look = since % _GAP_EVERY == 0

    def measured() -> Float[Array, ""]:
        return _mean_gap(state, seen, marginals, axes.targets)

    gap = jax.lax.cond(look, measured, lambda: state.method.gap)
    a, t_0, p, g = _GAIN_IN_FEW_DIMS if plan.few_dims else _GAIN
    per_target = plan.batch.size / blockwise.count(nu > 0, axes.targets).astype(jnp.float32)
    tau = since.astype(jnp.float32) * per_target
    gamma = jnp.minimum(a * per_target / t_0 * (1 + tau / t_0) ** -p, g)
    w = seen.counts.astype(jnp.float32) / seen.num_samples
    relative = jnp.where(nu > 0, safe_ratio(w, nu) - 1, 0.0)
    move = jnp.clip(gamma * relative, -_CLIP, _CLIP)
    own = NewtonState(gap, state.method.gap_draws + look.astype(jnp.int32))
    return replace(state, h=state.h - gap * move, method=own)


def _mean_gap(
    state: SolverState, seen: Seen, marginals: Marginals, targets_axis: str | None
) -> Float[Array, ""]:
    """Mean gap between the best and the second score; the spread where there is no second."""
    x = draw(seen.key, marginals.mu, _GAP_SAMPLES)

    def two_best(y: Targets, h: Heights, nu: Weights, x: Array) -> Float[Array, "n 2"]:
        return power.highest(x, y, jnp.where(nu > 0, h, -jnp.inf), 2)[0]

    arrays = marginals.y, state.h, marginals.nu
    of_blocks = blockwise.map_blocks(two_best, arrays, x, targets_axis=targets_axis)

    def gap(spread: Float[Array, ""], of_blocks: Float[Array, "b n 2"]) -> Float[Array, ""]:
        scores = jnp.swapaxes(of_blocks, 0, 1).reshape(_GAP_SAMPLES, -1)
        two = jax.lax.top_k(scores, 2)[0]
        return jnp.minimum((two[:, 0] - two[:, 1]).mean(), spread)

    of_blocks = blockwise.gather_blocks(of_blocks, targets_axis)
    return isolated(gap, state.spread, of_blocks)
