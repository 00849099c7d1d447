"""The fitted model: a record of arrays, and pure functions of it."""

import difflib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.classes import ClassMaps
from aeot_jax.inputs.columns import Columns, measured
from aeot_jax.inputs.networks import Networks, codes_of, data_of
from aeot_jax.inputs.pixels import check_floats
from aeot_jax.measures import table
from aeot_jax.measures.table import Source
from aeot_jax.nn import models
from aeot_jax.nn.models import AutoencoderConfig
from aeot_jax.nn.train import TrainConfig
from aeot_jax.ot.extension.config import ExtensionConfig
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.reprs import known, or_brief, short
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given

_SHOWN_NAMES = 5
"""Most class names that an error lists."""

_BLOCK = 1024
"""Images per block of encoding and decoding."""


@arguments.known_fields
@dataclass(frozen=True)
class Config:
    """The configuration of a fit; the defaults suit every data set.

    Attributes:
      autoencoder: the networks.
      training: the autoencoder's training.
      source: distribution of the noise: "gaussian" is N(0, I), "cube" is uniform on
        [-1/2, 1/2]^d, "ball" is uniform on the unit ball.
      solver: the transport problem.
      extension: the map between the cells.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    source: Source = "gaussian"
    solver: SolverConfig = field(default_factory=SolverConfig)
    extension: ExtensionConfig = field(default_factory=ExtensionConfig)

    def __post_init__(self):
        for name, kind in (
            ("autoencoder", AutoencoderConfig),
            ("training", TrainConfig),
            ("solver", SolverConfig),
            ("extension", ExtensionConfig),
        ):
            way = f"an `aeot_jax.{kind.__name__}(...)`"
            arguments.instance(name, getattr(self, name), kind, way)
        arguments.choice("source", self.source, tuple(table.CHOICES))


@register
@dataclass(frozen=True)
class AEOT:
    """A fitted model: a pytree, with its configuration as static data.

    Attributes:
      params: parameters of encoder and decoder; None if the model was fitted to codes.
      centre: mean of the raw codes (z,).
      scale: standard deviation of each coordinate of the raw codes (z,).
      losses: mean loss of the autoencoder in each epoch of both stages (e,).
      solution: heights with their certificate.
      extension: the map; ``extension.y`` are the standardised codes (m, z).
      seconds: wall time of each stage of ``STAGES``.
      config: as passed to ``fit``.
      image_shape: (height, width, channels); (D,) for a table; None if the model was fitted to
        codes.
      classes: one transport problem per class, if ``fit`` got labels.
      columns: centre and scale of the columns of a table.
      networks: the user's own encoder and decoder, if ``fit`` got them; no file holds them.
      label_names: names of the classes, indexed by label; None if the labels have no names.
    """

    params: models.Params | None
    centre: Float[Array, " z"]
    scale: Float[Array, " z"]
    losses: Float[Array, " e"]
    solution: Solution
    extension: Extension
    seconds: dict[str, Float[Array, ""]]
    config: Config = field(metadata={"static": True})
    image_shape: tuple[int, ...] | None = field(metadata={"static": True})
    classes: ClassMaps | None = None
    columns: Columns | None = None
    networks: Networks | None = field(default=None, metadata={"static": True})
    label_names: tuple[str, ...] | None = field(default=None, metadata={"static": True})

    @or_brief
    def __repr__(self) -> str:
        """What the model makes, and the quality of each part, one per line."""
        makes = "codes" if self.image_shape is None else " x ".join(map(str, self.image_shape))
        lines = [
            f"AEOT({makes}, codes in {np.shape(self.centre)[-1]} dimensions",
            f"  losses={_ends(self.losses)}",
            f"  solution={self.solution!r}",
            f"  extension={self.extension!r}",
        ]
        if self.classes is not None:
            lines.append(f"  classes={self.classes!r}")
        return "\n".join(lines) + ")"


def _ends(losses: object) -> str:
    """The first and the last loss, if they are known."""
    values = known(losses)
    if values is None or values.size == 0:
        return short(losses)
    flat = values.ravel()
    return f"{flat[0]:.4f} ... {flat[-1]:.4f} ({flat.size} epochs)"


def check_model(model: Given[AEOT]) -> None:
    """Raise a ValueError unless this is a fitted model."""
    arguments.instance("model", model, AEOT, "what `aeot_jax.fit` or `aeot_jax.load` returns")


def _blocks(
    function: Callable[[Float[Array, "b ..."]], Float[Array, "b ..."]], rows: Array
) -> Array:
    """Apply a function to rows in blocks, so that memory does not grow with the number of rows."""
    n = rows.shape[0]
    if n <= _BLOCK:
        return function(rows)
    whole = n // _BLOCK * _BLOCK
    head = jax.lax.map(function, rows[:whole].reshape(-1, _BLOCK, *rows.shape[1:]))
    head = head.reshape(whole, *head.shape[2:])
    return head if whole == n else jnp.concatenate([head, function(rows[whole:])])


def encode(model: Given[AEOT], images: ArrayLike) -> Float[Array, "n z"]:
    """Encode images, rows of a table, or raw codes to standardised codes; pure and jit-able.

    Args:
      model: from ``fit`` or ``fit_codes``.
      images: (n, height, width, channels), or (n, height, width) for one channel; uint8 in 0..255
        or floats in [0, 1]. If the model was fitted to a table: rows (n, D) in the units of its
        columns. If it was fitted with ``encode``: the input of that function, which is called in
        batches. If it was fitted to codes, or loaded from a file of such a model: codes (n, z) in
        the units of the encoder.

    Returns:
      Codes (n, z). On the training data, each coordinate has about zero mean and unit variance.

    Raises:
      ValueError: if the images have another size than the model's, or known (not traced) floats
        are outside [0, 1].
    """
    check_model(model)
    if model.networks is not None and model.networks.encode is not None:
        images = codes_of(model.networks.encode, arguments.host_array("images", images))
        return _standardise(model, images)
    given = x = arguments.array("images", images)
    shape = model.centre.shape if model.image_shape is None else model.image_shape
    if x.ndim == 3 and len(shape) == 3 and shape[2] == 1:
        x = x[..., None]
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        raise ValueError(
            f"`images` has shape {given.shape}, but the model was fitted to {kind_of(model)} of "
            f"shape {shape}; pass (n, {', '.join(map(str, shape))})."
        )
    if model.image_shape is None:
        return _standardise(model, x)
    if model.columns is not None:
        if arguments.is_concrete(x, model):
            x = measured(np.asarray(x), *model.columns)
        else:
            x = (x - model.columns.centre[None, :]) / model.columns.scale[None, :]
        return _encode(model, arguments.real("images", x))
    if jnp.issubdtype(x.dtype, jnp.floating):
        if arguments.is_concrete(x):
            check_floats(np.asarray(x), "`images`")
        x = arguments.real("images", x)
    return _encode(model, x)


def _own_networks(model: AEOT) -> tuple[models.Params, tuple[int, ...]]:
    assert model.params is not None  # the model was not fitted to codes
    assert model.image_shape is not None
    return model.params, model.image_shape


def kind_of(model: AEOT) -> Literal["images", "rows", "codes"]:
    """The kind of data that a model was fitted to, and makes."""
    if model.image_shape is None:
        return "codes"
    return "rows" if models.is_table(model.image_shape) else "images"


def _standardise(model: AEOT, codes: ArrayLike) -> Float[Array, "n z"]:
    """Standardise codes in the encoder's units; known ones are centred in float64."""
    found = arguments.array("images", codes)
    if found.shape[1:] != model.centre.shape:
        raise ValueError(
            f"`encode` gave codes of shape {found.shape[1:]} per row, but the model's have "
            f"{model.centre.shape[0]} dimensions; use the encoder that it was fitted with."
        )
    if not arguments.is_concrete(found, model):
        return (arguments.real("images", found) - model.centre[None, :]) / model.scale[None, :]
    return arguments.real("images", measured(np.asarray(found), model.centre, model.scale))


@jax.jit
def _encode(model: AEOT, x: Array) -> Float[Array, "n z"]:
    params, shape = _own_networks(model)
    functions = models.functions(shape, model.config.autoencoder)
    raw = _blocks(lambda block: functions.encode(params, block), x)
    return (raw - model.centre[None, :]) / model.scale[None, :]


def decode(model: Given[AEOT], z: ArrayLike) -> Float[Array, "n ..."]:
    """Decode standardised codes to images, rows of a table, or raw codes; pure and jit-able.

    Args:
      model: from ``fit`` or ``fit_codes``.
      z: standardised codes (n, latent), as from ``encode`` or ``generate``. Those of
        ``sample_codes`` are in the units of the encoder; ``sample`` with the same key decodes them.

    Returns:
      Images (n, height, width, channels), float32 in [0, 1]. If the model was fitted to a table:
      rows (n, D) in the units of its columns. If it was fitted with ``decode``: the output of that
      function, which is called in batches. If it was fitted to codes, or loaded from a file of such
      a model: codes (n, latent) in the units of the encoder.

    Raises:
      ValueError: if the codes have another dimension than the model's.
    """
    check_model(model)
    codes = arguments.array("z", z)
    if codes.ndim != 2 or codes.shape[1:] != model.centre.shape:
        raise ValueError(
            f"`z` has shape {codes.shape}, but the model's codes have {model.centre.shape[0]} "
            f"dimensions; pass (n, {model.centre.shape[0]})."
        )
    standard = arguments.real("z", codes)
    if model.image_shape is not None:
        return _decode(model, standard)
    raw = raw_codes(model, standard)
    own = model.networks
    return raw if own is None or own.decode is None else jnp.asarray(data_of(own.decode, raw))


@jax.jit
def raw_codes(model: AEOT, z: Float[Array, "n z"]) -> Float[Array, "n z"]:
    """Convert standardised codes to the units of the encoder."""
    return z * model.scale[None, :] + model.centre[None, :]


@jax.jit
def _decode(model: AEOT, z: Float[Array, "n z"]) -> Float[Array, "n ..."]:
    params, shape = _own_networks(model)
    functions = models.functions(shape, model.config.autoencoder)
    found = _blocks(lambda block: functions.show(params, block), raw_codes(model, z))
    if model.columns is not None:
        found = found * model.columns.scale[None, :] + model.columns.centre[None, :]
    return found


def extension_of(model: AEOT, label: Given[int | str | None]) -> Extension:
    """The map onto all codes, or onto those of one class.

    Args:
      model: from ``fit``.
      label: number or name of a class; None for all codes.

    Raises:
      ValueError: if the model was fitted without labels, or has no such class.
    """
    if label is None:
        return model.extension
    if model.classes is None and was_interrupted(model):
        raise ValueError(
            f"`label` is {label!r}, but the fit was interrupted before the maps of classes; go on "
            "with `resume`."
        )
    if model.classes is None:
        raise ValueError(
            f"`label` is {label!r}, but the model was fitted without labels; pass `labels` to fit."
        )
    return model.classes.of(_number_of(model, label) if isinstance(label, str) else label)


def was_interrupted(model: AEOT) -> bool:
    """Whether the transport was interrupted, before the maps of classes."""
    status = model.solution.status
    return arguments.is_concrete(status) and int(status) == Status.INTERRUPTED


def name_of_class(model: AEOT, label: int) -> str:
    """The name of a class, or its number if classes have no names."""
    return str(label) if model.label_names is None else model.label_names[label]


def _number_of(model: AEOT, name: str) -> int:
    """The number of a class, by its name."""
    assert model.classes is not None  # checked by the caller
    numbers = np.asarray(model.classes.labels).tolist()
    if model.label_names is None:
        shown = ", ".join(map(str, numbers[:_SHOWN_NAMES]))
        raise ValueError(
            f"`label` is {name!r:.99}, but the classes of this model are numbers; pass one of "
            f"{shown}{', ...' if len(numbers) > _SHOWN_NAMES else ''}."
        )
    known = {model.label_names[number]: number for number in numbers}
    wanted = unicodedata.normalize("NFC", name)
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, _SHOWN_NAMES, cutoff=0.3)
    near += [name for name in known if name not in near]
    raise ValueError(
        f"`label` is {name!r:.99}, which no class has; the nearest of {len(known)} "
        f"{'class is' if len(known) == 1 else 'classes are'} "
        f"{', '.join(map(repr, near[:_SHOWN_NAMES]))}."
    )
