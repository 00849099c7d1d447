r"""To and from OTT-JAX, and pairs (x, T(x)) for flow matching.

OTT-JAX's cost is :math:`|x - y|^2`, twice the one here. Its dual vector g over the targets and its
dual function f over the source are therefore

.. math:: g_i = 2\psi_i = 2 h_i + |y_i|^2, \qquad f(x) = 2\varphi(x), \qquad
          h_i = (g_i - |y_i|^2) / 2 .

All of it is for the problem without regularisation, ``epsilon=0``: there OTT-JAX assigns samples to
the cells of h, up to ties. OTT-JAX is imported where it is used.
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import FromSampler, Measure, draw
from aeot_jax.ot import checks
from aeot_jax.ot.couplings import numbers, pairing
from aeot_jax.ot.duality import potential
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, Heights, PRNGKey, Samples, Targets, Weights

if TYPE_CHECKING:
    from ott.geometry.costs import CostFn
    from ott.problems.linear.potentials import DualPotentials
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput


class Imported(NamedTuple):
    """A problem of OTT-JAX with its heights, in the form that this library uses.

    Attributes:
      mu: source measure; it draws with OTT-JAX's sampler.
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
    targets = checks.check_targets(y)
    return (checks.check_heights(g, targets, "g") - jnp.square(targets).sum(1)) / 2


def to_ott(
    mu: Given[Measure], y: ArrayLike, h: ArrayLike, nu: ArrayLike | None = None
) -> "SemidiscreteOutput":
    """Heights as the output of OTT-JAX's solver, for the problem with ``epsilon=0``.

    Args:
      mu: source measure; the problem's sampler draws from it.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
    from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput

    targets = checks.check_targets(y)
    checks.check_measure(mu, targets)
    weights = None if nu is None else checks.check_weights(nu, targets)

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
      ValueError: if the cost is not the squared one, or scaled, or the problem is regularised.
    """
    from ott.solvers.linear.semidiscrete import SemidiscreteOutput

    way = "what OTT-JAX's `SemidiscreteSolver` returns"
    arguments.instance("output", output, SemidiscreteOutput, way)
    problem_, geometry = output.prob, output.geom
    _check_cost(geometry.cost_fn)
    if geometry.is_entropy_regularized:
        raise ValueError(
            "`output` is regularised (its problem has epsilon > 0 or None), so its g solves "
            "another problem; solve with epsilon=0, or convert g as it is by `heights_from_dual`."
        )
    if geometry._scale_cost != 1.0:
        raise ValueError(
            f"`output` has `scale_cost` {geometry._scale_cost!r}; solve with 1.0, and scale the "
            "targets instead."
        )
    y = checks.check_targets(geometry.y)
    nu = checks.check_weights(problem_.b, y)
    h = jnp.where(nu > 0, heights_from_dual(y, output.g), -jnp.inf)

    def draw(key: PRNGKey, n: int) -> Samples:
        return geometry.sampler(key, (n, y.shape[1]), jnp.float32)

    return Imported(FromSampler(draw, y.shape[1]), y, h, nu)


def to_ott_potentials(y: ArrayLike, h: ArrayLike, x: ArrayLike | None = None) -> "DualPotentials":
    r"""Heights as OTT-JAX's pair of dual functions, :math:`f = 2\varphi` and g.

    Its ``transport`` is then T. Heights define the other potential :math:`2\psi` at the targets
    only. With samples x, g is the c-transform of f over them, and ``transport(..., forward=False)``
    sends a target to one of the samples in its cell.

    Args:
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      x: samples of the source (n, d) for g; with None there is no g, as in OTT-JAX's own
        semi-discrete output.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    from ott.geometry.costs import SqEuclidean
    from ott.problems.linear.potentials import DualPotentials

    targets = checks.check_targets(y)
    heights = checks.check_heights(h, targets)

    def f(point: Float[Array, " d"]) -> Float[Array, ""]:
        return 2 * potential.kantorovich(point, targets, heights)

    if x is None:
        return DualPotentials(f=f, g=None, cost_fn=SqEuclidean())
    samples = checks.check_targets(x, "x")
    phi = potential.kantorovich(samples, targets, heights)

    def g(point: Float[Array, " d"]) -> Float[Array, ""]:
        return 2 * potential.c_transform(point, samples, phi)

    return DualPotentials(f=f, g=g, cost_fn=SqEuclidean())


def from_ott_potentials(
    potentials: Given["DualPotentials"], y: ArrayLike, x: ArrayLike | None = None
) -> Heights:
    r"""Heights from OTT-JAX's dual functions: from g at the targets, or else from f at samples.

    Args:
      potentials: for the squared cost; f and g take one point.
      y: targets (m, d).
      x: samples of the source (n, d), used if there is no g: the c-transform of f over them is
        exact at a target whose cell holds a sample, and too high at any other.

    Returns:
      Heights (m,).

    Raises:
      ValueError: if the cost is not the squared one, or there is neither g nor f with samples.
    """
    from ott.problems.linear.potentials import DualPotentials

    way = "OTT-JAX's pair of dual functions, a `DualPotentials`"
    arguments.instance("potentials", potentials, DualPotentials, way)
    _check_cost(potentials.cost_fn)
    targets = checks.check_targets(y)
    if potentials.g is not None:
        return heights_from_dual(targets, jax.vmap(potentials.g)(targets))
    if potentials.f is None or x is None:
        raise ValueError(
            "`potentials` has no g; pass samples `x` of the source, so that g is computed from f, "
            "or convert the solver's output by `from_ott`."
        )
    samples = checks.check_targets(x, "x")
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
    """Endless batches of pairs (x, T(x)): a coupling on which to train a flow or any map.

    There is no index. Where the rows matter, or batches out of order, use ``coupling``: it lets
    equal targets take turns, as ``spread_copies`` does with indices of ``assign``.

    Batch i depends on the key, i and the batch size alone, and one program serves all batches. The
    segments of optimal pairs never meet at the same time, so the flow that follows them is nearly
    straight.

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

    Source: Pooladian et al., Multisample flow matching, ICML 2023; their coupling is that of two
    batches, here it is exact.
    """
    key = _threefry(arguments.key("key", key))
    mu, y, h, _ = parts_of(mu, y, h)
    batch_size = arguments.count("batch_size", batch_size)
    parts = pairing.parts_of_batches(key, mu, y, h, turns=False)
    batches = (numbers.words(i * batch_size) for i in itertools.count())
    chosen = {"count": batch_size, "dtype": np.dtype(np.float32), "dependent": False}
    return (pairing.paired(parts, first, **chosen)[:2] for first in batches)


def _threefry(key: PRNGKey) -> PRNGKey:
    """A key whose draws do not change under ``vmap``, made of a key of any kind."""
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
