"""Single linkage: the merges that join targets one by one, nearest parts first.

Source: Gower and Ross, "Minimum spanning trees and single linkage cluster analysis", 1969.
"""

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

_TREE_DIM = 12
"""Dimensions up to which a tree finds them sooner than all distances do."""

_TINY = np.finfo(float).tiny

BLOCK_NUMBERS = 1 << 23
"""Distances held at a time: 64 MiB."""


def squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Squared distances, up to rounding."""
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T
    return np.maximum(squares, 0, out=squares)


def merges(y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n 3"] | None:
    """Merges of single linkage, nearest first: two nodes and their distance.

    Beyond some thousand targets only neighbours are linked by their distance, and what these do not
    link is linked by the distance of means. None where that leaves too many parts.
    """
    if len(y) <= _EXACT:
        return linkage(y, "single")[:, :3]
    rows, columns, distances = _near(y)
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
    y: Float[np.ndarray, "m d"],
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Each target's nearest others: both indices, and the distances."""
    number = len(y)
    own = np.repeat(np.arange(number), _NEIGHBOURS)
    if y.shape[1] <= _TREE_DIM:
        near = KDTree(y).query(y, _NEIGHBOURS + 1)
        distances, columns = (np.asarray(part)[:, 1:].ravel() for part in near)
        return own, columns, np.maximum(distances, _TINY)
    found, distances = [], []
    for part in np.array_split(np.arange(number), -(-number * number // BLOCK_NUMBERS)):
        squares = squared_distances(y[part], y)
        squares[np.arange(len(part)), part] = np.inf
        near = np.argpartition(squares, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        found.append(near.ravel())
        # Differences keep the digits of targets that nearly coincide.
        exact = [((y[part] - y[column]) ** 2).sum(1) for column in near.T]
        distances.append(np.sqrt(np.stack(exact, 1)).ravel())
    return own, np.concatenate(found), np.maximum(np.concatenate(distances), _TINY)


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
