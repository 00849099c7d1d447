import dataclasses
import itertools
from math import comb
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax import manifold
from aeot_jax.inputs.columns import Columns
from aeot_jax.nn import models

SHAPES = [(1, 9, 1), (2, 7, 6, 2), (3, 8, 2, 8, 3), (5, 6, 6, 6, 2)]


def random_layers(*widths, seed=0, bias=0.5):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(i, o)) / np.sqrt(i), bias * rng.normal(size=o))
        for i, o in itertools.pairwise(widths)
    ]


def dense(layers, x):
    """The network by its definition."""
    for weight, bias in layers[:-1]:
        x = np.maximum(0, x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_is_its_affine_map_in_the_cell_of_each_point(shape):
    layers = random_layers(*shape)
    x = np.random.default_rng(1).normal(size=(40, shape[0]))
    found = manifold.apply(layers, x)
    np.testing.assert_allclose(found, dense(layers, x), atol=1e-12)
    for point, value in zip(x, found, strict=True):
        weight, bias = manifold.affine(layers, point)
        np.testing.assert_allclose(point @ weight + bias, value, atol=1e-12)
        near = point + 1e-9 * x[0]
        np.testing.assert_allclose(near @ weight + bias, manifold.apply(layers, near[None])[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_along_a_polyline_are_those_of_dense_samples(shape):
    layers = random_layers(*shape)
    vertices = 2 * np.random.default_rng(2).normal(size=(4, shape[0]))
    found = manifold.along(layers, vertices)
    t = np.sort(np.random.default_rng(3).uniform(0, 3, 20_000))
    x = np.stack([np.interp(t, range(4), column) for column in vertices.T], axis=1)
    seen = manifold.cells(layers, x)
    interval = np.searchsorted(found.t, t) - 1
    own = np.stack([found.cell[interval], seen.index], axis=1)
    assert len(np.unique(own, axis=0)) == seen.count  # each sample is in the cell of its interval
    changes = 1 + (np.diff(seen.index) != 0).sum()
    hit = np.unique(interval)
    assert changes <= found.num_pieces
    assert changes == 1 + (np.diff(found.cell[hit]) != 0).sum()
    values = np.stack([np.interp(t, found.t, column) for column in found.values.T], axis=1)
    np.testing.assert_allclose(values, dense(layers, x), atol=1e-11)
    np.testing.assert_allclose(found.values, dense(layers, found.points), atol=1e-11)
    assert found.num_cells <= found.num_pieces <= 3 * manifold.piece_bound(layers, dim=1)


@pytest.mark.parametrize("shape", [(2, 6, 2), (2, 7, 6, 2), (2, 6, 1, 6, 2), (2, 5, 5, 5, 1)])
def test_polygons_fill_the_box_and_hold_the_samples_of_their_cells(shape):
    layers = random_layers(*shape)
    found = manifold.plane(layers, (-3, -2), (3, 2))
    assert found.areas.sum() == pytest.approx(24, rel=1e-12)
    assert len(np.unique(found.patterns, axis=0)) == len(found)
    assert (
        len(found) <= manifold.piece_bound(layers) <= manifold.piece_bound(layers, narrowest=False)
    )
    x = np.random.default_rng(4).uniform((-3, -2), (3, 2), (4000, 2))
    patterns = {row.tobytes() for row in found.patterns}
    assert {row.tobytes() for row in manifold.patterns(layers, x)} <= patterns
    middles = np.stack([corners.mean(0) for corners in found.corners])
    np.testing.assert_array_equal(manifold.patterns(layers, middles), found.patterns)
    means = np.stack([values.mean(0) for values in found.values])
    np.testing.assert_allclose(means, dense(layers, middles), atol=1e-11)


@pytest.mark.parametrize("lines", [1, 2, 5, 9])
def test_lines_in_general_position_reach_the_bound(lines):
    layers = random_layers(2, lines, 1, bias=0.1)
    directions, offsets = layers[0]
    pairs = np.array(list(itertools.combinations(range(lines), 2)), int).reshape(-1, 2)
    meet = [np.linalg.solve(directions[:, pair].T, -offsets[pair]) for pair in pairs]
    reach = 1 + 4 * np.abs(np.array([*meet, offsets[[0, -1]] / np.abs(directions).max()])).max()
    found = manifold.plane(layers, (-reach, -reach), (reach, reach))
    expected = 1 + lines + lines * (lines - 1) // 2
    assert len(found) == manifold.piece_bound(layers) == manifold.regions(2, lines) == expected


def test_one_layer_on_the_line_has_one_piece_more_than_units():
    layers = random_layers(1, 12, 3)
    found = manifold.along(layers, [[-1e3], [1e3]])
    assert found.num_pieces == found.num_cells == 13 == manifold.piece_bound(layers)
    weight, bias = layers[0]
    kinks = np.sort(-bias / weight[0])
    np.testing.assert_allclose(found.points[1:-1, 0], kinks, rtol=1e-9)


def test_a_deep_tent_doubles_its_pieces_in_each_layer():
    """The triangle wave x -> 2 min(x, 1 - x), composed with itself: 2^L pieces on [0, 1]."""
    tent = [
        (np.array([[2.0, 4.0]]), np.array([0.0, -2.0])),
        (np.array([[1.0], [-1.0]]), np.zeros(1)),
    ]
    made = manifold.network(tent)
    for power in range(1, 6):
        assert manifold.along(made, [[0.0], [1.0]]).num_pieces == 2**power
        assert manifold.piece_bound(made) == 3**power
        made = manifold.compose(made, tent)


def test_regions_are_sums_of_binomials():
    for d, k in itertools.product(range(6), range(9)):
        assert manifold.regions(d, k) == sum(comb(k, j) for j in range(d + 1))
    assert manifold.regions(512, 512) == 2**512  # beyond every float
    assert manifold.piece_bound(random_layers(3, 4, 2), dim=0) == 1


def test_bounds_of_layers_multiply():
    layers = random_layers(5, 6, 2, 7, 1)
    narrow = manifold.regions(5, 6) * manifold.regions(5, 2) * manifold.regions(2, 7)
    assert manifold.piece_bound(layers) == narrow
    layers = random_layers(2, 6, 5, 1)
    assert manifold.piece_bound(layers) == manifold.regions(2, 6) * manifold.regions(2, 5)
    theorem = manifold.regions(2, 6) * manifold.regions(6, 5)
    assert manifold.piece_bound(layers, narrowest=False) == theorem


def circle(share, n=200):
    angle = 2 * np.pi * share * np.linspace(0, 1, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def spiral(turns, n=2000):
    angle = 2 * np.pi * turns * np.linspace(0, 1, n)
    radius = 1 + angle / (2 * np.pi)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("turns", [0.4, 0.6, 1.2, 2.6, 5.1])
def test_a_spiral_needs_an_arc_for_each_half_turn(turns):
    found = manifold.complexity(spiral(turns))
    assert found.turns == pytest.approx(turns, abs=0.15)
    assert found.arcs == int(np.ceil(2 * found.turns))
    lifted = np.c_[spiral(turns, 400), np.zeros(400)]
    turned = lifted @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert manifold.complexity(turned).arcs == manifold.complexity(spiral(turns, 400)).arcs


@pytest.mark.parametrize("exponent", [-900, 900])
def test_the_unit_of_a_curve_does_not_matter(exponent):
    curve = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [-1.0, 2.0], [-1.0, 0.0]])
    net = [(np.array([[1.0], [0.25]]), np.zeros(1))]
    scaled = np.ldexp(curve, exponent)
    for one, other in zip(manifold.complexity(curve), manifold.complexity(scaled), strict=True):
        np.testing.assert_array_equal(one, other)
    assert manifold.encoding(net, curve) == manifold.encoding(net, scaled)


def test_a_helix_needs_one_arc():
    """It rises, so its height encodes it, however often it winds."""
    angle = np.linspace(0, 40, 500)
    helix = np.stack([np.cos(angle), np.sin(angle), 0.1 * angle], axis=1)
    assert manifold.complexity(helix).arcs == 1
    assert manifold.complexity(helix[:, :2]).arcs == 13
    assert manifold.complexity(helix).turns > 6


def test_arcs_are_as_long_as_they_may_be():
    zigzag = np.array([[0.0], [1.0], [2.0], [1.0], [0.5], [3.0]])
    found = manifold.complexity(zigzag)
    assert found.arcs == 3
    np.testing.assert_array_equal(found.starts, [0, 2, 4])


def test_a_projection_encodes_what_is_monotone_and_no_more():
    first = [(np.array([[1.0], [0.0]]), np.zeros(1))]
    half = manifold.encoding(first, circle(0.49))
    assert half.encoded
    assert half.needed == half.pieces == 1
    assert 0 < half.separation < 0.1  # slow at both ends
    assert not manifold.encoding(first, circle(0.6)).encoded
    for share in (0.6, 0.9):  # angles a and 2 pi - a have one code
        found = manifold.encoding(first, circle(share)).confused
        assert found == pytest.approx((2 * share - 1) / share, abs=0.01)
    line = manifold.encoding(first, [[0.0, 1.0], [2.0, 2.0], [4.0, 3.0]])
    assert line.separation == pytest.approx(1)


def test_a_code_that_crosses_itself_is_none():
    identity = [(np.eye(2), np.zeros(2))]
    assert manifold.encoding(identity, spiral(3.0, 600)).encoded
    angle = np.linspace(-0.3, 5.9, 90)
    eight = np.stack([np.sin(angle), np.sin(2 * angle)], 1)
    found = manifold.encoding(identity, eight)
    assert not found.encoded
    assert found.separation == 0
    assert found.confused == pytest.approx(0.5, abs=0.1)  # half of the way from origin to origin
    back = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]
    assert manifold.encoding(identity, back).confused == pytest.approx(2 / 3)
    lifted = np.c_[eight, np.linspace(0, 1, 90)]
    assert manifold.encoding([(np.eye(3), np.zeros(3))], lifted).encoded


def test_what_is_constant_on_a_way_encodes_nothing_of_it():
    rectified = [(np.array([[1.0]]), np.zeros(1)), (np.eye(1), np.zeros(1))]
    assert manifold.encoding(rectified, [[0.5], [2.0]]).encoded
    assert not manifold.encoding(rectified, [[-1.0], [2.0]]).encoded


def test_a_code_that_turns_back_after_it_stood_still_confuses_the_whole_way():
    first = [(np.array([[1.0], [0.0]]), np.zeros(1))]
    # The code is 0, 3, 3, 3, 1: it turns back, and has each number from 1 to 3 twice.
    found = manifold.encoding(first, [[0, 0], [3, 0], [3, 1], [3, 2], [1, 2]])
    assert not found.encoded
    np.testing.assert_allclose(found.confused, (2 + 2 + 2) / 7)
    still = manifold.encoding(first, [[0, 0], [0, 1], [0, 3], [1, 3]])
    np.testing.assert_allclose(still.confused, 3 / 4)


def test_no_network_encodes_with_fewer_pieces_than_arcs():
    """The theorem, for random networks and curves; some must encode, or it says nothing."""
    rng, encoded = np.random.default_rng(0), 0
    for seed in range(150):
        share = rng.uniform(0.2, 0.9)
        found = manifold.encoding(random_layers(2, 3, 1, seed=seed, bias=1), circle(share, 40))
        encoded += found.encoded
        assert not found.encoded or found.pieces >= found.needed
    assert encoded > 3


def test_a_network_with_just_the_pieces_needed_encodes():
    """-x + 4 max(0, 0.1 - y): one unit unfolds more than half a circle, not all of it."""
    layers = [
        (np.array([[1.0, -1.0, 0.0], [0.0, 0.0, -1.0]]), np.array([0.0, 0.0, 0.1])),
        (np.array([[-1.0], [1.0], [4.0]]), np.zeros(1)),
    ]
    found = manifold.encoding(layers, circle(0.7)[6:])
    assert found.encoded
    assert found.needed == 2
    assert found.pieces == 3  # max(0, x) - max(0, -x) changes its pattern, not its slope
    assert 0 < found.separation < 1
    assert not manifold.encoding(layers, circle(0.99)[6:]).encoded


@pytest.fixture(scope="module")
def table():
    """A model of a table as `fit` returns it, with networks of random parameters."""
    model, rng = tiny.model(), np.random.default_rng(0)
    networks = aeot.AutoencoderConfig("mlp", 2, 6, depth=2, activation="relu")
    params = models.functions((3,), networks).init(jax.random.key(0))
    rows = np.float32(5 + 3 * rng.random((24, 3)))
    made = dataclasses.replace(
        model,
        params=jax.tree.map(lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape), params),
        centre=jnp.float32([0.3, -0.2]),
        scale=jnp.float32([0.5, 2.0]),
        config=dataclasses.replace(model.config, autoencoder=networks),
        image_shape=(3,),
        columns=Columns(jnp.asarray(rows.mean(0)), jnp.asarray(rows.std(0))),
    )
    return made, rows


@pytest.mark.long
def test_networks_of_a_model_are_its_encode_and_decode(table):
    model, rows = table
    code = manifold.encoder(model)
    np.testing.assert_allclose(manifold.apply(code, rows), aeot.encode(model, rows), atol=1e-4)
    z = np.random.default_rng(1).normal(size=(9, 2))
    back = manifold.decoder(model)
    np.testing.assert_allclose(manifold.apply(back, z), aeot.decode(model, z), rtol=1e-4)
    both = manifold.compose(code, back)
    assert both.num_units == code.num_units + back.num_units == 2 * (6 + 4 * 6)
    again = aeot.decode(model, aeot.encode(model, rows))
    np.testing.assert_allclose(manifold.apply(both, rows), again, rtol=1e-3)
    assert manifold.cells(both, rows).count >= manifold.cells(code, rows).count
    assert len(manifold.plane(back, (-3, -3), (3, 3))) <= manifold.piece_bound(back)


def with_networks(model, **options):
    networks = dataclasses.replace(model.config.autoencoder, **options)
    config = dataclasses.replace(model.config, autoencoder=networks)
    return dataclasses.replace(model, config=config)


def test_pixels_are_the_logistic_function_of_the_decoder():
    model, images = with_networks(tiny.model(), activation="relu"), tiny.images(5)
    flat = images.reshape(5, -1) / 255
    z = aeot.encode(model, images)
    np.testing.assert_allclose(manifold.apply(manifold.encoder(model), flat), z, atol=1e-4)
    logits = manifold.apply(manifold.decoder(model), z)
    pixels = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(pixels.reshape(5, 8, 8, 1), aeot.decode(model, z), atol=1e-5)


def test_what_has_no_cells_is_refused_in_one_sentence(table):
    model, _ = table
    images = tiny.model()
    conv = with_networks(images, activation="relu", kind="conv")
    codes = dataclasses.replace(images, params=None, image_shape=None)
    for part in (manifold.encoder, manifold.decoder):
        with pytest.raises(ValueError, match=r"`model` has convolutions, for images .*kind='mlp'"):
            part(conv)
        with pytest.raises(ValueError, match=r"without networks of this library; pass the kernels"):
            part(codes)
        with pytest.raises(ValueError, match=r"activation 'silu', .* affine nowhere; fit one with"):
            part(images)
        with pytest.raises(ValueError, match="`model` is"):
            part(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"fitted model, which has two; pass `encoder\(model\)`"):
        manifold.cells(model, np.zeros((3, 3)))


LAYERS = random_layers(2, 3, 1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: manifold.cells([], [[0.0, 0.0]]), r"`network` is \[\]; pass a list of pairs"),
        (lambda: manifold.network(cast(Any, [3])), r"`network\[0\]` is .*pass a pair"),
        (lambda: manifold.network([(np.eye(2), np.zeros(3))]), r"shapes \(2, 2\) and \(3,\)"),
        (lambda: manifold.network([*LAYERS, *LAYERS]), r"`network\[2\]` takes 2 inputs, but .* 1;"),
        (lambda: manifold.network([(np.eye(2) * np.nan, np.zeros(2))]), r"`network\[0\]` is nan"),
        (lambda: manifold.compose(LAYERS, LAYERS), "`second` takes 2 inputs, but `first` gives 1"),
        (lambda: manifold.patterns(LAYERS, np.zeros((3, 3))), r"`x` has shape \(3, 3\).*2 inputs"),
        (lambda: manifold.patterns(LAYERS, [[np.inf, 0.0]]), "`x` is inf at 0, 0"),
        (lambda: manifold.affine(LAYERS, [[0.0, 0.0]]), r"`x` has shape \(1, 2\).*one point"),
        (lambda: manifold.along(LAYERS, [[0.0, 0.0]]), r"`points` has shape \(1, 2\).*two"),
        (lambda: manifold.plane(random_layers(3, 2), (0, 0), (1, 1)), "`network` takes 3 inputs"),
        (lambda: manifold.plane(LAYERS, (0, 0), (0, 1)), r"`high` is \[0.0, 1.0\].*not above"),
        (lambda: manifold.plane(LAYERS, 0, (0, 1)), r"`low` has shape \(\)"),
        (
            lambda: manifold.plane(LAYERS, (-9, -9), (9, 9), most=3),
            "`most` is 3, but",
        ),
        (lambda: manifold.plane(LAYERS, (0, 0), (1, 1), most=0), "`most` is 0"),
        (lambda: manifold.regions(-1, 2), "`dim` is -1"),
        (lambda: manifold.piece_bound(LAYERS, dim=3), "`dim` is 3; pass .* 0 to 2"),
        (lambda: manifold.complexity([[0.0, 1.0]]), r"`curve` has shape \(1, 2\)"),
        (lambda: manifold.complexity([[0.0, 1.0]] * 3), "`curve` is one point"),
        (lambda: manifold.encoding(LAYERS, np.zeros((3, 1))), r"`curve` has shape \(3, 1\)"),
    ],
)
def test_mistakes_are_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert str(caught.value).count(". ") == 0
