"""A measure given by a function that samples it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aeot_jax import arguments
from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples


@register
@dataclass(frozen=True)
class FromSampler:
    """Any measure that a pure function of a key and a number of samples draws from.

    Attributes:
      fn: ``fn(key, n) -> (n, d)``, pure and jit-able; compared by identity, so define it once.
      dim: dimension d.
    """

    fn: Callable[[PRNGKey, int], Samples] = field(metadata={"static": True})
    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        if not callable(self.fn):
            raise ValueError(
                f"`fn` is {arguments.shown(self.fn)}; pass a function of a key and a number."
            )
        check_dim(self)

    @property
    def variance(self) -> None:
        """Unknown: the solver estimates it from samples."""
        return None

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n samples (n, d) and check their shape."""
        key, n = check_draw(key, n)
        x = arguments.array("fn", self.fn(key, n))
        if x.shape != (n, self.dim):
            raise ValueError(
                f"`fn` returned shape {x.shape} for n = {n}, but `dim` is {self.dim}; "
                f"return an array of shape {(n, self.dim)}."
            )
        return arguments.real("fn", x)
