"""Pictures as people have them: upright, at one size, in classes, the broken ones named."""

import io

import numpy as np
import pytest
from PIL import Image

from aeot_jax.data import images, tree
from aeot_jax.data.pictures import decode
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.data.share import pick

RNG = np.random.default_rng(0)
UP = np.zeros((8, 12, 3), np.uint8)
UP[:4] = (255, 200, 40)  # the sky
UP[4:, :6] = (30, 90, 30)
"""A picture that no turn and no mirror leaves as it is."""

# What a camera stores for each value of the tag, from an upright picture.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


def save(path, pixels, turn=None, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    if turn is not None:
        options["exif"] = Image.Exif()
        options["exif"][274] = turn
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def pair(folder, pixels, end="png", **options):
    """A folder of a picture and of its negative."""
    save(folder / f"a.{end}", pixels, **options)
    save(folder / f"b.{end}", 255 - pixels, **options)
    return folder


@pytest.mark.parametrize("end", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("turn", STORED)
def test_pictures_are_read_upright_whatever_way_the_camera_was_held(tmp_path, turn, end):
    big = UP.repeat(8, axis=0).repeat(8, axis=1)
    stored = STORED[turn](big)
    more = {"lossless": True} if end == "webp" else {"quality": 98} if end == "jpg" else {}
    pair(tmp_path, stored, end, turn=turn, **more)
    found = images.load(tmp_path).images[0].astype(int)
    assert found.shape == big.shape
    assert np.abs(found - big).mean() < (3 if end == "jpg" else 1e-9)
    small = images.load(tmp_path, pictures=Pictures((16, 24))).images[0]
    # colours at the corners, far from edges
    corners = np.abs(small[2::12, 2::20].astype(int) - UP[[0, 7]][:, [0, 11]]).max()
    assert corners < 25, small[2::12, 2::20]


def test_damaged_exif_turns_nothing(tmp_path):
    for name in "ab":
        file = io.BytesIO()
        Image.fromarray(UP if name == "a" else 255 - UP).save(file, "PNG", exif=b"Exif\0\0nonsense")
        (tmp_path / f"{name}.png").write_bytes(file.getvalue())
    np.testing.assert_array_equal(images.load(tmp_path).images[0], UP)


@pytest.mark.parametrize("form", ["png", "jpg"])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (37, 61), (30, 40), (40, 200)])
def test_resizing_keeps_means_and_places(tmp_path, form, shape):
    """A ramp stays a ramp: means over the part that is shown, to a few levels."""
    h, w = shape
    y, x = np.mgrid[0:h, 0:w]
    ramp = np.stack([255 * y / (h - 1), 255 * x / (w - 1), 0 * x + 80], -1).astype(np.uint8)
    pair(tmp_path, ramp, form, **({"quality": 97} if form == "jpg" else {}))
    goal = (24, 32)

    def load(resize):
        return images.load(tmp_path, pictures=Pictures(goal, resize)).images[0].astype(float)

    rows, columns = (np.arange(n) + 0.5 for n in goal)
    stretched = load("stretch")
    np.testing.assert_allclose(stretched[..., 0].mean(1), 255 * rows / 24, atol=7)
    np.testing.assert_allclose(stretched[..., 1].mean(0), 255 * columns / 32, atol=7)
    scale = max(24 / h, 32 / w)
    top, left = (h - 24 / scale) / 2, (w - 32 / scale) / 2
    cropped = load("crop")
    np.testing.assert_allclose(cropped[..., 0].mean(1), 255 * (top + rows / scale) / h, atol=9)
    np.testing.assert_allclose(cropped[..., 1].mean(0), 255 * (left + columns / scale) / w, atol=9)
    padded = load("pad")
    inside = padded[..., 2] < 168
    scale = min(24 / h, 32 / w)
    assert inside.any(1).sum() == pytest.approx(h * scale, abs=1.01)
    assert inside.any(0).sum() == pytest.approx(w * scale, abs=1.01)
    assert padded[~inside][:, 2].min(initial=255) > 160
    assert abs(inside.any(1).argmax() - (24 - h * scale) / 2) <= 1.01


def test_a_picture_of_the_right_size_keeps_its_bytes(tmp_path):
    pair(tmp_path, UP)
    found = images.load(tmp_path, pictures=Pictures((8, 12))).images[0]
    np.testing.assert_array_equal(found, UP)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_large_pictures_of_every_mode_are_reduced_as_small_ones_are(tmp_path, mode, monkeypatch):
    """More pixels than one strip has: what is reduced strip by strip has no seams."""
    monkeypatch.setattr(decode, "_STRIP", 2**20)  # and not 2^23, of which few more take seconds
    y, x = np.mgrid[0:1500, 0:1600]
    tile = 128 + 100 * np.sin(y / 250) * np.cos(x / 200)
    if mode == "1":  # as bright, in dots
        tile = 255 * (tile > 255 * RNG.random(tile.shape))
    base = Image.fromarray(tile.astype(np.uint8))
    deep = Image.fromarray(tile.astype(np.uint16) * 257)
    large = deep if mode == "I;16" else base.convert(mode)
    end = "tif" if mode == "CMYK" else "png"
    large.save(tmp_path / f"a.{end}", compress_level=1)
    large.transpose(Image.Transpose.ROTATE_180).save(tmp_path / f"b.{end}", compress_level=1)
    found = images.load(tmp_path, pictures=Pictures((20, 20), "stretch", "grey")).images[0, ..., 0]
    plain = base if mode in ("I;16", "P") else large.convert("L")
    expected = np.asarray(plain.resize((20, 20), Image.Resampling.BOX)).astype(int)
    assert np.abs(found - expected).max() < 6


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    h, w = 2000, 3000
    y, x = np.mgrid[0:h, 0:w]
    wave = (128 + 100 * np.sin(y / 300) * np.cos(x / 400)).astype(np.uint8)
    pair(tmp_path, wave, "jpg", quality=95)
    found = images.load(tmp_path, pictures=Pictures((40, 60))).images[0, ..., 0].astype(int)
    expected = wave.reshape(40, 50, 60, 50).mean((1, 3))
    assert np.abs(found - expected).max() < 4


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("colour", 3)])
def test_all_become_grey_or_colour_on_demand(tmp_path, colour, channels):
    save(tmp_path / "a.png", UP)
    save(tmp_path / "b.png", UP[..., 0])
    found = images.load(tmp_path, pictures=Pictures(colour=colour))
    assert found.images.shape == (2, 8, 12, channels)
    assert not found.notes
    said = images.load(tmp_path)
    assert said.images.shape[-1] == 3
    assert "1 of 2 pictures are grey" in said.notes[0]
    luma = np.asarray(Image.fromarray(UP).convert("L"))
    expected = luma[..., None] if colour == "grey" else UP
    np.testing.assert_array_equal(found.images[0], expected)


def test_arrays_are_resized_too(tmp_path):
    pixels = RNG.integers(0, 256, (3, 8, 8), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    np.save(tmp_path / "a.npy", pixels)
    found = images.load(tmp_path / "a.npy", pictures=Pictures((16, 16), colour="colour")).images
    assert found.shape == (3, 16, 16, 3)
    assert np.abs(found[..., 0].mean((1, 2)) - pixels.mean((1, 2))).max() < 3
    large = np.add.outer(np.arange(2), np.add.outer(np.arange(300), np.arange(400))) % 256
    np.save(tmp_path / "b.npy", large.astype(np.uint8))
    with pytest.raises(ValueError, match="300 x 400"):
        images.load(tmp_path / "b.npy")
    assert images.load(tmp_path / "b.npy", pictures=Pictures((30, 40))).images.shape[1] == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (2, 64)}, r"`size` is \(2, 64\); pass \(height, width\), each from 4 to 256"),
        ({"size": 64}, "`size` is 64; pass"),
        ({"resize": "squeeze"}, "`resize` is 'squeeze'; pass one of 'crop', 'pad', 'stretch'"),
        ({"colour": "blue"}, "`colour` is 'blue'; pass one of None, 'grey', 'colour'"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Pictures(**options)


# what is broken


def broken_folder(folder, num_broken, num_good=4):
    for i in range(num_good):
        save(folder / f"good_{i}.png", RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    for i in range(num_broken):
        (folder / f"bad_{i:02}.png").write_bytes(b"\x89PNG nothing")
    return folder


@pytest.mark.parametrize("num", [1, 3, 10, 25])
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_broken_pictures_are_named_up_to_ten(tmp_path, num, size):
    folder = broken_folder(tmp_path, num)
    with pytest.raises(ValueError, match="--skip-broken") as caught:
        images.load(folder, pictures=Pictures(size))
    text = str(caught.value)
    assert sum(f"bad_{i:02}.png" in text for i in range(num)) == min(num, 10)
    assert ("more than 10" in text) == (num > 10)
    assert "good" not in text


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_broken_pictures_are_left_out_on_demand_and_all_named(tmp_path, size):
    folder = broken_folder(tmp_path, 25)
    labels = np.arange(29)
    found = images.load(folder, pictures=Pictures(size, skip_broken=True), labels=labels)
    assert len(found) == 4
    assert [f"bad_{i:02}.png" in found.skipped[i] for i in range(25)] == [True] * 25
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, [25, 26, 27, 28])


def test_a_folder_of_broken_pictures_alone_is_refused_even_so(tmp_path):
    for size in (None, (8, 8)):
        with pytest.raises(ValueError, match="holds 3 files that cannot be read"):
            images.load(broken_folder(tmp_path, 3, 0), pictures=Pictures(size, skip_broken=True))


def png_of(width, height):
    head = RNG.bytes(0) + width.to_bytes(4) + height.to_bytes(4) + b"\x08\0\0\0\0"
    import zlib

    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    body = b"".join(
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("sides", [(100_000, 100_000), (10_001, 10_000), (15_000, 15_000)])
def test_more_than_100_megapixels_are_refused_by_the_header(tmp_path, sides):
    save(tmp_path / "a.png", UP)
    (tmp_path / "b.png").write_bytes(png_of(*sides))
    with pytest.raises(ValueError, match=r"b\.png', .* more than 100 megapixels"):
        images.load(tmp_path, pictures=Pictures((8, 8)))


def test_mixed_sizes_say_what_to_type(tmp_path):
    save(tmp_path / "a.png", np.zeros((40, 64, 3), np.uint8))
    save(tmp_path / "b.png", np.ones((64, 48, 3), np.uint8))
    with pytest.raises(ValueError, match=r"'a.png' of 40 x 64 .* 'b.png' of 64 x 48 .*-size 32"):
        images.load(tmp_path)
    save(tmp_path / "a.png", np.zeros((400, 640, 3), np.uint8))
    with pytest.raises(ValueError, match=r"400 x 640 of the image .* --image-size 64"):
        images.load(tmp_path)


# folders


def test_what_other_programs_leave_is_left_alone(tmp_path):
    for name in ("cats", "d\u00f6gs", ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        for i in range(2):
            save(tmp_path / name / f"{i}.png", RNG.integers(0, 256, (8, 8), dtype=np.uint8))
    save(tmp_path / "cats" / ".hidden" / "x.png", UP[..., 0])
    (tmp_path / "cats" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "notes.txt").touch()
    found = images.load(tmp_path)
    assert found.label_names == ("cats", "d\u00f6gs")
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1])


def test_names_are_those_that_one_types(tmp_path):
    """As a Mac writes them, letters and accents apart, in an archive or on a disk."""
    for i, name in enumerate(("do\u0308gs", "cats")):
        for k in range(2):
            save(tmp_path / name / f"{k}.png", np.full((8, 8), 40 * i + k, np.uint8))
    assert images.load(tmp_path).label_names == ("cats", "d\u00f6gs")


def test_names_that_cannot_be_printed_are_kept_apart():
    assert tree.printable(["a\n", "a\r", "b"]) == ("a\ufffd", "a\ufffd (2)", "b")


def test_what_lies_deeper_belongs_to_its_class(tmp_path):
    for i, place in enumerate(("a/x/1", "a/2", "b/y/z/3", "b/4")):
        save(tmp_path / f"{place}.png", np.full((8, 8), i, np.uint8))
    found = images.load(tmp_path)
    assert found.label_names == ("a", "b")
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1])


def splits(folder, **counts):
    level = 0
    for split, count in counts.items():
        for i in range(count):
            for name in ("ants", "bees"):
                level += 1
                save(folder / split / name / f"{i}.png", np.full((8, 8), level, np.uint8))
    return folder


@pytest.mark.parametrize(
    ("folders", "num_train", "num_test", "note"),
    [
        ({"train": 3, "test": 2}, 6, 4, None),
        ({"train": 3, "val": 1}, 6, 2, "'val' is held out"),
        ({"train": 3, "val": 1, "test": 2}, 8, 4, "'val' was added to 'train'"),
        ({"Training": 2, "Testing": 1, "extra": 1}, 4, 2, "left alone: extra"),
        ({"train": 2, "validation": 1, "test": 1}, 6, 2, "was added to 'train'"),
    ],
)
def test_folders_of_splits_are_understood_and_said(tmp_path, folders, num_train, num_test, note):
    splits(tmp_path, **folders)
    train, test = images.load(tmp_path), images.load(tmp_path, split="test")
    assert (len(train), len(test)) == (num_train, num_test)
    assert train.label_names == test.label_names == ("ants", "bees")
    assert note is None or any(note in one for one in train.notes), train.notes
    assert not {one.tobytes() for one in train.images} & {one.tobytes() for one in test.images}


def test_a_class_that_only_the_test_images_have_keeps_its_name(tmp_path):
    splits(tmp_path, train=2, test=2)
    (tmp_path / "test" / "ants").rename(tmp_path / "test" / "aphids")
    train, test = images.load(tmp_path), images.load(tmp_path, split="test")
    assert train.label_names == test.label_names == ("ants", "aphids", "bees")
    assert train.labels is not None
    assert test.labels is not None
    assert (set(train.labels), set(test.labels)) == ({0, 2}, {1, 2})


def test_test_images_without_training_images_are_said(tmp_path):
    splits(tmp_path, test=2, val=2)
    with pytest.raises(ValueError, match="test and val but no pictures in 'train'"):
        images.load(tmp_path)


def test_progress_counts_every_picture(tmp_path):
    folder = broken_folder(tmp_path, 2, 40)
    seen = []
    pictures = Pictures(skip_broken=True)
    images.load(folder, pictures=pictures, on_progress=lambda *news: seen.append(news))
    assert seen[-1] == (42, 42)
    assert seen == sorted(seen)


# a part of a data set


@pytest.mark.parametrize("limit", [2, 10, 37, 99])
def test_a_part_has_the_same_share_of_every_class(limit):
    labels = np.array([5] * 60 + [-1] * 30 + [9] * 10)
    rows = pick(labels, 100, limit, 0)
    assert len(set(rows)) == limit
    assert (np.diff(rows) > 0).all()
    for label, count in ((5, 60), (-1, 30), (9, 10)):
        assert abs((labels[rows] == label).sum() - limit * count / 100) < 1
    np.testing.assert_array_equal(rows, pick(labels, 100, limit, 0))
    if limit < 99:
        assert (rows != pick(labels, 100, limit, 1)).any()


def test_only_the_chosen_pictures_are_read(tmp_path):
    folder = broken_folder(tmp_path, 0, 30)
    whole = images.load(folder).images
    some = images.load(folder, limit=7, seed=3)
    rows = pick(None, 30, 7, 3)
    np.testing.assert_array_equal(some.images, whole[rows])
    for i in set(range(30)) - set(rows.tolist()):
        sorted(folder.iterdir())[i].write_bytes(b"")
    np.testing.assert_array_equal(images.load(folder, limit=7, seed=3).images, some.images)
