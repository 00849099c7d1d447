r"""The continuous extension of the transport map, and the singular set that it must not cross.

T is piecewise constant. Near a face of its cells the extension blends the targets of the planes
that come within a *band* of the highest, continuously and with the variance of the codes
(``blend.py`` says how). If the planes meet at a large angle, the map is discontinuous there and a
blend would mix modes. Such a face is *singular*: its plane angle

.. math:: \cos\theta_{ij} = \frac{\langle (y_i, -1), (y_j, -1)\rangle}{|(y_i, -1)| |(y_j, -1)|}

exceeds a threshold. Angles are those of targets centred and scaled to unit variance, so that they
mean the same on every data set. Planes are blended across regular faces only: on either side of a
singular face the extension follows that side alone, and it jumps where the map does.

Only the singular set itself is rejected, as widely as it is uncertain: candidates nearer to a
singular face than a *margin*, a tenth of the mean distance from a sample to the nearest face. The
heights are known up to a mass error, 0.1 by the solver's default. A cell whose mass is wrong by a
tenth has faces that are wrong by about a tenth of its width, so a nearer candidate could lie on
either side.

The published rule rejects the whole band, which takes from every mode in proportion to its singular
faces. On clusters in 32 dimensions it rejected 29 % and changed the modes' shares to a reverse KL
of 0.023, where leaving planes out of the blend rejects 4 % at 0.0003 (``benchmarks/modes.py``). On
the codes of 10,000 images it rejects half or more, where the rule here rejects 4 %.

Nothing is set by hand: ``learn.py`` says how band, margin and threshold follow from the data.

Sources: Lei et al., Engineering 6(3), 2020, section 5 (singular set, plane angles); An, Guo, Lei,
Luo, Yau, Gu, AE-OT, ICLR 2020 (extension and rejection). Both set the threshold by hand.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import centring, checks, frames, problem
from aeot_jax.ot.density.grouping import Planes
from aeot_jax.ot.devices.placement import Parallel, placement_outside_jit
from aeot_jax.ot.extension.blend import normals
from aeot_jax.ot.extension.config import check_options
from aeot_jax.ot.extension.learn import learn
from aeot_jax.ot.extension.noise import learning as noises
from aeot_jax.ot.extension.noise.moving import Noise
from aeot_jax.ot.extension.noise.places import Diagram
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import number, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Devices, Given, HeldHeights, HeldTargets, PRNGKey


@register
@dataclass(frozen=True)
class Extension:
    """The continuous extension of a transport map, and what rejects its singular set.

    Attributes:
      mu: source measure.
      y: targets (m, d). NumPy's, as the heights are, where they shall be sharded over devices.
      h: heights (m,); of equal targets the first has the highest height, and the others -inf.
      frame: centre and scale of the targets, in which angles are measured.
      band: how far below the highest plane others are blended, in units of the scores.
      margin: distance from a singular face, in the source, within which candidates are rejected.
        Only faces of the seventeen highest planes are seen: if pieces lie much further apart than
        they are wide, planes of the other piece are not among these, and less is rejected.
      threshold: largest plane angle that is not singular, radians.
      face_angles: angle between the two highest planes over samples of the source (s,), radians;
        NaN where there is no second.
      neighbour_angles: angle between codes and their (d+1)-th nearest code (q,), radians; NaN for
        a code that owns no cell, or the only cell.
      nu: weights (m,), sum 1, those of equal targets at the first; None if all are equal.
      noise: from ``calibrate``; what makes new codes as new as unseen ones. None blends codes.
    """

    mu: Measure
    y: HeldTargets
    h: HeldHeights
    frame: frames.Frame
    band: Float[Array, "*batch"]
    margin: Float[Array, "*batch"]
    threshold: Float[Array, "*batch"]
    face_angles: Float[Array, "*batch s"]
    neighbour_angles: Float[Array, "*batch q"]
    nu: Float[Array, "*batch m"] | None = None
    noise: Noise | None = None

    @or_brief
    def __repr__(self) -> str:
        """What it extends, and the angle that separates the pieces."""
        m, d = np.shape(self.y)
        noise = "" if self.noise is None else f"; {self.noise!r}"
        return (
            f"Extension({self.mu!r} onto {m:,} targets in {d} dimensions; singular above "
            f"{number(self.threshold):.3f} rad, blended within {number(self.band):.3g}, rejected "
            f"within {number(self.margin):.3g}{noise})"
        )


def extension(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    num_samples: Given[int | None] = None,
    threshold: Given[float | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
    target_shards: Given[int] = 1,
) -> Extension:
    """Learn band, margin and singular threshold of a transport map from samples.

    Args:
      key: consumed.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y, h and nu.
      y: targets (m, d). The extension stores them as float32: centre them yourself if their offset
        is a million times their size.
      h: heights (m,); -inf for a target that owns no cell. Of equal targets only one is used
        (outside jit; inside, values cannot be compared).
      nu: weights (m,), sum 1; None is uniform.
      num_samples: samples of the source to learn band and margin from; None is 4096.
      threshold: plane angle in (0, pi] above which a face is singular; None learns it.
      parallel: how chunks of 512 samples are sharded over devices, with the same bits; as in
        ``certify``. Inside jit choose "none".
      devices: the devices to use; None is all.
      target_shards: devices over which the targets are sharded, with the same bits on a CPU; see
        ``SolverConfig``. The extension then holds them on the host, in the dtype they came in if
        float32 holds it.

    Raises:
      ValueError: if shapes or values do not fit, or the devices do not.

    Source: An et al., AE-OT, ICLR 2020, for extension and rejection by angle; to learn band, margin
    and threshold from the data is this library's own.
    """
    key = arguments.key("key", key)
    mu, y, h, nu = parts_of(mu, y, h, nu)
    check_options(threshold, num_samples)
    concrete = arguments.is_concrete(key, mu, y, h, nu)
    sharded = arguments.whole("target_shards", target_shards) != 1
    where = placement_outside_jit("extension", parallel, devices, target_shards, concrete)
    made = problem.make(mu, y, nu, sharded=sharded, stored=sharded)
    heights = made.heights(h)
    frame, learned = learn(where, key, made, heights, num_samples)
    if threshold is not None:
        learned = learned._replace(threshold=jnp.float32(threshold))
    frame = frame._replace(centre=frame.centre + jnp.asarray(made.centre, jnp.float32))
    if sharded:
        of_users, targets = heights, centring.stored_points(y)
    else:
        of_users, targets = made.heights_of_users(heights), checks.check_targets(y)
    weights = _weights(made, nu)
    return Extension(mu=mu, y=targets, h=of_users, frame=frame, nu=weights, **learned._asdict())


def _weights(made: problem.Prepared, nu: ArrayLike | None) -> Float[Array, " m"] | None:
    """Weights of users' targets, those of copies at the first of them; None if all are equal."""
    if not arguments.is_concrete(made.nu):
        return None if nu is None else made.nu[: made.num_targets]
    weights = np.asarray(made.nu)[: made.num_targets]
    return None if (weights == weights[0]).all() else arguments.placed(weights)


_LEAST_UNSEEN = 20
"""Fewest unseen codes that the width of kernels is learned from."""


def calibrate(
    key: Given[PRNGKey], ext: Given[Extension], unseen: ArrayLike | None = None
) -> Extension:
    """Learn to make new codes that are as new as codes are that the map has not seen.

    The extension that is returned moves each code within a kernel that has the covariance of the
    codes around it. How wide the kernels are follows from the data: a new code is as likely to be
    nearer to the codes of the map as it is to be farther than an unseen one. Modes keep their
    shares and their variance, and no group of codes that share a kernel lies on both sides of a
    singular face. (A mode of fewer than about 4 (d + 1) codes that is many times tighter than
    others may come out wider, because it is grouped with them.)

    Args:
      key: consumed.
      ext: from ``extension``.
      unseen: codes that the map was not solved for (p, d), at least 20; None leaves out up to 1,000
        codes of the map, one at a time, which serves as well.

    Returns:
      The extension with ``noise``; ``generate`` and ``novelty=`` use it.

    Raises:
      ValueError: if there are too few codes, shapes do not fit, a value is not finite, or half of
        `unseen` equals codes of the map.
    """
    way = "call it outside of `jax.jit` and `jax.vmap`"
    arguments.refuse_trace("calibrate", way, key=key, ext=ext, unseen=unseen)
    key = arguments.key("key", key)
    check_extension(ext)
    others = None
    if unseen is not None:
        others = np.asarray(checks.check_targets(unseen, "unseen"))
        if others.shape[1] != ext.y.shape[1] or len(others) < _LEAST_UNSEEN:
            raise ValueError(
                f"`unseen` has shape {others.shape}; pass at least {_LEAST_UNSEEN} codes of "
                f"{ext.y.shape[1]} dimensions, or None to leave out codes of the map."
            )
    y, h = jnp.asarray(ext.y, jnp.float32), jnp.asarray(ext.h)
    planes = Planes(
        np.asarray(normals(ext.frame.normalise(y)), np.float64),
        2 * float(np.sin(min(float(ext.threshold), np.pi) / 2)),
    )
    nu = None if ext.nu is None else np.asarray(ext.nu, np.float64)
    return replace(ext, noise=noises.learn(key, Diagram(ext.mu, y, h), planes, others, nu))


LEAST_CODES = 200
"""Fewest different codes for kernels by default: of these, 10 are the nearest 5 %."""


def has_enough(ext: Extension) -> bool:
    """Whether a map has enough codes for kernels: of fewer the share of near ones would be chance.

    Of equal codes one counts: the others own no cell.
    """
    return int(np.isfinite(ext.h).sum()) >= max(LEAST_CODES, ext.mu.dim + 2)


def at_novelty(ext: Extension, novelty: Given[int | float | str | None]) -> Extension:
    """The extension whose codes are as new as asked for.

    Args:
      ext: from ``extension`` or ``calibrate``.
      novelty: in [0, 1]; "blend" is the extension without kernels; None is that of `ext`.

    Raises:
      ValueError: if it is something else, or a number and no kernels were learned.
    """
    if novelty is None:
        return ext
    if isinstance(novelty, str):
        if novelty != "blend":
            raise ValueError(f"`novelty` is {novelty!r:.99}; pass a number in [0, 1], or 'blend'.")
        return replace(ext, noise=None)
    what = "a number from 0, codes of the data, to 1, as new as unseen ones, or 'blend'"
    value = arguments.number("novelty", novelty, 0.0, 1.0, what=what)
    if ext.noise is None:
        raise ValueError(
            f"`novelty` is {value:g}, but this map has no kernels; pass 'blend', leave it out, or "
            'learn them, by `calibrate` or by a fit with `form` "kernels" to at least '
            f"{LEAST_CODES} different codes, of each class where you draw from one."
        )
    made = jnp.full_like(ext.noise.novelty, value)
    return replace(ext, noise=replace(ext.noise, novelty=made))


def check_extension(ext: Given[Extension]) -> None:
    """Raise an error if ``ext`` is not the ``Extension`` of one map."""
    arguments.instance("ext", ext, Extension, "what `extension` returns")
    if np.ndim(ext.y) != 2:
        raise ValueError(
            "`ext` holds the maps of several classes; pass the map of one, `of(label)`."
        )
