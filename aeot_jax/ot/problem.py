"""Targets and weights: checked at the border, centred, merged where they coincide, filled up; once.

``make`` turns what the user passes, a ``Problem``, into a ``Prepared``, which holds what every
function after it takes, and carries heights there and back.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete as is_concrete
from aeot_jax.measures import Measure
from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import blockwise, shift, sizes
from aeot_jax.ot.cells.shift import Shift
from aeot_jax.reprs import brief, or_brief
from aeot_jax.typing import ArrayLike, Given, Heights, Targets, Weights

_WEIGHT_SUM_TOLERANCE = 1e-4

_LEAST_WEIGHT = float(np.finfo(np.float32).tiny)
"""Weights below it are none: float32 has no reciprocal for them, and no sample would ever tell."""

_EXACT_IN_FLOAT32 = (np.float32, np.float16, jnp.bfloat16, np.int8, np.uint8, np.int16, np.uint16)
"""Dtypes whose numbers float32 holds: they may stay as they are stored until they are scored."""


def _ranked(name: str, value: Any, ndim: int) -> np.ndarray | Array:
    """An array of a rank, in the caller's dtype."""
    array = arguments.array(name, value)
    if array.ndim != ndim:
        wanted = {1: "one number a target, shape (m,)", 2: "one point a row, shape (m, d)"}[ndim]
        raise ValueError(f"`{name}` has shape {array.shape}; pass {wanted}.")
    return array


def _points(name: str, y: Any) -> np.ndarray | Array:
    """Points in the caller's dtype, all finite where that is known, and within float32."""
    points = _ranked(name, y, 2)
    if points.shape[0] == 0 or points.shape[1] == 0:
        raise ValueError(f"`{name}` has shape {points.shape}; pass at least one target, (m, d).")
    if isinstance(points, jax.Array):
        arguments.real(name, points)
    else:
        arguments.rounded_to_float32(name, points)
    return points


def check_targets(y: ArrayLike, name: str = "y") -> Targets:
    """Targets as float32 (m, d): at least one, all finite.

    Raises:
      ValueError: if the shape is not (m, d), a dimension is 0 or a number is not finite.
    """
    return arguments.real(name, _points(name, y))


def check_weights(nu: ArrayLike | None, y: Targets) -> Weights:
    """Weights as float32 (m,) with sum 1; uniform where ``nu`` is None.

    Raises:
      ValueError: if the shape disagrees with y, a weight is negative or not finite, all are zero,
        or the sum is not 1.
    """
    return _placed(_rounded_weights(_weights(nu, y)))


def _weights(nu: ArrayLike | None, y: np.ndarray | Array) -> np.ndarray | Array:
    """Weights in float64, divided by their sum; traced ones as they are, in float32."""
    if nu is None:
        return np.full(y.shape[0], 1.0 / y.shape[0])
    weights = _ranked("nu", nu, 1)
    _check_one_each("nu", weights, y, "weight")
    if not is_concrete(weights):
        return arguments.real("nu", weights)
    return _normalised(np.asarray(weights).astype(np.float64))


def _rounded_weights(nu: np.ndarray | Array) -> np.ndarray | Array:
    """Weights as float32; what is too small for it is 0."""
    if not is_concrete(nu):
        return nu
    known = np.asarray(nu, np.float64)
    return np.where(known < _LEAST_WEIGHT, 0.0, known).astype(np.float32)


def _check_one_each(name: str, array: Array | np.ndarray, y: Any, what: str) -> None:
    if array.shape[0] != y.shape[0]:
        raise ValueError(
            f"`{name}` has shape {array.shape}, but `y` has shape {y.shape}; pass one {what} per "
            "target."
        )


def _normalised(nu: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Weights divided by their sum, or an error that says what is wrong with them."""
    if not np.isfinite(nu).all():
        raise ValueError("`nu` holds NaN or infinity; pass finite weights that sum to 1.")
    if (nu < 0).any():
        raise ValueError(
            f"`nu` has a negative weight, {nu.min():.6g} at {nu.argmin()}; weights are >= 0."
        )
    if not nu.any():
        raise ValueError("`nu` is zero everywhere; at least one weight must be positive.")
    if abs(nu.sum() - 1) > _WEIGHT_SUM_TOLERANCE:
        raise ValueError(f"`nu` sums to {nu.sum():.6g}; divide it by its sum to get 1.")
    return nu / nu.sum()


def check_heights(h: ArrayLike, y: Any, name: str = "h") -> Heights:
    """Heights as float32 (m,): finite or -inf, at least one finite.

    Raises:
      ValueError: if the shape disagrees with y, a height is NaN or +inf, or none is finite.
    """
    return arguments.real(name, _heights(name, h, y), infinite_below=True)


def _heights(name: str, h: ArrayLike, y: Any, *, some: bool = True) -> np.ndarray | Array:
    """Heights in the caller's dtype, looked at where they are known."""
    heights = _ranked(name, h, 1)
    _check_one_each(name, heights, y, "height")
    if is_concrete(heights):
        known = np.asarray(heights)
        _check_known_heights(name, known, some)
        arguments.rounded_to_float32(name, known, infinite_below=True)
    return heights


def _check_known_heights(name: str, h: np.ndarray, some: bool) -> None:
    bad = np.isnan(h) | (h == np.inf)
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(
            f"`{name}` is {h[index]} at {index}; heights are finite, or -inf for a target "
            "that owns no cell."
        )
    if some and not np.isfinite(h).any():
        raise ValueError(f"`{name}` is -inf everywhere; at least one target must own a cell.")


def check_measure(mu: Given[Measure], y: np.ndarray | Array) -> None:
    """Refuse what is no source, and one whose dimension is not that of the targets."""
    way = f"a source measure, as `aeot_jax.Gaussian(dim={y.shape[1]})`"
    arguments.instance("mu", mu, Measure, way)
    if mu.dim != y.shape[1]:
        raise ValueError(
            f"`mu` has dimension {mu.dim}, but `y` has shape {y.shape}; pass a source of dimension "
            f"{y.shape[1]}."
        )


def representatives(y: np.ndarray | Array) -> Int[np.ndarray, " m"] | None:
    """Lowest index of the target that equals each target; None where all differ.

    Coinciding targets share one cell, which ``assign`` gives to the lowest index: their weights
    are merged there for the solve and for every residual.
    """
    host = np.ascontiguousarray(np.asarray(y)) + 0.0  # -0.0 equals 0.0
    rows = host.view(np.dtype((np.void, host.dtype.itemsize * host.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    if first.size == host.shape[0]:
        return None
    return first[inverse.ravel()].astype(np.int32)


class CoincidenceWarning(UserWarning):
    """Some targets equal earlier ones.

    Attributes:
      copies: how many.
    """

    def __init__(self, copies: int):
        super().__init__(
            f"`y` holds {copies} targets that equal an earlier one; each group shares one cell, "
            "whose mass is the sum of the group's weights."
        )
        self.copies = copies


def warn_of_duplicates(same: Int[np.ndarray, " m"]) -> None:
    """Say once that some targets coincide and what becomes of their weights."""
    copies = int((same != np.arange(same.size)).sum())
    warnings.warn(CoincidenceWarning(copies), stacklevel=3)


@jax.tree_util.register_dataclass
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
      y: targets, float32 (rows, d) or ``Rows``, which are shifted when they are scored; rows from
        m on own no cell.
      nu: weights (m,), sum 1.
    """

    mu: Measure
    y: Any
    nu: Any


@dataclass(frozen=True)
class Prepared:
    """A transport problem as all that follows takes it; see ``make``.

    Attributes:
      mu: source measure.
      y: targets near the origin, float32 (rows, d); the user's first, then what fills up.
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

    def heights(self, h: ArrayLike) -> Any:
        """The user's heights (m,) as heights of this problem (rows,); of copies the highest.

        Raises:
          ValueError: as ``check_heights``.
        """
        of_users = jax.ShapeDtypeStruct((self.num_targets, self.y.shape[1]), jnp.float32)
        heights, _ = _near_heights(_heights("h", h, of_users))
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
    mu: Given[Measure], y: ArrayLike, nu: ArrayLike | None = None, *, sharded: bool = False
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

    Raises:
      ValueError: if targets, weights or the source's dimension do not fit.
    """
    points = _points("y", y)
    check_measure(mu, points)
    weights = _weights(nu, points)
    num_targets = points.shape[0]
    if not is_concrete(points):
        weights = jnp.asarray(_rounded_weights(weights))
        centre = np.zeros(points.shape[1])
        return Prepared(mu, arguments.real("y", points), weights, num_targets, None, centre)
    active = np.asarray(weights) > 0 if is_concrete(weights) else np.ones(num_targets, bool)
    near, centre = _near(points, active)
    same = representatives(near)
    if same is not None:
        weights = _merged(weights, same)
    weights = _rounded_weights(weights)
    if sharded:
        return Prepared(mu, np.asarray(near), np.asarray(weights), num_targets, same, centre)
    rows = sizes.filled(*near.shape)
    first = int(active.argmax())
    near = _placed(_filled(near, rows, row=first))
    weights = _placed(_filled(weights, rows, 0.0))
    return Prepared(mu, near, weights, num_targets, same, centre)


def near_points(y: ArrayLike) -> tuple[Targets, Float[np.ndarray, " d"]]:
    """Targets as float32, and what was taken off to keep the digits of wider dtypes.

    Raises:
      ValueError: as ``check_targets``.
    """
    points = _points("y", y)
    if not is_concrete(points):
        return arguments.real("y", points), np.zeros(points.shape[1])
    near, centre = _near(points, np.ones(len(points), bool))
    return _placed(near), centre


def _near(
    points: np.ndarray | Array, active: np.ndarray
) -> tuple[np.ndarray | Array, Float[np.ndarray, " d"]]:
    """Known points as float32, and what was taken off to keep the digits of wider dtypes."""
    if points.dtype in _EXACT_IN_FLOAT32:
        return _as_float32(points), np.zeros(points.shape[1])
    return shift.on_host(np.asarray(points), active if active.any() else ~active)


def _as_float32(known: np.ndarray | Array) -> np.ndarray | Array:
    """Known numbers as float32, by NumPy: under someone's trace jax.numpy would return tracers."""
    return known if known.dtype == np.float32 else np.asarray(known).astype(np.float32)


def _near_heights(heights: np.ndarray | Array) -> tuple[np.ndarray | Array, float]:
    """Heights as float32, and what was taken off all to keep the digits of wider dtypes."""
    if not is_concrete(heights):
        return arguments.real("h", heights, infinite_below=True), 0.0
    active = np.asarray(heights) > -np.inf
    if heights.dtype in _EXACT_IN_FLOAT32 or not active.any():
        return _as_float32(heights), 0.0
    near, level = shift.on_host(np.asarray(heights)[:, None], active)
    return near[:, 0], float(level[0])


def _placed(array: np.ndarray | Array) -> Array:
    return array if isinstance(array, jax.Array) else arguments.placed(array)


def _filled(array: np.ndarray | Array, rows: int, fill: float | None = None, row: int = 0) -> Any:
    """An array with more rows, of one number or copies of a row."""
    surplus = rows - array.shape[0]
    if not surplus:
        return array
    if not is_concrete(array):
        return jnp.pad(array, (0, surplus), constant_values=fill)
    host = np.asarray(array)
    more = host[row] if fill is None else np.float32(fill)
    return np.concatenate([host, np.broadcast_to(more, (surplus, *host.shape[1:]))])


def merged_weights(nu: Weights, same: Int[np.ndarray, " m"]) -> Weights:
    """Weights (m,) of each group of coinciding targets at its representative, 0 elsewhere."""
    return _placed(_rounded_weights(_merged(nu, same)))


def _merged(nu: np.ndarray | Array, same: Int[np.ndarray, " m"]) -> np.ndarray | Array:
    """Weights (m,) of each group of coinciding targets at its representative, 0 elsewhere.

    Known weights are added in float64: float32 loses the sum of many small ones.
    """
    if not is_concrete(nu):
        return jnp.zeros_like(nu).at[jnp.asarray(same)].add(nu)
    merged = np.bincount(same, np.asarray(nu, np.float64), len(same))
    return merged / merged.sum()


class Near(NamedTuple):
    """Targets with heights, as kernels take them after ``shift.around``.

    Attributes:
      y: float32 (rows, d); rows beyond the user's own no cell.
      h: heights (rows,).
      shift: what the host has taken off; zeros where nothing.
    """

    y: Targets
    h: Heights
    shift: Shift


def near(y: ArrayLike, h: ArrayLike, name: str = "h", *, some: bool = True) -> Near:
    """Check targets and heights; where they are known, centre them in float64 and fill them up.

    Args:
      y: targets (m, d), in any real dtype.
      h: heights (m,); -inf for a target that owns no cell.
      name: of the argument that gave the heights.
      some: whether one target at least must own a cell.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    return near_and_centre(y, h, name, some=some)[0]


def near_and_centre(
    y: ArrayLike, h: ArrayLike, name: str = "h", *, some: bool = True
) -> tuple[Near, Float[np.ndarray, " d"]]:
    """``near``, and what was taken off the targets in float64."""
    points = _points("y", y)
    heights = _heights(name, h, points, some=some)
    rounded, level = _near_heights(heights)
    taken = shift.none(points.shape[1])._replace(level=np.float32(level))
    if not is_concrete(points):
        return Near(arguments.real("y", points), jnp.asarray(rounded), taken), np.zeros(
            points.shape[1]
        )
    known = is_concrete(heights)
    active = np.asarray(heights) > -np.inf if known else np.ones(len(points), bool)
    own, centre = _near(points, active)
    taken = taken._replace(centre=centre.astype(np.float32))
    if not known:
        return Near(_placed(own), jnp.asarray(rounded), taken), centre
    rows = sizes.filled(*own.shape)
    if rows > own.shape[0] and not active.all():
        # A product with what owns no cell may overflow, and hide its neighbours.
        own = np.where(active[:, None], np.asarray(own), np.asarray(own)[active.argmax()])
    own = _filled(own, rows, row=int(active.argmax()))
    return Near(_placed(own), _placed(_filled(rounded, rows, -np.inf)), taken), centre


class Frame(NamedTuple):
    """Where the targets lie: y = centre + scale * (targets the solver sees).

    A shift of the targets moves every score of a sample alike, and heights scale with the targets:
    ``h = scale * (heights the solver sees)``. One set of constants then serves every data set.
    """

    centre: Float[Array, " d"]
    scale: Float[Array, ""]

    def normalise(self, y: Targets) -> Targets:
        """Centre and scale targets (m, d)."""
        return (y - self.centre[None, :]) / self.scale


def frame(y: Targets, nu: Weights, targets_axis: str | None = None) -> Frame:
    """Weighted mean of the targets and root mean square of a coordinate around it.

    Args:
      y: targets (m, d).
      nu: weights (m,).
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    taken = shift.around(y, jnp.where(nu > 0, 0 * nu, -jnp.inf), targets_axis)[2]
    offset = jnp.asarray(taken.centre)
    size = jnp.max(jnp.abs(y - offset[None, :]))
    if targets_axis is not None:
        size = jax.lax.pmax(size, targets_axis)
    # Scale first: squares of targets near 1e-30 or 1e+30 leave float32.
    size = jnp.where(size > 0, jnp.maximum(size, jnp.finfo(jnp.float32).tiny), 1.0)

    def unit(y: Targets, offset: Float[Array, " d"], size: Float[Array, ""]) -> Targets:
        return (y - offset[None, :]) / size

    def mean(y: Targets, nu: Weights, *place: Array) -> Float[Array, " d"]:
        return jnp.matmul(nu, unit(y, *place), precision=PRECISION)

    def square(
        y: Targets, nu: Weights, centre: Float[Array, " d"], *place: Array
    ) -> Float[Array, ""]:
        deviation = jnp.square(unit(y, *place) - centre[None, :]).mean(1)
        return jnp.matmul(nu, deviation, precision=PRECISION)

    of_targets = partial(blockwise.sum_blocks, targets_axis=targets_axis)
    centre = of_targets(mean, (y, nu), offset, size)
    variance = of_targets(square, (y, nu), centre, offset, size)
    # Targets that all coincide, up to rounding, have no size: any scale serves.
    scale = jnp.where(variance > 1e-13, jnp.sqrt(variance), 1.0)
    return Frame(offset + centre * size, scale * size)
