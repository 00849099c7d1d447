"""Where a run's images come from: paths, splits and labels that are not as they should be."""

import os

import numpy as np
import pytest

from aeot_jax.cli.options import source
from aeot_jax.cli.options.source import Source

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "set.npz", x=IMAGES)
    return str(tmp_path / "set.npz")


def lying(path):
    with path.open("wb") as file:
        head = {"descr": "<i8", "fortran_order": False, "shape": (10**14,)}
        np.lib.format.write_array_header_1_0(file, head)


LABELS = {
    "a header that lies": (lying, r"header announces 800000000000000 bytes, .* but 0 follow"),
    "objects": (lambda path: np.save(path, np.array([{}] * 6)), "would need pickle"),
    "no bytes": (lambda path: path.touch(), "write integers with np.save"),
    "too few": (lambda path: np.save(path, np.arange(5)), "does not fit 6 images"),
}


@pytest.mark.parametrize(("write", "message"), LABELS.values(), ids=LABELS)
def test_labels_that_cannot_be_used_are_refused(path, tmp_path, write, message):
    write(tmp_path / "labels.npy")
    with pytest.raises(ValueError, match=message) as caught:
        source.load(Source(path, labels=str(tmp_path / "labels.npy")))
    assert f"`--labels-file` '{tmp_path / 'labels.npy'}'" in str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_labels_that_are_no_file_are_not_waited_for(path, tmp_path, make):
    make(tmp_path / "labels.npy")
    with pytest.raises(FileNotFoundError, match="is not a file; check the path"):
        source.load(Source(path, labels=str(tmp_path / "labels.npy")))


def test_labels_of_a_file_take_the_place_of_others(path, tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(6) % 2)
    found = source.load(Source(path, labels=str(tmp_path / "labels.npy")))
    np.testing.assert_array_equal(found.train.labels, np.arange(6) % 2)


def test_an_archive_tells_test_images_by_their_name_alone(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x_train=IMAGES)
    assert source.load_test(str(path)) is None
    np.savez(path, x_train=IMAGES, x_test=IMAGES[::-1])
    found = source.load_test(str(path))
    assert found is not None
    np.testing.assert_array_equal(found.values[..., 0], IMAGES[::-1])


def test_a_path_that_leads_nowhere_is_still_a_path(tmp_path):
    (tmp_path / "a").symlink_to("a")
    path = source.absolute(str(tmp_path / "a"))
    assert os.path.isabs(path)
    with pytest.raises(OSError, match="a"):
        source.load(Source(path))


def test_the_home_of_a_user_who_is_not_there_is_no_path():
    with pytest.raises(
        ValueError, match=r"'~nobody-of-this-name/a' cannot be used .*; check it\.$"
    ):
        source.absolute("~nobody-of-this-name/a")
