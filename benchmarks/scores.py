"""Scores of images that do not depend on their number, and features that know whose they are.

The Fréchet distance extrapolated to infinitely many samples, and the kernel distance of all pairs.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from aeot_jax.metrics import FeatureMap, extract
from aeot_jax.metrics.frechet import frechet_distance

_SIZES = 5
"""Numbers of samples from which is extrapolated."""
_ROWS = 500
"""Rows of the kernel that are computed together."""
Image = Float[np.ndarray, "n h w c"]


@dataclass(frozen=True)
class Features:
    """Features of images, and of which network.

    Attributes:
      values: one row an image (n, d).
      network: a digest or a name; only features of the same network can be compared.
    """

    values: Float[np.ndarray, "n d"]
    network: str

    def __getitem__(self, rows: slice | np.ndarray) -> "Features":
        return Features(self.values[rows], self.network)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Extrapolated:
    """A Fréchet distance without the bias of finitely many samples.

    Attributes:
      value: at infinitely many samples; it may be negative by chance.
      standard_error: of the straight line's value there.
      of_all: the usual one, of all samples, which is too large.
      num_samples: how many those are, of each set.
    """

    value: float
    standard_error: float
    of_all: float
    num_samples: int


def digest(feature_map: FeatureMap) -> str:
    """Sixteen digits of a network's weights."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(feature_map):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def featurizer(feature_map: FeatureMap) -> Callable[[Image], Features]:
    """The features of a classifier, under its digest."""
    name = digest(feature_map)
    return lambda images: Features(extract(feature_map, images), name)


def named(name: str) -> Callable[[Image], Features]:
    """The features of a function of the user's, named as ``module:function``.

    Raises:
      ValueError: if there is no such function, or what it gives is no row of numbers an image.
    """
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`features` is {name!r}, which cannot be imported; pass module:function, of a module "
            "in the folder or on the path."
        ) from error

    def features(images: Image) -> Features:
        values = np.asarray(made(images))
        if values.ndim != 2 or len(values) != len(images):
            raise ValueError(
                f"`features` {name!r} gives shape {values.shape} for {len(images)} images; return "
                "one row an image."
            )
        return Features(values, name)

    return features


def alike(a: Features, b: Features, least: int) -> None:
    """Refuse features that cannot be compared.

    Raises:
      ValueError: if they are of different networks, or too few.
    """
    if a.network != b.network or a.values.shape[1:] != b.values.shape[1:]:
        raise ValueError(
            f"`a` holds {a.values.shape[1]} features of network {a.network}, `b` "
            f"{b.values.shape[1]} of {b.network}; extract both with one network."
        )
    for name, some in (("a", a), ("b", b)):
        if len(some) < least:
            raise ValueError(
                f"`{name}` holds {len(some)} images, too few for this score; pass at least {least}."
            )


def frechet_infinite(rng: np.random.Generator, a: Features, b: Features) -> Extrapolated:
    r"""Extrapolate the Fréchet distance to infinitely many samples of both sets.

    Its bias falls like 1 / n. Subsets of n rows of each set, without common rows at one n as far
    as there are enough, give its value at several n; a straight line in 1 / n, its value at 0.

    Args:
      rng: chooses the subsets.
      a: features of one set.
      b: features of the other.

    Raises:
      ValueError: if they are of different networks, or there are fewer images than four times as
        many as features.

    Source: Chong, Forsyth, Effectively Unbiased FID and Inception Score and Where to Find Them,
    CVPR 2020 (with both sets subsampled, and features of another network).
    """
    alike(a, b, 4 * a.values.shape[1])
    most = min(len(a), len(b))
    sizes = np.linspace(most // 4, most, _SIZES).round().astype(int)
    points = []
    for n in sizes:
        orders = rng.permutation(len(a)), rng.permutation(len(b))
        for k in range(most // n):
            rows = slice(k * n, (k + 1) * n)
            distance = frechet_distance(a.values[orders[0][rows]], b.values[orders[1][rows]])
            points.append((1 / n, distance))
    x, y = np.array(points).T
    design = np.stack([np.ones_like(x), x], axis=1)
    (value, slope), *_ = np.linalg.lstsq(design, y, rcond=None)
    spread = np.square(y - value - slope * x).sum() / max(1, len(x) - 2)
    error = float(np.sqrt(spread * np.linalg.inv(design.T @ design)[0, 0]))
    return Extrapolated(float(value), error, float(y[-1]), most)


def kernel_of_all(a: Features, b: Features) -> float:
    r"""The unbiased squared MMD of the kernel $(<x, y> / d + 1)^3$ from all pairs.

    Blocks of ``kernel_distance`` in the library give a standard error; all pairs give less noise.

    Raises:
      ValueError: if the features are of different networks, or fewer than 2.
    """
    alike(a, b, 2)
    n, m = len(a), len(b)
    return (
        (_sum(a, a) - _own(a)) / (n * (n - 1))
        + (_sum(b, b) - _own(b)) / (m * (m - 1))
        - 2 * _sum(a, b) / (n * m)
    )


def _sum(a: Features, b: Features) -> float:
    y = b.values.astype(np.float64)
    parts = (a.values[k : k + _ROWS].astype(np.float64) for k in range(0, len(a), _ROWS))
    return float(sum(((x @ y.T / y.shape[1] + 1) ** 3).sum() for x in parts))


def _own(a: Features) -> float:
    squares = np.square(a.values.astype(np.float64)).sum(1) / a.values.shape[1]
    return float(((squares + 1) ** 3).sum())
