"""Round trips through the autoencoder: many images encoded and decoded, and their error."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

import aeot_jax as aeot
from aeot_jax import arguments
from aeot_jax.inputs import columns, pixels
from aeot_jax.model import check_model
from aeot_jax.typing import ArrayLike, Given

_BATCH = 512
"""Images per batch of encoding and decoding."""

_MAX_RECONSTRUCTED = 10_000
"""Most images whose reconstruction is measured."""

_LEAST_LEARNED = 0.05
"""A model has learned something if it removes at least this share of the mean image's error."""


class Trip(NamedTuple):
    """A batch of data, encoded and decoded.

    Attributes:
      part: which rows of the data.
      codes: standardised (b, z).
      decoded: as the data (b, ...).
    """

    part: slice
    codes: Float[np.ndarray, "b z"]
    decoded: Float[np.ndarray, "b ..."]


def reconstruction(
    model: Given[aeot.AEOT], images: ArrayLike, mean: ArrayLike | None = None
) -> dict[str, Any]:
    """Measure the error of encoding and decoding images, or rows of a table.

    If mse / variance is 1, the model reconstructs no better than the mean image.

    Args:
      model: the fitted model.
      images: (n, h, w, c), integers in 0..255 or floats in [0, 1]; or rows (n, D) of a table. If
        there are more than 10,000, an evenly spaced 10,000 are used.
      mean: the mean of the training images, (h, w, c) in [0, 1], from `mean_image`. None is the
        mean of `images`, or 0 for rows, which are standardised.

    Returns:
      ``mse``, the mean squared error per pixel, with pixels in [0, 1], or per standardised column;
      ``variance``, the mean squared error of the mean image; ``learned``, whether ``mse`` is at
      most 95 % of ``variance``; ``num_images``.

    Raises:
      ValueError: if the images have another size than the model's, their values are out of range,
        or the model was fitted to codes.
    """
    x = checked(model, images, "images")
    if model.image_shape is None:
        raise ValueError("`model` was fitted to codes, which are not encoded; there is no error.")
    x = most(x)
    if mean is None:
        mean = np.zeros(x.shape[1:]) if x.ndim == 2 else mean_image(x)
    return errors_of(model, x, round_trips(model, x), mean)


def most(x: np.ndarray) -> np.ndarray:
    """At most 10,000 data, evenly spaced."""
    return x[:: math.ceil(len(x) / _MAX_RECONSTRUCTED)]


def errors_of(
    model: aeot.AEOT, x: np.ndarray, trips: Iterable[Trip], mean: ArrayLike
) -> dict[str, Any]:
    """``reconstruction`` of data whose round trips are known."""
    mean = np.asarray(mean, np.float64)
    errors, deviations = np.empty(len(x)), np.empty(len(x))
    axes = tuple(range(1, x.ndim))
    for part, _, decoded in trips:
        original = _unit(model, x[part])
        errors[part] = ((_unit(model, decoded) - original) ** 2).mean(axis=axes)
        deviations[part] = ((original - mean[None]) ** 2).mean(axis=axes)
    mse, variance = float(errors.mean()), float(deviations.mean())
    return {
        "mse": mse,
        "variance": variance,
        "learned": mse <= (1 - _LEAST_LEARNED) * variance,
        "num_images": len(x),
    }


def mean_image(images: ArrayLike) -> Float[np.ndarray, "h w c"]:
    """The mean of images, (n, h, w, c) -> (h, w, c) in [0, 1]: the baseline of reconstruction."""
    x = pixels.checked(np.asarray(images), "`images`")
    return x.mean(axis=0, dtype=np.float64) / (255 if x.dtype == np.uint8 else 1)


def nothing_learned(measured: dict[str, Any], things: str = "images") -> str | None:
    """A warning if `reconstruction` found no better error than that of the mean image, or None.

    Args:
      measured: from `reconstruction`.
      things: what the data are, "images" or "rows".
    """
    if measured["learned"]:
        return None
    part = "pixel" if things == "images" else "number"
    return (
        f"the autoencoder has learned nothing: its error, {measured['mse']:.4f} per {part}, is not "
        f"clearly below that of the mean {things[:-1]}, {measured['variance']:.4f}, so new "
        f"{things} will not look like the data; train for more epochs, or on more {things}."
    )


def _unit(model: aeot.AEOT, x: np.ndarray) -> Float[np.ndarray, "n ..."]:
    """Pixels in [0, 1], or rows in units of their columns."""
    if model.columns is not None:
        return columns.measured(x, *model.columns)
    return x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)


def round_trips(model: aeot.AEOT, images: np.ndarray) -> Iterator[Trip]:
    """Encode and decode in batches; the last is padded, so that one shape is compiled."""
    for start in range(0, len(images), _BATCH):
        part = slice(start, min(start + _BATCH, len(images)))
        x = images[part]
        padded = np.pad(x, [(0, _BATCH - len(x))] + [(0, 0)] * (x.ndim - 1))
        if x.ndim == 2:  # rows are measured in float64 outside of jit
            codes = aeot.encode(model, padded)
            made = codes, aeot.decode(model, codes)
        else:
            made = _round_trip(model, padded)
        codes, decoded = (np.asarray(one)[: len(x)] for one in made)
        yield Trip(part, codes, decoded)


@jax.jit
def _round_trip(
    model: aeot.AEOT, images: ArrayLike
) -> tuple[Float[Array, "n z"], Float[Array, "n h w c"]]:
    codes = aeot.encode(model, images)
    return codes, aeot.decode(model, codes)


def checked(model: Given[aeot.AEOT], data: ArrayLike, name: str) -> np.ndarray:
    """Images as bytes or floats in [0, 1], or rows; raises unless they have the model's size."""
    check_model(model)
    x = arguments.host_array(name, data)
    shape = model.centre.shape if model.image_shape is None else model.image_shape
    if x.ndim != len(shape) + 1 or x.shape[1:] != shape or len(x) == 0:
        what = "images" if len(shape) == 3 else "rows"
        raise ValueError(
            f"`{name}` holds {what} of shape {x.shape[1:]}, but the model makes {shape}; pass the "
            "data set it was fitted to."
        )
    if len(shape) == 3:
        return pixels.checked(np.asarray(x), f"`{name}`")
    return columns.check(name, x, "rows") if len(x) > 1 else np.asarray(x)
