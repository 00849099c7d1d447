"""A short list of sizes, to which problems are filled up so that few programs serve all.

Every shape of an array needs its own program, which takes seconds to compile and memory to keep. So
a problem is filled up with targets of weight 0 and height -inf. Their cells are empty, and kernels
skip them. The problem then shares its programs with others of about its size. Large problems stay
as they are, because filling them up would copy them.
"""

import jax

from aeot_jax.ot.cells import blockwise

LEAST = 256
"""Smallest size, for all problems with fewer targets."""

_PARTS = 4, 5, 6
"""Sizes from one power of two to the next, in quarters of it; at most a quarter is filled up."""

_MOST_TARGETS = 20_000
"""Most targets of a problem that is filled up."""

_MOST_BYTES = 64 << 20
"""Most bytes of its targets."""


def padded(num_targets: int, dim: int) -> int:
    """The next size of the list: the number of targets with those that fill up.

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
    """Number of rows of a problem: its padded size, but no more than m under a debug flag.

    Targets that fill up have the height -inf and undefined angles, which these flags would report.

    Args:
      num_targets: m.
      dim: d.
    """
    flags = jax.config.values
    debugging = flags["jax_debug_infs"] or flags["jax_debug_nans"]
    return num_targets if debugging else padded(num_targets, dim)


def sharded(num_targets: int, dim: int) -> int:
    """Number of rows where the targets are sharded over devices: whole logical blocks.

    Args:
      num_targets: m.
      dim: d.
    """
    return blockwise.padded(padded(num_targets, dim))
