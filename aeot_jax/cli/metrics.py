"""The content of metrics.json."""

import importlib.metadata
import platform
import sys
from typing import Any

import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax.cli.figures import Drawn
from aeot_jax.cli.options.source import Splits
from aeot_jax.cli.screen.progress import Report
from aeot_jax.model import name_of_class
from aeot_jax.nn import schedule


def of(model: aeot.AEOT, splits: Splits, drawn: Drawn) -> dict[str, Any]:
    """The numbers of the model and its pictures."""
    solution, certificate = model.solution, model.solution.certificate
    losses, info, measured = np.asarray(model.losses), drawn.samples, drawn.reconstruction
    seconds = {name: float(value) for name, value in model.seconds.items()}
    samples = {
        "autoencoder": len(losses) * len(splits.train),
        "codes": len(splits.train),
        "transport": int(solution.num_samples),
    }
    return {
        "mass_error": float(solution.mass_error),
        "mass_error_se": float(solution.mass_error_se),
        "upper": float(certificate.upper),
        "converged": bool(solution.converged),
        "status": aeot.message(solution),
        "tolerance": model.config.solver.tolerance,
        "total_variation": float(certificate.total_variation),
        "worst": float(certificate.worst),
        "num_empty": int(certificate.num_empty),
        "expected_empty": float(certificate.expected_empty),
        "num_unverified": int(certificate.num_unverified),
        "unverified_weight": float(certificate.unverified_weight),
        "num_targets": len(splits.train),
        "classes": None if model.classes is None else _of_classes(model),
        **_of_reconstruction(measured),
        "share_rejected": float(info.share_rejected),
        "rejection": {
            "candidates": int(info.candidates),
            "rejected": int(info.rejected),
            "copies": int(info.copies),
        },
        "novelty": _of_novelty(drawn.novelty),
        "stages": {
            name: {"seconds": value} | ({"samples": samples[name]} if name in samples else {})
            for name, value in seconds.items()
        },
        "num_steps": int(solution.num_steps),
        "num_samples": int(solution.num_samples),
        "num_check_samples": int(solution.num_check_samples),
        "epochs": len(losses),
        "refine_epochs": schedule.refined(len(splits.train), model.config.training, len(losses)),
        "final_loss": float(losses[-1]) if losses.size else None,
    }


def _of_reconstruction(measured: dict[str, Any] | None) -> dict[str, Any]:
    """The reconstruction error; None for codes."""
    if measured is None:
        return {"reconstruction": None}
    return {
        "reconstruction_mse": measured["mse"],
        "mean_image_error": measured["variance"],
        "learned": measured["learned"],
        "reconstruction": {
            **measured,
            "meaning": "mean squared error per pixel, pixels in [0, 1], or a number of a table, in "
            "deviations of its column; variance is that of the training data's mean; learned is "
            "whether the error is clearly below it",
        },
    }


def _of_novelty(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """How new the samples are; None for very few codes."""
    if found is None:
        return None
    return {
        **found,
        "meaning": "nearest training codes of new samples and of unseen codes: share_near is about "
        "alpha and nearer about 0.5 where samples are as new as unseen data, both 1 for copies",
    }


def _of_classes(model: aeot.AEOT) -> list[dict[str, Any]]:
    classes = model.classes
    assert classes is not None  # checked by the caller
    certificate = classes.solution.certificate
    columns = {
        "label": classes.labels,
        "name": np.array(
            [name_of_class(model, label) for label in np.asarray(classes.labels).tolist()]
        ),
        "share": classes.shares,
        "mass_error": certificate.mass_error,
        "mass_error_se": certificate.mass_error_se,
        "upper": certificate.upper,
        "converged": classes.solution.converged,
    }
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def versions() -> dict[str, str]:
    """Versions of Python and the libraries."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "aeot_jax": aeot.__version__}


def device() -> dict[str, Any]:
    """The devices of the run."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }


class Peaks:
    """The largest memory of this process so far, at the end of each stage.

    Attributes:
      mib: largest memory by stage, MiB.
    """

    def __init__(self):
        self.mib: dict[str, float | None] = {}

    def watching(self, report: Report) -> Report:
        """A progress callback that records the memory, and then calls `report`."""

        def watch(news: aeot.Progress) -> None:
            self.mib[news.stage] = peak_memory_mib()
            report(news)

        return watch
