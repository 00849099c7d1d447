"""Distances between sets of features: Fréchet and kernel (MMD), with their floors.

These are not the published FID and KID, which use the features of one particular network. Scores
depend on the features and on the sample size: compare them only for equal ones, and beside their
floor, the score of real data against real data.
"""

import dataclasses

import jax
import numpy as np

from aeot_jax import arguments
from aeot_jax.metrics import distances
from aeot_jax.metrics.points import together
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_SKEW = 1e-4
"""Relative rounding error of a float32 covariance, in its symmetry and its eigenvalues."""


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """The squared maximum mean discrepancy, and its standard error.

    Attributes:
      value: unbiased estimate; 0 in expectation for equal distributions, so it may be negative.
      standard_error: standard error over disjoint blocks.
      num_blocks: number of blocks.
      block_size: samples of each set in a block.
    """

    value: float
    standard_error: float
    num_blocks: int
    block_size: int


@dataclasses.dataclass(frozen=True)
class FrechetReport:
    """A Fréchet distance beside its two floors, all from sets of the same size.

    Attributes:
      distance: generated against training images.
      floor_train: training images against other training images: the bias by the sample size.
      floor_test: test images against training images: the score of a perfect generator. None
        without a test set.
      num_samples: images in each set; the distance depends on it.
    """

    distance: float
    floor_train: float
    floor_test: float | None
    num_samples: int


def moments(features: ArrayLike, name: str = "features") -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and unbiased covariance in float64, without a float64 copy of the features.

    Args:
      features: features, (n, d).
      name: their name, for errors.

    Returns:
      Mean (d,) and covariance (d, d).

    Raises:
      ValueError: if there are fewer than 2 rows or a value is not finite.
    """
    (x,) = together(**{name: features})
    n, d = x.shape
    if n < 2:
        raise ValueError(f"`{name}` has {n} row; pass at least 2, better 10 a dimension.")
    step = max(1, distances.MEMORY // (16 * d))
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    mean = np.zeros(d)
    for start in range(0, n, step):
        mean += np.asarray(x[start : start + step]).sum(axis=0, dtype=np.float64) * (scale / n)
    covariance = np.zeros((d, d))
    for start in range(0, n, step):
        centred = np.asarray(x[start : start + step], np.float64) * scale - mean
        covariance += centred.T @ centred
    return mean, covariance / (n - 1)


def gaussian_frechet_distance(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike, covariance_b: ArrayLike
) -> float:
    r"""Compute the squared 2-Wasserstein distance between two Gaussians.

    $|m_a - m_b|^2 + \operatorname{tr} S_a + \operatorname{tr} S_b - 2 \|S_a^{1/2} S_b^{1/2}\|_*$.
    The trace of the root of $S_a S_b$ is computed as a nuclear norm, from symmetric roots and
    singular values. So singular covariances (fewer samples than dimensions) cost no accuracy, and
    no number becomes complex.

    Args:
      mean_a: mean, (d,).
      covariance_a: symmetric, positive semi-definite, (d, d).
      mean_b: mean, (d,).
      covariance_b: symmetric, positive semi-definite, (d, d).

    Returns:
      The squared distance, at least 0.

    Raises:
      ValueError: if the shapes disagree, a value is not finite, or a covariance is not symmetric or
        has an eigenvalue below 0.

    Source: Dowson, Landau, "The Fréchet distance between multivariate normal distributions", 1982.
    """
    m_a, s_a, m_b, s_b = (
        np.asarray(arguments.host_array(name, value), np.float64)
        for name, value in (
            ("mean_a", mean_a),
            ("covariance_a", covariance_a),
            ("mean_b", mean_b),
            ("covariance_b", covariance_b),
        )
    )
    d = m_a.size
    if not (m_a.shape == m_b.shape == (d,) and s_a.shape == s_b.shape == (d, d)):
        raise ValueError(
            f"the moments have shapes {m_a.shape}, {s_a.shape}, {m_b.shape}, {s_b.shape}; "
            "pass (d,), (d, d), (d,), (d, d) from the same feature space."
        )
    if not all(np.isfinite(part).all() for part in (m_a, s_a, m_b, s_b)):
        raise ValueError("the moments hold a value that is not finite; check the features first.")
    _check_covariances(covariance_a=s_a, covariance_b=s_b)
    cross = np.linalg.svd(_root(s_a) @ _root(s_b), compute_uv=False).sum()
    return max(0.0, float(np.sum((m_a - m_b) ** 2) + np.trace(s_a) + np.trace(s_b) - 2 * cross))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the Fréchet distance between two sets of features.

    It is biased upwards, by an amount that falls like 1 / n and depends on the distribution:
    compare sets of equal size only, beside the floors of `frechet_report`.

    Args:
      a: features, (n, d).
      b: features, (m, d).

    Returns:
      The squared 2-Wasserstein distance between the Gaussians of equal moments.

    Raises:
      ValueError: if the dimensions differ, a set has fewer than 2 rows or a value is not finite.

    Source: Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017 (with the
    features of another network).
    """
    x, y = together(a=a, b=b)
    return gaussian_frechet_distance(*moments(x, "a"), *moments(y, "b"))


def frechet_report(
    key: Given[PRNGKey],
    generated: ArrayLike,
    train: ArrayLike,
    test: ArrayLike | None = None,
    *,
    num_samples: Given[int | None] = None,
) -> FrechetReport:
    """Measure the Fréchet distance of generated features and both floors, at one sample size.

    Args:
      key: chooses the rows that are compared.
      generated: features of generated images, (m, d).
      train: features of training images, (n, d); two disjoint halves of them are compared.
      test: features of test images, (p, d), if there are any.
      num_samples: rows in each set. None: as many as possible, at most n // 2.

    Returns:
      The distance and its floors.

    Raises:
      ValueError: if there are too few rows, the dimensions differ or a value is not finite.
    """
    key = arguments.key("key", key)
    others = {"generated": generated} | ({} if test is None else {"test": test})
    *rows, reference = together(**others, train=train)
    features = {"generated": rows[0], "train": reference, **dict(zip(others, rows, strict=True))}
    room = {name: len(value) // (2 if name == "train" else 1) for name, value in features.items()}
    n = min(room.values()) if num_samples is None else arguments.count("num_samples", num_samples)
    for name, most in room.items():
        if not 2 <= n <= most:
            raise ValueError(
                f"`num_samples` is {n}, but `{name}` has room for 2 to {most}; "
                "pass more rows or ask for fewer."
            )
    keys = jax.random.split(key, len(features))
    order = {
        name: np.asarray(jax.random.permutation(k, len(value)))
        for k, (name, value) in zip(keys, features.items(), strict=True)
    }
    real = moments(features["train"][order["train"][:n]])

    def distance(name: str, some: slice) -> float:
        return gaussian_frechet_distance(*moments(features[name][order[name][some]]), *real)

    return FrechetReport(
        distance=distance("generated", slice(n)),
        floor_train=distance("train", slice(n, 2 * n)),
        floor_test=None if test is None else distance("test", slice(n)),
        num_samples=n,
    )


def kernel_distance(
    key: Given[PRNGKey], a: ArrayLike, b: ArrayLike, *, num_blocks: Given[int] = 10
) -> KernelDistance:
    r"""Compute the unbiased squared MMD with the kernel $(\langle x, y\rangle / d + 1)^3$.

    Both sets are shuffled and cut into disjoint blocks, whose unbiased estimates are averaged. The
    blocks are independent, so their standard deviation gives a valid standard error; overlapping
    subsets would not. The kernel is not invariant under shift and scale: pass features with mean 0
    and variance 1, as `extract` gives.

    Args:
      key: shuffles.
      a: features, (n, d).
      b: features, (m, d).
      num_blocks: at least 2; more give a better standard error and a noisier value.

    Returns:
      The estimate with its standard error. Rows beyond num_blocks * (min(n, m) // num_blocks) are
      left out.

    Raises:
      ValueError: if the dimensions differ, a value is not finite or a block has fewer than 2 rows.

    Source: Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018 (KID, with
    the features of another network and overlapping subsets).
    """
    key = arguments.key("key", key)
    x, y = together(a=a, b=b)
    if arguments.count("num_blocks", num_blocks) < 2:
        raise ValueError(
            f"`num_blocks` is {num_blocks}; pass at least 2, or there is no standard error."
        )
    size = min(x.shape[0], y.shape[0]) // num_blocks
    if size < 2:
        name, rows = min(("a", x.shape[0]), ("b", y.shape[0]), key=lambda item: item[1])
        raise ValueError(
            f"`{name}` has {rows} rows, too few for `num_blocks` = {num_blocks}; "
            f"pass at least {2 * num_blocks}."
        )
    key_a, key_b = jax.random.split(key)
    order_a = np.asarray(jax.random.permutation(key_a, x.shape[0]))
    order_b = np.asarray(jax.random.permutation(key_b, y.shape[0]))
    values = [
        _squared_mmd(
            _block(x, order_a[start : start + size]), _block(y, order_b[start : start + size])
        )
        for start in range(0, size * num_blocks, size)
    ]
    return KernelDistance(
        value=float(np.mean(values)),
        standard_error=float(np.std(values, ddof=1) / np.sqrt(num_blocks)),
        num_blocks=num_blocks,
        block_size=size,
    )


def _block(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return np.asarray(x[rows], np.float64) * scale


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    within = _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_off_diagonal(k: np.ndarray) -> float:
    n = k.shape[0]
    return (k.sum() - np.trace(k)) / (n * (n - 1))


def _check_covariances(**covariances: np.ndarray) -> None:
    """Refuse matrices that are no covariance, up to rounding."""
    for name, s in covariances.items():
        size = np.abs(s).max(initial=0.0)
        if np.abs(s - s.T).max(initial=0.0) > _SKEW * size:
            raise ValueError(f"`{name}` is not symmetric; pass a covariance, as `np.cov(x.T)`.")
        least = float(np.linalg.eigvalsh(s).min(initial=0.0))
        if least < -_SKEW * size * len(s):
            raise ValueError(
                f"`{name}` has an eigenvalue of {least:.3g}; pass a covariance, which has none "
                "below 0."
            )


def _root(s: np.ndarray) -> np.ndarray:
    """The symmetric square root; eigenvalues below 0 count as 0."""
    values, vectors = np.linalg.eigh((s + s.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
