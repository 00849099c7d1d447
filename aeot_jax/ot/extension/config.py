"""What is decided about the extension."""

from dataclasses import dataclass

import numpy as np

from aeot_jax import arguments
from aeot_jax.typing import Given

_PI = float(np.float32(np.pi))
"""Largest threshold, also that of a single cell: float32 pi, a little above pi."""


@arguments.known_fields
@dataclass(frozen=True)
class ExtensionConfig:
    """Options of the extension, the map between the codes of the data.

    Attributes:
      threshold: plane angle above which a face of the cells is singular, radians in (0, pi]; None
        learns it from the codes.
      num_samples: samples of the source from which the extension is learned; None is 4096.
      form: "kernels" makes samples as new as unseen data (see ``calibrate``); "blend" blends up to
        five codes, as do maps of fewer than 200 different codes.
    """

    threshold: float | None = None
    num_samples: int | None = None
    form: str = "kernels"

    def __post_init__(self):
        check_options(self.threshold, self.num_samples)
        arguments.choice("form", self.form, ("kernels", "blend"))


def check_options(threshold: Given[float | None], num_samples: Given[int | None]) -> None:
    """Raise an error if the threshold is no angle, or there are no samples."""
    if threshold is not None:
        what = "an angle in (0, pi], in radians"
        arguments.number("threshold", threshold, 0.0, _PI, above=True, what=what)
    if num_samples is not None:
        arguments.count("num_samples", num_samples)
