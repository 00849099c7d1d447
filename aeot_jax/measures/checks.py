"""What every source checks: its dimension when it is made, the key and the number when it draws."""

from typing import Any

from aeot_jax import arguments
from aeot_jax.typing import Given, PRNGKey


def check_dim(measure: Any) -> None:
    """Check the `dim` of a frozen measure, and keep it as a Python integer.

    Raises:
      ValueError: if it is not a whole number of at least 1.
    """
    what = "the dimension of the targets"
    object.__setattr__(measure, "dim", arguments.count("dim", measure.dim, what=what))


def check_draw(key: Given[PRNGKey], n: Given[int]) -> tuple[PRNGKey, int]:
    """Check the arguments of `sample`.

    Raises:
      ValueError: if `key` is not one key, or `n` is not a whole number of at least 0.
    """
    what = "how many samples to draw"
    return arguments.key("key", key), arguments.count("n", n, least=0, what=what)
