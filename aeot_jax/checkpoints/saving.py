"""``save`` and ``load``: models, solutions and extensions; arrays, never code."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax import arguments
from aeot_jax._version import __version__
from aeot_jax.checkpoints import checkpoint, contents, numbers, trees
from aeot_jax.measures import Measure, table
from aeot_jax.model import AEOT
from aeot_jax.ot.checks import check_measure, check_targets, check_weights
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.problem import Problem
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.storage import records, runs
from aeot_jax.typing import Given

_CODE = None
"""The name of a source that is code."""


def save(thing: Given[AEOT | Solution | Extension], path: Given[str | os.PathLike[str]]) -> None:
    """Write a model, a solution or an extension to one file, atomically.

    An older file stays until the new one is complete. Code is not saved: an optax transformation in
    the configuration, the user's own encoder, decoder or source (``FromSampler``, or a class of
    one). Devices are not saved either. Everything else is.

    Args:
      thing: from ``fit``, ``fit_codes``, ``solve`` or ``extension``.
      path: the file, usually ``.npz``.

    Raises:
      ValueError: if `thing` is something else, or traced.
      OSError: if the folder cannot be written or the disk is full.
    """
    way = "a model of `fit`, a `Solution` of `solve` or an `Extension` of `extension`"
    way += "; keep other records by `pickle`"
    arguments.instance("thing", thing, (AEOT, Solution, Extension), way)
    path = arguments.path("path", path)
    arguments.refuse_trace("save", "call it outside of `jax.jit`", thing=thing)
    if isinstance(thing, AEOT):
        checkpoint.write(thing, path)
    elif isinstance(thing, Solution):
        if np.ndim(thing.status):  # a batch has no single problem
            thing = replace(thing, problem=None)
        arrays = records.flatten(trees.arrays_of(thing))
        meta: dict[str, Any] = {"version": __version__, "solution_schema": 1}
        if thing.problem is not None:
            meta["solution_schema"] = contents.SOLUTION_SCHEMA
            meta["source"] = _written(thing.problem.mu, arrays)
            if arrays[contents.TARGETS].dtype == jnp.bfloat16:  # NumPy's files have no bfloat16
                arrays[contents.TARGETS] = arrays[contents.TARGETS].astype(np.float32)
        records.write(path, "solution", arrays, meta)
    else:
        arrays = records.flatten(trees.arrays_of(thing))
        meta = {"version": __version__, "source": _written(thing.mu, arrays)}
        records.write(path, "extension", arrays, meta)


def _written(mu: Measure, arrays: dict[str, np.ndarray]) -> str | dict[str, Any] | None:
    """A source as its file tells of it; its arrays are added to `arrays`."""
    own: dict[str, np.ndarray] = {}
    source = _described(mu, own, f"{contents.SOURCE}/", contents.MOST_NESTED)
    if source is not _CODE:
        arrays |= own
    return source


def _described(
    mu: Measure, arrays: dict[str, np.ndarray], start: str, depth: int
) -> str | dict[str, Any] | None:
    """A source by its name, or by its name and parts; its arrays are added to `arrays`."""
    kind = type(mu)
    if depth == 0 or kind not in table.IN_FILES.values():
        return _CODE  # by identity: a user's class may have the same name
    for name in table.arrays(kind):
        arrays[start + name] = np.asarray(getattr(mu, name))
    parts = {}
    for name in table.parts(kind):
        part = getattr(mu, name)
        source = _described(part, arrays, f"{start}{name}/", depth - 1)
        if source is _CODE:
            return _CODE
        parts[name] = {"source": source, "dim": part.dim}
    return {"name": kind.__name__, "parts": parts} if parts else kind.__name__


def _take_source(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take the arrays of the source, by the names of its fields, out of those of a file."""
    start = f"{contents.SOURCE}/"
    names = [name for name in arrays if name.startswith(start)]
    return {name.removeprefix(start): arrays.pop(name) for name in names}


def load(path: Given[str | os.PathLike[str]], *, mu: Given[Measure | None] = None) -> Any:
    """Read a file that ``save`` or a run wrote.

    The names, dtypes and shapes of the arrays are checked before memory is allocated; then the
    checksum, and then the numbers.

    Args:
      path: the file, or the folder of a run.
      mu: the source of an extension or a solution, if that source is code, which no file holds;
        otherwise leave it out. Without it such a solution has no problem.

    Returns:
      A model (`AEOT`), a `Solution` or an `Extension`.

    Raises:
      FileNotFoundError: if the file does not exist.
      ValueError: if the file is damaged, of another schema or of a newer version; if ``mu`` is
        missing, or given without need; or if the folder holds files of another run.
    """
    path = arguments.path("path", path)
    kind = "model" if path.is_dir() else records.kind_of(path, ("model", "solution", "extension"))
    if mu is not None and kind == "model":
        raise ValueError(f"`mu` is given, but {str(path)!r} holds a {kind}; leave it out.")
    if kind == "extension":
        return _extension(path, mu)
    if kind == "solution":
        return _solution(path, mu)
    if not path.is_dir():
        return checkpoint.read(path)
    runs.settle(path)
    model = checkpoint.read(path / checkpoint.MODEL_FILE)
    runs.check_together(path, (runs.CONFIG,))
    return model


def _solution(path: Path, mu: Measure | None) -> Solution:
    arrays, meta = records.read(path, "solution", contents.check_solution)
    with records.complete(path):
        numbers.check_numbers(arrays)
        own = _take_source(arrays)
        tree = records.unflatten(arrays)
        history, asked = tree.pop("history"), tree.pop("problem", None)
        tree = jax.tree.map(jnp.asarray, tree)
        found = trees.solution({**tree, "history": history}, arrays["status"].shape)
        if asked is not None:
            check_weights(asked.get("nu"), check_targets(asked["y"]))
    if asked is None:
        if mu is not None:
            raise ValueError(
                f"`mu` is given, but the solution in {str(path)!r} has no problem; leave it out."
            )
        return found
    if mu is None and meta.get("source") is _CODE:
        return found
    source = _source(path, meta, mu, own, asked["y"].shape[-1])
    return replace(found, problem=Problem(source, asked["y"], asked.get("nu")))


def _extension(path: Path, mu: Measure | None) -> Extension:
    arrays, meta = records.read(path, "extension", contents.check_extension)
    with records.complete(path):
        numbers.check_numbers(arrays)
    own = _take_source(arrays)
    tree = jax.tree.map(jnp.asarray, records.unflatten(arrays))
    return trees.extension(tree, _source(path, meta, mu, own, arrays["y"].shape[-1]))


def _source(
    path: Path,
    meta: Mapping[str, Any],
    mu: Measure | None,
    own: dict[str, np.ndarray],
    dim: int,
) -> Measure:
    """The source that a file names, or the one that was passed where it is code."""
    source = meta.get("source")
    if source is not _CODE and mu is not None:
        name, _ = contents.name_and_parts(source)
        raise ValueError(
            f"`mu` is given, but {str(path)!r} holds its source, {name}; leave it out."
        )
    if source is not _CODE:
        return _made(source, own, dim)
    if mu is None:
        raise ValueError(
            f"`mu` is None, but the source of {str(path)!r} is code, which no file holds; pass the "
            f"measure of {dim} dimensions that the extension was made with."
        )
    check_measure(mu, np.zeros((1, dim), np.float32))
    return mu


def _made(source: Any, own: dict[str, np.ndarray], dim: int, start: str = "") -> Measure:
    """The source that a file tells of, from its arrays."""
    name, parts = contents.name_and_parts(source)
    kind = table.IN_FILES[name]
    held: dict[str, Any] = {key: jnp.asarray(own[start + key]) for key in table.arrays(kind)}
    for key, part in parts.items():
        held[key] = _made(part["source"], own, part["dim"], f"{start}{key}/")
    if any(field.name == "dim" for field in dataclasses.fields(kind)):
        held["dim"] = dim
    return kind(**held)
