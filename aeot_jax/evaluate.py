"""Scores of a model: transport, reconstruction, generated images, memorisation."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import aeot_jax as aeot
from aeot_jax import arguments
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.drawing import draw_codes
from aeot_jax.inputs import columns, pixels
from aeot_jax.inputs.networks import Network, check_function
from aeot_jax.metrics import comparison
from aeot_jax.metrics.comparison import MIN_SET
from aeot_jax.metrics.memory import MemoryReport, memory_report
from aeot_jax.model import check_model, kind_of, raw_codes
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_BATCH = 512
"""Images per batch of encoding and decoding."""

_MAX_RECONSTRUCTED = 10_000
"""Most images whose reconstruction is measured."""

_LEAST_LEARNED = 0.05
"""A model has learned something if it removes at least this share of the mean image's error."""

STAGES = ("certificate", "reconstruction", "samples", "features", "distances", "memory")
"""The stages of `evaluate`, in order."""


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
    x = _data(model, images, "images")
    if model.image_shape is None:
        raise ValueError("`model` was fitted to codes, which are not encoded; there is no error.")
    x = x[:: math.ceil(len(x) / _MAX_RECONSTRUCTED)]
    if mean is None:
        mean = np.zeros(x.shape[1:]) if x.ndim == 2 else mean_image(x)
    mean = np.asarray(mean, np.float64)
    errors, deviations = np.empty(len(x)), np.empty(len(x))
    axes = tuple(range(1, x.ndim))
    for part, decoded in _round_trips(model, x):
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


def nothing_learned(measured: dict[str, Any]) -> str | None:
    """A warning if `reconstruction` found no better error than that of the mean image, or None."""
    if measured["learned"]:
        return None
    return (
        f"the autoencoder has learned nothing: its error, {measured['mse']:.4f} per pixel, is not "
        f"clearly below that of the mean image, {measured['variance']:.4f}, so new images will not "
        "look like the data; train for more epochs, or on more images."
    )


def _unit(model: aeot.AEOT, x: np.ndarray) -> Float[np.ndarray, "n ..."]:
    """Pixels in [0, 1], or rows in units of their columns."""
    if model.columns is not None:
        return columns.measured(x, *model.columns)
    return x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)


def _round_trips(
    model: aeot.AEOT, images: np.ndarray
) -> Iterator[tuple[slice, Float[np.ndarray, "b ..."]]]:
    """Encode and decode in batches; the last is padded, so that one shape is compiled."""
    for start in range(0, len(images), _BATCH):
        part = slice(start, min(start + _BATCH, len(images)))
        x = images[part]
        padded = np.pad(x, [(0, _BATCH - len(x))] + [(0, 0)] * (x.ndim - 1))
        if x.ndim == 2:  # rows are measured in float64 outside of jit
            yield part, np.asarray(aeot.decode(model, aeot.encode(model, padded)))[: len(x)]
        else:
            yield part, np.asarray(_round_trip(model, padded))[: len(x)]


@jax.jit
def _round_trip(model: aeot.AEOT, images: ArrayLike) -> Float[Array, "n h w c"]:
    return aeot.decode(model, aeot.encode(model, images))


def evaluate(
    key: Given[PRNGKey],
    model: Given[aeot.AEOT],
    train: Given[ImageSet | Table],
    held_out: Given[ImageSet | Table | None] = None,
    *,
    features: Network | None = None,
    num_samples: Given[int] = 5000,
    on_stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score a model by fresh samples, against training data and held-out data.

    Distances are computed in a feature space learned from `train`: a small classifier if there are
    labels, else principal components; for tables and codes, the standardised columns. So they
    compare models of one data set only. Beside each score is its floor, the score of real data.
    Sets are cut to bounded sizes, so that an evaluation takes minutes.

    Args:
      key: key of all random numbers here; must not be a key that the model was fitted with.
      model: the fitted model.
      train: the images, the table or the codes that it was fitted to.
      held_out: data of the same kind that it was not fitted to, if there are any. Fewer than 20
        are used for reconstruction only.
      features: the user's own features: a batch of the data (images as floats in [0, 1]) -> (b, f),
        called outside of any jit of this library. None learns them.
      num_samples: most data to generate, and to compare with.
      on_stage: called with the name of each of `STAGES` as it begins.

    Returns:
      Nested dicts of numbers: ``mass_error``, ``mass_error_se`` and ``upper`` of a fresh
      ``certificate``, ``reconstruction`` (None for codes), ``samples``, ``frechet``, ``kernel``,
      ``prdc``, ``classes`` (None without labels) and ``memory`` (None without held-out data).

    Raises:
      ValueError: if there are fewer than 40 training images, fewer than 20 samples are asked for,
        or the data have another size than the model's.
      SampleError: if the model rejects nearly all candidates.
    """
    key = arguments.key("key", key)
    check_model(model)
    check_function("features", features)
    num_samples = arguments.whole("num_samples", num_samples)
    real, held = _check(model, train, held_out, num_samples)
    report = on_stage or (lambda _: None)
    certify_key, sample_key, feature_key, distance_key = jax.random.split(key, 4)

    report("certificate")
    results = _certified(certify_key, model)

    report("reconstruction")
    results["reconstruction"] = _reconstructed(model, real, held)
    if held is not None and len(held) < MIN_SET:
        held = None

    report("samples")
    room = [num_samples, len(real) // 2] + ([] if held is None else [len(held)])
    n = min(room)
    generated, results["samples"] = _generated(sample_key, model, n)

    report("features")
    labels = _usable_labels(train)
    where = comparison.space(feature_key, real, labels, features)

    report("distances")
    results |= comparison.distances(distance_key, where, generated, real, held, labels, n)

    report("memory")
    results["memory"] = None
    if held is not None:
        remembered = _remembered(
            model, where, generated, real, comparison.evenly(held, num_samples)
        )
        results["memory"] = dataclasses.asdict(remembered)
    return results


def _certified(key: PRNGKey, model: aeot.AEOT) -> dict[str, Any]:
    """A fresh certificate, with as many samples as that of the fit."""
    map_ = model.extension
    asked = int(model.solution.certificate.num_samples)
    certificate = aeot.certify(key, map_.mu, map_.y, map_.h, num_samples=asked)
    numbers = {name: _number(value) for name, value in dataclasses.asdict(certificate).items()}
    own = {name: numbers[name] for name in ("mass_error", "mass_error_se", "upper")}
    return {**own, "certificate": numbers}


def _reconstructed(
    model: aeot.AEOT, real: np.ndarray, held: np.ndarray | None
) -> dict[str, Any] | None:
    if model.image_shape is None:
        return None
    mean = None if real.ndim == 2 else mean_image(real)
    found = {"train": reconstruction(model, real, mean)}
    if held is not None:
        found["held_out"] = reconstruction(model, held, mean)
    return found


def _generated(key: PRNGKey, model: aeot.AEOT, n: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Fresh images, rows or codes, and the number of candidates that they took."""
    if model.image_shape is None:
        standard, info = draw_codes(key, model, n)
        generated = raw_codes(model, jnp.asarray(standard))
    else:
        generated, info = aeot.sample_with_info(key, model, n)
    return np.asarray(generated), {
        "num_images": n,
        "candidates": int(info.candidates),
        "rejected": int(info.rejected),
        "share_rejected": float(info.share_rejected),
    }


def _remembered(
    model: aeot.AEOT,
    where: comparison.Space,
    generated: np.ndarray,
    real: np.ndarray,
    held: np.ndarray,
) -> MemoryReport:
    """Test whether generated data are nearer to the training data than held-out data are.

    Held-out images and rows are encoded and decoded first, so that the blur of the autoencoder is
    on both sides of the comparison.
    """
    if model.image_shape is not None:
        held = np.concatenate([decoded for _, decoded in _round_trips(model, held)])
    if real.ndim == 2:
        return memory_report(*(where.features(x) for x in (generated, real, held)))
    return memory_report(generated, real, held)


def _check(
    model: Given[aeot.AEOT],
    train: Given[ImageSet | Table],
    held_out: Given[ImageSet | Table | None],
    num_samples: Given[int],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Check the arguments, and return the arrays of both sets."""
    found = []
    for name, data in (("train", train), ("held_out", held_out)):
        if data is None:
            found.append(None)
            continue
        way = "an image set or a table, as `data.images.read` gives"
        arguments.instance(name, data, (ImageSet, Table), way)
        found.append(_data(model, data.rows if isinstance(data, Table) else data.images, name))
    if len(train) < 2 * MIN_SET:
        raise ValueError(
            f"`train` holds {len(train)} {kind_of(model)}; its halves are compared with each "
            f"other, so pass at least {2 * MIN_SET}."
        )
    if arguments.count("num_samples", num_samples) < MIN_SET:
        raise ValueError(f"`num_samples` is {num_samples}; pass at least {MIN_SET}.")
    return found[0], found[1]


def _data(model: Given[aeot.AEOT], data: ArrayLike, name: str) -> np.ndarray:
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


def _usable_labels(data: ImageSet | Table) -> np.ndarray | None:
    labels = data.labels
    if labels is None or labels.min() < 0 or labels.min() == labels.max():
        return None
    return labels


def _number(value: Any) -> int | float:
    return np.asarray(value).item()
