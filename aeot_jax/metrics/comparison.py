"""Generated data against real data: distances and shares, each beside the score of real data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from aeot_jax import arguments
from aeot_jax.inputs import columns, pixels
from aeot_jax.inputs.networks import BATCH, Network, apply, check_function
from aeot_jax.metrics.features import FeatureMap, extract, fit_features, predict
from aeot_jax.metrics.frechet import frechet_report, kernel_distance
from aeot_jax.metrics.newness.memory import remembered
from aeot_jax.metrics.prdc import prdc
from aeot_jax.typing import ArrayLike, Given, PRNGKey

ENOUGH = 100
"""With this many rows, two standard errors of a share are at most a tenth."""

_FARTHEST = 1e15
"""Largest distance from 0 in a feature space: sixth powers stay far from overflow."""

MIN_SET = 20
"""Fewest rows for a quantile or an average over blocks."""


@dataclasses.dataclass(frozen=True)
class Space:
    """A feature space, in which data are compared.

    Attributes:
      name: "classifier", "principal components", "standardised columns" or "own".
      features: data (n, ...) -> (n, f).
      classifier: the classifier of the labels, if its features are used.
    """

    name: str
    features: Callable[[Any], np.ndarray]
    classifier: FeatureMap | None = None


def space(
    key: PRNGKey,
    real: np.ndarray,
    labels: ArrayLike | None = None,
    features: Network | None = None,
) -> Space:
    """The feature space of a comparison: learned from the real data, or the user's own.

    Args:
      key: consumed.
      real: images (n, h, w, c) or rows (n, d).
      labels: integer classes of the images (n,), or None.
      features: the user's own features: a batch of the data (images as floats in [0, 1]) -> (b, f).
    """
    if features is not None:
        own = features
        return Space("own", lambda x: _flat(apply("features", own, _unit(x), BATCH)))
    if real.ndim == 2:
        units = columns.standardised(columns.check("real", real, "rows")).units
        return Space(
            "standardised columns",
            lambda x: columns.measured(np.asarray(x), *units).astype(np.float32),
        )
    learned = fit_features(key, real, labels)
    name = "classifier" if learned.num_classes else "principal components"
    return Space(name, lambda x: extract(learned, x), learned if learned.num_classes else None)


def _flat(found: np.ndarray) -> np.ndarray:
    """Features as rows (n, f); raises if float32 cannot hold them."""
    rows = found.reshape(len(found), -1)
    if rows.dtype == np.uint8:
        rows = rows.astype(np.float32)  # bytes of a feature are no pixels, which count in 255ths
    if not rows.shape[1]:
        raise ValueError("`features` returned no number for a row; pass one that gives some.")
    with np.errstate(over="ignore"):
        good = np.isfinite(rows.astype(np.float32)).all(axis=1)
    if not good.all():
        raise ValueError(
            f"`features` made a value of row {int(good.argmin())} that is too large for float32; "
            "divide by a scale in it."
        )
    return rows


def _unit(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 and x.ndim > 2 else x


def compare(
    key: Given[PRNGKey],
    real: ArrayLike,
    generated: ArrayLike,
    held_out: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    features: Network | None = None,
    num_samples: Given[int] = 5000,
) -> dict[str, Any]:
    """Compare generated data with real data from any source.

    Beside every score is its floor: the score of real data against other real data, held out if
    there are any. Rows (n, d) are compared in units of the real columns. Images are compared in a
    feature space that is learned from the real ones, so scores compare models of one data set only.
    The user's own `features` replace both.

    Args:
      key: key of all random numbers here.
      real: images (n, h, w, c), integers in 0..255 or floats in [0, 1]; or rows (n, d).
      generated: of the same kind.
      held_out: real data that the generator was not fitted to, or None.
      labels: integer classes of the real images (n,), from which a classifier is learned, or None;
        of rows, and beside `features`, there is none.
      features: a pure function, a batch of the data (images as floats in [0, 1]) -> (b, ...),
        called 64 rows at a time outside of any jit of this library.
      num_samples: most rows of each set.

    Returns:
      Nested dicts of numbers: ``features`` (the space), ``frechet``, ``kernel``, ``prdc``,
      ``classes`` (None without labels) and ``memory`` (None without held-out data).

    Raises:
      ValueError: if shapes or ranges disagree, or a set is too small: 40 real, 20 others.
    """
    key = arguments.key("key", key)
    check_function("features", features)
    found = _check_sets({"real": real, "generated": generated, "held_out": held_out}, labels)
    if arguments.count("num_samples", num_samples) < MIN_SET:
        raise ValueError(f"`num_samples` is {num_samples}; pass at least {MIN_SET}.")
    if labels is not None and (features is not None or found["real"].ndim == 2):
        what = "`features` replace it" if features is not None else "rows have none"
        raise ValueError(f"`labels` is given for a classifier, but {what}; leave it out.")
    feature_key, distance_key = jax.random.split(key)
    where = space(feature_key, found["real"], labels, features)
    held = found.get("held_out")
    results = distances(
        distance_key, where, found["generated"], found["real"], held, labels, num_samples
    )
    results["memory"] = None
    if held is not None:
        new, known = found["generated"], found["real"]
        if known.ndim == 2 or features is not None:
            new, known, held = (where.features(part) for part in (new, known, held))
        results["memory"] = dataclasses.asdict(remembered(new, known, held, "real"))
    return results


def _check_sets(sets: dict[str, Any], labels: ArrayLike | None) -> dict[str, np.ndarray]:
    """The sets, checked and of one shape; `held_out` alone may be None, and is then left out."""
    found = {
        name: _checked(name, x) for name, x in sets.items() if x is not None or name != "held_out"
    }
    shape = found["real"].shape[1:]
    for name, x in found.items():
        if x.shape[1:] != shape:
            raise ValueError(
                f"`{name}` has rows of shape {x.shape[1:]}, but `real` has rows of shape {shape}; "
                "bring both to one shape."
            )
    if labels is not None and np.shape(labels) != (len(found["real"]),):
        raise ValueError(
            f"`labels` has shape {np.shape(labels)}; pass one integer for each of "
            f"{len(found['real'])} rows of `real`."
        )
    return found


def _checked(name: str, value: Any) -> np.ndarray:
    x = np.asarray(arguments.host_array(name, value))
    least = 2 * MIN_SET if name == "real" else MIN_SET
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim not in (2, 4):
        raise ValueError(
            f"`{name}` has shape {x.shape}; pass images (n, h, w, c), or one row each, (n, d)."
        )
    if len(x) < least:
        raise ValueError(f"`{name}` holds {len(x)} rows; pass at least {least}.")
    return pixels.checked(x, f"`{name}`") if x.ndim == 4 else columns.check(name, x, "rows")


def distances(
    key: PRNGKey,
    where: Space,
    generated: np.ndarray,
    real: np.ndarray,
    held_out: np.ndarray | None,
    labels: ArrayLike | None,
    num_samples: int,
) -> dict[str, Any]:
    """Compare n generated with n real data, and real with other real data for the floors.

    Args:
      key: consumed.
      where: from ``space``.
      generated: data (g, ...).
      real: data (n, ...).
      held_out: data (p, ...), or None.
      labels: labels of the real data, if the space is that of a classifier.
      num_samples: most rows of each set.
    """
    room = [num_samples, len(real) // 2, len(generated)]
    n = min(room if held_out is None else [*room, len(held_out)])
    frechet_key, kernel_key, floor_key, order_key = jax.random.split(key, 4)
    order = np.asarray(jax.random.permutation(order_key, len(real)))
    both = where.features(real[order[: 2 * n]])
    new = where.features(evenly(generated, n))
    test = None if held_out is None else where.features(evenly(held_out, n))
    for name, x in (("real", both), ("generated", new), ("held_out", test)):
        _check_near(name, x)
    some, other = both[:n], both[n:]
    floor = other if test is None else test
    frechet = frechet_report(frechet_key, new, both, test, num_samples=n)
    return {
        "features": where.name,
        "frechet": dataclasses.asdict(frechet),
        "kernel": {
            **dataclasses.asdict(kernel_distance(kernel_key, new, some)),
            "floor": kernel_distance(floor_key, floor, some).value,
        },
        "prdc": {
            **dataclasses.asdict(prdc(some, new)),
            "floor": dataclasses.asdict(prdc(some, floor)),
        },
        "classes": _classes(where.classifier, generated, labels),
    }


def _check_near(name: str, x: np.ndarray | None) -> None:
    """Refuse features that are so far from 0 that the kernel, a cubic polynomial, overflows."""
    largest = 0.0 if x is None else float(np.abs(x).max())
    if largest > _FARTHEST:
        raise ValueError(
            f"`{name}` lies up to {largest:.2g} from 0 where it is compared, in units of the real "
            "data or of `features`; bring all sets to one scale."
        )


def uncertain(num_samples: int, things: str = "images") -> str | None:
    """A warning if scores come from few rows and are uncertain, else None.

    A share of n has a standard error of at most 1 / (2 sqrt(n)): 0.05 for n = 100.

    Args:
      num_samples: rows of each set.
      things: what the rows are.
    """
    if num_samples >= ENOUGH:
        return None
    return (
        f"These scores compare {num_samples} {things} with {num_samples}: precision, recall and "
        f"coverage are uncertain by up to ± {1 / math.sqrt(num_samples):.2f} (two standard "
        f"errors), and distances by as much in proportion; from {ENOUGH} {things} on, set aside by "
        "aeot-jax fit --hold-out, they tell more."
    )


def _classes(
    classifier: FeatureMap | None, generated: np.ndarray, labels: ArrayLike | None
) -> dict[str, Any] | None:
    """The classes of the generated images, against those of the real ones."""
    if classifier is None or labels is None:
        return None
    made = np.bincount(predict(classifier, generated), minlength=classifier.num_classes)
    there = np.bincount(np.asarray(labels), minlength=classifier.num_classes)
    gap = np.abs(made / made.sum() - there / there.sum()).sum() / 2
    return {
        "captured": int((made[there > 0] > 0).sum()),
        "of": int((there > 0).sum()),
        "total_variation": float(gap),
    }


def evenly(x: np.ndarray, n: int) -> Float[np.ndarray, "n ..."] | np.ndarray:
    """At most n rows, evenly spaced, because files are often sorted by class."""
    return x[np.linspace(0, len(x) - 1, min(n, len(x))).round().astype(int)]
