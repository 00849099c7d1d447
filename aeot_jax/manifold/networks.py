"""ReLU networks as lists of layers in float64, from matrices or from the library's own models."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from aeot_jax import arguments
from aeot_jax.model import AEOT, check_model, kind_of
from aeot_jax.nn import models
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given


class Layer(NamedTuple):
    """An affine map, after which some of its outputs are rectified.

    Attributes:
      weight: (inputs, outputs), as Flax keeps kernels: a row x becomes x @ weight + bias.
      bias: (outputs,).
      rectified: which outputs are replaced by max(0, output); the others are passed on.
    """

    weight: Float[np.ndarray, "i o"]
    bias: Float[np.ndarray, " o"]
    rectified: Bool[np.ndarray, " o"]

    __repr__ = brief


@dataclasses.dataclass(frozen=True, eq=False)
class ReLUNetwork:
    """A network whose hidden units are rectified: a continuous map, affine on polyhedra.

    A residual connection is a layer that hands its inputs on beside the rectified ones.

    Attributes:
      layers: from the input to the output.
    """

    layers: tuple[Layer, ...]

    @property
    def num_inputs(self) -> int:
        """Dimension of the input."""
        return self.layers[0].weight.shape[0]

    @property
    def num_outputs(self) -> int:
        """Dimension of the output."""
        return self.layers[-1].weight.shape[1]

    @property
    def num_units(self) -> int:
        """Number of rectified units in all layers."""
        return sum(int(layer.rectified.sum()) for layer in self.layers)

    def __repr__(self) -> str:
        widths = [self.num_inputs, *(layer.weight.shape[1] for layer in self.layers)]
        return f"ReLUNetwork({' -> '.join(map(str, widths))}, {self.num_units} rectified units)"


Network = ReLUNetwork | Sequence[tuple[Any, Any]]
"""A network, or the list of pairs (weight, bias) of ``network``."""


def network(layers: Given[Sequence[tuple[Any, Any]]]) -> ReLUNetwork:
    """Make a network from kernels and biases, rectified between them and not after the last.

    Args:
      layers: pairs (weight (inputs, outputs), bias (outputs,)), as
        ``[(layer.kernel[...], layer.bias[...]) for layer in flax_layers]`` gives them.

    Raises:
      ValueError: if there is no layer, a layer is no such pair, or its inputs are not as many as
        the outputs of the one before.
    """
    if isinstance(layers, AEOT):
        raise ValueError(
            "`network` is a fitted model, which has two; pass `encoder(model)` or `decoder(model)`."
        )
    if not isinstance(layers, list | tuple) or not layers:
        raise ValueError(
            f"`network` is {arguments.shown(layers)}; pass a list of pairs (weight, bias)."
        )
    made: list[Layer] = []
    for i, pair in enumerate(layers):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(
                f"`network[{i}]` is {arguments.shown(pair)}; pass a pair (weight, bias)."
            )
        weight, bias = (arguments.known(f"network[{i}]", part) for part in pair)
        before = made[-1].weight.shape[1] if made else None
        if weight.ndim != 2 or not weight.size or bias.shape != weight.shape[1:]:
            raise ValueError(
                f"`network[{i}]` has shapes {weight.shape} and {bias.shape}; pass a weight "
                "(inputs, outputs) and a bias (outputs,), or the transpose of a matrix for columns."
            )
        if before not in (None, weight.shape[0]):
            raise ValueError(
                f"`network[{i}]` takes {weight.shape[0]} inputs, but the layer before it gives "
                f"{before}; pass weights (inputs, outputs) in the order of the layers."
            )
        is_last = i == len(layers) - 1
        made.append(Layer(weight, bias, np.full(bias.shape, not is_last)))
    return ReLUNetwork(tuple(made))


def as_network(given: Any) -> ReLUNetwork:
    """A network as it is, or from a list of pairs."""
    return given if isinstance(given, ReLUNetwork) else network(given)


def encoder(model: Given[AEOT]) -> ReLUNetwork:
    """The encoder of a model, from flat pixels in [0, 1] or rows to standardised codes.

    It is `aeot_jax.encode`, with ``images.reshape(n, -1)`` as input.

    Args:
      model: from ``fit``, with ``AutoencoderConfig(kind="mlp", activation="relu")``.

    Raises:
      ValueError: if the model has other networks.
    """
    check_model(model)
    made = _own(model, "encoder")
    if model.columns is not None:
        centre, scale = (arguments.known("model", part) for part in model.columns)
        made = [_passed(np.diag(1 / scale), -centre / scale), *made]
    centre, scale = (arguments.known("model", part) for part in (model.centre, model.scale))
    return _merged([*made, _passed(np.diag(1 / scale), -centre / scale)])


def decoder(model: Given[AEOT]) -> ReLUNetwork:
    """The decoder of a model, from standardised codes to flat logits of pixels, or to rows.

    `aeot_jax.decode` of images is the logistic function of it, of a table it itself.

    Args:
      model: as for ``encoder``.

    Raises:
      ValueError: if the model has other networks.
    """
    check_model(model)
    made = _own(model, "decoder")
    centre, scale = (arguments.known("model", part) for part in (model.centre, model.scale))
    made = [_passed(np.diag(scale), centre), *made]
    if model.columns is not None:
        centre, scale = (arguments.known("model", part) for part in model.columns)
        made = [*made, _passed(np.diag(scale), centre)]
    return _merged(made)


def compose(first: Given[Network], second: Given[Network]) -> ReLUNetwork:
    """The network that applies one after the other, as ``compose(encoder(m), decoder(m))``.

    Args:
      first: a network, or a list of pairs (weight, bias).
      second: another, that takes what the first gives.

    Raises:
      ValueError: if the second takes another dimension.
    """
    one, two = as_network(first), as_network(second)
    if one.num_outputs != two.num_inputs:
        raise ValueError(
            f"`second` takes {two.num_inputs} inputs, but `first` gives {one.num_outputs}; pass "
            "networks that fit together."
        )
    return _merged([*one.layers, *two.layers])


def apply(network: Given[Network], x: ArrayLike) -> Float[np.ndarray, "n o"]:
    """The outputs of a network in float64.

    Args:
      network: a network, or a list of pairs (weight, bias).
      x: (n, inputs).

    Raises:
      ValueError: if the dimension is another.
    """
    made = as_network(network)
    values = check_points("x", x, made)
    for layer in made.layers:
        values = values @ layer.weight + layer.bias
        values = np.where(layer.rectified & (values <= 0), 0.0, values)
    return values


def check_points(name: str, value: Any, made: ReLUNetwork) -> Float[np.ndarray, "n d"]:
    """Known points in float64, of as many columns as a network has inputs."""
    points = arguments.known(name, value)
    if points.ndim != 2 or points.shape[1] != made.num_inputs:
        raise ValueError(
            f"`{name}` has shape {points.shape}, but the network takes {made.num_inputs} inputs; "
            f"pass (n, {made.num_inputs})."
        )
    return points


def _own(model: AEOT, part: str) -> list[Layer]:
    """The layers of one network of a model, residual blocks by layers that hand inputs on."""
    if model.params is None or model.image_shape is None:
        raise ValueError(
            "`model` was fitted without networks of this library; pass the kernels and biases of "
            "your own as a list of pairs."
        )
    config = model.config.autoencoder
    if config.activation != "relu":
        raise ValueError(
            f"`model` has networks with the activation {config.activation!r}, which are affine "
            "nowhere; fit one with `AutoencoderConfig(activation='relu')`."
        )
    if models.kind(model.image_shape, config) != "mlp":
        raise ValueError(
            f"`model` has convolutions, for {kind_of(model)} of shape {model.image_shape}; fit one "
            "with `AutoencoderConfig(kind='mlp', activation='relu')`."
        )
    params = model.params[part]
    made = [_passed(*_pair(params["stem"]))]
    blocks = params.get("blocks", {})
    for name in sorted(blocks, key=int):
        (first, b), (second, c) = (_pair(blocks[name][at]) for at in ("first", "second"))
        width = len(b)
        own, zero = np.eye(width), np.zeros((width, width))
        half = np.arange(2 * width) >= width
        # (x, relu(x)), then (x, relu(relu(x) first + b)), then their sum.
        made += [
            Layer(np.hstack([own, own]), np.zeros(2 * width), half),
            Layer(np.block([[own, zero], [zero, first]]), np.r_[np.zeros(width), b], half),
            _passed(np.vstack([own, second]), c),
        ]
    head, bias = _pair(params["head"])
    width = len(head)
    return [*made, Layer(np.eye(width), np.zeros(width), np.ones(width, bool)), _passed(head, bias)]


def _pair(params: Any) -> tuple[Float[np.ndarray, "i o"], Float[np.ndarray, " o"]]:
    return arguments.known("model", params["kernel"]), arguments.known("model", params["bias"])


def _passed(weight: Float[np.ndarray, "i o"], bias: Float[np.ndarray, " o"]) -> Layer:
    """An affine map without rectified outputs."""
    return Layer(weight, bias, np.zeros(bias.shape, bool))


def _merged(layers: Sequence[Layer]) -> ReLUNetwork:
    """The same map, with each affine layer joined to the one that follows it."""
    found: list[Layer] = []
    for layer in layers:
        if found and not found[-1].rectified.any():
            weight, bias, _ = found.pop()
            after = layer.weight
            layer = Layer(weight @ after, bias @ after + layer.bias, layer.rectified)
        found.append(layer)
    return ReLUNetwork(tuple(found))
