"""The certificate: what fresh samples say about any heights."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int

from aeot_jax.measures import Measure
from aeot_jax.ot import problem
from aeot_jax.ot.estimate import NUM_STREAMS, Certificate, certificate, draw_counts
from aeot_jax.ot.parallel import Layout, Parallel, layout, local, place, run
from aeot_jax.typing import Counts, Devices, Heights, PRNGKey, Targets, Weights

_SAMPLES_PER_STREAM = 512
"""Samples of a stream in one batch; a draw is a whole number of batches."""


def certify(
    key: PRNGKey,
    mu: Measure,
    y: ArrayLike,
    h: ArrayLike,
    nu: ArrayLike | None = None,
    num_samples: int = 100_000,
    *,
    parallel: Parallel = "auto",
    devices: Devices | None = None,
) -> Certificate:
    """Measure the mass error of heights on samples that nothing else has used.

    Coinciding targets count as one, with the sum of their weights (outside jit; inside, values
    cannot be compared and each group's mass is found at its lowest index).

    Args:
      key: consumed; must not be a key that led to ``h``.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      num_samples: samples, at least 2; rounded up to whole batches of the logical streams. A mass
        error e is measured with standard error s by about sqrt(m / 2) / (e s) of them.
      parallel: how the samples are spread over devices; see ``SolverConfig``. Inside jit choose
        "none".
      devices: the devices to use; None is all.

    Returns:
      The certificate; its ``num_samples`` says how many were drawn.

    Raises:
      ValueError: if shapes, weights, heights, the source's dimension or the devices do not fit.
    """
    targets = problem.check_targets(y)
    heights = problem.check_heights(h, targets)
    weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    if num_samples < 2 or not hasattr(num_samples, "__index__"):
        raise ValueError(f"`num_samples` is {num_samples!r}; pass an integer, at least 2.")
    concrete = problem.is_concrete(key, mu, targets, heights, weights)
    same = problem.representatives(targets) if problem.is_concrete(targets) else None
    where = layout(parallel, devices, inside_jit=not concrete)
    key, mu, targets, heights, weights = place(where, (key, mu, targets, heights, weights))
    return local(
        certify_checked(key, mu, targets, heights, weights, num_samples, same, where=where)
    )


def certify_checked(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    nu: Weights,
    num_samples: int,
    same: Int[np.ndarray, " m"] | None,
    samples_per_stream: int = _SAMPLES_PER_STREAM,
    where: Layout = Layout("none"),  # noqa: B008 - a tuple
) -> Certificate:
    """``certify`` for arguments that are known to be good.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,).
      nu: weights (m,).
      num_samples: samples at least.
      same: representative of each target, None where all differ.
      samples_per_stream: samples of a stream in one batch; the solver passes its own, so that one
        kernel is compiled.
      where: layout of the devices; the arrays are placed in it.
    """
    samples_per_stream = min(samples_per_stream, -(-num_samples // NUM_STREAMS))
    batches = -(-num_samples // (samples_per_stream * NUM_STREAMS))
    total = batches * samples_per_stream * NUM_STREAMS
    if total > np.iinfo(np.int32).max:
        raise ValueError(
            f"`num_samples` is {num_samples}; counts are int32, so pass less than 2^31."
        )
    arguments = key, mu, y, h, nu, np.int32(batches)
    counts = run(where, _counts, *arguments, samples_per_stream=samples_per_stream)
    return _finish(counts, nu, total, same)


def _counts(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    nu: Weights,
    batches: Int[Array, ""],
    *,
    samples_per_stream: int,
    axis_name: str | None,
) -> Counts:
    """Counts of fresh independent samples over all devices of the axis."""
    return draw_counts(
        key, mu, y, h, nu, batches, samples_per_stream=samples_per_stream, axis_name=axis_name
    )[0]


@jax.jit
def _merged(counts: Counts, same: Int[Array, " m"]) -> Counts:
    """Counts of each group of coinciding targets, at its representative."""
    return jnp.zeros_like(counts).at[same].add(counts)


_certificate = jax.jit(certificate)


def _finish(
    counts: Counts, nu: Weights, total: int, same: Int[np.ndarray, " m"] | None
) -> Certificate:
    if same is not None:
        counts, nu = _merged(counts, jnp.asarray(same)), problem.merged_weights(nu, same)
    return _certificate(counts, nu, total)
