import dataclasses
import re
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from striped import bars

from aeot_jax.nn import encode, epochs, models, train

KEY = jax.random.key(0)
MODEL = models.AutoencoderConfig(kind="mlp", latent_dim=2, width=16)
CONFIG = train.TrainConfig(epochs=4, batch_size=16, learning_rate=1e-2, warmup=0.1)
DEVICES = tuple(jax.devices())


def compilations(function: Any) -> int:
    return function._cache_size()


@pytest.fixture(scope="module")
def fitted():
    states = []
    state, history = train.fit(KEY, bars(), MODEL, CONFIG, on_epoch=lambda s, _: states.append(s))
    return state, history, states


def test_training_lowers_the_loss(fitted):
    state, history, states = fitted
    assert int(state.epoch) == len(history) == len(states) == CONFIG.epochs
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 1, "refine_epochs": 4}, {"latent_dim": 3}, {"width": 17}, None],
)
def test_a_state_of_another_training_is_told_in_one_sentence(fitted, changes):
    state = fitted[2][1]
    if changes is None:
        with pytest.raises(ValueError, match=r"`state` is 3; pass a state of this function"):
            train.fit(KEY, bars(), MODEL, CONFIG, state=3)  # pyright: ignore[reportArgumentType]
        return
    own = {"latent_dim", "width"} & set(changes)
    model = dataclasses.replace(MODEL, **changes) if own else MODEL
    config = CONFIG if own else dataclasses.replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=r"`state` is of another training: after 2 epochs, this"):
        train.fit(KEY, bars(), model, config, state=state)


@pytest.mark.usefixtures("fitted")
def test_all_epochs_share_one_compilation():
    before = compilations(train.run_epoch)
    train.fit(jax.random.key(1), bars(), MODEL, CONFIG)
    assert compilations(train.run_epoch) == before
    assert before >= 1


def test_resuming_at_an_epoch_border_is_bit_identical(fitted):
    state, history, states = fitted
    resumed, rest = train.fit(KEY, bars(), MODEL, CONFIG, state=states[1])
    jax.tree.map(np.testing.assert_array_equal, state, resumed)
    assert rest == history[2:]


@pytest.fixture(scope="module")
def spread():
    before, states = compilations(train.run_epoch), []
    state, history = train.fit(
        KEY, bars(), MODEL, CONFIG, devices=DEVICES, on_epoch=lambda s, _: states.append(s)
    )
    return state, history, states, compilations(train.run_epoch) - before


def assert_close(state, other):
    """Sums of floats differ by their order; four epochs make little of it."""
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_eight_devices_train_as_one_does_by_one_program(fitted, spread):
    state, history, _, programs = spread
    assert programs == 1
    np.testing.assert_allclose(history, fitted[1], rtol=1e-5)
    assert_close(state, fitted[0])
    assert {leaf.devices() == {DEVICES[0]} for leaf in jax.tree.leaves(state)} == {True}


def test_every_device_holds_the_same_parameters(spread):
    for leaf in jax.tree.leaves(spread[2][-1]):
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(others) == 7
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.optimised
def test_devices_share_images_and_exchange_nothing_but_sums(spread):
    images, key = jax.device_put((bars(), KEY), epochs.sharding(DEVICES))
    program = train.run_epoch.lower(
        spread[2][0], key, images, model_config=MODEL, train_config=CONFIG, devices=DEVICES
    )
    text = program.compile().as_text()
    assert text is not None
    assert re.search(r" all-reduce(-start)?\(", text)
    assert not re.search(r" (all-gather|all-to-all|collective-permute)(-start)?\(", text)
    assert "f32[2,6,6,1]" in text, "16 images, 2 a device"
    assert "[16,6,6,1]" not in text


def test_a_training_resumes_on_other_devices(fitted, spread):
    state, rest = train.fit(KEY, bars(), MODEL, CONFIG, state=spread[2][1], devices=DEVICES[3:4])
    assert {leaf.devices() == {DEVICES[3]} for leaf in jax.tree.leaves(state)} == {True}
    np.testing.assert_allclose(rest, fitted[1][2:], rtol=1e-5)
    assert_close(state, fitted[0])


def test_the_default_batch_is_rounded_to_what_devices_can_share():
    default = train.TrainConfig()
    assert [train.batch_size(5_000, default, n) for n in (1, 2, 5, 8)] == [156, 156, 155, 152]
    assert train.batch_size(60_000, default, 8) == 256


def test_a_finished_state_is_returned_as_it_is(fitted):
    state, *_ = fitted
    again, history = train.fit(KEY, bars(), MODEL, CONFIG, state=state)
    assert history == []
    jax.tree.map(np.testing.assert_array_equal, state, again)


def test_a_loss_that_is_not_finite_stops_the_run_with_a_sentence(fitted):
    state, _, states = fitted
    seen = []
    broken = dataclasses.replace(states[0], params=jax.tree.map(lambda a: a * np.nan, state.params))
    with pytest.raises(FloatingPointError, match=r"loss of epoch 2 is nan; lower `learning_rate`"):
        train.fit(
            KEY,
            bars(),
            MODEL,
            CONFIG,
            state=broken,
            on_epoch=lambda *a: seen.append(a),
        )
    assert seen == []


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        pytest.param([0.2, 0.008, 0.01, 623.0], True, id="it is lost"),
        pytest.param([0.2, 0.1, 0.15, 0.3], False, id="noise"),
        pytest.param([0.2, 1e-9, 1e-7, 2e-8], False, id="all is learned"),
        pytest.param([0.2, 0.008, 623.0, 0.009], False, id="it came back"),
    ],
)
def test_a_training_that_lost_what_it_had_learned_is_told(losses, told, fitted, monkeypatch):
    left = iter(losses)

    def epoch(state, *_, **__):
        return dataclasses.replace(state, epoch=state.epoch + 1), next(left)

    monkeypatch.setattr(train, "run_epoch", epoch)
    config = dataclasses.replace(CONFIG, epochs=len(losses), refine_epochs=0)
    match = (
        r"first stage was 0.008 after epoch 2, and is 623 at its end; lower `learning_rate`, now"
    )
    with pytest.warns(train.TrainingWarning, match=match) if told else nullcontext():
        _, history = train.fit(KEY, bars(), MODEL, config)
    assert history == losses


def test_the_loss_is_the_reconstruction_error_plus_the_penalty():
    functions = models.functions((6, 6, 1), MODEL)
    params = functions.init(jax.random.key(3))
    x = jnp.asarray(bars(8), jnp.float32) / 255
    config = dataclasses.replace(CONFIG, noise=0.0, whitening=0.5)
    z = np.asarray(functions.encode(params, x), np.float64)
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z)
    penalty = (z.mean(0) ** 2).mean() + ((covariance - np.eye(2)) ** 2).sum() / 2
    error = np.mean((np.asarray(functions.decode(params, z), np.float64) - np.asarray(x)) ** 2)
    actual = train.loss(params, KEY, x, functions, config)
    np.testing.assert_allclose(actual, error + 0.5 * penalty, rtol=1e-5)


def test_encoding_in_batches_equals_encoding_at_once(fitted):
    params = fitted[0].params
    images = bars(11)
    functions = models.functions((6, 6, 1), MODEL)
    z = encode.encode_all(params, images, MODEL, batch=4)
    np.testing.assert_allclose(z, functions.encode(params, images), atol=1e-6)


def test_batches_of_any_tail_share_one_compilation(fitted):
    params = fitted[0].params
    encode.encode_all(params, bars(8), MODEL, batch=4)
    before = compilations(encode._encode)
    for n in (0, 3, 9):
        assert encode.encode_all(params, bars(n), MODEL, batch=4).shape == (n, 2)
    assert compilations(encode._encode) == before


@pytest.mark.parametrize("n", [2, 31, 33, 1_797, 60_000, 1_000_000])
def test_defaults_fit_the_number_of_images(n):
    config = train.TrainConfig()
    assert 1 <= train.batch_size(n, config) <= min(n, 256)
    assert train.num_epochs(n, config) >= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.batch_size(100, train.TrainConfig(batch_size=256)), "256.*only 100.*None"),
        (lambda: train.batch_size(1, train.TrainConfig()), "`images` holds 1"),
        (lambda: train.TrainConfig(epochs=0), "`epochs` is 0"),
        (lambda: train.TrainConfig(learning_rate=float("nan")), "`learning_rate` is nan"),
        (lambda: train.TrainConfig(noise=-1.0), "`noise` is -1.0"),
        (lambda: train.TrainConfig(warmup=1.0), "`warmup` is 1.0"),
        (lambda: train.fit(KEY, np.zeros((4, 8, 8), np.uint8), MODEL, CONFIG), r"\(4, 8, 8\)"),
        (lambda: train.fit(KEY, np.zeros((4, 8, 8, 1)), MODEL, CONFIG), "dtype float64"),
        (lambda: train.fit(KEY, np.zeros((99, 2, 8, 1), np.uint8), MODEL, CONFIG), "resize"),
        (lambda: encode.encode_all({}, bars(2), MODEL, batch=0), "`batch` is 0"),
        (
            lambda: train.fit(KEY, bars(), MODEL, CONFIG, devices=DEVICES[:3]),
            "`batch_size` is 16, which 3 devices cannot share evenly; pass a multiple of 3",
        ),
        (
            lambda: train.batch_size(4, train.TrainConfig(), 8),
            "`devices` holds 8 devices, but a batch of 4 images has 4; pass at most 4",
        ),
        (
            lambda: train.fit(KEY, bars(), MODEL, CONFIG, devices=DEVICES[:1] * 2),
            "`devices` names a device twice",
        ),
    ],
)
def test_bad_input_says_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call()
