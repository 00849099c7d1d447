import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from striped import bars

from aeot_jax.nn import models, patches, refine, schedule, train

KEY = jax.random.key(0)
MODEL = models.AutoencoderConfig(kind="mlp", latent_dim=2, width=16)
CONFIG = train.TrainConfig(epochs=20, batch_size=16, learning_rate=1e-2, refine_epochs=120)
DEVICES = tuple(jax.devices())
SIZE = (6, 6, 1)


class Enough(Exception):  # noqa: N818 - no error
    """Of the epochs of a training."""


def unit(images):
    return jnp.asarray(images, jnp.float32) / 255


@pytest.fixture(scope="module")
def fitted():
    states = []
    state, history = train.fit(KEY, bars(), MODEL, CONFIG, on_epoch=lambda s, _: states.append(s))
    return state, history, states


def test_the_second_stage_moves_the_decoder_alone(fitted):
    state, history, states = fitted
    assert int(state.epoch) == len(history) == 140
    before, after = states[19].params, state.params
    jax.tree.map(np.testing.assert_array_equal, before["encoder"], after["encoder"])
    assert not np.array_equal(before["decoder"]["head"]["bias"], after["decoder"]["head"]["bias"])


def test_the_first_stage_is_the_one_that_has_no_second(fitted):
    alone = dataclasses.replace(CONFIG, refine_epochs=0)
    state, history = train.fit(KEY, bars(), MODEL, alone)
    jax.tree.map(np.testing.assert_array_equal, state.params, fitted[2][19].params)
    assert history == fitted[1][:20]


def test_the_patches_come_nearer_to_real_ones(fitted):
    functions, x = models.functions(SIZE, MODEL), unit(bars())
    kernels = patches.filters(jax.random.key(5), SIZE)  # others than in the training

    @jax.jit
    def far(state):
        made = functions.decode(state.params, functions.encode(state.params, x))
        return patches.sliced_distance(jax.random.key(6), kernels, made, x)

    assert float(far(fitted[0])) < 0.7 * float(far(fitted[2][19]))


@pytest.mark.parametrize("epoch", [20, 139])
def test_resuming_between_and_inside_the_stages_is_bit_identical(fitted, epoch):
    _, history, states = fitted
    like = train.like(KEY, bars().shape, MODEL, CONFIG, epoch)
    shapes = [jax.tree.map(jnp.shape, one) for one in (like, states[epoch - 1])]
    assert shapes[0] == shapes[1]
    seen, number = [], min(3, 140 - epoch)  # what follows has no memory but the state

    def stop_after_some(state, told):
        seen.append((state, told))
        if len(seen) == number:
            raise Enough

    with pytest.raises(Enough):
        train.fit(KEY, bars(), MODEL, CONFIG, state=states[epoch - 1], on_epoch=stop_after_some)
    last = epoch + number
    for found, *expected in zip(seen, states[epoch:last], history[epoch:last], strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, tuple(expected))


def test_a_loss_that_is_not_finite_names_the_epoch_of_its_stage(fitted):
    broken = fitted[2][137]
    broken = dataclasses.replace(broken, params=jax.tree.map(lambda a: a * np.nan, broken.params))
    with pytest.raises(FloatingPointError, match="loss of epoch 119 of the second stage is nan"):
        train.fit(KEY, bars(), MODEL, CONFIG, state=broken)


def test_a_state_of_the_second_stage_belongs_to_its_first(fitted):
    longer = dataclasses.replace(CONFIG, epochs=139)
    with pytest.raises(ValueError, match=r"after 138 epochs, this one, of 139 and 120 epochs, is"):
        train.fit(KEY, bars(), MODEL, longer, state=fitted[2][137])


@pytest.mark.long
def test_eight_devices_refine_as_one_does(fitted):
    state, history = train.fit(KEY, bars(), MODEL, CONFIG, state=fitted[2][137], devices=DEVICES)
    np.testing.assert_allclose(history, fitted[1][138:], rtol=1e-4)
    assert {leaf.devices() == {DEVICES[0]} for leaf in jax.tree.leaves(state)} == {True}
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(fitted[0]), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def slow_features(kernels, image, unit=2):
    """The features of one image, patch by patch, in float64."""
    leaky = lambda v: np.where(v > 0, v, 0.2 * v)  # noqa: E731
    grid = [
        [image[i : i + unit, j : j + unit].reshape(-1) for j in range(0, image.shape[1], unit)]
        for i in range(0, image.shape[0], unit)
    ]
    found = []
    for kernel in kernels[:2]:
        grid = [
            [
                leaky(
                    np.concatenate([grid[i][j], grid[i][j + 1], grid[i + 1][j], grid[i + 1][j + 1]])
                    @ np.asarray(kernel, np.float64)
                )
                for j in range(len(grid[0]) - 1)
            ]
            for i in range(len(grid) - 1)
        ]
        found.append(np.concatenate([patch for row in grid for patch in row]))
    return [*found, leaky(found[-1] @ np.asarray(kernels[2], np.float64))]


def test_features_equal_a_walk_over_patches():
    kernels = patches.filters(KEY, SIZE)
    x = np.random.default_rng(0).random((3, *SIZE)).astype(np.float32)
    for level, rows in enumerate(patches.features(kernels, jnp.asarray(x))):
        expected = [slow_features(kernels, image)[level].reshape(rows.shape[1:]) for image in x]
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size", [(4, 4, 1), (8, 8, 1), (5, 30, 3), (28, 28, 1), (64, 64, 3), (128, 4, 3)]
)
def test_every_size_of_image_has_features(size):
    kernels = jax.eval_shape(lambda: patches.filters(KEY, size))
    x = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    for rows in jax.eval_shape(patches.features, kernels, x):
        assert rows.shape[0] == 2
        assert rows.shape[2] >= 64


def test_a_direction_has_unit_length_and_lies_in_one_patch():
    found = np.asarray(patches._directions(KEY, 9, 32)).reshape(-1, 9, 32)
    lengths = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(np.sort(lengths, axis=1)[:, -1], 1, rtol=1e-5)
    assert ((lengths > 0).sum(1) == 1).all()
    assert len(np.unique(lengths.argmax(1))) == 9


def test_the_distance_is_that_of_two_sets_whatever_their_order():
    kernels = patches.filters(KEY, SIZE)
    x = np.random.default_rng(1).random((16, *SIZE)).astype(np.float32)
    distance = jax.jit(patches.sliced_distance)
    assert float(distance(KEY, kernels, x[::-1], x)) == pytest.approx(0, abs=1e-8)
    assert float(distance(KEY, kernels, 0.5 * x, x)) > 1e-2
    np.testing.assert_allclose(
        distance(KEY, kernels, 0.5 * x[::-1], x), distance(KEY, kernels, 0.5 * x, x), rtol=1e-4
    )


def test_equal_images_are_at_a_finite_distance():
    kernels = patches.filters(KEY, SIZE)
    x = jnp.zeros((4, *SIZE))
    value, slope = jax.jit(jax.value_and_grad(patches.sliced_distance, 2))(KEY, kernels, x, x)
    assert float(value) == 0
    assert np.isfinite(slope).all()


def test_the_distance_pulls_as_many_times_as_hard_as_its_weight():
    kernels = patches.filters(KEY, SIZE)
    x = jnp.asarray(np.random.default_rng(2).random((16, *SIZE)), jnp.float32)
    made = 0.5 + 0.5 * x
    pull = jax.jit(lambda weight: refine.gradient(KEY, kernels, made, x, weight))
    own, three, nine = (np.asarray(pull(weight)) for weight in (0.0, 3.0, 9.0))
    # The gradient of the mean Charbonnier error, by hand.
    by_hand = (made - x) / np.sqrt((made - x) ** 2 + 0.03**2) / x.size
    np.testing.assert_allclose(own, by_hand, rtol=1e-4, atol=1e-9)
    for found, weight in ((three, 3), (nine, 9)):
        assert np.linalg.norm(found - own) == pytest.approx(weight * np.linalg.norm(own), rel=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_error_of_fine_detail_by_hand(channels):
    made, x = np.random.default_rng(3).random((2, 4, 7, 6, channels))
    wrong = made - x
    frame = np.pad(wrong, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    mean = np.mean([frame[:, i : i + 7, j : j + 6] for i in range(5) for j in range(5)], axis=0)
    expected = np.sqrt((wrong - mean) ** 2 + 0.01**2).mean()
    made, x = jnp.asarray(made, jnp.float32), jnp.asarray(x, jnp.float32)
    assert float(refine.fine_error(made, x)) == pytest.approx(expected, rel=1e-5)
    assert float(refine.fine_error(x + 0.25, x)) == pytest.approx(0.01, rel=1e-3)


def test_fine_detail_pulls_as_hard_as_its_weight_says():
    kernels = patches.filters(KEY, SIZE)
    x = jnp.asarray(np.random.default_rng(4).random((16, *SIZE)), jnp.float32)
    made = 0.5 + 0.5 * x
    pull = jax.jit(lambda fine: refine.gradient(KEY, kernels, made, x, 0.0, fine), static_argnums=0)
    own, two = np.asarray(pull(0.0)), np.asarray(pull(2.0))
    assert np.linalg.norm(two - own) == pytest.approx(2 * np.linalg.norm(own), rel=1e-3)
    along = jax.grad(refine.fine_error)(made, x)
    np.testing.assert_allclose(
        (two - own) / np.linalg.norm(two - own), along / jnp.linalg.norm(along), atol=1e-5
    )


def test_fine_detail_pulls_by_default_in_convolutions_alone():
    def weight(kind, **options):
        networks = models.AutoencoderConfig(kind)
        return refine.fine_weight((8, 8, 1), networks, train.TrainConfig(**options))

    assert (weight("mlp"), weight("conv")) == (0, 10)
    assert [weight(kind, fine_weight=2) for kind in ("mlp", "conv")] == [2, 2]
    assert weight("conv", fine_weight=0) == 0


def test_the_loss_that_is_reported_is_the_same_in_both_stages(fitted):
    """Sharper patches cost squared error, but no jump: a Charbonnier error is 0.03 at the least."""
    _, history, _ = fitted
    assert history[20] == pytest.approx(history[19], rel=0.1)
    assert 1 < np.mean(history[-5:]) / np.mean(history[15:20]) < 1.2


def test_short_trainings_and_tables_have_no_second_stage():
    default = train.TrainConfig
    shape = 100, 8, 8, 1
    numbers = [schedule.refine_epochs(shape, default(epochs=n)) for n in (1, 7, 8, 80)]
    assert numbers == [0, 0, 1, 10]
    asked = default(epochs=80, refine_epochs=2)
    for shape, epochs in (((100, 65, 64, 3), 80), ((100, 64, 64, 3), 90), ((100, 8, 8, 1), 90)):
        assert schedule.total_epochs(shape, default(epochs=80)) == epochs
        assert schedule.total_epochs(shape, asked) == 82
    assert schedule.total_epochs((100, 8), default(epochs=80)) == 80


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.TrainConfig(refine_epochs=-1), "`refine_epochs` is -1"),
        (lambda: train.TrainConfig(refine_weight=-1.0), "`refine_weight` is -1.0"),
        (lambda: train.TrainConfig(refine_weight=float("inf")), "`refine_weight` is inf"),
        (lambda: train.TrainConfig(fine_weight=-1.0), "`fine_weight` is -1.0"),
        (
            lambda: train.fit(KEY, np.zeros((40, 3), np.float32), MODEL, CONFIG),
            "`refine_epochs` is 120, but the data are a table.*pass 0 or None",
        ),
    ],
)
def test_bad_input_says_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call()
