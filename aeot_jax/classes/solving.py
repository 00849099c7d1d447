"""Per-class transport: one problem for each label, each solved as it would be alone.

Problems are filled up to a short list of sizes (``cells/sizes.py``), so that classes share their
programs. Classes differ in size, but arrays of a record must not: the codes of a class are padded
with copies of its first code, which have no cell.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax import arguments
from aeot_jax.classes.labels import check_labels
from aeot_jax.classes.maps import ClassMaps
from aeot_jax.classes.padding import filled, stacked, weighed
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
from aeot_jax.typing import ArrayLike, Device, Given, PRNGKey

_MOMENT = 1e-6
"""Seconds that a class gets where the time of all is over."""


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
    on_progress: Given[Callable[[int, int], None] | None] = None,
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
      on_progress: called on the host with the number of classes that are solved and the number of
        all, before the first and after each.

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
    arguments.function("on_progress", on_progress)
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
        found = _whole(solve_prepared(solve_keys[number], made, decisions, placement(decisions)))
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

    watched = _watched(solved, len(names), on_progress or (lambda _done, _all: None))
    solutions, maps = zip(*_on_devices(watched, len(names), where), strict=True)
    return ClassMaps(
        labels=jnp.asarray(names, jnp.int32),
        shares=jnp.asarray(shares, jnp.float32),
        solution=stacked(solutions),
        extension=stacked(weighed(maps)) if extension else None,
        rows=jnp.asarray(filled(rows, -1), jnp.int32),
    )


def _whole(found: Solution) -> Solution:
    """The solution without its history; raises KeyboardInterrupt if Ctrl-C ended it."""
    if int(found.status) == Status.INTERRUPTED:
        raise KeyboardInterrupt
    return replace(found, history=no_history())


_Solved = Callable[[int, Device | None], Any]
"""Solves the class of a number, on one device or on those of the configuration."""


def _watched(solved: _Solved, number: int, report: Callable[[int, int], None]) -> _Solved:
    """The same function, which tells how many classes are done."""
    done, alone = 0, threading.Lock()
    report(0, number)

    def watched(own: int, device: Device | None) -> Any:
        nonlocal done
        found = solved(own, device)
        with alone:  # devices have threads
            done += 1
            report(done, number)
        return found

    return watched


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


def _left(config: SolverConfig, started: float) -> SolverConfig:
    """The configuration with what is left of its time."""
    if config.time_limit is None:
        return config
    return replace(config, time_limit=max(config.time_limit - time.monotonic() + started, _MOMENT))


def _on_devices(solved: _Solved, number: int, where: Placement) -> list[Any]:
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
