"""What exact pruning must score at least: the blocks that no bound excludes, an oracle.

Targets are cut into blocks of near ones. A block is left out for a sample if a bound on its scores
is below the best score. Here the best score is known beforehand, which no algorithm can do better,
and bounds cost nothing: the share of targets in blocks that stay is a lower bound for the work.
Samples that share a product share their blocks as well: a block stays for all of them if it stays
for one. Every bound is of the form <x, c> + (bound on <x, y_i - c> + h_i over the block).

* ball: Cauchy and Schwarz with the block's radius, and its highest height.
* box: the extremes of the block along each axis.
* ball with heights: the ball of the points (y_i, h_i).
* tilted ball: heights are a linear function on the block, plus a rest. Its slope joins x, so that
  the ball's factor is the distance of x to where the block's cells lie, not to the origin.
* tilted box: the same along the block's own principal axes.
* four axes: for each target the exact part along the four first of these axes, and norms for the
  others. It takes 5 products a target, of d + 1 for the score itself.
"""

import numpy as np

AXES = 4
GROUPS = (1, 8, 64)
"""Samples that share a product."""


def exclusions(
    x: np.ndarray, best: np.ndarray, y: np.ndarray, h: np.ndarray, own: np.ndarray
) -> dict[str, dict[int, float]]:
    """The share of targets that stays, by bound and by samples that share a product.

    Args:
      x: samples (n, d), near ones side by side.
      best: their best scores (n,).
      y: targets (m, d).
      h: heights (m,).
      own: the block of each target (m,).
    """
    order = np.argsort(own, kind="stable")
    ends = np.flatnonzero(np.diff(own[order])) + 1
    stays: dict[str, dict[int, float]] = {}
    # Rounding must not exclude the block that wins.
    need = best - 1e-4 * np.abs(best).max()
    for rows in np.split(order, ends):
        for name, bound in _of_block(x, y[rows], h[rows]).items():
            alive = bound >= need
            shares = stays.setdefault(name, dict.fromkeys(GROUPS, 0.0))
            for group in GROUPS:
                shared = alive[: len(x) // group * group].reshape(-1, group).any(1)
                shares[group] += shared.mean() * len(rows) / len(y)
    return stays


def side_by_side(points: np.ndarray, leaf: int = 8) -> np.ndarray:
    """An order of points (n, d) with near ones side by side: halved along the axis of most spread.

    For samples the targets that they win are ordered: cells of near targets are near.
    """
    if len(points) <= leaf:
        return np.arange(len(points))
    r = points - points.mean(0)
    order = np.argsort(r @ np.linalg.eigh(r.T @ r)[1][:, -1])
    halves = np.split(order, [len(order) // 2 // leaf * leaf or len(order) // 2])
    return np.concatenate([half[side_by_side(points[half], leaf)] for half in halves])


def _of_block(x: np.ndarray, y: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
    """Bounds (n,) on the scores of a block."""
    centre, level = y.mean(0), h.mean()
    r, norm = y - centre, np.linalg.norm(x, axis=1)
    radius = np.linalg.norm(r, axis=1).max()
    middle = x @ centre
    bounds = {"ball": norm * radius + h.max(), "box": _box(x, r) + h.max()}
    lifted = np.sqrt(np.square(r).sum(1) + np.square(h - level)).max()
    bounds["ball with heights"] = np.sqrt(1 + norm**2) * lifted + level
    # A ridge keeps the slope small where a block has few targets.
    scatter = r.T @ r
    ridge = 0.1 * np.trace(scatter) / len(scatter) + 1e-12
    slope = np.linalg.solve(scatter + ridge * np.eye(len(scatter)), r.T @ (h - level))
    rest = h - r @ slope
    bounds["tilted ball"] = np.linalg.norm(x + slope, axis=1) * radius + rest.max()
    axes = np.linalg.eigh(scatter)[1][:, ::-1]
    z, q = (x + slope) @ axes, r @ axes
    bounds["tilted box"] = _box(z, q) + rest.max()
    across = np.linalg.norm(z[:, AXES:], axis=1)[:, None] * np.linalg.norm(q[:, AXES:], axis=1)
    bounds["four axes"] = (z[:, :AXES] @ q[:, :AXES].T + rest + across).max(1)
    bounds = {name: middle + bound for name, bound in bounds.items()}
    bounds["least of all"] = np.minimum.reduce(list(bounds.values()))
    return bounds


def _box(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) @ r.max(0) + np.minimum(x, 0) @ r.min(0)
