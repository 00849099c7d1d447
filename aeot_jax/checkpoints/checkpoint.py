"""The file of a model, and the folder of a run that can be resumed."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax._version import __version__
from aeot_jax.checkpoints import contents, numbers, trees
from aeot_jax.checkpoints import identity as identities
from aeot_jax.checkpoints.configs import config_from_json as config_from_json
from aeot_jax.checkpoints.configs import config_to_json as config_to_json
from aeot_jax.classes import ClassMaps
from aeot_jax.inputs.columns import Columns
from aeot_jax.measures import table
from aeot_jax.model import AEOT, Config
from aeot_jax.nn.train import TrainState
from aeot_jax.ot.solver.result import Status
from aeot_jax.storage import records, runs
from aeot_jax.storage.runs import MODEL_FILE as MODEL_FILE
from aeot_jax.storage.runs import TRAINING_FILE as TRAINING_FILE


def read(path: Path) -> AEOT:
    """Read the file of a model; raises as ``saving.load``."""
    arrays, meta = records.read(path, "model", contents.check_model)
    with records.complete(path):
        numbers.check_numbers(arrays)
        contents.check_classes(meta, arrays)
        return _model(arrays, meta)


def write(model: AEOT, path: str | os.PathLike[str], identity: str | None = None) -> None:
    """Write the file of a model; in a run, with the fingerprint of its fit."""
    tree = {
        field.name: trees.arrays_of(getattr(model, field.name))
        for field in dataclasses.fields(model)
        if not field.metadata.get("static") and getattr(model, field.name) is not None
    }
    meta = {
        "version": __version__,
        "config": config_to_json(model.config),
        "image_shape": None if model.image_shape is None else list(model.image_shape),
        "label_names": None if model.label_names is None else list(model.label_names),
        "identity": identity,
    }
    records.write(path, "model", records.flatten(tree), meta)


def _model(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> AEOT:
    tree = records.unflatten(arrays)
    config, image_shape = contents.parts(meta)
    host_history = tree["solution"].pop("history")
    tree = jax.tree.map(jnp.asarray, tree)
    mu = table.CHOICES[config.source](int(tree["centre"].shape[0]))
    solution = trees.solution({**tree.pop("solution"), "history": host_history}, ())
    extension = trees.extension(tree.pop("extension"), mu)
    if (units := tree.pop("columns", None)) is not None:
        units = Columns(**units)
    classes = tree.pop("classes", None)  # None without labels
    if classes is not None:
        classes = ClassMaps(
            solution=trees.solution(classes.pop("solution"), classes["labels"].shape),
            extension=trees.extension(classes.pop("extension"), mu),
            **classes,
        )
    return AEOT(
        params=tree.pop("params", None),
        **tree,
        columns=units,
        solution=solution,
        extension=extension,
        classes=classes,
        config=config,
        image_shape=image_shape,
        label_names=contents.label_names(meta),
    )


@dataclass(frozen=True, eq=False)
class Training:
    """The state of an interrupted training.

    Attributes:
      path: the file that it was read from.
      leaves: leaves of the ``TrainState``, by their position in the tree.
      losses: losses of the finished epochs.
    """

    path: Path
    leaves: dict[str, np.ndarray]
    losses: list[float]

    def restore(self, like: TrainState) -> TrainState:
        """Rebuild the state with the tree structure of ``like``.

        Raises:
          ValueError: if its leaves do not fit ``like``.
        """
        with records.complete(self.path):
            contents.check_arrays(_leaves_of(like), self.leaves)
            state = jax.tree.unflatten(
                jax.tree.structure(like), [self.leaves[name] for name in sorted(self.leaves)]
            )
            if int(state.epoch) != len(self.losses):
                raise ValueError(f"it has {len(self.losses)} losses after {state.epoch} epochs")
        return jax.tree.map(jnp.asarray, state)


def _leaves_of(state: TrainState) -> dict[str, contents.Wanted]:
    leaves = enumerate(jax.tree.leaves(state))
    return {f"{i:05d}": contents.Wanted(leaf.shape, (np.dtype(leaf.dtype),)) for i, leaf in leaves}


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    Attributes:
      folder: where files are written: the folder itself, or ``.next`` in it for a replacement.
      identity: fingerprint of the fit.
      finished: the model, if this run has finished before.
      training: its training, if that was interrupted.
    """

    folder: Path
    identity: str
    finished: AEOT | None
    training: Training | None

    def save_training(self, state: TrainState, losses: list[float]) -> None:
        """Save the state after an epoch."""
        leaves = {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        arrays = {**leaves, "losses": np.asarray(losses, np.float64)}
        meta = {"version": __version__, "identity": self.identity}
        records.write(self.folder / TRAINING_FILE, "training", arrays, meta)

    def save_model(self, model: AEOT) -> None:
        """Save the model, and then remove the checkpoint of the training.

        If the transport was interrupted, the checkpoint stays, and a resumed run continues from it.
        """
        write(model, self.folder / MODEL_FILE, self.identity)
        if int(model.solution.status) != Status.INTERRUPTED:
            (self.folder / TRAINING_FILE).unlink(missing_ok=True)


class OtherRunError(ValueError):
    """A folder holds another run than the one to resume.

    Attributes:
      differences: what has changed, in words; empty if that is not known.
    """

    def __init__(self, folder: Path, differences: list[str]):
        self.differences = differences
        said = f" ({'; '.join(differences)})" if differences else ""
        super().__init__(
            f"`run_dir` {str(folder)!r} holds a run with another key, other images or labels or "
            f"another configuration{said}; resume with the same, or overwrite it."
        )


def place(folder: Path, identity: str, *, resume: bool = False, overwrite: bool = False) -> Path:
    """The folder to write a run to: its own, or ``.next`` in it to replace an earlier run.

    ``runs.replace`` completes a replacement.

    Args:
      folder: the folder of the run.
      identity: fingerprint of the fit.
      resume: continue the run, or the replacement, in the folder; it must be the same fit.
      overwrite: replace the run in the folder; an unfinished replacement is dropped.

    Raises:
      ValueError: if both flags are set; if neither is set and the folder holds a run; or if the run
        to resume is of another fit.
    """
    if resume and overwrite:
        raise ValueError("`resume` and `overwrite` are both set; choose one.")
    found = runs.held(folder)
    started = runs.held(folder / runs.NEXT)
    if overwrite:
        runs.drop_next(folder)
        return folder / runs.NEXT if found else folder
    if not (found or started):
        return folder
    if not resume:
        name = found or f"{runs.NEXT}/{started}"
        raise ValueError(
            f"`run_dir` {str(folder)!r} already holds a run ({name}); resume it, overwrite it, "
            "or choose another folder."
        )
    known = None
    for work in (folder / runs.NEXT, folder):
        file, kind = _furthest(work)
        if file is not None:
            own = records.read_meta(file, kind).get("identity")
            if identities.same(identity, own):
                return work
            known = known or own
    raise OtherRunError(folder, identities.differences(identity, known))


def as_begun(folder: Path, config: Config) -> Config:
    """The configuration to resume the run in a folder with; see ``identity.as_begun``.

    Where the run cannot be read, it stays as it is; ``open_run`` says why.
    """
    try:
        for work in (folder / runs.NEXT, folder):
            file, kind = _furthest(work)
            if file is not None:
                return identities.as_begun(config, records.read_meta(file, kind).get("identity"))
    except (ValueError, OSError):
        return config
    return config


def _furthest(folder: Path) -> tuple[Path | None, str]:
    """The file to resume a run from, and its kind.

    A checkpoint beside a model means that the transport was interrupted.
    """
    for name, kind in ((TRAINING_FILE, "training"), (MODEL_FILE, "model")):
        if (folder / name).exists():
            return folder / name, kind
    return None, ""


def open_run(folder: Path, identity: str, *, resume: bool = False, overwrite: bool = False) -> Run:
    """Open the folder of a run: to begin it, to resume it, or to replace an earlier run at the end.

    Args:
      folder: made if missing.
      identity: fingerprint of the fit.
      resume: continue the run in the folder; it must be the same fit.
      overwrite: replace the run in the folder.

    Raises:
      ValueError: as ``place``, or if the file to resume from is damaged.
    """
    work = place(folder, identity, resume=resume, overwrite=overwrite)
    work.mkdir(parents=True, exist_ok=True)
    file, kind = _furthest(work)
    if file is None:
        return Run(work, identity, None, None)
    if kind == "model":
        return Run(work, identity, read(file), None)
    arrays, _ = records.read(file, kind)
    with records.complete(file):
        return Run(work, identity, None, _training(file, arrays))


def _training(path: Path, arrays: dict[str, np.ndarray]) -> Training:
    losses = arrays.pop("losses", np.zeros(()))
    if losses.ndim != 1 or losses.dtype != np.float64:
        raise ValueError("it holds no losses")
    for name, array in (("losses", losses), *arrays.items()):
        if not np.isfinite(array).all():
            raise ValueError(f"its array {name!r} is not finite")
    return Training(path, arrays, losses.tolist())
