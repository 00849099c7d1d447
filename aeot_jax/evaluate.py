"""How good a model is, in numbers: transport, reconstruction, generated images, memory."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

import aeot_jax as aeot
from aeot_jax import arguments, pixels
from aeot_jax.data.images import ImageSet
from aeot_jax.metrics.features import FeatureMap, extract, fit_features, predict
from aeot_jax.metrics.frechet import frechet_report, kernel_distance
from aeot_jax.metrics.memory import memory_report
from aeot_jax.metrics.prdc import prdc
from aeot_jax.model import check_model
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_BATCH = 512
"""Images encoded and decoded at once."""

_MAX_RECONSTRUCTED = 10_000
"""Images whose reconstruction is measured at most."""

_LEAST_LEARNED = 0.05
"""Share of the mean image's error that a model which has learned something removes at least."""

_MIN_SET = 20
"""Images without which a quantile or an average over blocks says nothing."""

STAGES = ("certificate", "reconstruction", "samples", "features", "distances", "memory")
"""What `evaluate` does, in order."""


def reconstruction(
    model: Given[aeot.AEOT], images: ArrayLike, mean: ArrayLike | None = None
) -> dict[str, Any]:
    """Measure how well images survive being encoded and decoded.

    Args:
      model: the fitted model.
      images: (n, h, w, c), integers in 0..255 or floats in [0, 1]; of more than 10,000, an evenly
        spaced 10,000 are taken.
      mean: the mean of the training images, (h, w, c) in [0, 1], from `mean_image`. None: that of
        `images`.

    Returns:
      ``mse``, the mean squared error a pixel with pixels in [0, 1]; ``variance``, the same for the
      mean image in place of the decoded one; ``learned``, whether the first is below the second by
      5 % of it at least; ``num_images``.

    Raises:
      ValueError: if the images are not of the model's size, or their values are out of range.
    """
    x = _pictures(model, images, "images")
    x = x[:: math.ceil(len(x) / _MAX_RECONSTRUCTED)]
    mean = mean_image(x) if mean is None else np.asarray(mean, np.float64)
    errors, deviations = np.empty(len(x)), np.empty(len(x))
    for part, decoded in _round_trips(model, x):
        original = _unit(x[part])
        errors[part] = ((decoded - original) ** 2).mean(axis=(1, 2, 3))
        deviations[part] = ((original - mean[None]) ** 2).mean(axis=(1, 2, 3))
    mse, variance = float(errors.mean()), float(deviations.mean())
    return {
        "mse": mse,
        "variance": variance,
        "learned": mse <= (1 - _LEAST_LEARNED) * variance,
        "num_images": len(x),
    }


def mean_image(images: ArrayLike) -> Float[np.ndarray, "h w c"]:
    """The mean of images, (n, h, w, c) -> (h, w, c) in [0, 1]: what there is without learning."""
    x = pixels.checked(np.asarray(images), "`images`")
    return x.mean(axis=0, dtype=np.float64) / (255 if x.dtype == np.uint8 else 1)


def nothing_learned(measured: dict[str, Any]) -> str | None:
    """A sentence if what `reconstruction` found is no better than the mean image, else None."""
    if measured["learned"]:
        return None
    return (
        f"the autoencoder has learned nothing: its error, {measured['mse']:.4f} a pixel, is not "
        f"clearly below that of the mean image, {measured['variance']:.4f}, so new images will not "
        "look like the data; train for more epochs, or on more images."
    )


def _unit(x: np.ndarray) -> Float[np.ndarray, "n h w c"]:
    return x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)


def _round_trips(
    model: aeot.AEOT, images: np.ndarray
) -> Iterator[tuple[slice, Float[np.ndarray, "b h w c"]]]:
    """Encode and decode a batch at a time; the last is padded, so that one shape is compiled."""
    for start in range(0, len(images), _BATCH):
        part = slice(start, min(start + _BATCH, len(images)))
        x = images[part]
        padded = np.pad(x, [(0, _BATCH - len(x)), (0, 0), (0, 0), (0, 0)])
        yield part, np.asarray(_round_trip(model, padded))[: len(x)]


@jax.jit
def _round_trip(model: aeot.AEOT, images: ArrayLike) -> Float[Array, "n h w c"]:
    return aeot.decode(model, aeot.encode(model, images))


def evaluate(
    key: Given[PRNGKey],
    model: Given[aeot.AEOT],
    train: Given[ImageSet],
    held_out: Given[ImageSet | None] = None,
    *,
    num_samples: Given[int] = 5000,
    on_stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge a model by fresh samples, against images it has seen and images it has not.

    Distances are taken in a feature space learned from `train` (a small classifier where there are
    labels, else principal components), so they compare models of one data set only, and each stands
    beside its floor: what real images score. All sets are cut to bounded sizes, so that the whole
    takes minutes.

    Args:
      key: of everything random here; must not be a key that led to the model.
      model: the fitted model.
      train: the images it was fitted to.
      held_out: images of the same kind that it was not fitted to, if there are any. Fewer than 20
        are used for reconstruction alone.
      num_samples: images generated, and real images compared with, at most.
      on_stage: called with the name of each of `STAGES` as it begins.

    Returns:
      Nested dicts of numbers: ``mass_error``, ``mass_error_se`` and ``upper`` of a fresh
      ``certificate``, ``reconstruction``, ``samples``, ``frechet``, ``kernel``, ``prdc``,
      ``classes`` (None without labels) and ``memory`` (None without held-out images).

    Raises:
      ValueError: if there are fewer than 40 training images, fewer than 20 samples are asked for,
        or the images are not of the model's size.
      SampleError: if the model rejects nearly everything it draws.
    """
    key = arguments.key("key", key)
    check_model(model)
    num_samples = arguments.whole("num_samples", num_samples)
    _check(model, train, held_out, num_samples)
    report = on_stage or (lambda _: None)
    certify_key, sample_key, feature_key, distance_key = jax.random.split(key, 4)

    report("certificate")
    map_ = model.extension
    asked = int(model.solution.certificate.num_samples)
    certificate = aeot.certify(certify_key, map_.mu, map_.y, map_.h, num_samples=asked)
    numbers = {name: _number(value) for name, value in dataclasses.asdict(certificate).items()}
    results: dict[str, Any] = {
        "mass_error": numbers["mass_error"],
        "mass_error_se": numbers["mass_error_se"],
        "upper": numbers["upper"],
        "certificate": numbers,
    }

    report("reconstruction")
    mean = mean_image(train.images)
    results["reconstruction"] = {"train": reconstruction(model, train.images, mean)}
    if held_out is not None:
        results["reconstruction"]["held_out"] = reconstruction(model, held_out.images, mean)
    if held_out is not None and len(held_out) < _MIN_SET:
        held_out = None

    report("samples")
    room = [num_samples, len(train) // 2] + ([] if held_out is None else [len(held_out)])
    n = min(room)
    generated, info = aeot.sample_with_info(sample_key, model, n)
    generated = np.asarray(generated)
    results["samples"] = {
        "num_images": n,
        "candidates": int(info.candidates),
        "rejected": int(info.rejected),
        "share_rejected": float(info.share_rejected),
    }

    report("features")
    features = fit_features(feature_key, train.images, _usable_labels(train))

    report("distances")
    results |= _distances(distance_key, features, generated, train, held_out, n)

    report("memory")
    results["memory"] = None
    if held_out is not None:
        # Decoded, so that the autoencoder's blur is on both sides of the comparison.
        some = _evenly(held_out.images, num_samples)
        decoded = [images for _, images in _round_trips(model, some)]
        comparison = memory_report(generated, train.images, np.concatenate(decoded))
        results["memory"] = dataclasses.asdict(comparison)
    return results


def _distances(
    key: PRNGKey,
    features: FeatureMap,
    generated: np.ndarray,
    train: ImageSet,
    held_out: ImageSet | None,
    n: int,
) -> dict[str, Any]:
    """Compare n generated with n real images, and real with other real images for the floors."""
    frechet_key, kernel_key, floor_key, order_key = jax.random.split(key, 4)
    order = np.asarray(jax.random.permutation(order_key, len(train)))
    real = extract(features, train.images[order[: 2 * n]])
    new = extract(features, generated)
    test = None if held_out is None else extract(features, _evenly(held_out.images, n))
    real, other = real[:n], real[n:]
    floor = other if test is None else test
    frechet = frechet_report(frechet_key, new, np.concatenate([real, other]), test, num_samples=n)
    classes = None
    if features.num_classes:
        made = np.bincount(predict(features, generated), minlength=features.num_classes)
        there = np.bincount(np.asarray(train.labels), minlength=features.num_classes)
        gap = np.abs(made / made.sum() - there / there.sum()).sum() / 2
        classes = {
            "captured": int((made[there > 0] > 0).sum()),
            "of": int((there > 0).sum()),
            "total_variation": float(gap),
        }
    return {
        "features": "classifier" if features.num_classes else "principal components",
        "frechet": dataclasses.asdict(frechet),
        "kernel": {
            **dataclasses.asdict(kernel_distance(kernel_key, new, real)),
            "floor": kernel_distance(floor_key, floor, real).value,
        },
        "prdc": {
            **dataclasses.asdict(prdc(real, new)),
            "floor": dataclasses.asdict(prdc(real, floor)),
        },
        "classes": classes,
    }


def _check(
    model: Given[aeot.AEOT],
    train: Given[ImageSet],
    held_out: Given[ImageSet | None],
    num_samples: Given[int],
) -> None:
    for name, images in (("train", train), ("held_out", held_out)):
        if images is not None:
            arguments.instance(name, images, ImageSet, "an image set, as `data.images.load` gives")
            _pictures(model, images.images, name)
    if len(train) < 2 * _MIN_SET:
        raise ValueError(
            f"`train` holds {len(train)} images; its halves are compared with each other, so pass "
            f"at least {2 * _MIN_SET}."
        )
    if arguments.count("num_samples", num_samples) < _MIN_SET:
        raise ValueError(f"`num_samples` is {num_samples}; pass at least {_MIN_SET}.")


def _pictures(model: Given[aeot.AEOT], images: ArrayLike, name: str) -> np.ndarray:
    """Images as bytes or floats in [0, 1], if they are of the model's size."""
    check_model(model)
    x = arguments.host_array(name, images)
    shape = model.image_shape
    if shape is None or x.ndim != 4 or x.shape[1:] != shape or len(x) == 0:
        raise ValueError(
            f"`{name}` holds images of shape {x.shape[1:]}, but the model makes {shape}; pass the "
            "data set it was fitted to."
        )
    return pixels.checked(np.asarray(x), f"`{name}`")


def _usable_labels(images: ImageSet) -> np.ndarray | None:
    labels = images.labels
    if labels is None or labels.min() < 0 or labels.min() == labels.max():
        return None
    return labels


def _evenly(x: np.ndarray, n: int) -> np.ndarray:
    """At most n rows, evenly spaced: files are often sorted by class."""
    return x[np.linspace(0, len(x) - 1, min(n, len(x))).round().astype(int)]


def _number(value: Any) -> int | float:
    return np.asarray(value).item()
