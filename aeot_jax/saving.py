"""What ``save`` writes and ``load`` reads: models, solutions, extensions; arrays, never code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax import arguments, checkpoint, contents, records, runs, trees
from aeot_jax._version import __version__
from aeot_jax.measures import Empirical, Measure
from aeot_jax.model import AEOT
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.problem import check_measure
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.typing import Given

_POINTS = "mu/points"
"""Atoms of an `Empirical` source in the file of an extension."""

_CODE = None
"""What a file says of a source that is code."""


def save(thing: Given[AEOT | Solution | Extension], path: Given[str | os.PathLike[str]]) -> None:
    """Write a model, a solution or an extension to one file, whole or not at all.

    An older file stays until the new is whole. Code is not saved: an optax transformation in the
    configuration, somebody's own encoder and decoder, a source by ``FromSampler`` or of a class of
    one's own. Neither are devices. All else is.

    Args:
      thing: from ``fit``, ``fit_codes``, ``solve`` or ``extension``.
      path: the file, ``.npz`` by custom.

    Raises:
      ValueError: if it is something else, or traced.
      OSError: if the folder cannot be written or the disk is full.
    """
    way = "a model of `fit`, a `Solution` of `solve` or an `Extension` of `extension`"
    arguments.instance("thing", thing, (AEOT, Solution, Extension), way)
    path = arguments.path("path", path)
    arguments.refuse_trace("save", "call it outside of `jax.jit`", thing=thing)
    if isinstance(thing, AEOT):
        checkpoint.write(thing, path)
    elif isinstance(thing, Solution):
        meta = {"version": __version__, "solution_schema": contents.SOLUTION_SCHEMA}
        records.write(path, "solution", records.flatten(trees.arrays_of(thing)), meta)
    else:
        arrays, source = records.flatten(trees.arrays_of(thing)), _CODE
        kind = type(thing.mu)
        if kind in contents.NAMED.values():  # by itself: somebody's own may bear the same name
            source = kind.__name__
        elif isinstance(thing.mu, Empirical) and kind is Empirical:
            source, arrays[_POINTS] = "Empirical", np.asarray(thing.mu.points)
        records.write(path, "extension", arrays, {"version": __version__, "source": source})


def load(path: Given[str | os.PathLike[str]], *, mu: Given[Measure | None] = None) -> Any:
    """Read what ``save`` or a run wrote.

    The file is held against what it must hold, before memory is taken: names, types and shapes of
    the arrays; then against its checksum; then the numbers.

    Args:
      path: the file, or the folder of a run.
      mu: the source of an extension whose source is code, which no file holds; else leave it out.

    Returns:
      A model (`AEOT`), a `Solution` or an `Extension`, as the file says.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, of another schema or of a newer version, if ``mu`` is
        missing or not asked for, or if the folder holds files of another run beside the model.
    """
    path = arguments.path("path", path)
    kind = "model" if path.is_dir() else records.kind_of(path, ("model", "solution", "extension"))
    if mu is not None and kind != "extension":
        raise ValueError(f"`mu` is given, but {str(path)!r} holds a {kind}; leave it out.")
    if kind == "extension":
        return _extension(path, mu)
    if kind == "solution":
        return _solution(path)
    if not path.is_dir():
        return checkpoint.read(path)
    runs.settle(path)
    model = checkpoint.read(path / checkpoint.MODEL_FILE)
    runs.check_together(path, (runs.CONFIG,))
    return model


def _solution(path: Path) -> Solution:
    arrays, _ = records.read(path, "solution", contents.check_solution)
    with records.complete(path):
        contents.check_numbers(arrays)
        tree = records.unflatten(arrays)
        history = tree.pop("history")
        tree = jax.tree.map(jnp.asarray, tree)
        return trees.solution({**tree, "history": history}, arrays["status"].shape)


def _extension(path: Path, mu: Measure | None) -> Extension:
    arrays, meta = records.read(path, "extension", contents.check_extension)
    with records.complete(path):
        contents.check_numbers(arrays)
    points = arrays.pop(_POINTS, None)
    tree = jax.tree.map(jnp.asarray, records.unflatten(arrays))
    return trees.extension(tree, _source(path, meta, mu, points, arrays["y"].shape[-1]))


def _source(
    path: Path,
    meta: Mapping[str, Any],
    mu: Measure | None,
    points: np.ndarray | None,
    dim: int,
) -> Measure:
    """The source that a file names, or the one that was passed where it is code."""
    name = meta.get("source")
    if name is not _CODE and mu is not None:
        raise ValueError(
            f"`mu` is given, but {str(path)!r} holds its source, {name}; leave it out."
        )
    if points is not None:
        return Empirical(jnp.asarray(points))
    if name is not _CODE:
        return contents.NAMED[str(name)](dim)
    if mu is None:
        raise ValueError(
            f"`mu` is None, but the source of {str(path)!r} is code, which no file holds; pass the "
            f"measure of {dim} dimensions that the extension was made with."
        )
    check_measure(mu, np.zeros((1, dim), np.float32))
    return mu
