"""What a source measure is."""

from typing import Literal, Protocol, runtime_checkable

from aeot_jax.typing import PRNGKey, Samples

Symmetry = Literal["signs", "rotations"]
"""Changes of coordinates that leave a law as it is."""


@runtime_checkable
class Measure(Protocol):
    """A probability measure on R^d that can be sampled.

    ``variance`` is the variance of each coordinate where the measure is isotropic and centred at 0,
    and None where that is unknown; the solver then estimates moments from samples.

    A measure may offer two more, which the solver uses to draw better samples: ``symmetry``,
    "signs" if changing the sign of any coordinate leaves the law as it is, "rotations" if every
    rotation does; and ``from_uniform(u)``, which carries uniform points of the open unit cube
    (n, d) onto the law, coordinate by coordinate.
    """

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        ...

    @property
    def variance(self) -> float | None:
        """Variance of each coordinate of an isotropic measure centred at 0, else None."""
        ...

    def sample(self, key: PRNGKey, n: int) -> Samples:
        """Draw n independent samples, an array (n, d) of float32."""
        ...
