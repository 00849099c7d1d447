from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from aeot_jax import (
    AEOT,
    Config,
    ExtensionConfig,
    SampleError,
    calibrate,
    decode,
    encode,
    generate,
    sample,
    sample_with_info,
)
from aeot_jax.nn import models

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("n", [1, 33, 5000])
def test_sampling_gives_exactly_n_images_of_finite_pixels(model, n):
    images, info = sample_with_info(KEY, model, n)
    assert images.shape == (n, 8, 8, 1)
    assert images.dtype == jnp.float32
    host = np.asarray(images)
    assert ((host >= 0) & (host <= 1)).all()  # NaN compares false
    assert info.candidates - info.rejected >= n
    assert info.share_rejected == info.rejected / info.candidates
    assert 0 <= info.copies <= info.candidates - info.rejected


def test_samples_are_the_decoded_codes_that_are_accepted(model):
    images, info = sample_with_info(KEY, model, 33)
    z, accepted, seen = generate(jax.random.fold_in(KEY, 0), model.extension, info.candidates)
    accepted = np.asarray(accepted)
    close(images, decode(model, z[accepted][:33]))
    assert info.rejected == (~accepted).sum()
    assert info.copies == (np.asarray(seen.num_blended)[accepted] == 1).sum()


@pytest.mark.long
def test_devices_do_not_change_the_samples(model):
    alone, seen = sample_with_info(KEY, model, 5000)
    devices = tuple(jax.devices()[2:6])
    for kind in ("pmap", "shard_map"):
        images, info = sample_with_info(KEY, model, 5000, parallel=kind, devices=devices)
        np.testing.assert_array_equal(images, alone)
        assert info == seen  # draws beyond the last one needed are not counted
    np.testing.assert_array_equal(sample(KEY, model, 33, devices=devices), sample(KEY, model, 33))
    with pytest.raises(ValueError, match="`devices` holds 3 devices, over which"):
        sample(KEY, model, 33, devices=devices[:3])


def test_the_key_decides_the_samples(model):
    np.testing.assert_array_equal(sample(KEY, model, 33), sample(KEY, model, 33))
    assert not np.array_equal(sample(KEY, model, 33), sample(jax.random.key(8), model, 33))


def test_redraws_make_up_for_what_is_rejected(model):
    strict = with_wide_margin(model, float(np.quantile(angles(model), 0.2)))
    images, info = sample_with_info(KEY, strict, 60)
    assert images.shape[0] == 60
    assert info.candidates > 128  # the first draw
    assert 0.5 < info.share_rejected < 0.99


def test_what_is_blended_is_rejected_and_what_kernels_make_is_kept(model):
    strict = with_wide_margin(model, float(np.quantile(angles(model), 0.2)))
    calibrated = replace(strict, extension=calibrate(KEY, strict.extension))
    for some, reject in ((strict, False), (calibrated, None), (calibrated, False)):
        images, info = sample_with_info(KEY, some, 60, reject=reject)
        z, _, _ = generate(jax.random.fold_in(KEY, 0), some.extension, 128)
        close(images, decode(some, z[:60]))
        assert (info.candidates, info.rejected, info.share_rejected) == (128, 0, 0.0)
    for some, novelty in ((calibrated, 1.0), (calibrated, 0), (strict, None)):
        _, info = sample_with_info(KEY, some, 60, novelty=novelty, reject=True)
        assert info.share_rejected > 0.5
    blended, info = sample_with_info(KEY, calibrated, 60, novelty="blend")
    close(blended, sample(KEY, strict, 60))
    assert info.share_rejected > 0.5
    with pytest.raises(ValueError, match="`reject` is 'yes'"):
        sample(KEY, model, 5, reject="yes")  # pyright: ignore[reportArgumentType]


def angles(model):
    return np.asarray(generate(KEY, with_wide_margin(model, np.pi).extension, 128)[2].angle)


def with_wide_margin(model, threshold):
    """So wide a margin that every plane looked at is in it."""
    ext = replace(model.extension, margin=jnp.float32(1e3), threshold=jnp.float32(threshold))
    return replace(model, extension=ext)


def test_hopeless_sampling_states_the_share_rejected(model):
    with pytest.raises(
        SampleError, match=r"100\.0% of 4096 candidates .* raise `threshold`, now 0\.000 rad"
    ):
        sample(KEY, with_wide_margin(model, 1e-6), 5)


@pytest.mark.parametrize("n", [0, -3])
def test_a_number_of_samples_below_one_is_refused(model, n):
    with pytest.raises(ValueError, match=rf"`n` is {n}; pass how many images"):
        sample(KEY, model, n)


def test_codes_of_the_training_images_are_standardised(model):
    z = np.asarray(encode(model, tiny.images()))
    assert z.shape == (60, 3)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-5)
    close(z, model.extension.y)


def test_pixels_mean_the_same_in_every_form(model):
    images = tiny.images()
    z = encode(model, images)
    close(encode(model, images[..., None]), z)
    close(encode(model, (images / 255).astype(np.float32)), z)
    close(encode(model, images / 255), z)


def test_codes_and_images_are_those_of_the_networks(model):
    functions = models.functions(model.image_shape, model.config.autoencoder)
    images = tiny.images()
    raw = functions.encode(model.params, images[..., None])
    close(encode(model, images), (raw - model.centre[None]) / model.scale[None])
    close(decode(model, encode(model, images)), functions.decode(model.params, raw))


def test_blocks_do_not_change_the_answer(model):
    images = np.tile(tiny.images(), (35, 1, 1))  # 2100, two blocks and a rest
    z = encode(model, images)
    close(z, np.tile(encode(model, images[:60]), (35, 1)))
    x = decode(model, z)
    close(x, np.tile(decode(model, z[:60]), (35, 1, 1, 1)))


def test_encode_and_decode_work_under_jit_and_vmap(model):
    images = tiny.images()
    z = encode(model, images)
    close(jax.jit(encode)(model, images), z)
    close(jax.jit(decode)(model, z), decode(model, z))
    batches = z.reshape(2, 30, 3)
    close(jax.vmap(decode, (None, 0))(model, batches).reshape(60, 8, 8, 1), decode(model, z))


def test_decoding_is_differentiable(model):
    def brightness(z):
        return decode(model, z).mean()

    z = encode(model, tiny.images())
    slope = jax.grad(brightness)(z)
    assert np.isfinite(slope).all()
    step = 1e-2 * slope / jnp.abs(slope).max()
    assert brightness(z + step) > brightness(z)


def test_wrong_shapes_are_named_with_the_right_ones(model):
    with pytest.raises(ValueError, match=r"`images` has shape \(5, 9, 8\).*pass \(n, 8, 8, 1\)"):
        encode(model, np.zeros((5, 9, 8), np.uint8))
    with pytest.raises(ValueError, match=r"`images` has shape \(8, 8\)"):
        encode(model, np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"`images` has shape \(5, 8, 8, 3\)"):
        encode(model, np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"dtype int32; pass uint8 in 0..255 or floats"):
        encode(model, np.zeros((5, 8, 8), np.int32))
    with pytest.raises(ValueError, match=r"`z` has shape \(5, 4\).*pass \(n, 3\)"):
        decode(model, np.zeros((5, 4), np.float32))
    with pytest.raises(ValueError, match=r"`z` has shape \(3,\)"):
        decode(model, np.zeros(3, np.float32))


def test_pixels_out_of_range_are_refused_as_by_fit(model):
    images = tiny.images().astype(np.float32)
    with pytest.raises(ValueError, match=r"pixels of `images` span 0 to 25\d, outside \[0, 1\]"):
        encode(model, images)
    images[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 3 of `images` has NaN or infinite pixels"):
        encode(model, jnp.asarray(images / 255))


def test_the_model_is_a_pytree_of_arrays(model):
    leaves, structure = jax.tree.flatten(model)
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert isinstance(again, AEOT)
    assert again.config == tiny.CONFIG
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    np.testing.assert_array_equal(doubled.solution.h, 2 * model.solution.h)
    assert doubled.image_shape == (8, 8, 1)


def test_the_model_passes_through_jit(model):
    again = jax.jit(lambda model: model)(model)
    tiny.assert_same(again, model)
    np.testing.assert_array_equal(sample(KEY, again, 33), sample(KEY, model, 33))


def test_a_configuration_is_hashable_and_compares_by_value():
    assert hash(Config()) == hash(Config())
    assert Config() == Config()
    assert Config(source="ball") != Config()


def test_bad_values_of_a_configuration_are_refused_at_once():
    with pytest.raises(ValueError, match=r"`threshold` is 0\.0; pass an angle"):
        ExtensionConfig(threshold=0.0)
    with pytest.raises(ValueError, match="`num_samples` is 0; pass at least 1"):
        ExtensionConfig(num_samples=0)
