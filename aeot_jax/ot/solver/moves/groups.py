"""Far groups of targets: such as lie together, much nearer than to all others.

Clusters far apart, a tight cluster in a broad one, copies of images that differ by their noise: the
scores inside of such a group compete on a scale of their own, and no single one serves all heights.
Groups are nodes of the tree of single linkage whose next neighbour is many times as far away as
they are large. They may lie in each other, in up to a few levels. Most targets have none, which a
look at some of them tells at little cost. Distances are those of the targets: where the source is
very anisotropic, scores may know of no groups where these do.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aeot_jax.ot.solver.moves.linking import BLOCK_NUMBERS, merges, squared_distances

_MOST_TARGETS = 65_536
"""Targets of which groups are looked for, at most."""

MOST_NUMBERS = 1 << 22
"""Numbers that these may have in all: 32 MiB in float64."""

_LEAST_TARGETS = 4
"""Fewer need no groups."""

_APART = 4.0
"""A group's nearest neighbour is so many times as far away as the group is large."""

_FAR = 12.0
"""Without any that are so far away, or so small, groups are none: one scale serves all."""

_SMALL = 1 / 48
"""Radius of a small group, over that of all targets."""

_SMALL_WEIGHT = 0.05
"""Its weight at least."""

_FEW = 8
"""Fewer targets may be near each other by chance."""

_FAR_OF_FEW = 200.0
"""What is far for these. On a curve one target in 200 is so by chance."""

_EDGE = 1.5
"""A group is as large as its radius, or as so many times its longest link."""

_JUMP = 2.5
"""Factor between the distances to one target and to the next one, from which groups are looked for:
the group that ends there reaches as far as two or three of its radii."""

_FIRST_JUMPS = 15.0, 5.0
"""The same beyond the nearest target and beyond the next one, where chance makes more of it."""

_JUMPS = 2
"""Targets that must see one. By chance few do."""

_MOST_OF_PARENT = 0.98
"""A group with more of its parent's weight is all of it but outliers."""

_LEAST_WEIGHT = 0.01
"""Weight of all groups together from which they matter, or the squared tolerance if that is less:
where the masses inside of them are not told apart, their weight is the square of the error."""

_MOST_LEVELS = 4
"""Groups inside of groups."""

_QUERIES = 512
"""Targets whose distances to all others are looked at first."""


class Groups(NamedTuple):
    """Far groups; level 0 is that of the largest, and below the last one is each target by itself.

    Attributes:
      labels: index of the first target of each target's group (levels, m); its own where it is in
        no group of that level.
      pools: likewise of those that are compared with each other at a level, inside of the same
        group one level above: groups with groups, single targets with single ones (levels + 1, m).
      shares: weight of each target's group over that of the group one level above (levels + 1, m).
      units: likewise the spread of the groups inside of the one above, over that of all targets.
    """

    labels: Int[np.ndarray, "levels m"]
    pools: Int[np.ndarray, "levels1 m"]
    shares: Float[np.ndarray, "levels1 m"]
    units: Float[np.ndarray, "levels1 m"]


class _Tree(NamedTuple):
    """A binary tree of merges; leaves are the nodes 0 to m - 1, the root is the last node.

    Attributes:
      parent: of each node (2 m - 1,); the root is its own.
      height: distance at which its parts were merged (2 m - 1,); 0 of leaves.
      size: number of its leaves.
      radius: root mean square distance of its leaves from their mean.
      weight: sum of the weights of its leaves.
    """

    parent: Int[np.ndarray, " n"]
    height: Float[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]


def find(
    y: Float[np.ndarray, "m d"],
    nu: Float[np.ndarray, " m"],
    tolerance: float,
    pause: Callable[[], None] = lambda: None,
) -> Groups | None:
    """Far groups among targets (m, d) with weights (m,); None where there are none that matter.

    Args:
      y: targets, float64, of which no two of positive weight are equal.
      nu: weights (m,), sum 1; targets of weight 0 are in no group.
      tolerance: mass error to be reached.
      pause: called between parts of the work, which it may end by an error.
    """
    pause()
    active = np.flatnonzero(nu > 0)
    if not _LEAST_TARGETS <= len(active) <= _MOST_TARGETS:
        return None
    own = y[active] - nu[active] @ y[active]
    if not _may_have_groups(own):
        return None
    linked = merges(own, pause)
    if linked is None:
        return None
    pause()
    labels = _labels(_tree(own, nu[active], linked), min(_LEAST_WEIGHT, tolerance**2))
    if not len(labels):
        return None
    among = np.broadcast_to(np.arange(len(nu)), (len(labels), len(nu))).copy()
    among[:, active] = active[labels]
    return Groups(among, _pools(among), *_measured(y, nu, among))


def _may_have_groups(y: Float[np.ndarray, "m d"]) -> bool:
    """Do the distances from some targets to all others, in their order, jump anywhere?"""
    number, jumps = len(y), 0
    some = np.linspace(0, number - 1, min(number, _QUERIES)).round().astype(int)
    last = max(2 + len(_FIRST_JUMPS), int(_MOST_OF_PARENT * number))
    for part in np.array_split(some, -(-len(some) * number // BLOCK_NUMBERS)):
        distances = np.sqrt(squared_distances(y[part], y))
        distances[np.arange(len(part)), part] = 0  # of itself, where rounding leaves more
        distances.sort(axis=1)
        one, two = distances[:, 1 : last - 1], distances[:, 2:last]
        jumped = two > _JUMP * one
        for rank, jump in enumerate(_FIRST_JUMPS):
            jumped[:, rank] = two[:, rank] > jump * one[:, rank]
        jumps += jumped.any(axis=1).sum()
    return bool(jumps >= _JUMPS)


def _tree(
    y: Float[np.ndarray, "m d"], nu: Float[np.ndarray, " m"], linked: Float[np.ndarray, "n 3"]
) -> _Tree:
    """The tree of these merges, with what is known of each node."""
    leaves, nodes = len(y), len(y) + len(linked)
    parent, height = np.arange(nodes), np.zeros(nodes)
    weight, size, squares = np.zeros(nodes), np.ones(nodes), np.zeros(nodes)
    weight[:leaves] = nu
    mean = list(y)
    for node, (a, b, distance) in enumerate(linked.tolist(), leaves):
        one, two = int(a), int(b)
        parent[one] = parent[two] = node
        height[node] = distance
        weight[node] = weight[one] + weight[two]
        size[node] = size[one] + size[two]
        step = mean[two] - mean[one]
        mean.append(mean[one] + step * (size[two] / size[node]))
        mean[one] = mean[two] = y[0]  # which nothing reads again, and which takes no memory
        both = size[one] * size[two] / size[node] * (step @ step)
        squares[node] = squares[one] + squares[two] + both
    return _Tree(parent, height, size, np.sqrt(squares / size), weight)


def _labels(tree: _Tree, least: float) -> Int[np.ndarray, "levels m"]:
    """Labels of the groups of a tree, level by level; none if all together weigh less than this."""
    leaves, root = (len(tree.parent) + 1) // 2, len(tree.parent) - 1
    reach = np.maximum(tree.radius, _EDGE * tree.height)
    reach[:leaves] = np.inf  # a leaf is no group
    apart = tree.height[tree.parent] / reach
    apart[root] = 0
    above = np.full(root + 1, root)  # the group that holds a node, or the root
    level = np.zeros(root + 1, int)  # of a group; one more for what is in no further one
    kept = np.zeros(root + 1, bool)
    for node in range(root - 1, -1, -1):
        parent = tree.parent[node]
        above[node] = parent if kept[parent] else above[parent]
        holder = above[node]
        level[node] = level[holder] + 1 if holder != root else 0
        room = level[node] < _MOST_LEVELS
        most = _MOST_OF_PARENT * tree.weight[holder]
        kept[node] = apart[node] >= _APART and room and tree.weight[node] <= most
    small = (tree.radius <= _SMALL * tree.radius[root]) & (tree.weight >= _SMALL_WEIGHT)
    far = (apart >= np.where(tree.size < _FEW, _FAR_OF_FEW, _FAR)) | (small & (tree.size >= _FEW))
    far &= kept
    if tree.weight[far & ~far[above]].sum() < least:
        return np.zeros((0, leaves), int)
    weights = np.bincount(level[kept], tree.weight[kept], _MOST_LEVELS)
    levels = int(np.argmin(np.append(weights >= least, False)))  # deeper ones weigh less
    nodes = np.tile(np.arange(leaves), (levels, 1))
    group = above[:leaves]
    for _ in range(_MOST_LEVELS):
        inside = np.flatnonzero((group != root) & (level[group] < levels))
        nodes[level[group[inside]], inside] = group[inside]
        group = above[group]
    return np.array([_first(row) for row in nodes], int).reshape(levels, leaves)


def _first(nodes: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """For each target the first with the same node."""
    _, first, own = np.unique(nodes, return_index=True, return_inverse=True)
    return first[own]


def _pools(labels: Int[np.ndarray, "levels m"]) -> Int[np.ndarray, "levels1 m"]:
    """``pools`` of these groups."""
    number = labels.shape[1]
    above, pools = np.zeros(number, int), []
    for own in [*labels, np.arange(number)]:
        single = np.bincount(own, minlength=number)[own] == 1
        pools.append(_first(2 * above + single))
        above = own
    return np.stack(pools)


def _measured(
    y: Float[np.ndarray, "m d"], nu: Float[np.ndarray, " m"], labels: Int[np.ndarray, "levels m"]
) -> tuple[Float[np.ndarray, "levels1 m"], Float[np.ndarray, "levels1 m"]]:
    """``shares`` and ``units`` of these groups."""
    number = len(nu)
    weight, mean = np.ones(number), np.tile(nu @ y, (number, 1))  # of the level above
    above = np.zeros(number, int)
    shares, squares = [], []
    for own in [*labels, np.arange(number)]:
        own_weight = np.bincount(own, nu, number)[own]
        safe = np.maximum(own_weight, np.finfo(float).tiny)
        own_mean = np.stack([np.bincount(own, nu * c, number)[own] / safe for c in y.T], 1)
        scatter = np.bincount(above, nu * ((own_mean - mean) ** 2).sum(1), number)[above]
        shares.append(own_weight / weight)
        squares.append(scatter / weight)
        above, weight, mean = own, safe, own_mean
    total = (nu * ((y - nu @ y) ** 2).sum(1)).sum()
    return np.stack(shares), np.sqrt(np.stack(squares) / total)
