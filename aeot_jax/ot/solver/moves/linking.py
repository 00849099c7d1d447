"""Single linkage: the merges that join targets one by one, nearest parts first.

Source: Gower and Ross, "Minimum spanning trees and single linkage cluster analysis", 1969.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import KDTree

_EXACT = 4096
"""Targets up to which all distances are computed; of more, those to some neighbours."""

_NEIGHBOURS = 8
"""How many."""

_TREE_DIM = 8
"""Dimensions up to which a tree finds them sooner than all distances do."""

_QUERIES = 1024
"""Targets whose neighbours it finds at a time."""

_TINY = np.finfo(float).tiny

BLOCK_NUMBERS = 1 << 21
"""Distances held at a time: 16 MiB."""


def squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Squared distances, up to rounding."""
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T
    return np.maximum(squares, 0, out=squares)


def merges(
    y: Float[np.ndarray, "m d"], pause: Callable[[], None]
) -> Float[np.ndarray, "n 3"] | None:
    """Merges of single linkage, nearest first: two nodes and their distance.

    Beyond some thousand targets only neighbours are linked by their distance, and what these do not
    link is linked by the distance of means. None where that leaves too many parts.
    ``pause`` is called between parts of the work.
    """
    if len(y) <= _EXACT:
        return linkage(y, "single")[:, :3]
    rows, columns, distances = _near(y, pause)
    number = len(y)
    graph = coo_matrix((distances, (rows, columns)), (number, number)).tocsr()
    count, part = connected_components(graph, directed=False)
    if count > _EXACT:
        return None
    edges = minimum_spanning_tree(graph).tocoo()
    links = np.stack([edges.row, edges.col, edges.data], 1)
    if count > 1:
        first = np.unique(part, return_index=True)[1]
        sizes = np.bincount(part).astype(float)
        means = np.stack([np.bincount(part, column) / sizes for column in y.T], 1)
        radii = np.sqrt(np.bincount(part, ((y - means[part]) ** 2).sum(1)) / sizes)
        between = _between(means, radii, first)
        links = np.concatenate([links, between])
    return _in_order(links, number)


def _near(
    y: Float[np.ndarray, "m d"], pause: Callable[[], None]
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Each target's nearest others: both indices, and the distances."""
    by = _by_tree if y.shape[1] <= _TREE_DIM else _by_all_distances
    found = []
    for near in by(y):
        found.append(near)
        pause()
    columns = np.concatenate(found)
    # Differences keep the digits of targets that nearly coincide.
    squares = np.stack([((y - y[column]) ** 2).sum(1) for column in columns.T], 1)
    own = np.repeat(np.arange(len(y)), _NEIGHBOURS)
    return own, columns.ravel(), np.maximum(np.sqrt(squares).ravel(), _TINY)


def _by_tree(y: Float[np.ndarray, "m d"]) -> Iterator[Int[np.ndarray, "n k"]]:
    """Indices of the nearest others, some targets at a time."""
    tree = KDTree(y)
    for start in range(0, len(y), _QUERIES):
        near = tree.query(y[start : start + _QUERIES], _NEIGHBOURS + 1)[1]
        yield np.asarray(near)[:, 1:]


def _by_all_distances(y: Float[np.ndarray, "m d"]) -> Iterator[Int[np.ndarray, "n k"]]:
    """The same from all distances: the nearest are in those columns whose minima are smallest.

    The squared distances of a target, less a part that all of them have, stand in a table whose
    columns are about as many as the numbers of the few that are then looked at one by one.
    """
    number, dim = y.shape
    height = max(1, round((number / _NEIGHBOURS) ** 0.5))
    width = -(-number // height)
    right = np.zeros((dim + 1, height * width))
    right[:dim, :number] = -2 * y.T
    right[dim, :number], right[dim, number:] = (y * y).sum(1), np.inf
    left = np.concatenate([y, np.ones((number, 1))], 1)
    parts = np.array_split(np.arange(number), -(-number * number // BLOCK_NUMBERS))
    block = np.empty((len(parts[0]), height * width))  # one for all: new memory is slow
    for part in parts:
        squares = np.matmul(left[part], right, out=block[: len(part)])
        squares[np.arange(len(part)), part] = np.inf
        table = squares.reshape(len(part), height, width)
        columns = _least(table.min(1))
        few = np.take_along_axis(table, columns[:, None, :], 2).reshape(len(part), -1)
        places = np.arange(height)[:, None] * width + columns[:, None, :]
        yield np.take_along_axis(places.reshape(len(part), -1), _least(few), 1)


def _least(numbers: Float[np.ndarray, "n m"]) -> Int[np.ndarray, "n k"]:
    """Where the smallest of each row stand, as many as there are neighbours."""
    return np.argpartition(numbers, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]


def _between(
    means: Float[np.ndarray, "k d"], radii: Float[np.ndarray, " k"], first: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "l 3"]:
    """Links of parts: the first targets of two, and how far their nearest ones may be apart."""
    distances = np.sqrt(squared_distances(means, means))
    near = radii[:, None] + radii[None, :]
    # Most of a part lies within two radii. Parts that are linked by no neighbours are apart.
    distances = np.maximum(distances - 2 * near, 0.25 * near) + _TINY
    tree = minimum_spanning_tree(distances).tocoo()
    return np.stack([first[tree.row], first[tree.col], tree.data], 1)


def _in_order(links: Float[np.ndarray, "n 3"], number: int) -> Float[np.ndarray, "n 3"]:
    """Links of leaves as merges of nodes, nearest first."""
    links = links[np.argsort(links[:, 2], kind="stable")]
    root = list(range(2 * number - 1))

    def find_root(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    merges = np.empty_like(links)
    for k, (a, b, distance) in enumerate(links):
        one, two = find_root(int(a)), find_root(int(b))
        root[one] = root[two] = number + k
        merges[k] = one, two, distance
    return merges
