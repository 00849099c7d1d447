"""A problem in units of its own size, and the sums over samples that its distance needs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import PRECISION, add_rows, repeat, safe_ratio
from aeot_jax.ot import frames
from aeot_jax.ot.cells import power
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.typing import Heights, PRNGKey, Targets, Weights

_UNIT_SAMPLES = 64
"""Samples that measure the size of the source, so that no square leaves the range of float32."""


class Asked(NamedTuple):
    """Targets, heights and weights, and which targets coincide.

    Attributes:
      y: targets (m, d), less ``offset``.
      offset: what the host has taken off them (d,).
      h: heights (m,).
      nu: weights (m,).
      same: lowest index of the target that equals each (m,).
      merged: weights (m,), of coinciding targets all at the first.
    """

    y: Targets
    offset: Float[Array, " d"]
    h: Heights
    nu: Weights
    same: Int[Array | np.ndarray, " m"]
    merged: Weights


class Scaled(NamedTuple):
    """A problem in units of its own size; the kernel has a scale of its own.

    Attributes:
      y: targets for the kernel, around their centre (m, d).
      h: heights for the kernel (m,).
      centre: of the targets, in the coordinates of the source (d,).
      unit: size of the problem, the unit of length of what follows.
      v: targets around their centre (m, d).
      psi: h + |y|^2 / 2 at the targets, less a constant (m,).
      mean_psi: <nu, psi>: 0 up to rounding, or -inf.
    """

    y: Targets
    h: Heights
    centre: Float[Array, " d"]
    unit: Float[Array, ""]
    v: Targets
    psi: Heights
    mean_psi: Float[Array, ""]


class Sums(NamedTuple):
    """Sums over the samples of a draw, by logical stream s.

    Attributes:
      counts: samples in each cell (s, m).
      cell_sum: sum of the samples of each cell over all streams (m, d).
      mean: means over samples (s, 3) of a = |x - T(x)|^2, b = psi(T(x)) and a - 2 b, scaled.
      scatter: sums of squared deviations from these means (s, 3).
    """

    counts: Int[Array, "s m"]
    cell_sum: Float[Array, "m d"]
    mean: Float[Array, "s 3"]
    scatter: Float[Array, "s 3"]


def scale_to_unit(key: PRNGKey, mu: Measure, asked: Asked) -> Scaled:
    """Measure the size of a problem and scale it.

    Args:
      key: of a few samples of the source.
      mu: source measure.
      asked: targets, heights and weights.
    """
    h, nu = asked.h, asked.nu
    frame = frames.frame(asked.y, nu)
    centre, scale = frame.centre + asked.offset, frame.scale
    reach = jnp.abs(draw(key, mu, _UNIT_SAMPLES) - centre[None, :]).max()
    unit = jnp.maximum(jnp.maximum(reach, scale), jnp.finfo(jnp.float32).tiny)
    y = frame.normalise(asked.y)
    v = y * (scale / unit)
    # With y = centre + unit v, psi = h + |y|^2 / 2 is unit^2 times this, up to a constant.
    psi = h / unit / unit + jnp.matmul(v, centre / unit, precision=PRECISION)
    psi = psi + jnp.square(v).sum(1) / 2
    finite = jnp.where(jnp.isfinite(psi), nu, 0.0)
    psi = psi - safe_ratio(jnp.where(finite > 0, nu * psi, 0.0).sum(), finite.sum())
    mean_psi = jnp.where(nu > 0, nu * psi, 0.0).sum()
    return Scaled(y, h / scale, centre, unit, v, psi, mean_psi)


def draw_sums(
    key: PRNGKey, mu: Measure, scaled: Scaled, rounds: Int[Array, ""], per_stream: int
) -> Sums:
    """Draw and sum. Means of batches are merged by their counts, so that float32 keeps its digits.

    Args:
      key: consumed.
      mu: source measure.
      scaled: the problem.
      rounds: batches of each stream.
      per_stream: samples of a stream in a batch.
    """

    def add_round(i: Int[Array, ""], sums: Sums) -> Sums:
        round_key = jax.random.fold_in(key, i)
        before, after = (per_stream * i).astype(jnp.float32), (i + 1).astype(jnp.float32)

        def add_batch(sums: Sums, stream: Int[Array, ""]) -> tuple[Sums, None]:
            x = draw(jax.random.fold_in(round_key, stream), mu, per_stream)
            _, index = power.best(x, scaled.y, scaled.h)
            cost = jnp.square((x - scaled.centre[None, :]) / scaled.unit - scaled.v[index]).sum(1)
            seen = jnp.stack([cost, scaled.psi[index], cost - 2 * scaled.psi[index]])
            mean = seen.mean(1)
            scatter = jnp.square(seen - mean[:, None]).sum(1)
            delta = mean - sums.mean[stream]
            added = Sums(
                sums.counts.at[stream, index].add(1),
                add_rows(sums.cell_sum, index, x),
                sums.mean.at[stream].add(delta / after, unique_indices=True),
                sums.scatter.at[stream].add(
                    scatter + jnp.square(delta) * (before / after), unique_indices=True
                ),
            )
            return added, None

        return jax.lax.scan(add_batch, sums, jnp.arange(NUM_STREAMS, dtype=jnp.int32))[0]

    empty = Sums(
        jnp.zeros((NUM_STREAMS, scaled.y.shape[0]), jnp.int32),
        jnp.zeros_like(scaled.y),
        jnp.zeros((NUM_STREAMS, 3), jnp.float32),
        jnp.zeros((NUM_STREAMS, 3), jnp.float32),
    )
    return repeat(rounds, add_round, empty)
