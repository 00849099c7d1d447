"""One seed, and a key for each purpose, so that no command repeats the draws of another."""

from enum import IntEnum

import jax

from aeot_jax.typing import PRNGKey


class Purpose(IntEnum):
    """The purpose of a draw."""

    FIT = 0
    FIGURES = 1
    SAMPLE = 2
    EVALUATE = 3
    REPORT = 4


def key(seed: int, purpose: Purpose) -> PRNGKey:
    """The key of a seed for a purpose.

    Raises:
      ValueError: if the seed is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"`--seed` is {seed}; pass an integer from 0 to {2**32 - 1}.")
    return jax.random.fold_in(jax.random.key(seed), int(purpose))
