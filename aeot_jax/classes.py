"""Per-class transport: one problem for each label, all solved in one call.

Classes differ in size, but arrays must not: the codes of a class are padded with copies of its
first code, which have weight 0 and no cell.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import checks, merging
from aeot_jax.ot.extension import extension
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig, check_config
from aeot_jax.ot.solver.jitted import solve_traced
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.reprs import numbers, or_brief
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_LARGEST_VMAP_DIM = 12
"""In more dimensions, on a CPU, the kernel is faster on one problem after the other."""

_SHOWN_LABELS = 20


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClassMaps:
    """The transport of each of c classes, padded to the size of the largest.

    Attributes:
      labels: labels of the classes, ascending (c,).
      shares: share of the codes in each class (c,), sum 1.
      solution: heights and certificates; the first axis of every field is the class.
      extension: maps; the first axis of every array is the class.
    """

    labels: Int[Array, "*batch c"]
    shares: Float[Array, "*batch c"]
    solution: Solution
    extension: Extension

    @or_brief
    def __repr__(self) -> str:
        """The labels, the number of converged classes, and the class with the largest bound."""
        labels, codes = numbers(self.labels), numbers(self.solution.status)
        upper = numbers(self.solution.certificate.upper)
        shown = ", ".join(map(str, labels[:_SHOWN_LABELS])) + ", ..." * (
            len(labels) > _SHOWN_LABELS
        )
        worst = int(np.argmax(upper))
        return (
            f"ClassMaps({len(labels)} of labels {shown}; "
            f"{int((codes == Status.CONVERGED).sum())} converged; least sure {labels[worst]}, mass "
            f"error at most {float(upper[worst]):.2g})"
        )

    def of(self, label: Given[int]) -> Extension:
        """The map of one class.

        Args:
          label: label of the class.

        Raises:
          ValueError: if `label` is not one integer, or no class has it.
        """
        index = _place(label, np.asarray(self.labels))
        return jax.tree.map(lambda leaf: leaf[index], self.extension)


def solve_classes(
    key: Given[PRNGKey],
    mu: Given[Measure],
    codes: ArrayLike,
    labels: ArrayLike,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    threshold: Given[float | None] = None,
    num_samples: Given[int | None] = None,
) -> ClassMaps:
    """Solve the transport onto the codes of each class, and learn its extension.

    All classes take the same number of steps: twice the plan for the largest class, because every
    class must pass. If one is not certified, all are solved again with twice as many steps, up to
    the limits of ``config`` (its time limit is ignored).

    Args:
      key: consumed.
      mu: source measure, the same for all classes; it may not hold arrays.
      codes: (m, d).
      labels: the class of each code (m,), integers.
      config: the user's decisions, as for one problem.
      threshold: see ``extension``.
      num_samples: see ``extension``.

    Returns:
      The classes; ``solution.status`` says whether each converged.

    Raises:
      ValueError: if the shapes disagree, a label is not a 32-bit integer, or the configuration does
        not fit.
    """
    way = "call it outside of `jax.jit` and `jax.vmap`"
    arguments.refuse_trace("solve_classes", way, key=key, mu=mu, codes=codes, labels=labels)
    key = arguments.key("key", key)
    check_config(config)
    targets = checks.check_targets(codes, "codes")
    checks.check_measure(mu, targets)
    extension.check_options(threshold, num_samples)
    known = check_labels(labels, targets.shape[0])
    names, y, nu = stack(np.asarray(targets), known)
    solve_keys, map_keys = (jax.random.split(k, len(names)) for k in jax.random.split(key))
    solution = solve_all(solve_keys, mu, y, nu, config)
    maps = _extend(map_keys, mu, y, solution.h, nu, threshold=threshold, num_samples=num_samples)
    counts = np.bincount(np.searchsorted(names, known))
    return ClassMaps(
        labels=jnp.asarray(names, jnp.int32),
        shares=jnp.asarray(counts / counts.sum(), jnp.float32),
        solution=solution,
        extension=maps,
    )


def solve_all(
    keys: Array,
    mu: Measure,
    y: Float[Array, "c k d"],
    nu: Float[Array, "c k"],
    config: SolverConfig,
) -> Solution:
    """Solve all classes; double the steps until each is certified or a limit is reached."""
    budget = planning.budget(y.shape[1], mu, config)
    most = max(1, budget.max_samples // planning.plan(y.shape[1], mu, config).batch.size)
    num_steps = budget.phases.end
    if config.tolerance is not None:
        num_steps = min(2 * num_steps, most)
    while True:
        solution = _solve(keys, mu, y, nu, config=config, num_steps=num_steps)
        done = bool((np.asarray(solution.status) != Status.STEP_LIMIT).all())
        if done or config.tolerance is None or num_steps >= most:
            return solution
        num_steps = min(2 * num_steps, most)


def check_labels(
    labels: ArrayLike, num_codes: int, name: str = "labels", what: str = "codes"
) -> Int[np.ndarray, " m"]:
    """One integer of 32 bits for each of so many codes, or targets.

    Raises:
      ValueError: for anything else; it names the argument.
    """
    host = np.asarray(arguments.host_array(name, labels))
    if host.shape != (num_codes,) or not np.issubdtype(host.dtype, np.integer):
        raise ValueError(
            f"`{name}` has shape {host.shape} and dtype {host.dtype}; pass one integer for each of "
            f"the {num_codes} {what}."
        )
    info = np.iinfo(np.int32)
    beyond = (host < info.min) | (host > info.max)
    if beyond.any():
        index = int(beyond.argmax())
        raise ValueError(
            f"`{name}` is {host[index]} at {index}, beyond 32 bits; number the classes from 0, for "
            f"instance with np.unique({name}, return_inverse=True)[1]."
        )
    return host.astype(np.int32)


def _place(label: Any, known: Int[np.ndarray, " c"]) -> int:
    """The position of a label among those of the classes."""
    if np.ndim(label) != 0:
        raise ValueError(f"`label` has shape {np.shape(label)}; pass one label, an integer.")
    is_whole = hasattr(label, "__index__") and not isinstance(label, bool | np.bool_)
    found = np.flatnonzero(known == label) if is_whole else np.zeros(0, int)
    if found.size != 1:
        shown = ", ".join(map(str, known[:_SHOWN_LABELS]))
        more = ", ..." if known.size > _SHOWN_LABELS else ""
        raise ValueError(f"`label` is {label!r}, which no image had; pass one of {shown}{more}.")
    return int(found[0])


def stack(
    codes: Float[np.ndarray, "m d"], labels: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " c"], Float[Array, "c k d"], Float[Array, "c k"]]:
    """Labels, and the codes and weights of each class, padded to the largest.

    If codes of a class are equal, the first gets the weight of all, as in ``solve``.
    """
    names = np.unique(labels)
    members = [codes[labels == name] for name in names]
    largest = max(map(len, members))
    y = np.stack([np.concatenate([c, np.repeat(c[:1], largest - len(c), 0)]) for c in members])
    nu = np.zeros(y.shape[:2], np.float32)
    for weights, own in zip(nu, members, strict=True):
        same = merging.representatives(jnp.asarray(own))
        np.add.at(weights, np.arange(len(own)) if same is None else same, 1 / len(own))
    return names, jnp.asarray(y), jnp.asarray(nu)


def _over_classes(function, dim: int, *batched: Array):
    if jax.default_backend() == "cpu" and dim > _LARGEST_VMAP_DIM:
        return jax.lax.map(lambda one: function(*one), batched)
    return jax.vmap(function)(*batched)


@partial(jax.jit, static_argnames=("config", "num_steps"))
def _solve(
    keys: Array,
    mu: Measure,
    y: Float[Array, "c k d"],
    nu: Float[Array, "c k"],
    *,
    config: SolverConfig,
    num_steps: int,
) -> Solution:
    def one(key: Array, y: Array, nu: Array) -> Solution:
        return solve_traced(key, Marginals(mu, y, nu), config=config, num_steps=num_steps)

    return _over_classes(one, mu.dim, keys, y, nu)


@partial(jax.jit, static_argnames=("threshold", "num_samples"))
def _extend(
    keys: Array,
    mu: Measure,
    y: Float[Array, "c k d"],
    h: Float[Array, "c k"],
    nu: Float[Array, "c k"],
    *,
    threshold: float | None,
    num_samples: int | None,
) -> Extension:
    def one(key: Array, y: Array, h: Array, nu: Array) -> Extension:
        return extension.extension(key, mu, y, h, nu, num_samples=num_samples, threshold=threshold)

    return _over_classes(one, mu.dim, keys, y, h, nu)
