"""The transport problems that the solver's benchmarks share: targets, source, and what peers get.

Every problem has weights 1/m and is drawn by NumPy from a fixed seed, so every solver gets the
same float32 targets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import laws
import numpy as np
from numpy.typing import NDArray

from aeot_jax import Gaussian, Measure, UniformCube

Points = NDArray[np.float32]


@dataclass(frozen=True)
class Work:
    """One problem.

    Attributes:
      name: on the command line and in the records.
      description: one line for people.
      num_targets: m.
      dim: d.
      source: "gaussian" (N(0, I)) or "uniform" (the cube of side 1 centred at 0).
      draw: ``draw(rng, m, d)`` gives the targets.
      peer_seconds: CPU-seconds that a peer gets; with 0 none takes part.
    """

    name: str
    description: str
    num_targets: int
    dim: int
    source: str
    draw: Callable[[np.random.Generator, int, int], laws.Points]
    peer_seconds: float

    @property
    def mu(self) -> Measure:
        """The source measure."""
        return Gaussian(self.dim) if self.source == "gaussian" else UniformCube(self.dim)

    def targets(self) -> Points:
        """Targets (m, d), float32."""
        rng = np.random.default_rng(20_000 + self.dim)
        return self.draw(rng, self.num_targets, self.dim).astype(np.float32)


_STUDENT_2, _STUDENT_3 = (partial(laws.student, freedom=k) for k in (2, 3))


def _square(name: str, description: str, m: int, draw: Callable[..., laws.Points]) -> Work:
    return Work(name, description, m, 2, "uniform", draw, 40.0)


def _normal_to(
    name: str, description: str, m: int, d: int, draw: Callable[..., laws.Points], seconds: float
) -> Work:
    return Work(name, description, m, d, "gaussian", draw, seconds)


WORKS = {
    work.name: work
    for work in (
        _square("uniform-1k-2", "uniform to uniform", 1_000, laws.uniform),
        _square("clusters-1k-2", "uniform to 25 clusters", 1_000, laws.grid_clusters),
        _normal_to("normal-10k-64", "N(0,I) to N(0,I)", 10_000, 64, laws.normal, 120.0),
        _normal_to("codes-10k-64", "to anisotropic codes", 10_000, 64, laws.anisotropic, 120.0),
        _normal_to("classes-60k-32", "to codes of 10 classes", 60_000, 32, laws.clusters, 120.0),
        _normal_to("student-3k-24", "to Student's t, 3 degrees", 3_000, 24, _STUDENT_3, 40.0),
        _normal_to("radial-3k-16", "to log-normal radii", 3_000, 16, laws.radial, 40.0),
        _normal_to("outlying-3k-32", "to one in fifty far out", 3_000, 32, laws.outlying, 40.0),
        _normal_to("unequal-3k-32", "to clusters 0.1 to 1 wide", 3_000, 32, laws.unequal, 40.0),
        _normal_to("student2-3k-12", "to Student's t, 2 degrees", 3_000, 12, _STUDENT_2, 0.0),
        _normal_to("pareto-3k-16", "to Pareto's radii", 3_000, 16, laws.pareto, 0.0),
        *(
            _normal_to(f"{name}-10k-{d}", words, 10_000, d, law, 0.0)
            for name, words, law in (
                ("normal", "N(0,I) to N(0,I)", laws.normal),
                ("student4", "to Student's t, 4 degrees", partial(laws.student, freedom=4)),
            )
            for d in (16, 32, 64)
            if (name, d) != ("normal", 64)
        ),
        _normal_to("million-32", "codes of 10 classes", 1_000_000, 32, laws.clusters, 0.0),
    )
}
"""By name, in the order of the tables."""
