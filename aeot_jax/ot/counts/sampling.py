"""How the solver draws the samples that move the heights, and which cells they lie in.

Three ways, each an unbiased count of every cell:

* ``independent``: what ``mu.sample`` gives; any source.
* ``sobol``: a scrambled Sobol net, up to 12 dimensions, for a source with ``from_uniform``.
* ``orbits``: eight samples for the price of little more than one (``antithetic.py``), for a source
  with a ``symmetry``.

A certificate is always drawn independently.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.measures import Measure, draw, is_centred, sobol
from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import antithetic, blockwise, power
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.typing import Heights, Index, PRNGKey, Samples, Targets, WorkingTargets

Sampling = Literal["independent", "sobol", "orbits"]
"""Ways to draw."""

NAMES: tuple[Sampling, ...] = ("independent", "sobol", "orbits")


def choose(
    mu: Measure, asked: Literal["auto"] | Sampling, batch_size: int | None = None
) -> Sampling:
    """The way to draw from a source: as asked, or for "auto" the one that was measured best.

    Args:
      mu: source measure.
      asked: by the user.
      batch_size: samples of a step, if the user names them.

    Raises:
      ValueError: if the source does not allow what was asked.
    """
    fits = mu.dim <= sobol.MOST_DIMS and (batch_size or 0) < sobol.MOST_POINTS
    has_net = fits and hasattr(mu, "from_uniform")
    has_orbits = getattr(mu, "symmetry", None) is not None
    if asked == "auto":
        if has_net:
            return "sobol"
        return "orbits" if has_orbits and mu.dim >= antithetic.LEAST_DIM else "independent"
    if asked == "sobol" and not has_net:
        raise ValueError(
            f"`sampling` is 'sobol', which takes a source with `from_uniform`, at most "
            f"{sobol.MOST_DIMS} dimensions and steps of less than {sobol.MOST_POINTS} samples, but "
            f"`mu` is {type(mu).__name__} in {mu.dim} and `batch_size` {batch_size}; choose "
            "'independent' or 'auto'."
        )
    if asked == "orbits" and not has_orbits:
        raise ValueError(
            f"`sampling` is 'orbits', which takes a source with a `symmetry`, but `mu` is "
            f"{type(mu).__name__}; choose 'independent' or 'auto'."
        )
    return asked


def prepared(key: PRNGKey, mu: Measure, y: Targets, sampling: Sampling) -> Targets:
    """Targets as the kernel shall see them: turned, where the source's law does not notice.

    Orbits want the norm of a target spread over all coordinates.
    """
    if sampling == "orbits" and getattr(mu, "symmetry", None) == "rotations":
        return jnp.matmul(y, antithetic.mixing(key, mu.dim), precision=PRECISION)
    return y


def cells(
    key: PRNGKey,
    mu: Measure,
    y: WorkingTargets | Rows,
    h: Heights,
    stream: Int[Array, ""],
    num_samples: int,
    num_streams: int,
    sampling: Sampling,
    targets_axis: str | None = None,
) -> Index:
    """Cells that hold the samples of one logical stream of a batch.

    Args:
      key: key of the batch.
      mu: source measure.
      y: targets (m, d), prepared, or from ``shift.around``; further rows own no cell.
      h: heights (m,).
      stream: id of the stream.
      num_samples: samples of each stream n, a multiple of 8 for orbits.
      num_streams: streams of the batch.
      sampling: the way to draw.
      targets_axis: a mapped axis over whose devices the targets are sharded, m to each.

    Returns:
      Indices (n,), m where the cell is another device's. Streams are independent of each other, but
      for a net, which spans them all.
    """
    rows, heights = _whole(as_rows(y), h)
    x = _drawn(key, mu, stream, num_samples, num_streams, sampling)
    return _owners(x, rows, heights, h.shape[0], sampling, targets_axis).reshape(num_samples)


def cells_abreast(
    key: PRNGKey,
    mu: Measure,
    y: WorkingTargets | Rows,
    h: Heights,
    streams: Int[Array, " s"],
    num_samples: int,
    num_streams: int,
    sampling: Sampling,
    targets_axis: str | None = None,
) -> Int[Array, "s n"]:
    """``cells`` of several streams, all scored together: what an accelerator wants."""

    def drawn(stream: Int[Array, ""]) -> Samples:
        return _drawn(key, mu, stream, num_samples, num_streams, sampling)

    # Of a law of one's own nobody knows whether its sampler can be mapped.
    x = jax.vmap(drawn)(streams) if is_centred(mu) else jax.lax.map(drawn, streams)
    rows, heights = _whole(as_rows(y), h)
    flat = x.reshape(-1, x.shape[2])
    index = _owners(flat, rows, heights, h.shape[0], sampling, targets_axis)
    of_streams = index.reshape(-1, x.shape[0], x.shape[1])  # a member of every orbit in front
    return jnp.swapaxes(of_streams, 0, 1).reshape(x.shape[0], num_samples)


def _whole(rows: Rows, h: Heights) -> tuple[Rows, Float[Array, " rows"]]:
    """Targets and heights filled up to a block of the kernel.

    It has the same shape however few targets there are: a product of matrices may round by its
    shape, and where planes nearly meet, rounding decides.
    """
    number = max(rows.shape[0], blockwise.ALIGNMENT)
    points = jnp.pad(rows.points, ((0, number - rows.shape[0]), (0, 0)))
    heights = jnp.pad(h, (0, number - h.shape[0]), constant_values=-jnp.inf)
    return rows._replace(points=points), heights


def _drawn(
    key: PRNGKey,
    mu: Measure,
    stream: Int[Array, ""],
    num_samples: int,
    num_streams: int,
    sampling: Sampling,
) -> Samples:
    """Samples of a stream; of each orbit the first."""
    if sampling == "sobol":
        total = num_samples * num_streams
        points = sobol.uniforms(key, mu.dim, stream * num_samples, num_samples, total)
        x = mu.from_uniform(points)  # pyright: ignore[reportAttributeAccessIssue]
        return jnp.asarray(x, jnp.float32)
    number = num_samples // antithetic.SIZE if sampling == "orbits" else num_samples
    return draw(jax.random.fold_in(key, stream), mu, number)


def _owners(
    x: Samples,
    rows: Rows,
    heights: Heights,
    num_targets: int,
    sampling: Sampling,
    targets_axis: str | None,
) -> Int[Array, "*n"]:
    """Cells of samples (n,), or of all members of their orbits (8, n)."""
    orbits = sampling == "orbits"
    if targets_axis is None:
        if orbits:
            return antithetic.assign_orbits(x, rows, heights)
        return power.best(x, rows, heights)[1]
    scores, index = (antithetic if orbits else power).leaders(x, rows, heights)
    winner = is_winner(scores.reshape(-1), targets_axis).reshape(index.shape)
    return jnp.where(winner, index, num_targets)


def is_winner(scores: Float[Array, " n"], targets_axis: str) -> Bool[Array, " n"]:
    """Whether this device's best score of each sample is the best of all devices.

    Of equals the first wins, as among the targets of one device. Four bytes a sample and device
    travel: whoever wins knows the index.
    """
    everyone = jax.lax.all_gather(scores, targets_axis)
    shards = jnp.arange(everyone.shape[0], dtype=jnp.int32)[:, None]
    best = jnp.max(everyone, axis=0)
    winner = jnp.min(jnp.where(everyone == best[None, :], shards, everyone.shape[0]), axis=0)
    return winner == jax.lax.axis_index(targets_axis)
