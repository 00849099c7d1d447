"""What a problem with conditions is made of, and the augmented problem for a weight of theirs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from aeot_jax.conditions.codes import Codes
from aeot_jax.measures import Measure, Product
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.reprs import brief


class Asked(NamedTuple):
    """What the user wants.

    Attributes:
      mu: source measure of the noise.
      y: targets (m, d).
      codes: their conditions and weights.
      config: for the solver.
      num_samples: samples by which the leakage is measured.
    """

    mu: Measure
    y: Shaped[np.ndarray, "m d"]
    codes: Codes
    config: SolverConfig
    num_samples: int

    __repr__ = brief

    def augmented(self, beta: float) -> tuple[Product, Float[np.ndarray, "m e"]]:
        """Source and targets, both beside the same rows, sqrt(beta) times the conditions."""
        rows = self.codes.on_scale(beta)
        is_narrow = self.y.dtype == np.float32 or self.y.dtype.itemsize < 4
        dtype = np.float32 if is_narrow else np.float64
        y = np.concatenate([self.y.astype(dtype), rows.astype(dtype)], 1)
        return Product(self.mu, self.codes.law(beta)), y
