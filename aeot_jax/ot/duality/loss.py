r"""Half the squared Wasserstein distance as a loss: value, gradients, and heights to go on from.

For the cost :math:`|x - y|^2/2` and potentials :math:`\psi` at the targets the semi-dual value is

.. math:: L = E_x\left[\min_i \tfrac12|x - y_i|^2 - \psi_i\right] + \langle\nu, \psi\rangle,

at most :math:`W_2^2/2`, with equality at the optimum. Some steps of the solver move the potentials
there, fresh samples measure L. Potentials and the minimising i are held fixed in its derivatives
(the envelope theorem). So a sample x of the source pulls its target, and its target pulls it:

.. math:: \frac{\partial L}{\partial y_i} = \frac1n \sum_{x \in W_i} (y_i - x), \qquad
          \frac{\partial L}{\partial x} = \frac1n (x - T(x)), \qquad
          \frac{\partial L}{\partial \nu_i} = \psi_i.

At the optimum these are the derivatives of :math:`W_2^2/2`; at other heights they miss in
proportion to the mass error, while the value misses by its square. To hold :math:`\psi` rather than
h makes the gradients independent of where the origin lies, and less noisy: they hold differences.

Source: Danskin 1967 (the envelope theorem); Kitagawa, Merigot, Thibert 2019 (the derivatives).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import FromSampler, Measure, draw
from aeot_jax.numerics import PRECISION, add_rows, axis_size
from aeot_jax.ot import centring, checks
from aeot_jax.ot.cells import power
from aeot_jax.ot.counts.sharded import own_streams
from aeot_jax.ot.devices.placement import NUM_STREAMS, Axes
from aeot_jax.ot.duality.potential import total, total_tangent
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.config import SolverConfig, check_config, refuse_unheeded
from aeot_jax.ot.solver.plan import Budget, Plan, Trust
from aeot_jax.ot.solver.starts import start
from aeot_jax.ot.solver.starts.known import Known
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import ArrayLike, Given, Heights, Index, PRNGKey, Samples, Targets, Weights

_LOOK_SHARE = 4
"""Steps, one in so many, whose samples are spent on a look at the start."""

_MOST_TRUSTED = 1.0
"""Square of the mass error up to which a start is gone on from: a few steps cannot replace it."""

_MEASURED = 4
"""Batches of a step by which the loss is measured, where the user names no number."""

_FARTHEST = 5e18
"""Largest norm of a target: the square of twice as much is a float32."""


def w2_loss(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    h0: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    num_steps: Given[int] = 32,
    num_samples: Given[int | None] = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Heights]:
    """Half of W2 squared between a source and targets, as a loss inside one's own training step.

    A few steps of the solver improve the heights, then fresh samples measure the semi-dual value at
    them: on average at most the true value, and below it by the square of the mass error. No
    gradient passes through the steps. Gradients reach ``y``, the arrays of the source through its
    ``sample``, and ``nu``, up to a constant on it (``loss.py`` has the formulas).

    Heights of one call are the start of the next: while the targets move little, a few steps keep
    them near the optimum. Begin with ``h0 = jnp.zeros(m)`` (no better start is needed, and it takes
    the shape of what follows, so that one program serves all calls). Works under ``jit``, ``vmap``,
    ``grad`` and ``jvp``.

    With ``axis_name``, inside a map, the samples of the steps and of the loss are sharded over its
    devices. Value and heights are the same on all of them, and so are the gradients in ``y`` and
    ``nu`` that are taken inside the map; those in arrays of the source are this device's part, to
    be summed (``shard_map`` with ``check_vma=True`` has done so).

    Args:
      key: consumed; another one for each call.
      mu: source measure.
      y: targets (m, d). Equal targets are not merged: the first of them has their cell.
      h0: heights (m,) to start from, of the last call; used if they miss less mass than the
        starts of ``config``. None starts anew. A target at -inf, as a new one, begins at the least.
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions, as for ``solve_jit``; static.
      num_steps: steps of the solver; static.
      num_samples: samples that measure the loss, rounded up to a multiple of 8; static. None is
        four times those of a step, about one for each target.
      axis_name: a mapped axis over whose devices the samples are sharded; its size divides 8.

    Returns:
      The loss, in squared units of ``y``, and the heights (m,), without a gradient.

    Raises:
      ValueError: if shapes or the configuration do not fit, or if known targets lie so far that
        float32 cannot hold their squared distances (traced ones then give inf).

    Example:
      >>> import jax, jax.numpy as jnp, aeot_jax as aeot
      >>> @jax.jit
      ... def train_step(key, y, h):
      ...     loss = lambda y: aeot.w2_loss(key, aeot.Gaussian(2), y, h, num_steps=8)
      ...     (value, h), slope = jax.value_and_grad(loss, has_aux=True)(y)
      ...     return y - len(y) * 0.5 * slope, h, value
      >>> y, h = 3 + 0.1 * jax.random.normal(jax.random.key(0), (64, 2)), jnp.zeros(64)
      >>> y, h, first = train_step(jax.random.key(1), y, h)
      >>> for i in range(2, 12):
      ...     y, h, last = train_step(jax.random.key(i), y, h)
      >>> bool(last < first / 10)
      True
    """
    key = arguments.key("key", key)
    check_config(config)
    refuse_unheeded("w2_loss", config)
    num_steps = arguments.count("num_steps", num_steps)
    targets, offset = centring.near_points(y)
    _check_size(targets)
    weights = checks.check_weights(nu, targets)
    checks.check_measure(mu, targets)
    heights = None if h0 is None else checks.check_heights(h0, targets, "h0")
    plan, budget = _planned(targets.shape[0], mu, config, num_steps, given=h0 is not None)
    if num_samples is None:
        num_samples = _MEASURED * plan.batch.size
    num_samples = arguments.count("num_samples", num_samples, what="a number of samples")
    if axis_name is not None:
        axis_size(axis_name)  # refuses an axis that nothing maps
    asked = Marginals(mu, targets, weights), jnp.asarray(offset, jnp.float32), heights
    per_stream = -(-num_samples // NUM_STREAMS)
    how = _How(plan, budget, num_steps, per_stream, Axes(axis_name))
    return _w2_loss(key, *asked, how=how)


def _check_size(y: Targets) -> None:
    """Refuse known targets whose squared distances float32 cannot hold.

    Raises:
      ValueError: it names the largest number.
    """
    if not arguments.is_concrete(y):
        return
    with jax.ensure_compile_time_eval():
        largest = float(_largest(y))
    if largest * y.shape[1] ** 0.5 > _FARTHEST:
        raise ValueError(
            f"`y` reaches {largest:.3g}, and float32 cannot hold the squares of such distances; "
            "divide `y` and the source by a scale, and multiply the loss by its square."
        )


@jax.jit
def _largest(y: Targets) -> Float[Array, ""]:
    return jnp.abs(y).max()


def _planned(
    num_targets: int, mu: Measure, config: SolverConfig, num_steps: int, *, given: bool
) -> tuple[Plan, Budget]:
    """Plan and budget of so many steps, after which nothing is certified.

    A start is gone on from wherever steps so few would not do better: they make the answer of call
    after call, which is worth more samples than those of one.
    """
    spending = replace(config, tolerance=None, max_samples=None, max_steps=num_steps)
    plan = planning.plan(num_targets, mu, spending, given=given)
    budget = planning.budget(num_targets, mu, spending, plan)
    if budget.trust.chi2 > 0:
        budget = budget._replace(trust=Trust(max(1, num_steps // _LOOK_SHARE), _MOST_TRUSTED))
    return plan, budget


class _How(NamedTuple):
    """What a loss is compiled for; static.

    Attributes:
      plan: of the steps.
      budget: of the steps.
      num_steps: how many there are.
      per_stream: samples of each logical stream that measure the loss.
      axes: mapped axes.
    """

    plan: Plan
    budget: Budget
    num_steps: int
    per_stream: int
    axes: Axes


@partial(jax.jit, static_argnames=("how",))
def _w2_loss(
    key: PRNGKey,
    marginals: Marginals,
    offset: Float[Array, " d"],
    h0: Heights | None,
    *,
    how: _How,
) -> tuple[Float[Array, ""], Heights]:
    """``w2_loss`` of what is known to be good; ``offset`` has been taken off the targets."""
    plan, budget, num_steps, per_stream, axes = how
    step_key, draw_key = jax.random.split(key)
    mu, y, nu = marginals
    held = _held(marginals)
    begun = None if h0 is None else Known(_lifted(lax.stop_gradient(h0), held.nu))
    state = start.begin(step_key, held, plan, budget, begun, axes)
    state, *_ = stepping.advance(state, held, plan, axes, num_steps)
    state = jax.tree.map(lax.stop_gradient, state)

    def stream(number: Array) -> Samples:
        return draw(jax.random.fold_in(draw_key, number), mu, per_stream)

    # All is told from where the solver's samples lie: no digits are lost to an offset.
    x = lax.map(stream, own_streams(axes.samples)).reshape(-1, mu.dim) - state.source[None, :]
    centre = state.frame.centre + offset - state.source
    _, index = power.best(lax.stop_gradient(x), state.frame.normalise(held.y), state.answer)
    fixed = _Fixed(index, _potentials(state, held.y, centre))
    moved = y - state.frame.centre[None, :] + centre[None, :]
    return _semi_dual(x, moved, nu, fixed, axes.samples), state.heights


@dataclass(frozen=True)
class _Stopped:
    """A sampler without derivatives; equal where the functions are, so that it compiles once."""

    fn: Callable[[PRNGKey, int], Samples]

    def __call__(self, key: PRNGKey, n: int) -> Samples:
        return lax.stop_gradient(self.fn(key, n))


def _held(marginals: Marginals) -> Marginals:
    """The same without derivatives, those of what the function in a ``FromSampler`` closes over."""

    def stopped(part: Any) -> Any:
        if isinstance(part, FromSampler):
            return FromSampler(_Stopped(part.fn), part.dim)
        return lax.stop_gradient(part)

    return jax.tree.map(stopped, marginals, is_leaf=lambda part: isinstance(part, FromSampler))


def _lifted(h: Heights, nu: Weights) -> Heights:
    """Heights that are finite where a target has a weight: from -inf no step would lift them."""
    finite = jnp.isfinite(h)
    least = jnp.where(finite.any(), jnp.where(finite, h, jnp.inf).min(), 0.0)
    return jnp.where((nu > 0) & ~finite, least, h)


def _potentials(state: SolverState, y: Targets, centre: Float[Array, " d"]) -> Heights:
    """Psi at the targets, for samples less ``state.source`` (m,); its weighted mean is not 0."""
    v = y - state.frame.centre[None, :]
    tilt = jnp.matmul(v, centre, precision=PRECISION)
    return state.frame.scale * state.answer + jnp.square(v).sum(1) / 2 + tilt


class _Fixed(NamedTuple):
    """What the derivatives of the loss hold.

    Attributes:
      index: the target of each sample (n,).
      psi: potentials at the targets (m,); -inf where the weight is 0.
    """

    index: Index
    psi: Heights


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _semi_dual(
    x: Samples, y: Targets, nu: Weights, fixed: _Fixed, axis_name: str | None
) -> Float[Array, ""]:
    """The semi-dual value of the samples of all devices."""
    # Subtract the constant first: the mean then adds small numbers.
    gain = fixed.psi[fixed.index] - _mean(nu, fixed.psi)
    # Divide first: a sum of squares near the largest leaves float32.
    value = ((jnp.square(x - y[fixed.index]).sum(1) / 2 - gain) / x.shape[0]).sum()
    return value if axis_name is None else lax.pmean(value, axis_name)


@partial(_semi_dual.defjvp, symbolic_zeros=True)
def _semi_dual_jvp(
    axis_name: str | None, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Tangent whose coefficients are already summed over the axis, as those of the energy."""
    x, y, nu, (index, psi) = primals
    dx, dy, dnu = tangents[:3]
    result = _semi_dual(*primals, axis_name)
    n = x.shape[0] * (1 if axis_name is None else lax.psum(1, axis_name))
    pull = (y[index] - x) / n
    tangent = jnp.zeros_like(result)
    if not isinstance(dy, SymbolicZero):
        tangent += (total(add_rows(jnp.zeros_like(y), index, pull), axis_name) * dy).sum()
    if not isinstance(dx, SymbolicZero):
        tangent -= total_tangent((pull * dx).sum(), axis_name)
    if not isinstance(dnu, SymbolicZero):
        level = _mean(nu, psi)
        tangent += (jnp.where(jnp.isneginf(psi), 0.0, psi - level) * dnu).sum()
    return result, tangent


def _mean(nu: Weights, psi: Heights) -> Float[Array, ""]:
    return (nu * jnp.where(nu > 0, psi, 0.0)).sum()
