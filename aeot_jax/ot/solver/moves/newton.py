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

**Every target has a gap of its own.** Where tails are exponential, the scale of a tail is the mean
gap of the samples in that cell, and clusters of unequal width have unequal gaps. Gaps of samples,
added up by cells, are drawn to some samples of a prior, the mean gap times the standard deviation
of the target's score over the mean one: far targets have large scores and large gaps. In few
dimensions all have the mean gap.

**A sample may count for two.** In many dimensions the best plane shares a sample with the runner-up
where both are near (``counts/shares.py``), so that :math:`\hat w` has less noise. Then the gap of
every sample of a step is known. Elsewhere a few samples are scored twice from time to time.

**A start is worth samples.** With p = 1 and a = 1 the step is that of a running mean of so many
samples as were drawn. A start with mass error e knows as much as :math:`1/e^2` samples a target: it
is treated as so many steps that were taken before the first one: their phase began before step 0.
Where some targets are new, the others are worth more, each kind by its own error.

Sources: Robbins and Monro 1951 and Chung 1954 for the 1/t step; Train 2009, chapter 3, for the
logit.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import choose, isolated, safe_ratio
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts import shares, units
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves import gaps
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights


class Gain(NamedTuple):
    """Gain of the steps; the letters are those of the module's docstring."""

    a: float
    t_0: float
    p: float
    g: float


_GAIN = Gain(a=1.2, t_0=4.0, p=1.0, g=1.0)
"""Classical steps; a from 1.2 to 1.5 and t_0 from 4 to 6 differ by a tenth
(``benchmarks/solve.py``)."""

GAIN_IN_FEW_DIMS = Gain(a=12.0, t_0=6.0, p=2 / 3, g=0.5)
"""Long steps, to be averaged; the preconditioned Laplacian has eigenvalues up to 2."""

CLIP = 4.0
"""Largest move of one height in a step, in gaps: an empty cell's linear model ends there."""

GAP_EVERY = 32
"""Steps between two looks at the gaps."""

_GAP_SHARE = 2
"""Part of a batch, one in so many, that is a look at the gaps of every target."""

PRIOR = 4.0
"""Samples of a cell that its prior is worth."""

_PRIOR_OF_STEPS = 16.0
"""The same where the gaps of all samples are seen: more, since those of earlier steps are larger
(4 and 8 cost t4 codes in 16 dimensions 3 and 2 % more samples; clusters of unequal width do not
care)."""

MEMORY = 0.98
"""What is left of the gaps that were seen when gaps are seen again."""


class NewtonState(NamedTuple):
    """What the phase keeps.

    Attributes:
      gap: mean gap between the best and the second score.
      gaps: sum of the gaps seen in every cell (m,), older ones forgotten.
      hits: how many that are.
      drawn: samples of all looks at gaps so far.
    """

    gap: Float[Array, "*batch"]
    gaps: Float[Array, "*batch m"]
    hits: Float[Array, "*batch m"]
    drawn: Int[Array, "*batch"]


def init(h: Heights, spread: Float[Array, ""]) -> NewtonState:
    """Before the first step: the spread of the scores stands for the gap."""
    none = jnp.zeros_like(h)
    return NewtonState(spread, none, none, jnp.zeros((), jnp.int32))


def scale(state: SolverState, plan: Plan) -> shares.Scale:
    """How the next step reads gaps. The first of the phase shares no sample: it has seen none."""
    has_seen = state.step > jnp.maximum(state.phases.adam_until, 0)
    width = jnp.where(has_seen, shares.WIDTH * state.method.gap, 0.0)
    return shares.Scale(width, state.spread, units.parts(plan.batch.size))


def num_samples(own: NewtonState) -> Int[Array, "*batch"]:
    """Samples of all looks at gaps."""
    return own.drawn


def update(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """One step of the module's docstring."""
    nu, since = marginals.nu, state.step - state.phases.adam_until
    own = _with_gaps(state, seen, marginals, plan, axes)
    a, t_0, p, g = GAIN_IN_FEW_DIMS if plan.few_dims else _GAIN
    per_target = plan.batch.size / blockwise.count(nu > 0, axes.targets).astype(jnp.float32)
    tau = since.astype(jnp.float32) * per_target
    if state.worth.shape == state.h.shape:
        tau = tau + state.worth
    gamma = jnp.minimum(a * per_target / t_0 * (1 + tau / t_0) ** -p, g)
    counts = seen.counts.astype(jnp.float32)
    known, prior = own, PRIOR
    if seen.shared is not None:
        prior = _PRIOR_OF_STEPS
        counts = shares.counts_with(seen.counts, seen.shared.added)
        known = state.method._replace(gap=own.gap)  # gaps of its own samples would bias a step
    w = counts / seen.num_samples
    relative = jnp.where(nu > 0, safe_ratio(w, nu) - 1, 0.0)
    move = jnp.clip(gamma * relative, -CLIP, CLIP)
    gap = known.gap
    if not plan.few_dims:
        gap = (known.gaps + prior * known.gap * state.deviation) / (known.hits + prior)
    return replace(state, h=state.h - gap * move, method=own)


def _with_gaps(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> NewtonState:
    """What is known of the gaps after a step: those of its samples, or now and then a look."""
    if seen.shared is not None:
        parts = units.parts(plan.batch.size)
        found = isolated(units.told, seen.shared.gaps, state.spread, parts)
        total = blockwise.sum_blocks(jnp.sum, (found,), targets_axis=axes.targets)
        mean = isolated(jnp.divide, total, seen.num_samples)
        return isolated(_remembered, state.method, state.spread, mean, found, seen.counts)

    def measured(state: SolverState, seen: Seen, marginals: Marginals) -> NewtonState:
        share = plan.batch.samples_per_stream // _GAP_SHARE
        size = gaps.size(plan.batch, share if plan.own_gaps else 1)
        found = gaps.look_at_gaps(seen.key, state, marginals, size, axes)
        own = isolated(_remembered, state.method, state.spread, *found)
        return own._replace(drawn=own.drawn + math.prod(size))

    def kept(state: SolverState, *_: Any) -> NewtonState:
        return state.method

    since = state.step - state.phases.adam_until
    look = (since % GAP_EVERY == 0) | (state.method.drawn == 0)
    return choose(look, measured, kept, state, seen, marginals)


def _remembered(
    own: NewtonState,
    spread: Float[Array, ""],
    gap: Float[Array, ""],
    gaps: Float[Array, " m"],
    hits: Int[Array, " m"],
) -> NewtonState:
    """What is kept after one more look."""
    return own._replace(
        gap=jnp.minimum(gap, spread),
        gaps=MEMORY * own.gaps + gaps,
        hits=MEMORY * own.hits + hits.astype(jnp.float32),
    )
