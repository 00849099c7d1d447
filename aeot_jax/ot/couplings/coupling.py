r"""The coupling of a solution: pairs (x, T(x)) with the rows of their targets, any batch at once.

Draw j has a key of its own, made of the seed and j. Batch k of size b holds draws k b to
(k + 1) b - 1. So any batch costs one batch, in any order and in any process, and the noise of a
draw is the same whatever the size of a batch. Under ``antithetic`` draws come in orbits of eight:
one sample of the source with eight patterns of signs, for which one product serves.

Sources: Pooladian et al., Multisample flow matching, ICML 2023 (couplings for flow matching);
semidiscrete couplings: arXiv 2509.25519. Numbered draws and their keys are this library's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import checks, problem
from aeot_jax.ot.couplings import identity, placing, states
from aeot_jax.ot.couplings.batches import Coupling
from aeot_jax.ot.couplings.states import Options
from aeot_jax.ot.problem import Problem
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.typing import ArrayLike, Given

_MOST_HALF = 65_520
"""Numbers from here on are infinite in float16."""


def coupling(
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    seed: Given[int] = 0,
    batch_size: Given[int] = 256,
    num_batches: Given[int | None] = None,
    sharding: Given[Sharding | None] = None,
    dtype: Given[DTypeLike | None] = None,
    antithetic: Given[bool] = False,
) -> Coupling:
    """Pairs (x, T(x), index) to train on: ``c[k]`` is batch k, which costs one batch for any k.

    A batch depends on the seed, k and the batch size alone: not on other batches, the process or
    the order of calls. It has the same bits on one kind of device. ``index`` gives the rows of the
    targets, so that labels, originals and texts follow. Equal targets take turns, in the proportion
    of their weights, so that every row appears.

    Args:
      mu: source measure; or a ``Solution`` of ``solve``, which stands for mu, y, h and nu.
      y: targets (m, d); not copied, so do not change them while the coupling is in use.
      h: heights (m,), of ``solve``; -inf for a target that owns no cell.
      nu: weights (m,), by which equal targets share their cell; None is uniform.
      seed: 0 to 2^63 - 1.
      batch_size: pairs in a batch, b.
      num_batches: how many batches there are, which grain and torch ask for; None is no end.
      sharding: where a batch shall lie: a ``NamedSharding`` of its rows, whose shards divide b.
        Every device holds all targets and makes its own rows, x, y and index, and nothing moves
        between devices. In several processes all call ``c[k]`` alike. None is the default device.
      dtype: of x and y: float32 (None), bfloat16, float16, float64. Cells are found in float32.
      antithetic: draws come in orbits of eight, one sample with eight patterns of signs. This costs
        half of the product or less, from 32 dimensions and batches of 256 on. The eight pairs of an
        orbit depend on each other: a gradient may have more noise than that of as many independent
        pairs. It takes a source with a ``symmetry``.

    Returns:
      A ``Coupling``.

    Raises:
      ValueError: if a shape or a value does not fit, if the shards do not divide the batch, or
        inside of ``jax.jit``.

    Source: Pooladian et al., Multisample flow matching, ICML 2023; their coupling is that of two
    batches, here it is exact.
    """
    options = states.checked(seed, batch_size, num_batches, dtype, antithetic)
    asked, heights = _asked("coupling", mu, y, h, nu)
    return _made(asked, heights, options, sharding)


def coupling_from_state(
    state: Given[Mapping[str, Any]],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    sharding: Given[Sharding | None] = None,
) -> Coupling:
    """The coupling of a state; it iterates from that batch on before which the state was taken.

    Args:
      state: what ``Coupling.state`` gave, in this process or another.
      mu: as for ``coupling``.
      y: as for ``coupling``.
      h: as for ``coupling``.
      nu: as for ``coupling``.
      sharding: as for ``coupling``; devices are no part of a state.

    Raises:
      ValueError: as for ``coupling``, and if the state is that of another solution or version.
    """
    states.check_kind(state)
    asked, heights = _asked("coupling_from_state", mu, y, h, nu)
    solution = identity.of(asked.mu, asked.y, heights, asked.nu)
    return _made(asked, heights, states.read(state, solution), sharding)


def _asked(function: str, mu: Any, y: Any, h: Any, nu: Any) -> tuple[Problem, Any]:
    """The problem and its heights as they were given, known and of the right kind."""
    mu, y, h, nu = parts_of(mu, y, h, nu)
    way = "call it before, outside of `jax.jit`, and pass it the batches"
    arguments.refuse_trace(function, way, mu=mu, y=y, h=h, nu=nu)
    points = checks.points("y", y)
    checks.check_measure(mu, points)
    checks.weights(nu, points)
    checks.heights("h", h, points)
    return problem.asked(mu, y, nu), arguments.array("h", h)


def _made(asked: Problem, h: Any, options: Options, sharding: Any) -> Coupling:
    if options.antithetic and getattr(asked.mu, "symmetry", None) is None:
        raise ValueError(
            f"`antithetic` is True, which takes a source with a `symmetry`, but `mu` is "
            f"{type(asked.mu).__name__}; pass False."
        )
    if options.dtype == "float16":
        _check_reach(asked.y)
    return Coupling(asked, h, options, placing.check(sharding, options.batch_size))


def _check_reach(y: Any) -> None:
    """Refuse targets of which a batch in float16 would hold infinities; all other types reach far.

    Raises:
      ValueError: it says how far they reach.
    """
    points = np.asarray(arguments.array("y", y))
    ends = (
        max(float(points[part].max()), -float(points[part].min()))
        for part in arguments.parts("y", points)
    )
    if (largest := max(ends)) >= _MOST_HALF:
        raise ValueError(
            f"`dtype` is float16, which holds numbers below {_MOST_HALF:,}, but `y` reaches "
            f"{largest:.6g}; pass bfloat16 or float32."
        )
