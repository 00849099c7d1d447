"""IDX files: read as written, or refused."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from aeot_jax.data import images
from aeot_jax.data.readers import idx

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 7), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def encode(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path, array, zipped=False):
    data = encode(array)
    path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("array", [IMAGES, LABELS], ids=["images", "labels"])
def test_read_inverts_write(tmp_path, array, zipped):
    write(tmp_path / "file", array, zipped)
    np.testing.assert_array_equal(idx.read(tmp_path / "file"), array)


@pytest.mark.parametrize(
    "name", ["{}-{}-{}-ubyte", "{}-{}.{}-ubyte", "emnist-letters-{}-{}-{}-ubyte"]
)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("test_stem", ["t10k", "test"])
def test_a_folder_gives_images_and_labels_of_each_split(tmp_path, name, zipped, test_stem):
    end = ".gz" if zipped else ""
    for stem, flip in (("train", 1), (test_stem, -1)):
        write(tmp_path / (name.format(stem, "images", "idx3") + end), IMAGES[::flip], zipped)
        write(tmp_path / (name.format(stem, "labels", "idx1") + end), LABELS[::flip], zipped)
    for split, flip in (("train", 1), ("test", -1)):
        found = images.load(tmp_path, split=split)
        np.testing.assert_array_equal(found.images[..., 0], IMAGES[::flip])
        np.testing.assert_array_equal(found.labels, LABELS[::flip])
        assert found.name == tmp_path.name


def test_labels_may_be_missing(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    assert images.load(tmp_path).labels is None


def test_a_gzipped_file_beside_its_raw_copy_is_one_set(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write(tmp_path / "train-images-idx3-ubyte.gz", IMAGES, zipped=True)
    assert len(images.load(tmp_path)) == len(IMAGES)


def test_a_missing_split_is_no_such_file(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    with pytest.raises(FileNotFoundError, match=r"has no file t10k-images-idx3-ubyte\[.gz\]"):
        images.load(tmp_path, split="test")


def test_two_sets_in_one_folder_are_refused(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}-train-images-idx3-ubyte", IMAGES)
    with pytest.raises(ValueError, match=r"several sets of images .* keep one set per folder"):
        images.load(tmp_path)


def test_labels_of_another_length_are_refused(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write(tmp_path / "train-labels-idx1-ubyte", LABELS[:3])
    with pytest.raises(ValueError, match=r"\(3,\) of the labels of `source` .* does not fit 5"):
        images.load(tmp_path)


DAMAGE = {
    "truncated": (encode(IMAGES)[:-1], "announces 210 bytes, shape .* but 209 follow"),
    "too long": (encode(IMAGES) + b"\0", "announces 210 bytes, shape .* but 211 follow"),
    "only a header": (encode(IMAGES)[:7], "ends in its header"),
    "empty": (b"", "is not an IDX file"),
    "another format": (b"\x89PNG\r\n", "is not an IDX file"),
    "another type": (b"\0\0\x0d" + encode(IMAGES)[3:], "type 0x0d; write it as unsigned bytes"),
    "truncated gzip": (gzip.compress(encode(IMAGES))[:-9], "damaged gzip file"),
    "damaged gzip": (gzip.compress(encode(IMAGES))[:-8] + b"\1" * 8, "damaged gzip file"),
    "gzip of noise": (b"\x1f\x8b\x08\0\0\0\0\0\0\0" + b"\xff" * 50, "damaged gzip file"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named(tmp_path, data, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        images.load(tmp_path)
    assert str(path) in str(caught.value)


def test_labels_that_cannot_be_read_are_not_left_out(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    (tmp_path / "train-labels-idx1-ubyte").symlink_to("moved")
    with pytest.raises(ValueError, match=r"labels-idx1-ubyte': .* No such file"):
        images.load(tmp_path)


def test_a_split_that_cannot_be_read_is_not_a_missing_split(tmp_path):
    """Callers take a FileNotFoundError to say that there is no such split."""
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    (tmp_path / "t10k-images-idx3-ubyte").symlink_to("moved")
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte': .* No such file"):
        images.load(tmp_path, split="test")


def test_memory_is_that_of_the_images(tmp_path):
    many = np.random.default_rng(0).integers(0, 256, (2000, 64, 64), dtype=np.uint8)
    for zipped in (False, True):
        write(tmp_path / "file", many, zipped)
        tracemalloc.start()
        idx.read(tmp_path / "file")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < many.nbytes + 2**22
