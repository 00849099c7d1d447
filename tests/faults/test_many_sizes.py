"""Many sizes in one process: programs are shared, so that memory and maps stay flat.

Linux counts the maps of a process, which end at 65,530; each program keeps some.
"""

import json
import os
import subprocess
import sys

import pytest

SOLVES = """
import json, random, resource, sys
import jax, numpy as np
import aeot_jax as aeot

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **more: compiled.append(event) if "backend_compile" in event else None
)
numbers = random.Random(0)
sizes = [eval(sys.argv[2]) for _ in range(int(sys.argv[1]))]
config = aeot.SolverConfig(max_steps=20)
draw = np.random.default_rng(0)
solved = set()
for m in sizes:
    y = draw.standard_normal((m, 8)).astype(np.float32)
    before = len(compiled)
    aeot.solve(jax.random.key(m), aeot.Gaussian(8), y, config=config)
    if len(compiled) > before:
        solved.add(m)
with open("/proc/self/maps") as file:
    maps = sum(1 for _ in file)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"maps": maps, "mib": peak, "compiling": len(solved), "done": len(sizes)}))
"""


def solves(number: int, size: str) -> dict:
    """How a process ends that solves so many problems, each of a size by an expression."""
    optimised = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", SOLVES, str(number), size],
        capture_output=True,
        text=True,
        env=optimised,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{number} solves: {found}")
    return found


def judged(found: dict, most_sizes: int) -> str | None:
    flat = found["maps"] < 30_000 and found["mib"] < 2560
    return None if flat and found["compiling"] <= most_sizes else str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="counts maps as Linux does")
@pytest.mark.long
def test_sizes_within_a_factor_of_two_share_four_sets_of_programs(tally):
    tally.record("12 sizes", judged(solves(12, "numbers.randint(160, 320)"), 2))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts maps as Linux does")
def test_many_random_sizes_end_flat(tally):
    tally.record("200 within a factor of two", judged(solves(200, "numbers.randint(700, 1400)"), 4))
    tally.record("500 from 10 to 20,000", judged(solves(500, "numbers.randint(10, 20_000)"), 21))
