"""A short list of numbers of targets, to which problems are filled up: most sizes compile nothing.

Every shape of an array is a program of its own, which takes seconds to compile and memory to keep.
So a problem is filled up by targets without weight or height, whose cells are empty and which the
kernels pass over: it shares its programs with all others of about its size. Large problems stay as
they are: to fill one up would copy it.
"""

import jax

from aeot_jax.ot.cells import blockwise

LEAST = 256
"""Smallest size: all problems with fewer targets share it."""

_PARTS = 4, 5, 6
"""Sizes between one power of two and the next, in quarters of it; at most a quarter is fill."""

_MOST_TARGETS = 20_000
"""Targets up to which a problem is filled up."""

_MOST_BYTES = 64 << 20
"""And bytes of its targets."""


def padded(num_targets: int, dim: int) -> int:
    """Number of targets with those that fill up: the next size of the list.

    Args:
      num_targets: m.
      dim: d.
    """
    if num_targets > _MOST_TARGETS or 4 * num_targets * dim > _MOST_BYTES:
        return num_targets
    power = LEAST
    while 2 * power < num_targets:
        power *= 2
    sizes = (*(power * part // 4 for part in _PARTS), 2 * power)
    return next(size for size in sizes if size >= num_targets)


def filled(num_targets: int, dim: int) -> int:
    """Number of rows that a problem is given: its size, but as many as it has under a debug flag.

    What fills up has the height -inf and no angle, which the flags would report.

    Args:
      num_targets: m.
      dim: d.
    """
    flags = jax.config.values
    looks = flags["jax_debug_infs"] or flags["jax_debug_nans"]
    return num_targets if looks else padded(num_targets, dim)


def sharded(num_targets: int, dim: int) -> int:
    """The same where the targets are sharded over devices, in whole blocks.

    Args:
      num_targets: m.
      dim: d.
    """
    return blockwise.padded(padded(num_targets, dim))
