"""Models on disk, and the folder of a run that can be resumed."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt8

from aeot_jax import records
from aeot_jax._version import __version__
from aeot_jax.classes import Classes
from aeot_jax.measures import Measure
from aeot_jax.model import AEOT, SOURCES, Config, ExtensionConfig, check_model
from aeot_jax.nn.models import AutoencoderConfig
from aeot_jax.nn.train import TrainConfig, TrainState
from aeot_jax.ot.config import SolverConfig
from aeot_jax.ot.estimate import Certificate
from aeot_jax.ot.problem import Frame
from aeot_jax.ot.result import Status
from aeot_jax.ot.singular import Extension
from aeot_jax.ot.solution import History, Solution
from aeot_jax.typing import Given, PRNGKey

MODEL_FILE = "model.npz"
"""The fitted model in a run's folder."""

TRAINING_FILE = "checkpoint.npz"
"""The autoencoder after its last finished epoch; removed once the model is saved."""


def save(model: Given[AEOT], path: str | os.PathLike[str]) -> None:
    """Write a model to one file, whole or not at all; an older file stays until the new is whole.

    An optax transformation in the configuration is code and is not saved, and neither are devices;
    all else is.

    Args:
      model: from ``fit``.
      path: the file, ``.npz`` by custom.

    Raises:
      OSError: if the folder cannot be written or the disk is full.
    """
    check_model(model)
    _save(model, path, identity=None)


def load(path: str | os.PathLike[str]) -> AEOT:
    """Read a model that ``save`` or a run wrote.

    Args:
      path: the file, or the folder of a run.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, or not a model of this schema.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    return _model(*records.read(path, "model"))


def _save(model: AEOT, path: str | os.PathLike[str], identity: str | None) -> None:
    tree = {
        field.name: _arrays(getattr(model, field.name))
        for field in dataclasses.fields(model)
        if field.name not in ("config", "image_shape")
    }
    if model.classes is None:
        del tree["classes"]
    meta = {
        "version": __version__,
        "config": config_to_json(model.config),
        "image_shape": list(model.image_shape),
        "identity": identity,
    }
    records.write(path, "model", records.flatten(tree), meta)


def _arrays(value: Any) -> Any:
    """Records and tuples with names as nested dicts of arrays; the source is in the config."""
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "mu"]
        return {name: _arrays(getattr(value, name)) for name in names}
    if hasattr(value, "_asdict"):
        return {key: _arrays(item) for key, item in value._asdict().items()}
    return np.asarray(value)


def _solution(tree: dict[str, Any]) -> Solution:
    found, history = tree.pop("certificate"), History(**tree.pop("history"))
    unknown = {  # what files of earlier versions do not tell
        "upper": jnp.full_like(found["mass_error"], jnp.inf),
        "num_unverified": jnp.zeros_like(found["num_empty"]),
        "unverified_weight": jnp.zeros_like(found["mass_error"]),
        "samples_to_verify": jnp.zeros_like(found["mass_error"]),
    }
    return Solution(**tree, certificate=Certificate(**unknown | found), history=history)


def _extension(tree: dict[str, Any], mu: Measure) -> Extension:
    return Extension(mu=mu, frame=Frame(**tree.pop("frame")), **tree)


def _model(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> AEOT:
    tree = records.unflatten(arrays)
    config = config_from_json(meta["config"])
    host_history = tree["solution"].pop("history")
    tree = jax.tree.map(jnp.asarray, tree)
    mu = SOURCES[config.source](int(tree["centre"].shape[0]))
    solution = _solution({**tree.pop("solution"), "history": host_history})
    extension = _extension(tree.pop("extension"), mu)
    classes = tree.pop("classes", None)  # files of models without classes have none
    if classes is not None:
        classes = Classes(
            solution=_solution(classes.pop("solution")),
            extension=_extension(classes.pop("extension"), mu),
            **classes,
        )
    return AEOT(
        **tree,
        solution=solution,
        extension=extension,
        classes=classes,
        config=config,
        image_shape=tuple(meta["image_shape"]),
    )


def config_to_json(config: Config) -> dict[str, Any]:
    """A configuration as nested dicts that JSON can hold.

    A custom optimiser is left out, and so are the devices, which do not change the answer.
    """
    solver = dataclasses.replace(config.solver, optimizer=None, devices=None)
    tree = dataclasses.asdict(dataclasses.replace(config, solver=solver))
    for name in ("parallel", "devices", "target_shards"):
        del tree["solver"][name]
    return tree


def config_from_json(tree: Mapping[str, Any]) -> Config:
    """The inverse of ``config_to_json``."""
    return Config(
        autoencoder=AutoencoderConfig(**tree["autoencoder"]),
        training=TrainConfig(**tree["training"]),
        source=tree["source"],
        solver=SolverConfig(**tree["solver"]),
        extension=ExtensionConfig(**tree["extension"]),
    )


def identity(
    key: PRNGKey,
    images: UInt8[np.ndarray, "n h w c"],
    config: Config,
    labels: Int32[np.ndarray, " n"] | None = None,
) -> str:
    """A fingerprint of what determines a fit: key, images, configuration, labels.

    Of an optax transformation, which is code, it says only whether there is one.
    """
    digest = hashlib.sha256()
    raw = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    digest.update(np.asarray(raw).tobytes())
    custom = config.solver.optimizer is not None
    digest.update(f"{images.shape} {config_to_json(config)} {custom}".encode())
    digest.update(np.ascontiguousarray(images).data)
    if labels is not None:
        digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Training:
    """The state of a training that was cut off.

    Attributes:
      leaves: of the ``TrainState``, in the order of the tree.
      losses: of the epochs done.
    """

    leaves: list[np.ndarray]
    losses: list[float]

    def restore(self, like: TrainState) -> TrainState:
        """The state, in the structure of a fresh one."""
        structure = jax.tree.structure(like)
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in self.leaves])


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    Attributes:
      folder: where it is.
      identity: fingerprint of the fit.
      finished: the model, if this very run has ended before.
      training: where its training was cut off, if it was.
    """

    folder: Path
    identity: str
    finished: AEOT | None
    training: Training | None

    def save_training(self, state: TrainState, losses: list[float]) -> None:
        """Keep the state after an epoch."""
        leaves = {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        arrays = {**leaves, "losses": np.asarray(losses, np.float64)}
        meta = {"version": __version__, "identity": self.identity}
        records.write(self.folder / TRAINING_FILE, "training", arrays, meta)

    def save_model(self, model: AEOT) -> None:
        """Keep the model; only then is the training's checkpoint removed.

        It stays beside a model whose transport was interrupted, and a resumed run goes on from it.
        """
        _save(model, self.folder / MODEL_FILE, self.identity)
        if int(model.solution.status) != Status.INTERRUPTED:
            (self.folder / TRAINING_FILE).unlink(missing_ok=True)


def open_run(folder: Path, identity: str, *, resume: bool = False, overwrite: bool = False) -> Run:
    """Open the folder of a run: empty, to be resumed, or to be replaced.

    Replacing removes the earlier checkpoint at once, and the earlier model only when the new one
    is saved.

    Args:
      folder: made if missing.
      identity: fingerprint of the fit.
      resume: continue what is there; it must be the same fit.
      overwrite: replace what is there.

    Raises:
      ValueError: if the folder holds a run and neither flag is set, both are, or the run to resume
        is of another fit.
    """
    if resume and overwrite:
        raise ValueError("`resume` and `overwrite` are both set; choose one.")
    held = [name for name in (MODEL_FILE, TRAINING_FILE) if (folder / name).exists()]
    if held and not (resume or overwrite):
        raise ValueError(
            f"`run_dir` {str(folder)!r} already holds a run ({held[0]}); resume it, overwrite it, "
            "or choose another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (folder / TRAINING_FILE).unlink(missing_ok=True)
    if not (resume and held):
        return Run(folder, identity, None, None)
    name, kind = (TRAINING_FILE, "training"), (MODEL_FILE, "model")
    file, what = name if TRAINING_FILE in held else kind
    arrays, meta = records.read(folder / file, what)
    if meta["identity"] != identity:
        raise ValueError(
            f"`run_dir` {str(folder)!r} holds a run with another key, other images or labels or "
            "another configuration; resume with the same, or overwrite it."
        )
    if what == "model":
        return Run(folder, identity, _model(arrays, meta), None)
    losses = [float(loss) for loss in arrays.pop("losses")]
    return Run(folder, identity, None, Training([arrays[k] for k in sorted(arrays)], losses))
