"""Per-class transport: one problem for each label, each solved as it would be alone.

Problems are filled up to a short list of sizes (``cells/sizes.py``), so that classes share their
programs. Classes differ in size, but arrays of a record must not: the codes of a class are padded
with copies of its first code, which have no cell.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import checks, problem
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.extension.config import check_options
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.extension.extension import extension as extension_of_map
from aeot_jax.ot.solver.config import SolverConfig, check_config, placement
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, no_history
from aeot_jax.ot.solver.solve import placed, solve_prepared
from aeot_jax.reprs import numbers, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Device, Given, PRNGKey

_MOMENT = 1e-6
"""Seconds that a class gets where the time of all is over."""

_SHOWN_LABELS = 20


@register
@dataclass(frozen=True)
class ClassMaps:
    """The transport of each of c classes, padded to the size of the largest.

    Attributes:
      labels: labels of the classes, ascending (c,).
      shares: share of the codes in each class (c,), sum 1.
      solution: heights and certificates; the first axis of every field is the class. Histories
        are left out.
      extension: maps; the first axis of every array is the class; None if none were asked for.
      rows: rows of the user's codes that belong to each class, ascending, then -1 (c, k); None in
        a file of an earlier version.
    """

    labels: Int[Array, "*batch c"]
    shares: Float[Array, "*batch c"]
    solution: Solution
    extension: Extension | None
    rows: Int[Array, "*batch c k"] | None = None

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
          ValueError: if `label` is not one integer, no class has it, or no maps were learned.
        """
        if self.extension is None:
            raise ValueError("`extension` is None; call `solve_classes` with `extension=True`.")
        index = _place(label, np.asarray(self.labels))
        return jax.tree.map(lambda leaf: leaf[index], self.extension)

    def index(self, label: Given[int]) -> Int[np.ndarray, " n"]:
        """Rows of the user's codes that belong to a class, ascending (n,).

        The target i of ``of(label)`` is the code ``index(label)[i]``.

        Args:
          label: label of the class.

        Raises:
          ValueError: if `label` is not one integer, no class has it, or the rows are not known.
        """
        if self.rows is None:
            raise ValueError(
                "`rows` is None, because the file is of an earlier version; compare the labels "
                "that you passed with `label`, or fit again."
            )
        rows = np.asarray(self.rows[_place(label, np.asarray(self.labels))])
        return rows[rows >= 0]


def solve_classes(
    key: Given[PRNGKey],
    mu: Given[Measure],
    codes: ArrayLike,
    labels: ArrayLike,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    nu: ArrayLike | None = None,
    extension: Given[bool] = True,
    threshold: Given[float | None] = None,
    num_samples: Given[int | None] = None,
) -> ClassMaps:
    """Solve the transport onto the codes of each class, and learn its extension.

    Each class is a problem of its own, with steps and samples of its own: what ``solve`` gives for
    its codes. Where the configuration names several devices of one process, or finds several
    accelerators, each class is solved on one of them, with the same heights.

    Args:
      key: consumed.
      mu: source measure, the same for all classes.
      codes: (m, d), any scale and offset. Coinciding codes of a class share one cell; there is no
        warning, because each row is found by ``ClassMaps.index``.
      labels: the class of each code (m,), integers.
      config: the user's decisions, as for one problem; the time limit is that of all classes
        together, after which the others keep their start.
      nu: weights (m,), sum 1; those of a class sum to its share. None is uniform.
      extension: whether to learn the maps, too.
      threshold: see ``extension``.
      num_samples: see ``extension``.

    Returns:
      The classes; ``solution.status`` says whether each converged.

    Raises:
      ValueError: if the shapes disagree, a label is not a 32-bit integer, a class has no weight, or
        the configuration does not fit.
      KeyboardInterrupt: after Ctrl-C.
    """
    way = "call it outside of `jax.jit` and `jax.vmap`"
    given = {"key": key, "mu": mu, "codes": codes, "labels": labels, "nu": nu}
    arguments.refuse_trace("solve_classes", way, **given)
    key = arguments.key("key", key)
    check_config(config)
    where = placed(config)
    targets = np.asarray(checks.points("codes", codes))
    checks.check_measure(mu, targets)
    extension = arguments.flag("extension", extension)
    check_options(threshold, num_samples)
    known = check_labels(labels, targets.shape[0])
    names, place = np.unique(known, return_inverse=True)
    rows = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    shares, weights = _shares(nu, targets, names, rows)
    solve_keys, map_keys = (jax.random.split(k, len(names)) for k in jax.random.split(key))
    started = time.monotonic()

    def solved(number: int, device: Device | None) -> tuple[Solution, Extension | None]:
        own, decisions = targets[rows[number]], _left(config, started)
        if device is not None:
            decisions = replace(decisions, parallel="none", devices=(device,))
        made = problem.make(mu, own, weights[number], sharded=where.target_shards > 1)
        found = solve_prepared(solve_keys[number], made, decisions, placement(decisions))
        if int(found.status) == Status.INTERRUPTED:
            raise KeyboardInterrupt
        found = replace(found, history=no_history())
        if not extension:
            return found, None
        return found, extension_of_map(
            map_keys[number],
            mu,
            own,
            found.h,
            weights[number],
            num_samples=num_samples,
            threshold=threshold,
            parallel=decisions.parallel,
            devices=decisions.devices,
        )

    solutions, maps = zip(*_on_devices(solved, len(names), where), strict=True)
    return ClassMaps(
        labels=jnp.asarray(names, jnp.int32),
        shares=jnp.asarray(shares, jnp.float32),
        solution=_stacked(solutions),
        extension=_stacked(_weighed(maps)) if extension else None,
        rows=jnp.asarray(_filled(rows, -1), jnp.int32),
    )


def _shares(
    nu: ArrayLike | None, codes: np.ndarray, names: np.ndarray, rows: Sequence[np.ndarray]
) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
    """The share of each class (k,), and the weights in each, of sum 1; None is uniform.

    Raises:
      ValueError: if the weights do not fit, or a class has none.
    """
    if nu is None:
        return np.array([own.size for own in rows]) / len(codes), [None] * len(rows)
    weights = np.asarray(checks.weights(nu, codes))
    shares = np.array([weights[own].sum() for own in rows])
    if not shares.all():
        raise ValueError(
            f"`nu` is zero for all codes of class {names[shares.argmin()]}; leave them out, or "
            "give one of them a weight."
        )
    return shares, [weights[own] / share for own, share in zip(rows, shares, strict=True)]


def _weighed(maps: Sequence[Extension]) -> Sequence[Extension]:
    """Maps that all know the weights of their targets, if one of them does."""
    if all(one.nu is None for one in maps):
        return maps
    equal = [jnp.full(len(one.y), 1 / len(one.y), jnp.float32) for one in maps]
    known = [nu if one.nu is None else one.nu for one, nu in zip(maps, equal, strict=True)]
    return [replace(one, nu=nu) for one, nu in zip(maps, known, strict=True)]


def _left(config: SolverConfig, started: float) -> SolverConfig:
    """The configuration with what is left of its time."""
    if config.time_limit is None:
        return config
    return replace(config, time_limit=max(config.time_limit - time.monotonic() + started, _MOMENT))


def _on_devices(
    solved: Callable[[int, Device | None], Any], number: int, where: Placement
) -> list[Any]:
    """Solve all classes: each on one of the devices of this process, or each on all devices."""
    several = len(where.devices) > 1 and where.target_shards == 1 and jax.process_count() == 1
    if not several:
        return [solved(i, None) for i in range(number)]

    over = threading.Event()

    def on_one(device: Device, mine: range) -> list[Any]:
        found = []
        with jax.default_device(device):
            for i in mine:
                if over.is_set():
                    break
                found.append(solved(i, device))
        return found

    count = len(where.devices)
    shares = [range(first, number, count) for first in range(count)]
    pool = ThreadPoolExecutor(count)
    try:
        parts = list(pool.map(on_one, where.devices, shares))
    finally:
        over.set()  # after Ctrl-C or an error no thread begins another class
        pool.shutdown()
    return [parts[i % count][i // count] for i in range(number)]


def _stacked(records: Sequence[Any]) -> Any:
    """Records of all classes as one, by NumPy: for every set of sizes JAX would compile anew."""
    return jax.tree_util.tree_map_with_path(_joined, *records)


def _joined(path: tuple[Any, ...], *leaves: ArrayLike) -> Array:
    """One array of the arrays of all classes."""
    name, hosts = path[-1], [np.asarray(leaf) for leaf in leaves]
    if len({host.shape for host in hosts}) == 1:
        return jnp.asarray(np.stack(hosts))
    return jnp.asarray(_filled(hosts, _FILLS[name.name]))


_FILLS: dict[str, float | None] = {
    "y": None,
    "h": -np.inf,
    "nu": 0.0,
    "face_angles": np.nan,
    "neighbour_angles": np.nan,
}
"""What fills up an array by its name; None is its first row."""


def _filled(rows: Sequence[np.ndarray], fill: int | float | None) -> np.ndarray:
    """Arrays of different lengths as one, filled up to the longest."""
    longest = max(map(len, rows))
    parts = []
    for own in rows:
        surplus = (longest - len(own), *own.shape[1:])
        rest = np.broadcast_to(own[:1], surplus) if fill is None else np.full(surplus, fill)
        parts.append(np.concatenate([own, rest.astype(own.dtype)]))
    return np.stack(parts)


def check_labels(
    labels: ArrayLike, num_codes: int, name: str = "labels", what: str = "codes"
) -> Int[np.ndarray, " m"]:
    """One integer of 32 bits for each of so many codes, or targets.

    Raises:
      ValueError: for anything else; it names the argument.
    """
    refuse_texts(name, labels)
    host = np.asarray(arguments.host_array(name, labels))
    if host.shape != (num_codes,) or not np.issubdtype(host.dtype, np.integer):
        raise ValueError(
            f"`{name}` has shape {host.shape} and dtype {host.dtype}; pass one integer for each of "
            f"the {num_codes} {what}, as {_numbered(name)} gives."
        )
    info = np.iinfo(np.int32)
    beyond = (host < info.min) | (host > info.max)
    if beyond.any():
        index = int(beyond.argmax())
        raise ValueError(
            f"`{name}` is {host[index]} at {index}, beyond 32 bits; number the classes from 0, for "
            f"instance with {_numbered(name)}."
        )
    return host.astype(np.int32)


def refuse_texts(name: str, labels: Any) -> None:
    """Raise a ValueError for labels that are texts."""
    kind = labels.dtype.kind if isinstance(labels, np.ndarray) else ""
    several = kind == "O" or isinstance(labels, list | tuple)
    if kind in ("S", "T", "U") or (several and any(isinstance(one, str) for one in labels)):
        found = np.asarray(labels).dtype
        raise ValueError(f"`{name}` has dtype {found}; number texts, as {_numbered(name)} does.")


def _numbered(name: str) -> str:
    return f"np.unique({name}, return_inverse=True)[1]"


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
