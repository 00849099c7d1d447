"""Scores of a model: transport, reconstruction, generated images, memorisation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import aeot_jax as aeot
from aeot_jax import arguments
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.drawing import draw_codes
from aeot_jax.evaluate.newness import novelty, novelty_beside
from aeot_jax.evaluate.trips import (
    Trip,
    checked,
    errors_of,
    mean_image,
    most,
    reconstruction,
    round_trips,
)
from aeot_jax.inputs.networks import Network, check_function
from aeot_jax.metrics import comparison
from aeot_jax.metrics.comparison import MIN_SET, evenly
from aeot_jax.metrics.frechet import frechet_distance
from aeot_jax.metrics.newness.memory import MemoryReport, memory_report
from aeot_jax.model import check_model, kind_of, raw_codes
from aeot_jax.typing import Given, PRNGKey

STAGES = ("certificate", "reconstruction", "samples", "features", "distances", "memory")
"""The stages of `evaluate`, in order."""


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
      ``prdc``, ``classes`` (None without labels), ``novelty`` (see there), and, None without
      held-out data, ``memory`` and ``decoded``: Fréchet distances of samples, of copies of the
      training data, and of the decoder alone, to held-out data that were encoded and decoded (None
      for codes too).

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
    results["reconstruction"], trips = _reconstructed(model, real, held)
    if held is not None and len(held) < MIN_SET:
        held = None

    report("samples")
    room = [num_samples, len(real) // 2] + ([] if held is None else [len(held)])
    n = min(room)
    codes, generated, results["samples"] = _generated(sample_key, model, n)

    report("features")
    labels = usable_labels(train)
    where = comparison.space(feature_key, real, labels, features)

    report("distances")
    results |= comparison.distances(distance_key, where, generated, real, held, labels, n)

    report("memory")
    results |= {"decoded": None, "memory": None}
    if held is None or not trips:
        results["novelty"] = novelty(model, codes, held)
    else:
        known = np.concatenate([trip.codes for trip in trips])
        results["novelty"] = novelty_beside(model, codes, known)
    if held is not None:
        original = unseen = evenly(most(held) if trips else held, num_samples)
        if trips:
            unseen = evenly(np.concatenate([trip.decoded for trip in trips]), num_samples)
            pair = evenly(unseen, n), evenly(original, n)
            results["decoded"] = _of_decoded(model, where, generated, *pair)
        results["memory"] = dataclasses.asdict(_remembered(where, generated, real, unseen))
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
) -> tuple[dict[str, Any] | None, list[Trip]]:
    """The errors, and the round trips of at most 10,000 held-out data, for what comes later."""
    if model.image_shape is None:
        return None, []
    mean = np.zeros(real.shape[1:]) if real.ndim == 2 else mean_image(real)
    found, trips = {"train": reconstruction(model, real, mean)}, []
    if held is not None:
        trips = list(round_trips(model, most(held)))
        found["held_out"] = errors_of(model, most(held), trips, mean)
    return found, trips


def _generated(
    key: PRNGKey, model: aeot.AEOT, n: int
) -> tuple[Float[np.ndarray, "n z"], np.ndarray, dict[str, Any]]:
    """Fresh standardised codes; images, rows or raw codes of them; the number of candidates."""
    codes, info = draw_codes(key, model, n)
    made = raw_codes if model.image_shape is None else aeot.decode
    return (
        codes,
        np.asarray(made(model, jnp.asarray(codes))),
        {
            "num_images": n,
            "candidates": int(info.candidates),
            "rejected": int(info.rejected),
            "share_rejected": float(info.share_rejected),
        },
    )


def _of_decoded(
    model: aeot.AEOT,
    where: comparison.Space,
    generated: np.ndarray,
    decoded: np.ndarray,
    original: np.ndarray,
) -> dict[str, Any]:
    """Fréchet distances to held-out data that were encoded and decoded, as samples are decoded.

    They tell the sampler from the decoder, and give no credit for copies of the training data.

    Returns:
      ``distance`` of samples; ``copies``, that of decoded training codes; ``decoder``, from decoded
      to original held-out data; ``num_samples`` in each set.
    """
    known = evenly(np.asarray(model.extension.y), len(decoded))
    sets = generated, np.asarray(aeot.decode(model, known)), decoded, original
    new, copies, unseen, real = map(where.features, sets)
    return {
        "distance": frechet_distance(new, unseen),
        "copies": frechet_distance(copies, unseen),
        "decoder": frechet_distance(unseen, real),
        "num_samples": len(decoded),
    }


def _remembered(
    where: comparison.Space, generated: np.ndarray, real: np.ndarray, held: np.ndarray
) -> MemoryReport:
    """Test whether generated data are nearer to the training data than held-out data are.

    Held-out images and rows are encoded and decoded ones, so that the blur of the autoencoder is on
    both sides of the comparison.
    """
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
        found.append(checked(model, data.rows if isinstance(data, Table) else data.images, name))
    if len(train) < 2 * MIN_SET:
        raise ValueError(
            f"`train` holds {len(train)} {kind_of(model)}; its halves are compared with each "
            f"other, so pass at least {2 * MIN_SET}."
        )
    if arguments.count("num_samples", num_samples) < MIN_SET:
        raise ValueError(f"`num_samples` is {num_samples}; pass at least {MIN_SET}.")
    return found[0], found[1]


def usable_labels(data: ImageSet | Table) -> np.ndarray | None:
    """The classes (n,) that a classifier can learn, counted from 0; None unless there are two.

    Whatever integers the labels are, -1 and 1 or years: only which are equal counts here.
    """
    if data.labels is None:
        return None
    names, numbers = np.unique(data.labels, return_inverse=True)
    return numbers.astype(np.int32) if len(names) > 1 else None


def _number(value: Any) -> int | float:
    return np.asarray(value).item()
