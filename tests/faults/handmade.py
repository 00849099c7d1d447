"""A model that no fit made, and the folder of a run around it: all that is cheap to make."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import aeot_jax as aeot
from aeot_jax.checkpoints import checkpoint
from aeot_jax.cli.options import folder, source
from aeot_jax.nn import models
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.solver.solution import History
from aeot_jax.storage import documents, runs

CONFIG = aeot.Config(
    aeot.AutoencoderConfig(kind="mlp", latent_dim=3, width=16), aeot.TrainConfig(epochs=2)
)
SHAPE = (8, 8, 1)
IDENTITY = "0" * 64


def zeros(kind, batch):
    """A certificate, with whatever fields it has."""
    whole = ("num_empty", "num_samples", "num_unverified")
    fields = kind.__dataclass_fields__
    return kind(**{name: jnp.zeros(batch, int if name in whole else float) for name in fields})


def transport(rng, batch, m):
    y = rng.standard_normal((*batch, m, 3)).astype(np.float32)
    h = -0.5 * (y * y).sum(-1)
    count = jnp.ones(batch, jnp.int32)
    history = History(np.ones((*batch, 2), np.int32), *np.ones((2, *batch, 2), np.float32))
    solution = aeot.Solution(
        h=jnp.asarray(h),
        status=count,
        certificate=zeros(aeot.Certificate, batch),
        method=count,
        num_steps=count,
        num_samples=count,
        num_check_samples=count,
        history=history,
    )
    number = jnp.full(batch, 0.1, jnp.float32)
    extension = aeot.Extension(
        mu=aeot.Gaussian(3),
        y=jnp.asarray(y),
        h=jnp.asarray(h),
        frame=Frame(jnp.zeros((*batch, 3)), jnp.ones(batch)),
        band=number,
        margin=number / 10,
        threshold=number * 30,
        face_angles=jnp.ones((*batch, 5)),
        neighbour_angles=jnp.ones((*batch, m)),
    )
    return solution, extension


def model(seed=0, *, labels=True):
    rng = np.random.default_rng(seed)
    solution, extension = transport(rng, (), 12)
    classes = aeot.ClassMaps(
        jnp.arange(2, dtype=jnp.int32), jnp.full(2, 0.5), *transport(rng, (2,), 6)
    )
    return aeot.AEOT(
        params=models.functions(SHAPE, CONFIG.autoencoder).init(jax.random.key(seed)),
        centre=jnp.zeros(3),
        scale=jnp.ones(3),
        losses=jnp.ones(2),
        solution=solution,
        extension=extension,
        seconds={"map": jnp.float32(seed)},
        config=CONFIG,
        image_shape=SHAPE,
        classes=classes if labels else None,
    )


def write_run(run: Path, seed=0) -> Path:
    """All files of a run: of `aeot-jax fit`, of `evaluate`, and the checkpoint of a training."""
    checkpoint.Run(run, IDENTITY, None, None).save_model(model(seed))
    rng = np.random.default_rng(seed)
    from PIL import Image

    for name in runs.PICTURES:
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(run / name)
    (run / runs.REPORT).write_text(f"<!DOCTYPE html><title>{seed}</title>")
    where = source.Source("digits", 60, 0, seed)
    described = source.load(where).describe()
    folder.write_config(run, where, described, seed, CONFIG, labels=True)
    folder.write_metrics(run, {"mass_error": 0.1, "seed": seed})
    mine = {runs.MODEL: folder.model_checksum(run)}
    documents.write(run / runs.EVALUATION, {"mass_error": 0.1, **mine})
    return run


def copy(run: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to)
    return to
