"""Folders of images: order, classes, modes, sizes, damage."""

import numpy as np
import pytest
from PIL import Image

from aeot_jax.data import images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize("end", ["png", "PNG", "bmp", "tif"])
def test_files_are_read_in_the_order_of_their_names(tmp_path, end):
    for i in (2, 0, 3, 1):
        save(tmp_path / f"image_{i}.{end}", COLOUR[i])
    found = images.load(tmp_path)
    np.testing.assert_array_equal(found.images, COLOUR)
    assert found.images.dtype == np.uint8
    assert found.labels is None
    assert found.name == tmp_path.name


def test_grey_files_stay_grey(tmp_path):
    for i, image in enumerate(GREY):
        save(tmp_path / f"{i}.png", image)
    np.testing.assert_array_equal(images.load(tmp_path).images, GREY[..., None])


def test_jpeg_files_are_read(tmp_path):
    smooth = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)
    for i, image in enumerate((smooth, smooth.T)):
        save(tmp_path / f"{i}.jpg", image, quality=95)
    found = images.load(tmp_path).images[..., 0].astype(int)
    assert np.abs(found - [smooth, smooth.T]).max() < 16  # JPEG loses a little


def test_one_colour_file_makes_all_colour(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    save(tmp_path / "b.png", COLOUR[0])
    found = images.load(tmp_path).images
    np.testing.assert_array_equal(found, [np.repeat(GREY[0][..., None], 3, axis=-1), COLOUR[0]])


def test_sub_folders_are_classes(tmp_path):
    for name, picks in {"dog": (2,), "cat": (0, 1), "empty": ()}.items():
        (tmp_path / name).mkdir()
        for i in picks:
            save(tmp_path / name / f"{i}.png", GREY[i])
    (tmp_path / "README.md").write_text("not an image")
    found = images.load(tmp_path)
    np.testing.assert_array_equal(found.images[..., 0], GREY[:3])
    np.testing.assert_array_equal(found.labels, [0, 0, 1])


def test_train_and_test_are_splits_and_not_classes(tmp_path):
    for split, picks in {"train": (0, 1), "test": (2, 3)}.items():
        for i in picks:
            save(tmp_path / split / "only" / f"{i}.png", GREY[i])
    np.testing.assert_array_equal(images.load(tmp_path).images[..., 0], GREY[:2])
    found = images.load(tmp_path, split="test")
    np.testing.assert_array_equal(found.images[..., 0], GREY[2:])
    np.testing.assert_array_equal(found.labels, [0, 0])


@pytest.mark.parametrize("nested", [False, True])
def test_a_missing_split_is_no_such_folder(tmp_path, nested):
    for i in range(2):
        save(tmp_path / ("train" if nested else "") / f"{i}.png", GREY[i])
    with pytest.raises(FileNotFoundError, match="has no sub-folder"):
        images.load(tmp_path, split="test")


@pytest.mark.parametrize("colour", [False, True])
def test_alpha_is_composited_on_white(tmp_path, colour):
    pixels = COLOUR if colour else GREY[..., None]
    alpha = np.zeros((6, 5, 1), np.uint8)
    alpha[:3] = 255
    for i, image in enumerate(pixels[:2]):
        save(tmp_path / f"{i}.png", np.concatenate([image, alpha], axis=-1))
    found = images.load(tmp_path).images
    np.testing.assert_array_equal(found[:, :3], pixels[:2, :3])
    np.testing.assert_array_equal(found[:, 3:], 255)


def test_a_palette_with_a_transparent_colour_is_composited_on_white(tmp_path):
    for i in range(2):
        image = Image.new("P", (4, 4), 1)
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((i, 0), 0)
        image.save(tmp_path / f"{i}.png", transparency=0)
    found = images.load(tmp_path).images
    np.testing.assert_array_equal(found[0, 0, 0], [255, 255, 255])
    np.testing.assert_array_equal(found[0, 1, 1], [40, 50, 60])


def test_black_and_white_files_are_0_and_255(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", GREY[i] > 127)
    np.testing.assert_array_equal(images.load(tmp_path).images[..., 0], 255 * (GREY[:2] > 127))


@pytest.mark.parametrize("mixed", [False, True])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, mixed):
    deep = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
    save(tmp_path / "a.png", deep)
    save(tmp_path / "b.png", COLOUR[0] if mixed else GREY[0])
    found = images.load(tmp_path).images
    assert found.shape[-1] == (3 if mixed else 1)
    expected = np.rint(deep / 257)[..., None]
    np.testing.assert_array_equal(found[0], np.broadcast_to(expected, found[0].shape))


def test_floating_point_files_are_refused(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.tif", GREY[i].astype(np.float32))
    with pytest.raises(ValueError, match="mode 'F' has no fixed range"):
        images.load(tmp_path)


def test_images_of_different_sizes_are_both_named(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    save(tmp_path / "b.png", GREY[1][:, :4])
    with pytest.raises(ValueError, match=r"'a.png' of 6 x 5 pixels but 'b.png' of 6 x 4"):
        images.load(tmp_path)


def test_large_images_are_refused_before_they_are_decoded(tmp_path):
    for i in range(2):
        Image.new("L", (300, 10), i).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"10 x 300 of the image .*0\.png.* 4 to 256 pixels"):
        images.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, -30])
def test_a_damaged_file_is_named(tmp_path, keep):
    for i in range(2):
        save(tmp_path / f"{i}.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / "1.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"1\.png', which cannot be read as an image .* remove it"):
        images.load(tmp_path)


@pytest.mark.parametrize("end", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
def test_any_byte_missing_or_wrong_is_an_image_or_a_value_error(tmp_path, end):
    save(tmp_path / f"a.{end}", COLOUR[0])
    save(tmp_path / f"b.{end}", COLOUR[1])
    path = tmp_path / f"b.{end}"
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(whole[: rng.integers(0, len(whole))])
        for i in rng.integers(0, max(1, len(data)), 3):
            if data:
                data[i] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            images.load(tmp_path)
        except ValueError as error:
            assert str(error).count("`source`") == 1  # noqa: PT017


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds nothing; pass a folder of images"):
        images.load(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no images and no IDX files"):
        images.load(tmp_path)


def test_images_beside_classes_are_refused(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    save(tmp_path / "class" / "b.png", GREY[1])
    with pytest.raises(ValueError, match=r"both images \('a.png'\) and sub-folders of images"):
        images.load(tmp_path)


def test_one_image_is_refused(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    with pytest.raises(ValueError, match="is 1, but at least two are needed"):
        images.load(tmp_path)


def test_a_broken_link_is_named_and_not_left_out(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", GREY[i])
    (tmp_path / "2.png").symlink_to("moved.png")
    with pytest.raises(ValueError, match=r"2\.png', which cannot be read .* remove it"):
        images.load(tmp_path)


def test_links_that_lead_back_add_nothing(tmp_path):
    """Pictures counted twice, and a folder without classes was refused for holding some."""
    root = tmp_path / "set"
    for i in range(2):
        save(root / "cats" / f"{i}.png", GREY[i])
        save(root / "dogs" / f"{i}.png", GREY[2 + i])
    expected = images.load(root)
    (root / "same").symlink_to(".")
    (root / "above").symlink_to(tmp_path)
    (root / "cats" / "up").symlink_to("..")
    found = images.load(root)
    assert found.files == expected.files
    assert found.label_names == ("cats", "dogs")
    save(tmp_path / "more" / "0.png", GREY[0])
    (root / "wolves").symlink_to("../more")  # leads elsewhere
    assert images.load(root).label_names == ("cats", "dogs", "wolves")


def test_a_folder_with_the_name_of_an_image_is_no_image(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", GREY[i])
    (tmp_path / "2.png").mkdir()
    assert len(images.load(tmp_path)) == 2


def test_only_the_formats_of_the_endings_are_read(tmp_path):
    """Pillow would hand PostScript to another program, whatever the file is called."""
    save(tmp_path / "0.png", GREY[0])
    save(tmp_path / "1.eps", GREY[1])
    (tmp_path / "1.eps").rename(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png', which .* of AVIF, BMP, GIF, .* or damaged"):
        images.load(tmp_path)


def test_a_photograph_too_large_is_said_to_be_too_large(tmp_path):
    """And not that its file is: the pixels are not read before."""
    noise = RNG.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    for end in ("bmp", "png", "tif", "ppm"):
        folder = tmp_path / end
        for i in range(2):
            save(folder / f"{i}.{end}", noise)
        assert (folder / f"0.{end}").stat().st_size > 2**22
        with pytest.raises(ValueError, match=r"1200 x 1200 of the image .* crop or shrink"):
            images.load(folder)
