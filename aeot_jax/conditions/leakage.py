r"""How much noise tells of the condition of the target that it is carried to.

A model that learns :math:`y = T(x, z)` from pairs sees the noise x beside the condition :math:`z_i`
of the target. It will be asked to carry fresh noise, which knows nothing of the condition. So the
law of x given :math:`z_i` should be that of x. The probe predicts :math:`z_i` from x as well as it
can be done, by :math:`E[z_i | x]`, and no classifier is trained for it: draw one x and two
conditions z, z' independently of each other, and see to which targets i, i' both pairs go. Then

.. math:: \text{leakage} = \frac{E\langle z_i - \bar z, z_{i'} - \bar z\rangle}{E|z_i - \bar z|^2}
          = \frac{\operatorname{Var} E[z_i | x]}{\operatorname{Var} z_i} ,

the share of the variance of the condition that the noise explains: 0 at chance, 1 if the noise
determines it. Of labels, as unit vectors, it is 0 only if noise and label are independent; it is by
how much more than chance the two targets agree in their label.

Source: Sobol 1993 (the share of the variance, by draws that share one input).
"""

from typing import NamedTuple

import jax
import numpy as np

from aeot_jax.conditions.codes import Codes
from aeot_jax.measures import Product, draw
from aeot_jax.ot.duality.assign import assign
from aeot_jax.typing import ArrayLike, PRNGKey


class Leakage(NamedTuple):
    """What a probe has measured.

    Attributes:
      share: of the variance of the target's condition, what the noise explains.
      se: its standard error.
      kept: share of the labels drawn that the target has; of vectors, the correlation of the one
        drawn and the target's.
    """

    share: float
    se: float
    kept: float

    @property
    def upper(self) -> float:
        """What the share is at most, with confidence 95 %; chance alone makes it no smaller."""
        return max(self.share, 0.0) + 2 * self.se


def probe(
    key: PRNGKey,
    mu: Product,
    y: ArrayLike,
    h: ArrayLike,
    codes: Codes,
    beta: float,
    num_samples: int,
) -> Leakage:
    """Measure the leakage of heights of the augmented problem.

    Args:
      key: consumed.
      mu: law of noise and condition.
      y: augmented targets (m, d + k).
      h: heights (m,).
      codes: conditions of the targets; those of ``mu`` and ``y`` are these times sqrt(beta).
      beta: weight of the conditions in the cost.
      num_samples: samples of the noise.
    """
    noise_key, *keys = jax.random.split(key, 3)
    x = np.asarray(draw(noise_key, mu.mu_a, num_samples))
    drawn = [np.asarray(draw(own, mu.mu_b, num_samples)) for own in keys]
    indices = [np.asarray(assign(np.concatenate([x, z], 1), y, h)[1]) for z in drawn]
    found = [codes.rows[index] for index in indices]
    mean = (found[0].mean(0) + found[1].mean(0)) / 2
    product = ((found[0] - mean) * (found[1] - mean)).sum(1) / codes.variance
    se = float(product.std() / np.sqrt(num_samples))
    # Half the squared distance: 1 between two labels, and on average the variance of vectors.
    distance = np.square(drawn[0] / np.sqrt(beta) - found[0]).sum(1) / 2
    if codes.labels is not None:
        kept = (distance < 0.5).mean()
    else:
        kept = 1 - distance.mean() / codes.variance
    return Leakage(float(product.mean()), se, float(kept))
