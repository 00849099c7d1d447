"""Problems: as they were asked, and checked, centred, merged and filled up once.

``make`` turns what the user passes, a ``Problem``, into a ``Prepared``, which holds what every
function after it takes, and carries heights there and back.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete
from aeot_jax.measures import Measure
from aeot_jax.ot import centring, checks, merging
from aeot_jax.ot.cells import sizes
from aeot_jax.reprs import brief, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given, Heights


@register
@dataclass(frozen=True)
class Problem:
    """A transport problem as it was asked.

    Attributes:
      mu: source measure.
      y: targets (m, d), in the dtype in which they were given.
      nu: weights (m,), sum 1; None is uniform.
    """

    mu: Measure
    y: Shaped[Array | np.ndarray, "*batch m d"]
    nu: Shaped[Array | np.ndarray, "*batch m"] | None = None

    @or_brief
    def __repr__(self) -> str:
        """The source and how many targets."""
        *_, count, dim = np.shape(self.y)
        weights = "equal weights" if self.nu is None else "weights of their own"
        return f"Problem({self.mu!r}, {count:,} targets in {dim} dimensions, {weights})"


class Marginals(NamedTuple):
    """The two marginals of a problem that is known to be good, as every loop takes them.

    Attributes:
      mu: source measure.
      y: targets, as stored (rows, d) or ``Rows``, which are widened and shifted when they are
        scored; rows from m on own no cell.
      nu: weights (m,), sum 1.
    """

    mu: Measure
    y: Any
    nu: Any


@dataclass(frozen=True, eq=False)
class Prepared:
    """A transport problem as all that follows takes it; see ``make``.

    Attributes:
      mu: source measure.
      y: targets near the origin, as stored or float32 (rows, d); the user's first, then what
        fills up.
      nu: weights (rows,), sum 1: those of coinciding targets at the first of them, 0 at the others
        and where filled up. Both are NumPy's where the targets shall be sharded over devices.
      num_targets: m, as the user counts.
      same: index of the first target that equals each (m,); None where all differ, or may.
      centre: what the host has taken off the targets (d,), in float64.
    """

    mu: Measure
    y: Any
    nu: Any
    num_targets: int
    same: Int[np.ndarray, " m"] | None
    centre: Float[np.ndarray, " d"]

    __repr__ = brief

    def heights(self, h: ArrayLike, name: str = "h") -> Any:
        """The user's heights (m,) as heights of this problem (rows,); of copies the highest.

        Raises:
          ValueError: as ``check_heights``.
        """
        of_users = jax.ShapeDtypeStruct((self.num_targets, self.y.shape[1]), jnp.float32)
        heights, _ = centring.centred_heights(checks.heights(name, h, of_users))
        if not is_concrete(heights, self.y):
            if self.same is not None:
                lowest = jnp.full_like(heights, -jnp.inf)
                heights = lowest.at[jnp.asarray(self.same)].max(heights)
            surplus = self.y.shape[0] - self.num_targets
            return jnp.pad(heights, (0, surplus), constant_values=-jnp.inf)
        if self.same is None and self.y.shape[0] == self.num_targets:
            return heights if isinstance(self.y, jax.Array) else np.asarray(heights)
        filled = np.full(self.y.shape[0], -np.inf, np.float32)
        own = np.arange(self.num_targets) if self.same is None else self.same
        np.maximum.at(filled, own, np.asarray(heights))
        return arguments.placed(filled) if isinstance(self.y, jax.Array) else filled

    def marks(self, mask: Bool[np.ndarray, " m"]) -> Any:
        """A mask of the user's targets (m,) as 1.0 or 0.0 (rows,); of copies all must have it."""
        marks = np.zeros(self.y.shape[0], np.float32)
        own = np.arange(self.num_targets) if self.same is None else self.same
        marks[own] = 1.0
        np.minimum.at(marks, own, mask.astype(np.float32))
        return arguments.placed(marks) if isinstance(self.y, jax.Array) else marks

    def heights_of_users(self, h: Float[Array, " rows"]) -> Heights:
        """Heights of this problem (rows,) for the user's targets (m,); a copy has -inf."""
        if not is_concrete(h):
            return h[: self.num_targets]
        return arguments.placed(np.asarray(h)[: self.num_targets])

    def of_users(self, values: ArrayLike) -> Array | np.ndarray:
        """Values of this problem's targets (rows, ...) as those of the user's (m, ...).

        A copy has the value of the first. By NumPy, because slicing compiles.
        """
        if self.same is None and np.shape(values)[0] == self.num_targets:
            return jnp.asarray(values) if isinstance(self.y, jax.Array) else np.asarray(values)
        own = slice(self.num_targets) if self.same is None else self.same
        found = np.asarray(values)[own]
        return arguments.placed(found) if isinstance(self.y, jax.Array) else found


def asked(mu: Measure, y: ArrayLike, nu: ArrayLike | None) -> Problem:
    """Source, targets and weights as they were given; lists become arrays, nothing is copied."""
    weights = None if nu is None else arguments.array("nu", nu)
    return Problem(mu, arguments.array("y", y), weights)


def make(
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    *,
    sharded: bool = False,
    stored: bool = False,
) -> Prepared:
    """Check a problem, centre its targets, merge the weights of copies and fill it up.

    Targets in a dtype that float32 does not hold are centred in float64 before they are rounded;
    others are shifted where they are scored (``shift.around``), so that no copy is made of many.
    Under a trace no value is known: copies are not found, and nothing is filled up.

    Args:
      mu: source measure.
      y: targets (m, d), in any real dtype.
      nu: weights (m,), sum 1; None is uniform.
      sharded: whether the targets shall be sharded over devices: they then stay on the host.
      stored: whether targets stay in a dtype that float32 holds, to be widened block by block.

    Raises:
      ValueError: if targets, weights or the source's dimension do not fit.
    """
    points = checks.points("y", y)
    checks.check_measure(mu, points)
    weights = checks.weights(nu, points)
    num_targets = points.shape[0]
    if not is_concrete(points):
        weights = jnp.asarray(checks.rounded_weights(weights))
        centre = np.zeros(points.shape[1])
        return Prepared(mu, arguments.real("y", points), weights, num_targets, None, centre)
    active = np.asarray(weights) > 0 if is_concrete(weights) else np.ones(num_targets, bool)
    near, centre = centring.centred(points, active, stored=stored)
    same = merging.representatives(near)
    if same is not None:
        weights = merging.merged(weights, same)
    weights = checks.rounded_weights(weights)
    if sharded:
        return Prepared(mu, np.asarray(near), np.asarray(weights), num_targets, same, centre)
    rows = sizes.filled(*near.shape)
    first = int(active.argmax())
    near = checks.placed(centring.filled_up(near, rows, row=first))
    weights = checks.placed(centring.filled_up(weights, rows, 0.0))
    return Prepared(mu, near, weights, num_targets, same, centre)
