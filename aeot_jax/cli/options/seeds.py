"""One seed, a key for each purpose: no command repeats the draws of another."""

from enum import IntEnum

import jax

from aeot_jax.typing import PRNGKey


class Purpose(IntEnum):
    """What a command draws for."""

    FIT = 0
    FIGURES = 1
    SAMPLE = 2
    EVALUATE = 3
    REPORT = 4


def key(seed: int, purpose: Purpose) -> PRNGKey:
    """The key that a seed gives for a purpose.

    Raises:
      ValueError: if the seed is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"`--seed` is {seed}; pass an integer from 0 to {2**32 - 1}.")
    return jax.random.fold_in(jax.random.key(seed), int(purpose))
