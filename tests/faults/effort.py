"""How much work something took, in a unit that a busy or a slow machine changes alike."""

import time
import zlib

UNITS = 200
"""What one hostile source may take: a few seconds of a quiet core."""

_GLANCE = 1.0
"""Seconds of processor time below which no unit is measured."""


def unit() -> float:
    """Processor time of a fixed piece of work, of Python and of zlib: about 30 ms."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        packed = zlib.compress(bytes(range(256)) * 2**13, 6)
        assert len(zlib.decompress(packed)) == 2**21
        assert sum(number * number for number in range(400_000)) > 0
        taken.append(time.process_time() - started)
    return sorted(taken)[1]


def problem(seconds: float) -> str | None:
    """What is wrong with so much processor time of this process or of a child, or None."""
    if seconds < _GLANCE:
        return None
    units = seconds / unit()
    return f"took {units:.0f} units of work" if units > UNITS else None
