"""Targets and heights as float32 near the origin, so that offsets cost no digits."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete
from aeot_jax.ot import checks
from aeot_jax.ot.cells import shift, sizes
from aeot_jax.ot.cells.shift import Shift
from aeot_jax.typing import ArrayLike, Heights, Stored, Targets

_EXACT_IN_FLOAT32 = (np.float32, np.float16, jnp.bfloat16, np.int8, np.uint8, np.int16, np.uint16)
"""Dtypes whose numbers float32 holds: they may stay as they are stored until they are scored."""


class Near(NamedTuple):
    """Targets with heights, as kernels take them after ``shift.around``.

    Attributes:
      y: targets (rows, d), as stored or float32; rows beyond the user's own no cell.
      h: heights (rows,).
      shift: what the host has taken off; zeros where nothing.
    """

    y: Stored
    h: Heights
    shift: Shift


def near(
    y: ArrayLike, h: ArrayLike, name: str = "h", *, some: bool = True, stored: bool = False
) -> Near:
    """Check targets and heights; where they are known, centre them in float64 and fill them up.

    Args:
      y: targets (m, d), in any real dtype.
      h: heights (m,); -inf for a target that owns no cell.
      name: of the argument that gave the heights.
      some: whether one target at least must own a cell.
      stored: whether targets stay in a dtype that float32 holds, to be widened block by block.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    return near_and_centre(y, h, name, some=some, stored=stored)[0]


def near_and_centre(
    y: ArrayLike, h: ArrayLike, name: str = "h", *, some: bool = True, stored: bool = False
) -> tuple[Near, Float[np.ndarray, " d"]]:
    """``near``, and what was taken off the targets in float64."""
    points = checks.points("y", y)
    heights = checks.heights(name, h, points, some=some)
    rounded, level = centred_heights(heights)
    taken = shift.none(points.shape[1])._replace(level=np.float32(level))
    if not is_concrete(points):
        return Near(arguments.real("y", points), jnp.asarray(rounded), taken), np.zeros(
            points.shape[1]
        )
    known = is_concrete(heights)
    active = np.asarray(heights) > -np.inf if known else np.ones(len(points), bool)
    own, centre = centred(points, active, stored=stored)
    taken = taken._replace(centre=centre.astype(np.float32))
    if not known:
        return Near(checks.placed(own), jnp.asarray(rounded), taken), centre
    rows = sizes.filled(*own.shape)
    if rows > own.shape[0] and not active.all():
        # A product with what owns no cell may overflow, and hide its neighbours.
        own = np.where(active[:, None], np.asarray(own), np.asarray(own)[active.argmax()])
    own = filled_up(own, rows, row=int(active.argmax()))
    return Near(checks.placed(own), checks.placed(filled_up(rounded, rows, -np.inf)), taken), centre


def near_points(y: ArrayLike) -> tuple[Targets, Float[np.ndarray, " d"]]:
    """Targets as float32, and what was taken off to keep the digits of wider dtypes.

    Raises:
      ValueError: as ``check_targets``.
    """
    points = checks.points("y", y)
    if not is_concrete(points):
        return arguments.real("y", points), np.zeros(points.shape[1])
    near, centre = centred(points, np.ones(len(points), bool))
    return checks.placed(near), centre


def stored_points(y: ArrayLike) -> np.ndarray:
    """Targets on the host in their own dtype if float32 holds it, else as float32.

    Raises:
      ValueError: as ``check_targets``.
    """
    points = np.asarray(checks.points("y", y))
    if points.dtype in _EXACT_IN_FLOAT32:
        return points
    return arguments.rounded_to_float32("y", points)


def centred(
    points: np.ndarray | Array, active: np.ndarray, *, stored: bool = False
) -> tuple[np.ndarray | Array, Float[np.ndarray, " d"]]:
    """Known points as float32, and what was taken off to keep the digits of wider dtypes.

    Args:
      points: checked before.
      active: the points around whose middle to centre.
      stored: whether a dtype that float32 holds stays.
    """
    if points.dtype in _EXACT_IN_FLOAT32:
        return points if stored else _as_float32(points), np.zeros(points.shape[1])
    return shift.on_host(np.asarray(points), active if active.any() else ~active)


def centred_heights(heights: np.ndarray | Array) -> tuple[np.ndarray | Array, float]:
    """Heights as float32, and what was taken off all to keep the digits of wider dtypes."""
    if not is_concrete(heights):
        return arguments.real("h", heights, infinite_below=True), 0.0
    active = np.asarray(heights) > -np.inf
    if heights.dtype in _EXACT_IN_FLOAT32 or not active.any():
        return _as_float32(heights), 0.0
    near, level = shift.on_host(np.asarray(heights)[:, None], active)
    return near[:, 0], float(level[0])


def _as_float32(known: np.ndarray | Array) -> np.ndarray | Array:
    """Known numbers as float32, by NumPy: under someone's trace jax.numpy would return tracers."""
    return known if known.dtype == np.float32 else np.asarray(known).astype(np.float32)


def filled_up(array: np.ndarray | Array, rows: int, fill: float | None = None, row: int = 0) -> Any:
    """An array with more rows, of one number or copies of a row."""
    surplus = rows - array.shape[0]
    if not surplus:
        return array
    if not is_concrete(array):
        return jnp.pad(array, (0, surplus), constant_values=fill)
    host = np.asarray(array)
    more = host[row] if fill is None else np.float32(fill)
    return np.concatenate([host, np.broadcast_to(more, (surplus, *host.shape[1:]))])
