"""The ways to draw, by name.

A new way is a file beside this one with a subclass of ``Way``, and its name here, twice.
"""

from typing import Literal

from aeot_jax.measures import Measure
from aeot_jax.ot.cells import antithetic
from aeot_jax.ot.counts.ways.net import Net
from aeot_jax.ot.counts.ways.orbits import Orbits
from aeot_jax.ot.counts.ways.way import Way

Sampling = Literal["independent", "sobol", "orbits"]
"""Names of the ways to draw."""

WAYS: dict[Sampling, Way] = {
    "independent": Way(),
    "sobol": Net(),
    "orbits": Orbits(),
}
"""The ways to draw, each an unbiased count of every cell."""

INDEPENDENT = WAYS["independent"]
"""Serves any source; a certificate is always drawn so."""


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
    if asked == "auto":
        if WAYS["sobol"].lack(mu, batch_size) is None:
            return "sobol"
        has_orbits = WAYS["orbits"].lack(mu, batch_size) is None
        return "orbits" if has_orbits and mu.dim >= antithetic.LEAST_DIM else "independent"
    lack = WAYS[asked].lack(mu, batch_size)
    if lack is not None:
        raise ValueError(f"`sampling` is {asked!r}, {lack}; choose 'independent' or 'auto'.")
    return asked
