"""The faces between cells that samples see, the singular ones, and the pieces between them.

Two cells have a common face if they are the two highest planes of some sample. The codes, with
their regular faces as edges, are a graph. Its connected components are the pieces of the data
between which the transport map jumps.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aeot_jax import arguments
from aeot_jax.measures import draw
from aeot_jax.ot.extension import blend, extension, generate
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.reprs import brief
from aeot_jax.typing import Given, PRNGKey

_SAMPLES_PER_CELL = 16
"""Default samples per cell."""

_CHUNK = 4096
"""Samples of a chunk."""

_CRUMB = 0.05
"""A component is a piece if it weighs at least this part of the heaviest, else a crumb. On the
grid, cube and moons of ``benchmarks/modes.py`` crumbs weigh up to 0.016 of it, pieces from 0.67."""


class SingularSet(NamedTuple):
    """The faces between cells that samples of the source saw; NumPy arrays on the host.

    Attributes:
      faces: pairs of cells, the lower index first (f, 2).
      counts: samples that have this pair as their two highest planes (f,).
      angles: plane angle of each (f,), radians.
      singular: whether the angle exceeds the threshold (f,).
      threshold: of the extension, radians.
      component: component of each code when singular faces are cut (m,), the heaviest 0; -1 for a
        code that no sample saw.
      component_mass: share of the samples in the cells of each component (c,), from the heaviest.
      num_pieces: components that weigh at least a twentieth of the heaviest. Others are single
        codes far from all others, or cells whose faces too few samples saw.
      mass_near: share of samples with a plane beyond a singular face in their band: a blend that
        ignored the singular set would mix pieces there.
      share_rejected: share of samples that ``generate`` rejects because they are nearer to a
        singular face than the margin. Either share can be the larger one: the band is a difference
        of scores, the margin a distance in the source. At a distance r from the face of two codes,
        their scores differ by r times the distance of the codes. So between pieces that are far
        apart the margin reaches further than the band, and inside of a piece the band does.
      num_samples: samples drawn.
    """

    faces: Int[np.ndarray, "f 2"]
    counts: Int[np.ndarray, " f"]
    angles: Float[np.ndarray, " f"]
    singular: Bool[np.ndarray, " f"]
    threshold: float
    component: Int[np.ndarray, " m"]
    component_mass: Float[np.ndarray, " c"]
    num_pieces: int
    mass_near: float
    share_rejected: float
    num_samples: int

    __repr__ = brief

    @property
    def num_components(self) -> int:
        """Number of connected components, single codes included."""
        return len(self.component_mass)


def singular_set(
    key: Given[PRNGKey], ext: Given[Extension], *, num_samples: Given[int | None] = None
) -> SingularSet:
    """Report the singular set of a transport map. Not for jit: how many faces there are is data.

    Args:
      key: consumed.
      ext: from ``extension``; its ``threshold=`` says which faces are singular.
      num_samples: samples of the source, rounded up to whole chunks of 4096; None is 16 a target.
        Fewer samples miss faces between neighbours on the manifold, and leave crumbs.

    Raises:
      ValueError: if the number of samples is not positive.

    Source: Lei et al., Engineering 6(3), 2020, section 5.
    """
    arguments.refuse_trace("singular_set", "call it outside of `jax.jit`", key=key, ext=ext)
    key = arguments.key("key", key)
    extension.check_extension(ext)
    ext = extension.at_novelty(ext, "blend")  # new codes are not looked at
    num_targets = ext.y.shape[0]
    wanted = _SAMPLES_PER_CELL * num_targets if num_samples is None else num_samples
    wanted = arguments.count("num_samples", wanted)
    chunks = -(-wanted // _CHUNK)
    seen = [_crossings(jax.random.fold_in(key, i), ext) for i in range(chunks)]
    winner, pairs, near, rejected = (np.concatenate(part) for part in zip(*seen, strict=True))
    crossed = np.sort(pairs[(pairs >= 0).all(1)], axis=1)
    faces, counts = np.unique(crossed, axis=0, return_counts=True)
    angles = blend.face_angles(ext.y, ext.frame, faces)
    cut = angles > float(ext.threshold)
    component, mass = _components(faces[~cut], winner, faces, num_targets)
    return SingularSet(
        faces=faces,
        counts=counts,
        angles=angles,
        singular=cut,
        threshold=float(ext.threshold),
        component=component,
        component_mass=mass,
        num_pieces=int((mass >= _CRUMB * mass[0]).sum()),
        mass_near=float(near.mean()),
        share_rejected=float(rejected.mean()),
        num_samples=chunks * _CHUNK,
    )


@partial(jax.jit, static_argnames=("size",))
def _crossings(
    key: PRNGKey, ext: Extension, size: int = _CHUNK
) -> tuple[Int[Array, " n"], Int[Array, "n 2"], Bool[Array, " n"], Bool[Array, " n"]]:
    """What each sample of a chunk saw.

    Returns:
      The winner (n,), the cells of the two highest planes (n, 2), -1 for none, whether a plane of
      the band lies beyond a singular face (n,), and whether the sample is rejected (n,).
    """
    seen = blend.highest_planes(draw(key, ext.mu, size), ext.y, ext.h, ext.frame)
    mixed = (seen.gaps < ext.band) & (seen.angles > ext.threshold)
    _, accepted, _ = generate.resolve(seen, ext)
    winner = seen.index[:, 0]
    if seen.index.shape[1] == 1:
        pairs = jnp.stack([winner, jnp.full_like(winner, -1)], axis=1)
    else:
        pairs = jnp.where(jnp.isfinite(seen.gaps), seen.index, -1)[:, :2]
    return winner, pairs, mixed.any(1), ~accepted


def _components(
    regular: Int[np.ndarray, "r 2"],
    winner: Int[np.ndarray, " n"],
    faces: Int[np.ndarray, "f 2"],
    num_targets: int,
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " c"]]:
    """Components of the codes that were seen, and the mass of each, from the heaviest down."""
    edges = coo_array((np.ones(len(regular)), regular.T), shape=(num_targets, num_targets))
    _, label = connected_components(edges, directed=False)
    seen = np.zeros(num_targets, bool)
    seen[winner] = seen[faces.ravel()] = True
    mass = np.bincount(label[winner], minlength=label.max() + 1) / len(winner)
    mass[~np.isin(np.arange(len(mass)), label[seen])] = -1
    order = np.argsort(-mass, kind="stable")
    order = order[mass[order] >= 0]
    rank = np.full(len(mass), -1)
    rank[order] = np.arange(len(order))
    return np.where(seen, rank[label], -1), mass[order]
