r"""How many pieces a ReLU network can have: its rectified linear complexity, bounded from above.

k hyperplanes cut a space of d dimensions into at most C(d, k) = sum of binom(k, j) over j <= d
parts, and into exactly as many in general position. A layer of k units cuts each cell of the
layers before it by k hyperplanes, so a network has at most the product of these numbers.

Source: Zaslavsky 1975 (parts of an arrangement); arXiv 1805.10451, theorem 4.5 (the product of
C(w_{i-1}, w_i) over the layers); Montufar 2017 (the image of a cell has at most the dimension of
the narrowest layer before it).
"""

import math

from aeot_jax import arguments
from aeot_jax.manifold.networks import Network, as_network
from aeot_jax.typing import Given


def regions(dim: Given[int], planes: Given[int]) -> int:
    """The most parts into which hyperplanes cut a space, exactly.

    Args:
      dim: dimension of the space, at least 0.
      planes: number of hyperplanes, at least 0.

    Raises:
      ValueError: if a number is no such integer.
    """
    d = arguments.count("dim", dim, 0)
    k = arguments.count("planes", planes, 0)
    return sum(math.comb(k, j) for j in range(min(d, k) + 1))


def piece_bound(
    network: Given[Network], *, dim: Given[int | None] = None, narrowest: Given[bool] = True
) -> int:
    """An upper bound of the number of cells of a network, as an exact integer.

    Args:
      network: a network, or a list of pairs (weight, bias).
      dim: dimension of an affine space that the inputs stay in: 1 bounds the pieces along a line.
        By default all inputs are free.
      narrowest: whether the cells of a layer have the dimension of the narrowest layer before it,
        and not of the last one, as theorem 4.5 has it. The bound is never larger for it.

    Raises:
      ValueError: if `dim` is no whole number from 0 to the number of inputs.
    """
    made = as_network(network)
    free = made.num_inputs
    if dim is not None:
        free = arguments.count("dim", dim, 0, free, what="dimensions of the inputs")
    use_narrowest = arguments.flag("narrowest", narrowest)
    bound, widest = 1, free
    for layer in made.layers:
        bound *= regions(widest, int(layer.rectified.sum()))
        outputs = layer.weight.shape[1]
        widest = min(widest, outputs) if use_narrowest else outputs
    return bound
