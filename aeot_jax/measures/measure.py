"""What a source measure is."""

from typing import Literal, Protocol, runtime_checkable

from aeot_jax.typing import PRNGKey, Samples

Symmetry = Literal["signs", "rotations"]
"""Changes of coordinates that leave a distribution unchanged."""


@runtime_checkable
class Measure(Protocol):
    """A probability measure on R^d that can be sampled.

    ``variance`` is the variance of each coordinate if the measure is isotropic and centred at 0.
    Otherwise it is None, and the solver estimates the moments from samples.

    A measure may offer more attributes, and the solver then draws better samples.
    ``symmetry`` is "signs" if the distribution does not change when any coordinate changes its
    sign, and "rotations" if it does not change under any rotation. ``from_uniform(u)`` maps uniform
    points of the open unit cube (n, d) to samples of the measure, coordinate by coordinate.
    ``parts`` are the sources of which it is the product, if it is one.
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
