"""Image sets: what is accepted becomes bytes, what is not is refused with the way out."""

import builtins
import os
import tracemalloc
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.data import images
from aeot_jax.data.pictures.convert import check_names

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
GREY = BYTES[..., 0].copy()
LABELS = np.array([0, 1, 2, 0, 1, 2])


# arrays that are accepted


def test_bytes_are_kept_and_not_copied():
    found = images.from_arrays(BYTES, LABELS, name="mine")
    assert np.shares_memory(found.images, BYTES)
    np.testing.assert_array_equal(found.images, BYTES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.labels is not None
    assert found.labels.dtype == np.int32
    assert (found.name, len(found)) == ("mine", 6)


def test_grey_images_get_a_channel():
    np.testing.assert_array_equal(images.from_arrays(GREY).images, GREY[..., None])
    assert images.from_arrays(GREY).labels is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_that_came_from_bytes_return_to_them(dtype):
    every = np.arange(256).reshape(2, 16, 8)
    found = images.from_arrays((every / 255).astype(dtype))
    np.testing.assert_array_equal(found.images[..., 0], every)


def test_many_floats_are_converted_as_few():
    # more than one block of the conversion
    pixels = RNG.random((5, 256, 256, 3), np.float32)
    pixels = np.concatenate([pixels] * 6)
    expected = np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)
    np.testing.assert_array_equal(images.from_arrays(pixels).images, expected)


def test_rounding_outside_the_range_is_clipped():
    pixels = np.full((2, 4, 4), 1 + 1e-7)
    pixels[0] = -1e-7
    assert set(np.unique(images.from_arrays(pixels).images)) == {0, 255}


def test_integers_bools_lists_and_jax_arrays_are_accepted():
    for same in (GREY.astype(np.int64), GREY.tolist(), list(GREY), jnp.asarray(GREY)):
        np.testing.assert_array_equal(images.from_arrays(same).images[..., 0], GREY)
    np.testing.assert_array_equal(images.from_arrays(GREY > 99).images[..., 0], 255 * (GREY > 99))


@pytest.mark.parametrize(
    "labels", [LABELS.astype(float), LABELS[:, None], LABELS.tolist(), LABELS > 0, LABELS - 1]
)
def test_labels_that_hold_integers_are_accepted(labels):
    found = images.from_arrays(GREY, labels).labels
    assert found is not None
    np.testing.assert_array_equal(found, np.reshape(labels, -1))
    assert found.dtype == np.int32


# arrays that are refused


def spoilt(value):
    pixels = GREY / 255
    pixels[2, 0, 0] = value
    return pixels


REFUSED = {
    "nan": (spoilt(np.nan), "image 2 of `images` has NaN or infinite pixels; drop or repair"),
    "infinite": (spoilt(np.inf), "image 2 of `images` has NaN or infinite pixels"),
    "float bytes": (GREY.astype(float), r"span \d+ to 25\d, outside \[0, 1\]; pass images / 255"),
    "sixteen levels": (spoilt(16.0), r"span 0.* to 16, .* images / 255 if .* else images / 16"),
    "symmetric": (spoilt(-1.0), r"span -1 to .*; pass \(images \+ 1\) / 2"),
    "standardised": (GREY / 10 - 5, r"outside \[0, 1\]; pass \(images - -\d[.\d]*\) / \d"),
    "sixteen bits": (GREY.astype(int) * 257, r"outside 0..255; pass images / 65535"),
    "negative": (GREY.astype(int) - 100, "outside 0..255"),
    "almost black": ((GREY > 99).astype(int), "almost black .* multiply by 255, or pass bools"),
    "text": (GREY.astype(str), "is not a number"),
    "objects": (GREY.astype(object), "the type object of `images` is not a number"),
    "complex": (GREY.astype(complex), "is not a number"),
    "one": (GREY[:1], "the number of `images` is 1, but at least two"),
    "none": (GREY[:0], "the number of `images` is 0, but at least two"),
    "a table": (
        np.arange(12).reshape(4, 3),
        r"if it is a table, convert it to floats, as by .astype\(float\)",
    ),
    "one in colour": (BYTES[0], r"\(5, 4, 3\) of `images` is that of one image, .* stack"),
    "one in grey": (BYTES[0, :, :, 0], r"\(5, 4\) of `images` is neither"),
    "flat": (GREY.reshape(6, -1), r"the shape \(6, 20\) of `images` is neither .* reshape"),
    "channels first": (BYTES.transpose(0, 3, 1, 2), r"np.moveaxis\(images, 1, -1\)"),
    "images last": (BYTES.transpose(1, 2, 3, 0), r"np.moveaxis\(images, -1, 0\)"),
    "grey and colour": ([BYTES[0], GREY[1]], r"image 0 .* \(5, 4, 3\), but image 1 .* all colour"),
    "with alpha": (BYTES[..., [0, 1, 2, 2]], r"4 channels, not 1 or 3; .* images\[..., :-1\]"),
    "seven channels": (BYTES[..., [0] * 7], "7 channels, not 1 or 3; keep 1"),
    "small": (
        np.arange(18).reshape(2, 3, 3, 1),
        "3 x 3 of `images` is outside 4 to 256 .* enlarge",
    ),
    "large": (np.zeros((2, 4, 257), np.uint8), "4 x 257 of .* 4 to 256 pixels per side; crop"),
    "all equal": (np.zeros((9, 4, 4)), "all 9 of `images` are equal"),
    "equal as bytes": (np.linspace(0, 1e-3, 96).reshape(6, 4, 4), "are equal once rounded"),
    "ragged": ([GREY[0], GREY[1, :4]], r"image 0 .* shape \(5, 4\), but image 1 .* \(4, 4\); crop"),
}


@pytest.mark.parametrize(("pixels", "message"), REFUSED.values(), ids=REFUSED)
def test_images_that_cannot_be_used_are_refused_in_one_sentence(pixels, message):
    with pytest.raises(ValueError, match=message) as caught:
        images.from_arrays(pixels)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


REFUSED_LABELS = {
    "short": (LABELS[:4], r"\(4,\) of `labels` does not fit 6 images; pass one label per image"),
    "scalar": (3, r"\(\) of `labels` does not fit 6 images"),
    "one-hot": (np.eye(3)[LABELS], r"looks one-hot; pass labels.argmax\(axis=1\)"),
    "dates": (np.arange(6).astype("M8[D]"), "neither integer nor text; number the classes first"),
    "texts and numbers": ([*"abcab", 1], "`labels` mix texts and numbers; pass one kind"),
    "names too few": (list("abca"), r"\(4,\) of `labels` does not fit 6 images"),
    "fractions": (LABELS / 2, r"label 1 of `labels` is 0.5, not an integer"),
    "nan": (LABELS * np.nan, "label 0 of `labels` is nan, not an integer"),
    "huge": (LABELS + 2**40, "not an integer of 32 bits"),
}


@pytest.mark.parametrize(("labels", "message"), REFUSED_LABELS.values(), ids=REFUSED_LABELS)
def test_labels_that_cannot_be_used_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        images.from_arrays(GREY, labels)


def test_bytes_that_are_no_utf8_stay_apart():
    found = images.from_arrays(GREY, [b"\xf6", b"\xfc", b"\xf6", b"a", b"a", b"a"])
    np.testing.assert_array_equal(found.labels, [1, 2, 1, 0, 0, 0])
    unknown = "\N{REPLACEMENT CHARACTER}"
    assert found.label_names == ("a", unknown, f"{unknown} (2)")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_a_class_without_a_name_is_called_empty(kind):
    """A file of a model holds no name that is empty."""
    found = images.from_arrays(GREY, np.array(["a", "", "a", "b", "", "a"], kind))
    np.testing.assert_array_equal(found.labels, [1, 0, 1, 2, 0, 1])
    assert found.label_names == ("(empty)", "a", "b")


@pytest.mark.parametrize("given", [True, False])
def test_names_that_no_file_of_a_model_holds_are_refused(given):
    words, numbers = [f"{i:0200}" for i in range(600)], np.arange(600, dtype=np.int32)
    own, subject = (None, "`label_names`") if given else (tuple(words), "the texts of `labels`")
    with pytest.raises(ValueError, match=f"{subject} are 600 names of more than 100,000 letters"):
        check_names(words if given else None, numbers, own)


# the digits


def test_digits_are_scaled_exactly():
    from sklearn.datasets import load_digits

    found = images.load("digits")
    levels, labels = load_digits(return_X_y=True)
    assert found.images.shape == (1797, 8, 8, 1)
    assert found.images.max() == 255
    # invertible: the 17 levels come back
    np.testing.assert_array_equal(np.rint(found.images.reshape(-1, 64) / 255 * 16), levels)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.name == "digits"


def test_digits_without_scikit_learn_say_how_to_install_it(monkeypatch):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'aeot-jax\[demo\]'"):
        images.load("digits")


def test_digits_have_no_test_split():
    with pytest.raises(ValueError, match="`split` is 'test', but 'digits' has no test set"):
        images.load("digits", split="test")


# archives


@pytest.mark.parametrize(
    ("x", "y"), [("x_train", "y_train"), ("x", "y"), ("images", "labels"), ("anything", None)]
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_are_read_under_each_pair_of_names(tmp_path, x, y, save):
    arrays = {x: BYTES} | ({y: LABELS} if y else {})
    save(tmp_path / "set.npz", **arrays)
    found = images.load(str(tmp_path / "set.npz"))
    np.testing.assert_array_equal(found.images, BYTES)
    if y is None:
        assert found.labels is None
    else:
        np.testing.assert_array_equal(found.labels, LABELS)
    assert found.name == "set"


def test_archives_have_splits(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x_train=GREY[:4], y_train=LABELS[:4], x_test=GREY[4:], extra=LABELS)
    assert len(images.load(path)) == 4
    found = images.load(path, split="test")
    np.testing.assert_array_equal(found.images[..., 0], GREY[4:])
    assert found.labels is None


def test_an_archive_without_the_names_lists_what_it_holds(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, a=GREY, b=LABELS)
    with pytest.raises(
        ValueError, match=r"\['a', 'b'\], but images .* called x_train or x or images"
    ):
        images.load(path)
    with pytest.raises(ValueError, match="images of split 'test' are called x_test"):
        images.load(path, split="test")


def test_an_archive_of_objects_is_never_unpickled(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=np.array([GREY[0], None], object))
    with pytest.raises(ValueError, match=r"array 'x' that cannot be read .* would need pickle"):
        images.load(path)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_truncated_archive_is_refused(tmp_path, keep):
    path = tmp_path / "set.npz"
    np.savez(path, x=BYTES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"is not an .npz archive or is damaged"):
        images.load(path)


def test_an_archive_with_a_wrong_byte_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=BYTES)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"array 'x' that cannot be read \(Bad CRC-32"):
        images.load(path)


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "text")
    with pytest.raises(ValueError, match=r"array 'x' that cannot be read \(it is a file of"):
        images.load(path)


def test_messages_name_the_source(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=GREY / 1.0, y=LABELS)
    with pytest.raises(ValueError, match=r"pixels of the images of `source` '.*set.npz' span"):
        images.load(path)


def test_an_archive_of_many_arrays_lists_a_few(tmp_path):
    path = tmp_path / "set.npz"
    many: dict[str, Any] = {f"{'a' * 50}{i}": LABELS for i in range(100)}
    np.savez(path, **many)
    with pytest.raises(ValueError, match=r"'aaaa.*\.\.\.\], but images of split") as caught:
        images.load(path)
    assert len(str(caught.value)) < len(str(path)) + 400


# sources


def test_a_set_is_named_so_that_it_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff\x1b[31m.npz")
    np.savez(path, x=GREY)
    assert images.load(path).name == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"


def test_a_user_who_is_not_there_is_a_path_that_is_not_there():
    with pytest.raises(
        FileNotFoundError, match=r"'~nobody-of-this-name/set.npz' is neither a file"
    ):
        images.load("~nobody-of-this-name/set.npz")


def test_no_such_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nor one of digits, mnist, fashion-mnist; check"):
        images.load(tmp_path / "missing")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"is a file but not one that is read; pass"):
        images.load(tmp_path / "a.csv")


def test_another_split_is_refused():
    with pytest.raises(ValueError, match="`split` is 'validation'; pass 'train' or 'test'"):
        images.load("digits", split="validation")


def test_memory_stays_near_the_size_of_the_bytes():
    pixels = RNG.random((4000, 28, 28), np.float32)
    tracemalloc.start()
    images.from_arrays(pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the result, and one block of 2**22 pixels in float64 with its temporaries
    assert peak < pixels.size + 4 * 2**25
