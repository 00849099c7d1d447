"""The numbers that the verdict is computed from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

import aeot_jax as aeot
from aeot_jax.data.images import NAMES
from aeot_jax.evaluate import mean_image
from aeot_jax.metrics.comparison import evenly
from aeot_jax.metrics.newness.memory import near_cutoff, near_share_se
from aeot_jax.model import kind_of
from aeot_jax.nn import schedule
from aeot_jax.report.parts import Material, Neighbours, OfClass, Pairs
from aeot_jax.report.trips import BATCH, errors, kept_detail, unit
from aeot_jax.report.verdict import Numbers

ALPHA = 0.05
"""Share of the real images that counts as near to a training image."""


def measured(
    material: Material,
    pairs: Pairs | None,
    neighbours: Neighbours | None,
    classes: tuple[OfClass, ...],
) -> Numbers:
    """The numbers of the verdict, without the shares of rejected and copied samples."""
    model = material.model
    solution, certificate = model.solution, model.solution.certificate
    losses = _losses(model)
    first = len(losses) - refined(model)
    numbers = Numbers(
        converged=bool(solution.converged),
        status=aeot.message(solution),
        mass_error=float(solution.mass_error),
        mass_error_se=float(solution.mass_error_se),
        upper=float(certificate.upper),
        tolerance=model.config.solver.tolerance,
        num_empty=int(certificate.num_empty),
        expected_empty=float(certificate.expected_empty),
        num_cells=solution.h.shape[-1],
        num_learned=_learned(material),
        num_classes=len(classes),
        classes_short=tuple(one.name for one in classes if not one.converged),
        epochs=first,
        falling=_falling(losses[:first]),
        data_gone=material.absent,
        things=kind_of(model),
        **_newness(newness(material.metrics)),
        **_evaluated(material.evaluation),
    )
    if pairs is not None and material.train is not None:
        numbers = dataclasses.replace(numbers, **_reconstructed(material, pairs))
    if neighbours is not None:
        numbers = dataclasses.replace(numbers, **_nearness(neighbours))
    return numbers


def _learned(material: Material) -> int | None:
    """The number of images that were learned, if they are the user's own."""
    source = material.config.get("source")
    path = source.get("path") if isinstance(source, Mapping) else None
    return None if path in (None, *NAMES) else material.model.solution.h.shape[-1]


def _losses(model: aeot.AEOT) -> np.ndarray:
    losses = getattr(model, "losses", None)
    return np.zeros(0) if losses is None else np.asarray(losses, np.float64)


def refined(model: aeot.AEOT) -> int:
    """Epochs that refined the decoder alone, the last ones."""
    return schedule.refined(len(model.extension.y), model.config.training, len(_losses(model)))


def _falling(losses: np.ndarray) -> float | None:
    k = max(1, len(losses) // 10)
    if len(losses) < 5:
        return None
    before, after = losses[-2 * k : -k].mean(), losses[-k:].mean()
    return float((before - after) / before) if before > 0 else None


def _reconstructed(material: Material, pairs: Pairs) -> dict[str, Any]:
    """The error of the reconstructions: from metrics.json if it has it, else from `pairs`."""
    assert material.train is not None
    train = np.asarray(material.train.values)
    error = float(pairs.error.mean())
    mean = mean_image(train) if train.ndim == 4 else 0.0  # columns are standardised
    of_mean = float(((unit(material.model, pairs.original) - mean) ** 2).mean())
    found = {"mse": error, "variance": of_mean, "learned": error <= 0.95 * of_mean}
    measured = material.metrics.get("reconstruction")
    if isinstance(measured, dict) and set(found) <= set(measured):
        found = measured
    of_train = None
    if pairs.judged != "training":
        of_train = float(errors(material.model, evenly(train, BATCH))[1].mean())
    return {
        "error": found["mse"],
        "error_of_mean": found["variance"],
        "error_train": of_train,
        "judged": pairs.judged,
        "learned": bool(found["learned"]),
        "detail": kept_detail(pairs.original, pairs.decoded) if train.ndim == 4 else None,
    }


def _nearness(found: Neighbours) -> dict[str, Any]:
    """The share of samples that are very near to a training image; see `metrics.newness.memory`."""
    near, far = found.of_samples, found.of_decoded
    cutoff = near_cutoff(far, ALPHA)
    return {
        "near": float((near <= cutoff).mean()),
        "near_se": near_share_se(ALPHA, len(near), len(far)),
        "alpha": ALPHA,
        "identical": int((near == 0).sum()),
    }


def newness(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """How new the codes of samples are, from metrics.json; None where it does not say."""
    found = metrics.get("novelty")
    names = "share_near", "share_near_se", "alpha", "nearer"
    if not isinstance(found, dict) or not all(isinstance(found.get(n), int | float) for n in names):
        return None
    unseen, shares = found.get("num_unseen"), {}
    for name in ("repeated", "twins"):
        number = found.get(f"num_{name}")
        shares[f"share_{name}"] = 0.0  # which files of earlier versions do not tell
        if isinstance(number, int) and isinstance(unseen, int) and unseen > 0:
            shares[f"share_{name}"] = number / unseen
    return {**found, **shares}


def _newness(found: dict[str, Any] | None) -> dict[str, Any]:
    """How near new codes are to training codes."""
    if found is None:
        return {}
    names = "share_near", "share_near_se", "share_repeated", "share_twins", "nearer"
    fields = "codes_near", "codes_near_se", "codes_repeated", "codes_twins", "codes_nearer"
    return {to: float(found[name]) for to, name in zip(fields, names, strict=True)}


def _evaluated(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers of evaluation.json."""
    if not evaluation:
        return {}
    found: dict[str, Any] = {"evaluated": True}
    frechet = evaluation.get("frechet")
    if isinstance(frechet, dict):
        floor = frechet.get("floor_test")
        floor = frechet.get("floor_train") if floor is None else floor
        found |= {"frechet": frechet.get("distance"), "frechet_floor": floor}
        found["compared"] = frechet.get("num_samples")
    scores = evaluation.get("prdc")
    floors = scores.get("floor") if isinstance(scores, dict) else None
    if isinstance(scores, dict) and isinstance(floors, dict):
        names = ("precision", "recall", "coverage")
        found["parts"] = {
            name: scores[name] / floors[name]
            for name in names
            if scores.get(name) is not None and floors.get(name)
        }
    return found
