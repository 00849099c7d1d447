"""Records to nested dicts of arrays, for files, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from aeot_jax.checkpoints import contents
from aeot_jax.measures import Measure
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.density.kernels import Kernels
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.extension.noise.moving import Noise
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.solver.solution import History, Solution

_LEFT_OUT = "mu", "search"
"""Fields that no file holds as arrays: a source is described, how cells were found is not kept."""


def arrays_of(value: Any) -> Any:
    """Turn records and named tuples into dicts of arrays, without None and ``_LEFT_OUT``."""
    if isinstance(value, Mapping):
        return {key: arrays_of(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        held = {name: part for name, part in parts.items() if part is not None}
        return {name: arrays_of(part) for name, part in held.items() if name not in _LEFT_OUT}
    if hasattr(value, "_asdict"):
        return {key: arrays_of(item) for key, item in value._asdict().items()}
    return np.asarray(value)


def solution(tree: dict[str, Any], batch: tuple[int, ...]) -> Solution:
    """Make a solution from its arrays; files of earlier versions lack some of the certificate's."""
    certificate = contents.fill_later(Certificate, tree.pop("certificate"), batch)
    history = History(**tree.pop("history"))
    return Solution(**tree, certificate=Certificate(**certificate), history=history)


def extension(tree: dict[str, Any], mu: Measure) -> Extension:
    """Make an extension from its arrays and its source."""
    noise = tree.pop("noise", None)
    if noise is not None:
        noise = Noise(kernels=Kernels(**noise.pop("kernels")), **noise)
    return Extension(mu=mu, frame=Frame(**tree.pop("frame")), noise=noise, **tree)
