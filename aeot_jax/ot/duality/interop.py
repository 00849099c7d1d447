r"""To and from OTT-JAX, and pairs (x, T(x)) for flow matching.

OTT-JAX's cost is :math:`|x - y|^2`, twice the one here. Its dual vector g over the targets and its
dual function f over the source are therefore

.. math:: g_i = 2\psi_i = 2 h_i + |y_i|^2, \qquad f(x) = 2\varphi(x), \qquad
          h_i = (g_i - |y_i|^2) / 2 .

Everything is for its unregularised problem, ``epsilon=0``: there its hard assignments are the cells
of h, up to ties. OTT-JAX is imported where it is used.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import FromSampler, Measure, draw
from aeot_jax.ot import problem
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.duality import potential
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, Heights, PRNGKey, Samples, Targets, Weights

if TYPE_CHECKING:
    from ott.geometry.costs import CostFn
    from ott.problems.linear.potentials import DualPotentials
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput


class Imported(NamedTuple):
    """A problem with its heights, as the functions of this library take them.

    Attributes:
      mu: source measure, which draws with the sampler of OTT-JAX.
      y: targets (m, d).
      h: heights (m,); -inf where the weight is 0.
      nu: weights (m,).
    """

    mu: Measure
    y: Targets
    h: Heights
    nu: Weights

    __repr__ = brief


def dual_from_heights(y: ArrayLike, h: ArrayLike) -> Float[Array, " m"]:
    r"""OTT-JAX's dual vector :math:`g_i = 2 h_i + |y_i|^2` (m,); -inf where h is.

    Args:
      y: targets (m, d).
      h: heights (m,).

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    return 2 * potential.dual(y, h)


def heights_from_dual(y: ArrayLike, g: ArrayLike) -> Heights:
    r"""Heights :math:`h_i = (g_i - |y_i|^2) / 2` (m,) of a dual vector of OTT-JAX.

    Args:
      y: targets (m, d).
      g: dual vector (m,), for the cost :math:`|x - y|^2`; -inf for a target that owns no cell.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    targets = problem.check_targets(y)
    return (problem.check_heights(g, targets, "g") - jnp.square(targets).sum(1)) / 2


def to_ott(
    mu: Given[Measure], y: ArrayLike, h: ArrayLike, nu: ArrayLike | None = None
) -> "SemidiscreteOutput":
    """Heights as the output of OTT-JAX's solver, with its problem at ``epsilon=0``.

    Args:
      mu: source measure; its draws are those of the problem's sampler.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
    from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput

    targets = problem.check_targets(y)
    problem.check_measure(mu, targets)
    weights = None if nu is None else problem.check_weights(nu, targets)

    def sampler(key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Samples:
        return draw(key, mu, shape[0]).astype(dtype or jnp.float32)

    geometry = SemidiscretePointCloud(sampler, targets, epsilon=0.0)
    return SemidiscreteOutput(
        g=dual_from_heights(targets, h), prob=SemidiscreteLinearProblem(geometry, b=weights)
    )


def from_ott(output: Given["SemidiscreteOutput"]) -> Imported:
    """The problem that OTT-JAX solved, with the heights that it found.

    Args:
      output: of its ``SemidiscreteSolver``, for the squared cost and ``epsilon=0``.

    Raises:
      ValueError: if the cost is another or scaled, or the problem regularised.
    """
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput

    way = "what OTT-JAX's `SemidiscreteSolver` returns"
    arguments.instance("output", output, SemidiscreteOutput, way)
    problem_, geometry = output.prob, output.geom
    _check_cost(geometry.cost_fn)
    if geometry.is_entropy_regularized:
        raise ValueError(
            "`output` is regularised (its problem has epsilon > 0 or None), so its g is not of the "
            "same problem; solve with epsilon=0, or convert g as it is by `heights_from_dual`."
        )
    if geometry._scale_cost != 1.0:
        raise ValueError(
            f"`output` has `scale_cost` {geometry._scale_cost!r}; solve with 1.0, and scale the "
            "targets instead."
        )
    y = problem.check_targets(geometry.y)
    nu = problem.check_weights(problem_.b, y)
    h = jnp.where(nu > 0, heights_from_dual(y, output.g), -jnp.inf)

    def draw(key: PRNGKey, n: int) -> Samples:
        return geometry.sampler(key, (n, y.shape[1]), jnp.float32)

    return Imported(FromSampler(draw, y.shape[1]), y, h, nu)


def to_ott_potentials(y: ArrayLike, h: ArrayLike, x: ArrayLike | None = None) -> "DualPotentials":
    r"""Heights as OTT-JAX's pair of dual functions, :math:`f = 2\varphi` and g.

    Its ``transport`` is then T. Of the other potential :math:`2\psi` only values at the targets are
    defined by h; a function needs samples to be the c-transform over, and sends a target, by
    ``transport(..., forward=False)``, to one of the samples in its cell.

    Args:
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      x: samples of the source (n, d) for g; None leaves g out, as OTT-JAX's own semi-discrete
        output does.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    from ott.geometry.costs import SqEuclidean
    from ott.problems.linear.potentials import DualPotentials

    targets = problem.check_targets(y)
    heights = problem.check_heights(h, targets)

    def f(point: Float[Array, " d"]) -> Float[Array, ""]:
        return 2 * potential.kantorovich(point, targets, heights)

    if x is None:
        return DualPotentials(f=f, g=None, cost_fn=SqEuclidean())
    samples = problem.check_targets(x, "x")
    phi = potential.kantorovich(samples, targets, heights)

    def g(point: Float[Array, " d"]) -> Float[Array, ""]:
        return 2 * potential.c_transform(point, samples, phi)

    return DualPotentials(f=f, g=g, cost_fn=SqEuclidean())


def from_ott_potentials(
    potentials: Given["DualPotentials"], y: ArrayLike, x: ArrayLike | None = None
) -> Heights:
    r"""Heights from OTT-JAX's dual functions, from g at the targets or else from f at samples.

    Args:
      potentials: for the squared cost; functions of one point.
      y: targets (m, d).
      x: samples of the source (n, d), used where there is no g: the c-transform of f over them is
        exact at a target whose cell holds a sample, and too high at any other.

    Returns:
      Heights (m,).

    Raises:
      ValueError: if the cost is another, or there is neither g nor f with samples.
    """
    from ott.problems.linear.potentials import DualPotentials

    way = "OTT-JAX's pair of dual functions, a `DualPotentials`"
    arguments.instance("potentials", potentials, DualPotentials, way)
    _check_cost(potentials.cost_fn)
    targets = problem.check_targets(y)
    if potentials.g is not None:
        return heights_from_dual(targets, jax.vmap(potentials.g)(targets))
    if potentials.f is None or x is None:
        raise ValueError(
            "`potentials` has no g; pass samples `x` of the source, so that g can be had from f, "
            "or convert the solver's output by `from_ott`."
        )
    samples = problem.check_targets(x, "x")
    phi = jax.vmap(potentials.f)(samples) / 2
    return heights_from_dual(targets, 2 * potential.c_transform(targets, samples, phi))


def _check_cost(cost: "CostFn") -> None:
    from ott.geometry.costs import SqEuclidean

    if not isinstance(cost, SqEuclidean):
        raise ValueError(
            f"`cost_fn` is {type(cost).__name__}, but transport here is for the squared cost; "
            "solve with SqEuclidean()."
        )


def pairs(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    *,
    batch_size: Given[int] = 256,
) -> Iterator[tuple[Samples, Samples]]:
    """Endless batches of pairs (x, T(x)), the coupling to train a flow or any map on.

    Of equal targets the first stands for all; where indices of rows matter, ``assign`` gives them
    and ``spread_copies`` shares them among the copies.

    Batch i depends on the key and i alone; one program is compiled and serves all. The segments of
    optimal pairs never meet at the same time, so the flow that matches them is nearly straight.

    Args:
      key: of all batches.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y and h.
      y: targets (m, d).
      h: heights (m,), of ``solve``; -inf for a target that owns no cell.
      batch_size: pairs in a batch.

    Returns:
      An iterator over x (b, d) and T(x) (b, d); it never ends.

    Raises:
      ValueError: if a shape or a known value does not fit, or the batch is empty.

    Source: Pooladian et al., Multisample flow matching, ICML 2023, with the exact coupling in place
    of that of two batches.
    """
    key = arguments.key("key", key)
    mu, y, h, _ = parts_of(mu, y, h)
    targets = problem.check_targets(y)
    problem.check_measure(mu, targets)
    batch_size = arguments.count("batch_size", batch_size)
    near = problem.near(y, h)
    return (_pair(key, i, mu, targets, near, batch_size=batch_size) for i in itertools.count())


@partial(jax.jit, static_argnames="batch_size")
def _pair(
    key: PRNGKey,
    i: int | Int[Array, ""],
    mu: Measure,
    y: Targets,
    near: problem.Near,
    *,
    batch_size: int,
) -> tuple[Samples, Samples]:
    x = draw(jax.random.fold_in(key, i), mu, batch_size)
    rows, h, _ = shift.around(near.y, near.h)
    _, index = power.best(x, rows, h)
    return x, y[index]
