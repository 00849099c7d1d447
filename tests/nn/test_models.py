import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.nn import layers, models

SHAPES = [(8, 8, 1), (28, 28, 1), (30, 20, 1), (9, 9, 1), (13, 27, 3), (64, 64, 3)]


@pytest.mark.parametrize("kind", ["auto", "conv", "mlp"])
@pytest.mark.parametrize("image_shape", SHAPES)
def test_every_size_makes_a_round_trip(image_shape, kind):
    config = models.AutoencoderConfig(kind=kind)
    functions = models.functions(image_shape, config)
    # Shapes need no arithmetic, so nothing is compiled here.
    params = jax.eval_shape(functions.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, *image_shape), jnp.uint8)
    z = jax.eval_shape(functions.encode, params, x)
    y = jax.eval_shape(functions.decode, params, z)
    assert z.shape == (2, models.latent_dim(image_shape, config))
    assert y.shape == x.shape
    assert y.dtype == jnp.float32


@pytest.fixture(scope="module", params=[("mlp", (9, 9, 1)), ("conv", (10, 9, 3))])
def network(request):
    kind, image_shape = request.param
    functions = models.functions(image_shape, models.AutoencoderConfig(kind=kind, width=8))
    jitted = functions._replace(encode=jax.jit(functions.encode), decode=jax.jit(functions.decode))
    return jitted, functions.init(jax.random.key(0)), image_shape


def test_parameters_are_nested_dicts_of_float32_with_string_keys(network):
    _, params, _ = network
    assert set(params) == {"encoder", "decoder"}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        assert all(
            isinstance(key, jax.tree_util.DictKey) and isinstance(key.key, str) for key in path
        )
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32


def test_each_half_needs_its_own_parameters_alone(network):
    functions, params, image_shape = network
    x = np.zeros((2, *image_shape), np.uint8)
    z = functions.encode({"encoder": params["encoder"]}, x)
    y = functions.decode({"decoder": params["decoder"]}, z)
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


def test_bytes_and_fractions_are_the_same_image(network):
    functions, params, image_shape = network
    x = np.random.default_rng(0).integers(0, 256, (2, *image_shape), dtype=np.uint8)
    np.testing.assert_allclose(
        functions.encode(params, x), functions.encode(params, np.float32(x / 255.0)), atol=1e-5
    )


def test_images_do_not_see_their_neighbours_in_a_batch(network):
    functions, params, image_shape = network
    x = np.random.default_rng(1).integers(0, 256, (4, *image_shape), dtype=np.uint8)
    batched = functions.encode(params, x)
    mapped = jax.vmap(lambda row: functions.encode(params, row[None])[0])(x)
    np.testing.assert_allclose(batched, mapped, atol=1e-5)
    np.testing.assert_allclose(
        functions.decode(params, batched),
        jax.vmap(lambda row: functions.decode(params, row[None])[0])(batched),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_activation_changes_the_function_and_no_parameter(kind):
    made = {
        name: models.functions((8, 8, 1), models.AutoencoderConfig(kind, 2, 4, activation=name))
        for name in ("silu", "relu")
    }
    params = made["silu"].init(jax.random.key(0))
    shapes = jax.eval_shape(made["relu"].init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    texts = {
        name: str(jax.make_jaxpr(functions.decode)(params, jnp.ones((1, 2))))
        for name, functions in made.items()
    }
    assert "relu" in texts["relu"]
    assert "silu" not in texts["relu"]
    assert "silu" in texts["silu"]


def test_equal_arguments_give_the_same_functions():
    a = models.functions((8, 8, 1), models.AutoencoderConfig(latent_dim=3))
    assert a is models.functions((8, 8, 1), models.AutoencoderConfig(latent_dim=3))
    assert a is not models.functions((8, 8, 1), models.AutoencoderConfig(latent_dim=4))


def test_the_key_decides_the_parameters():
    functions = models.functions((8, 8, 1), models.AutoencoderConfig(width=8))
    a, b, c = (functions.init(jax.random.key(i)) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a["encoder"]["head"]["kernel"], c["encoder"]["head"]["kernel"])


def test_depth_to_space_inverts_space_to_depth():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    packed = layers.space_to_depth(x, 2)
    assert packed.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(layers.depth_to_space(packed, 2), x)


@pytest.mark.parametrize(("h", "w", "factor"), [(3, 2, 4), (1, 4, 2)])
def test_blended_patches_are_sums_of_faded_ones(h, w, factor):
    side, rng = 2 * factor, np.random.default_rng(0)
    x = rng.normal(size=(2, h, w, side * side * 3)).astype(np.float32)
    fade = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    expected = np.zeros((2, (h + 3) * factor, (w + 3) * factor, 3))  # and a frame, cut off below
    for i in range(-1, h + 1):
        for j in range(-1, w + 1):
            cell = x[:, np.clip(i, 0, h - 1), np.clip(j, 0, w - 1)].reshape(2, side, side, 3)
            top, left = (i + 1) * factor, (j + 1) * factor
            faded = cell * fade[:, None, None] * fade[None, :, None]
            expected[:, top : top + side, left : left + side] += faded
    begin = factor + factor // 2
    expected = expected[:, begin : begin + h * factor, begin : begin + w * factor]
    np.testing.assert_allclose(layers.blended(jnp.asarray(x), factor), expected, atol=1e-5)
    even = layers.blended(jnp.ones(x.shape), factor)  # the weights of a pixel sum to 1
    np.testing.assert_allclose(even, np.ones((2, h * factor, w * factor, 3)), atol=1e-6)


@pytest.mark.parametrize("side", [4, 8])
def test_cosines_are_orthogonal_and_coarse_ones_are_larger(side):
    waves = layers.cosines(side)
    products = (waves @ waves.T).astype(float)
    sizes = np.sqrt(np.diag(products)).reshape(side, side)
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-4)
    np.testing.assert_allclose((waves**2).sum(0).mean(), 1, rtol=1e-6)
    a = np.arange(side)
    expected = sizes[0, 0] / np.sqrt(1 + a[:, None] ** 2 + a**2)
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)
    rising = waves.reshape(side, side, side, side)[0, 1]
    expected = np.broadcast_to(np.cos(np.pi * (a + 0.5) / side), (side, side))
    np.testing.assert_allclose(rising / rising[0, 0], expected / expected[0, 0], atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (21, 30, 3)])
def test_cosines_are_other_coefficients_of_blended_patches(shape):
    """The same initial values, and a decoder that a blended one can be."""
    cosines, blended = (
        models.functions(shape, models.AutoencoderConfig("conv", 2, 4, patches=patches))
        for patches in ("cosines", "blended")
    )
    params = cosines.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, blended.init(jax.random.key(0)))
    last = params["decoder"]["last"]
    last["bias"] = jax.random.normal(jax.random.key(1), last["bias"].shape)
    side = 4 if max(shape) < 20 else 8
    waves = np.kron(layers.cosines(side), np.eye(shape[2]))
    pixels = {name: np.asarray(value) @ waves for name, value in last.items()}
    z = jax.random.normal(jax.random.key(2), (3, 2))
    made = jax.jit(cosines.decode)(params, z)
    drawn = {**params, "decoder": {**params["decoder"], "last": jax.tree.map(jnp.asarray, pixels)}}
    np.testing.assert_allclose(made, jax.jit(blended.decode)(drawn, z), atol=1e-5)
    assert np.std(made) > 0.05


@pytest.mark.parametrize("patches", ["cosines", "blended", "tiled"])
def test_every_kind_of_patches_makes_every_size(patches):
    networks = models.AutoencoderConfig("conv", 2, 4, patches=patches)
    for shape in ((8, 8, 1), (9, 21, 3), (4, 128, 2)):
        functions = models.functions(shape, networks)
        params = jax.eval_shape(functions.init, jax.random.key(0))
        made = jax.eval_shape(functions.decode, params, jnp.ones((3, 2)))
        assert made.shape == (3, *shape)


def test_chroma_is_averaged_and_grey_is_not():
    x = np.random.default_rng(0).uniform(0.3, 0.7, (2, 5, 4, 3)).astype(np.float32)
    frame = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    taps = [weights[i, j] * frame[:, i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    mean = np.sum(taps, axis=0)
    expected = mean - mean.mean(3, keepdims=True) + x.mean(3, keepdims=True)
    np.testing.assert_allclose(layers.smooth_chroma(jnp.asarray(x)), expected, atol=1e-6)


def test_even_colours_stay_and_colours_of_every_other_column_go():
    colour = jnp.array([0.9, 0.5, 0.1])[None, None, None]
    even = jnp.broadcast_to(colour, (1, 4, 6, 3))
    np.testing.assert_allclose(layers.smooth_chroma(even), even, atol=1e-7)
    speckle = even.at[:, :, ::2].set(colour[..., ::-1])
    inner = layers.smooth_chroma(speckle)[:, :, 1:-1]
    np.testing.assert_allclose(inner, np.full((1, 4, 4, 3), 0.5), atol=1e-6)


def test_no_value_leaves_the_unit_interval():
    """At an edge of white and red, red would be above 1."""
    x = jnp.ones((1, 4, 4, 3)).at[:, :, 2:, 1:].set(0.0)
    made = layers.smooth_chroma(x)
    assert float(made.min()) == 0
    assert float(made.max()) == 1


def test_chroma_is_smooth_where_it_is_shown_and_not_in_training():
    z = jax.random.normal(jax.random.key(1), (3, 2))
    smooth, sharp = (
        models.functions((9, 10, 3), models.AutoencoderConfig("conv", 2, 4, chroma=name))
        for name in ("smooth", "sharp")
    )
    params = sharp.init(jax.random.key(0))
    np.testing.assert_array_equal(smooth.decode(params, z), sharp.decode(params, z))
    np.testing.assert_array_equal(sharp.show(params, z), sharp.decode(params, z))
    expected = layers.smooth_chroma(sharp.decode(params, z))
    np.testing.assert_allclose(smooth.show(params, z), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"), [("conv", (8, 8, 1)), ("conv", (8, 8, 2)), ("mlp", (8, 8, 3)), ("mlp", (5,))]
)
def test_other_data_and_perceptrons_have_no_chroma_to_smooth(kind, shape):
    functions = models.functions(shape, models.AutoencoderConfig(kind, 2, 4))
    assert functions.show is functions.decode


def nine_shifts(x, kernel):
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3)]
    return jnp.stack(taps).sum(0)


def test_conv3x3_and_its_gradient_equal_a_sum_over_nine_shifts():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 2)), jnp.float32)

    def value_and_grad(function):
        return jax.value_and_grad(lambda x, k: (function(x, k) ** 3).sum(), (0, 1))(x, kernel)

    # A sum of 80 cubes up to 1e3 keeps about four digits in float32.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2),
        value_and_grad(layers.conv3x3),
        value_and_grad(nine_shifts),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.AutoencoderConfig(kind="vae"), "`kind` is 'vae'"),
        (lambda: models.AutoencoderConfig(latent_dim=0), "`latent_dim` is 0"),
        (lambda: models.AutoencoderConfig(depth=-1), "`depth` is -1"),
        (lambda: models.AutoencoderConfig(activation="gelu"), "`activation` is 'gelu'.*'relu'"),
        (lambda: models.functions((3, 28, 1)), r"\(3, 28, 1\).*resize"),
        (lambda: models.functions((512, 512, 3)), r"\(512, 512, 3\).*resize"),
        (lambda: models.check_image_shape((28, 28)), r"\(28, 28\).*one channel for grey"),
    ],
)
def test_bad_configurations_say_the_way_out(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_inputs_of_another_size_are_refused(network):
    functions, params, _ = network
    with pytest.raises(ValueError, match=r"`x` has shape \(1, 5, 5, 1\)"):
        functions.encode(params, np.zeros((1, 5, 5, 1), np.uint8))
    with pytest.raises(ValueError, match="`x` has dtype int32"):
        functions.encode(params, np.zeros((1, 5, 5, 1), np.int32))
    with pytest.raises(ValueError, match=r"`z` has shape \(2, 99\)"):
        functions.decode(params, np.zeros((2, 99), np.float32))
