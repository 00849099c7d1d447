"""The fitted model: a record of arrays, and the pure functions that use it."""

import difflib
import itertools
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from aeot_jax import arguments
from aeot_jax.classes import Classes
from aeot_jax.measures import Gaussian, Measure, UniformBall, UniformCube
from aeot_jax.nn import models
from aeot_jax.nn.models import AutoencoderConfig
from aeot_jax.nn.train import TrainConfig
from aeot_jax.ot import problem, singular
from aeot_jax.ot.candidates import CHUNK, GenerateInfo, draw
from aeot_jax.ot.config import SolverConfig
from aeot_jax.ot.layouts import Layout, Parallel, layout
from aeot_jax.ot.parallel import place
from aeot_jax.ot.singular import Extension
from aeot_jax.ot.solution import Solution
from aeot_jax.pixels import check_floats
from aeot_jax.reprs import known, or_brief, short
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

_SHOWN_NAMES = 5
"""Names of classes that an error lists."""

_BLOCK = 1024
"""Images encoded or decoded at once."""

_MAX_CANDIDATES = CHUNK
"""Candidates of one draw of ``sample``, at most."""

_LEAST_ACCEPTED = 0.01
"""Share of candidates below which ``sample`` gives up."""

SOURCES: dict[str, Callable[[int], Measure]] = {
    "gaussian": Gaussian,
    "cube": UniformCube,
    "ball": UniformBall,
}
"""Sources by the name that the configuration gives them."""


@dataclass(frozen=True)
class ExtensionConfig:
    """How codes between the data's codes are made.

    Attributes:
      threshold: plane angle above which a face of the cells is singular, radians in (0, pi]; None
        learns it from the codes.
      num_samples: samples of the source to learn the extension from; None is 4096.
    """

    threshold: float | None = None
    num_samples: int | None = None

    def __post_init__(self):
        singular.check_options(self.threshold, self.num_samples)


@dataclass(frozen=True)
class Config:
    """All that the user decides; the defaults serve every data set.

    Attributes:
      autoencoder: the networks.
      training: the autoencoder's training.
      source: law of the noise: "gaussian" N(0, I), "cube" uniform on [-1/2, 1/2]^d, or "ball"
        uniform on the unit ball.
      solver: the transport problem.
      extension: the map between the cells.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    source: Literal["gaussian", "cube", "ball"] = "gaussian"
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
        arguments.choice("source", self.source, tuple(SOURCES))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AEOT:
    """A fitted model: a pytree, with its configuration as static data.

    Attributes:
      params: of encoder and decoder.
      centre: mean of the raw codes (z,).
      scale: standard deviation of each coordinate of the raw codes (z,).
      losses: the autoencoder's mean loss of each epoch (e,).
      solution: heights with their certificate.
      extension: the map; ``extension.y`` are the standardised codes (m, z).
      seconds: wall time of each stage of ``STAGES``.
      config: as passed to ``fit``.
      image_shape: (height, width, channels).
      classes: one transport problem per class, if ``fit`` was given labels.
      label_names: names of the classes, of which a label is the index; None where labels are plain
        numbers.
    """

    params: models.Params
    centre: Float[Array, " z"]
    scale: Float[Array, " z"]
    losses: Float[Array, " e"]
    solution: Solution
    extension: Extension
    seconds: dict[str, Float[Array, ""]]
    config: Config = field(metadata={"static": True})
    image_shape: tuple[int, int, int] = field(metadata={"static": True})
    classes: Classes | None = None
    label_names: tuple[str, ...] | None = field(default=None, metadata={"static": True})

    @or_brief
    def __repr__(self) -> str:
        """What it makes, and how good each part is, a line each."""
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
    """The first and the last loss, where they are known."""
    values = known(losses)
    if values is None or values.size == 0:
        return short(losses)
    flat = values.ravel()
    return f"{flat[0]:.4f} ... {flat[-1]:.4f} ({flat.size} epochs)"


def check_model(model: Given[AEOT]) -> None:
    """Refuse what is no fitted model."""
    arguments.instance("model", model, AEOT, "what `aeot_jax.fit` or `aeot_jax.load` returns")


class SampleError(RuntimeError):
    """Too many candidates fell into the singular set."""


class SampleInfo(NamedTuple):
    """What ``sample_with_info`` saw.

    Attributes:
      candidates: drawn from the source.
      rejected: of them, in the singular set.
      share_rejected: rejected / candidates.
      copies: accepted candidates that are codes of the data, with nothing blended in.
    """

    candidates: int
    rejected: int
    share_rejected: float
    copies: int


def _blocks(
    function: Callable[[Float[Array, "b ..."]], Float[Array, "b ..."]], rows: Array
) -> Array:
    """Apply a function to rows a block at a time, so that memory does not grow with them."""
    n = rows.shape[0]
    if n <= _BLOCK:
        return function(rows)
    whole = n // _BLOCK * _BLOCK
    head = jax.lax.map(function, rows[:whole].reshape(-1, _BLOCK, *rows.shape[1:]))
    head = head.reshape(whole, *head.shape[2:])
    return head if whole == n else jnp.concatenate([head, function(rows[whole:])])


def encode(model: Given[AEOT], images: ArrayLike) -> Float[Array, "n z"]:
    """Standardised codes of images; pure and jit-able.

    Args:
      model: from ``fit``.
      images: (n, height, width, channels), or (n, height, width) for one channel; uint8 in 0..255
        or floats in [0, 1].

    Returns:
      Codes (n, z): on the training images about zero mean and unit variance in each coordinate.

    Raises:
      ValueError: if the images are of another size than the model's, or floats whose values are
        known (not traced) leave [0, 1].
    """
    check_model(model)
    given = x = arguments.array("images", images)
    if x.ndim == 3 and model.image_shape[2] == 1:
        x = x[..., None]
    if x.ndim != 4 or x.shape[1:] != model.image_shape:
        raise ValueError(
            f"`images` has shape {given.shape}, but the model was fitted to images of shape "
            f"{model.image_shape}; pass (n, {', '.join(map(str, model.image_shape))})."
        )
    if jnp.issubdtype(x.dtype, jnp.floating):
        if problem.is_concrete(x):
            check_floats(np.asarray(x), "`images`")
        x = arguments.real("images", x)
    return _encode(model, x)


@jax.jit
def _encode(model: AEOT, x: Array) -> Float[Array, "n z"]:
    functions = models.functions(model.image_shape, model.config.autoencoder)
    raw = _blocks(lambda block: functions.encode(model.params, block), x)
    return (raw - model.centre[None, :]) / model.scale[None, :]


def decode(model: Given[AEOT], z: ArrayLike) -> Float[Array, "n h w c"]:
    """Images of standardised codes; pure and jit-able.

    Args:
      model: from ``fit``.
      z: standardised codes (n, latent).

    Returns:
      Images (n, height, width, channels), float32 in [0, 1].

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
    return _decode(model, arguments.real("z", codes))


@jax.jit
def _decode(model: AEOT, z: Float[Array, "n z"]) -> Float[Array, "n h w c"]:
    functions = models.functions(model.image_shape, model.config.autoencoder)
    raw = z * model.scale[None, :] + model.centre[None, :]
    return _blocks(lambda block: functions.decode(model.params, block), raw)


def extension_of(model: AEOT, label: Given[int | str | None]) -> Extension:
    """The map onto all codes, or onto those of one class.

    Args:
      model: from ``fit``; with labels, if a label is asked for.
      label: number or name of a class; None for all codes.

    Raises:
      ValueError: if the model knows no classes, or not this one.
    """
    if label is None:
        return model.extension
    if model.classes is None:
        raise ValueError(
            f"`label` is {label!r}, but the model was fitted without labels; pass `labels` to fit."
        )
    return model.classes.of(_number_of(model, label) if isinstance(label, str) else label)


def name_of_class(model: AEOT, label: int) -> str:
    """The name of a class, or its number where classes have none."""
    return str(label) if model.label_names is None else model.label_names[label]


def _number_of(model: AEOT, name: str) -> int:
    """The number of a class, by its name."""
    assert model.classes is not None  # as the caller saw
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
    near = difflib.get_close_matches(wanted, known, _SHOWN_NAMES, cutoff=0.3) or list(known)
    raise ValueError(
        f"`label` is {name!r:.99}, which no image had; the nearest of {len(known)} "
        f"{'class is' if len(known) == 1 else 'classes are'} "
        f"{', '.join(map(repr, near[:_SHOWN_NAMES]))}."
    )


def sample(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Float[Array, "n h w c"]:
    """New images: exactly n, by drawing again where the singular set rejects.

    A host loop (how many draws it takes depends on the data); under jit use ``generate`` and
    ``decode``. Several processes call it together, or choose "none".

    Args:
      key: consumed.
      model: from ``fit``.
      n: images.
      label: draw from this class, a number or a name; None draws from all, by the transport onto
        all codes.
      parallel: how the draws of more than 4096 candidates are dealt to devices, with the same
        images to the last bit; as in ``certify``.
      devices: the devices to use; None is all.

    Returns:
      Images (n, height, width, channels), float32 in [0, 1].

    Raises:
      ValueError: if n is not positive, the label unknown, or the devices do not fit.
      SampleError: if more than 99 % of the candidates fall into the singular set.
    """
    images, _ = sample_with_info(key, model, n, label=label, parallel=parallel, devices=devices)
    return images


def sample_with_info(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> tuple[Float[Array, "n h w c"], SampleInfo]:
    """``sample``, with how many candidates it took; see there."""
    way = "under it use `generate` and `decode`"
    arguments.refuse_trace("sample", way, key=key, model=model)
    key = arguments.key("key", key)
    check_model(model)
    n = arguments.count("n", n, what="how many images to make")
    size = min(_MAX_CANDIDATES, max(64, 1 << (2 * n - 1).bit_length()))
    where = layout(parallel, devices)
    if n <= size and where.kind != "none":
        where = Layout("none")  # one draw is enough, or nearly
    ext = place(where, extension_of(model, label))
    parts: list[np.ndarray] = []
    found = candidates = accepted_all = copies = 0
    for z, accepted, info in _draws(where, key, ext, size):
        keep = np.flatnonzero(accepted)
        candidates += size
        accepted_all += keep.size
        copies += int((info.num_blended[keep] == 1).sum())
        parts.append(z[keep])
        found += keep.size
        if found >= n:
            break
        share = accepted_all / candidates
        if candidates >= _MAX_CANDIDATES and share < _LEAST_ACCEPTED:
            raise SampleError(
                f"{1 - share:.1%} of {candidates} candidates fell into the singular set; raise "
                f"`threshold`, now {float(ext.threshold):.3f} rad, or fit to more images."
            )
    codes = np.concatenate(parts)[:n]
    rejected = candidates - accepted_all
    info = SampleInfo(candidates, rejected, rejected / candidates, copies)
    return decode(model, codes), info


def _draws(
    where: Layout, key: PRNGKey, ext: Extension, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, GenerateInfo]]:
    """Draw after draw without end, computed one for each device at once."""
    abreast = max(1, len(where.devices))
    for first in itertools.count(0, abreast):
        keys = _draw_keys(key, first + np.arange(abreast))
        drawn = jax.tree.map(np.asarray, draw(where, keys, ext, size))
        for i in range(abreast):
            yield jax.tree.map(lambda leaf, i=i: leaf[i], drawn)


@jax.jit
def _draw_keys(key: PRNGKey, draws: Int[Array, " c"]) -> Key[Array, " c"] | UInt32[Array, "c 2"]:
    """Each draw is one of ``generate`` by a key of its own, of a single chunk."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), 0))(draws)
