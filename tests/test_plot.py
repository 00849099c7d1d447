"""Pictures hold the pixels they are given, and files are written whole or not at all."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from aeot_jax import plot
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.solver.result import Method, Status
from aeot_jax.ot.solver.solution import History, Solution
from aeot_jax.storage import files

RNG = np.random.default_rng(0)


def solution(num_samples, mass_error, certified=0.08):
    zero = jnp.zeros(())
    certificate = Certificate(
        mass_error=jnp.float32(certified),
        mass_error_se=jnp.float32(0.004),
        upper=jnp.float32(certified + 0.008),
        chi2=zero,
        chi2_se=zero,
        total_variation=zero,
        worst=zero,
        num_empty=jnp.int32(0),
        expected_empty=zero,
        stray_mass=zero,
        num_samples=jnp.int32(1000),
        num_unverified=jnp.int32(0),
        unverified_weight=zero,
        samples_to_verify=jnp.float32(1000),
    )
    error = np.asarray(mass_error, np.float64)
    return Solution(
        h=jnp.zeros(50),
        status=jnp.int32(Status.CONVERGED),
        certificate=certificate,
        method=jnp.int32(Method.NEWTON),
        num_steps=jnp.int32(len(error)),
        num_samples=jnp.int32(max([1, *num_samples])),
        num_check_samples=jnp.int32(1000),
        history=History(np.asarray(num_samples, np.int64), error, 0.1 * error + 0.01),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_pixel_enlarged_by_a_whole_factor(channels):
    images = RNG.integers(0, 256, (5, 6, 4, channels), dtype=np.uint8)
    grid = np.asarray(plot.image_grid(images, columns=3, scale=4))
    grid = grid.reshape(*grid.shape[:2], channels)
    gap = 2
    assert grid.shape == (2 * (24 + gap) + gap, 3 * (16 + gap) + gap, channels)
    for i, image in enumerate(images):
        top, left = gap + i // 3 * (24 + gap), gap + i % 3 * (16 + gap)
        tile = grid[top : top + 24, left : left + 16]
        np.testing.assert_array_equal(tile[::4, ::4], image)
        np.testing.assert_array_equal(tile[3::4, 3::4], image)
    assert (grid[:gap] == 255).all()
    assert (grid[gap + 26 :, 2 * (16 + gap) :] == 255).all()


def test_bytes_and_floats_give_one_grid():
    images = RNG.integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    from_bytes = np.asarray(plot.image_grid(images))
    from_floats = np.asarray(plot.image_grid(images.astype(np.float32) / 255))
    np.testing.assert_array_equal(from_bytes, from_floats)


def test_many_large_images_are_not_enlarged():
    grid = plot.image_grid(np.zeros((400, 64, 64, 3), np.uint8))
    assert max(grid.size) <= 20 * 65 + 1


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((2, 4, 4), np.uint8), r"`images` has shape \(2, 4, 4\); pass"),
        (np.zeros((2, 4, 4, 2), np.uint8), r"`images` has shape \(2, 4, 4, 2\)"),
        (np.full((2, 4, 4, 1), 2.0), "`images` runs from 2 to 2"),
        (np.full((2, 4, 4, 1), np.nan), "`images` runs from nan"),
    ],
)
def test_a_grid_refuses_what_is_no_image(images, sentence):
    with pytest.raises(ValueError, match=sentence):
        plot.image_grid(images)


def test_a_grid_refuses_no_columns():
    with pytest.raises(ValueError, match="`columns` is 0"):
        plot.image_grid(np.zeros((2, 4, 4, 1), np.uint8), columns=0)


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (7, 1), (30, 3)])
def test_reconstructions_come_in_bands_of_pairs(n, channels, tmp_path):
    images = RNG.integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)
    figure = plot.reconstructions(images, images / 255, title="all", columns=12)
    assert len(figure.axes) == -(-n // 12)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["original", "decoded"]
    strip = np.asarray(figure.axes[0].images[0].get_array())
    # the gap is 4, so both halves overlap in the line between them
    half = (strip.shape[0] + 4) // 2
    np.testing.assert_array_equal(strip[:half], strip[-half:])
    with Image.open(plot.save(figure, tmp_path / "r.png")) as written:
        assert written.format == "PNG"


def test_reconstructions_refuse_sets_of_different_size():
    with pytest.raises(ValueError, match="pass pairs"):
        plot.reconstructions(np.zeros((3, 4, 4, 1), np.uint8), np.zeros((2, 4, 4, 1), np.uint8))


@pytest.mark.parametrize(
    ("num_samples", "mass_error", "tolerance", "certified"),
    [
        ([100, 1000, 10000], [1.0, 0.3, 0.1], 0.1, 0.08),
        pytest.param([100, 200], [0.5, 0.0], None, 0.08, marks=pytest.mark.long),
        ([], [], 0.1, 0.0),
        ([100], [0.5], 0.1, np.inf),
    ],
)
def test_a_history_is_drawn_whatever_happened(
    num_samples, mass_error, tolerance, certified, tmp_path
):
    solved = solution(num_samples, mass_error, certified)
    figure = plot.history(np.array([0.3, 0.2, 0.1]), solved, tolerance=tolerance)
    loss, error = figure.axes
    np.testing.assert_allclose(np.asarray(loss.lines[0].get_ydata()), [0.3, 0.2, 0.1])
    assert (error.get_xscale(), error.get_yscale()) == ("log", "log")
    _, texts = error.get_legend_handles_labels()
    assert ("tolerance" in texts) == (tolerance is not None)
    assert ("certified 0.08 ± 0.008" in texts) == (certified == 0.08)
    plot.save(figure, tmp_path / "history.png")
    plot.save(figure, tmp_path / "history.pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.pdf", "history.png"]


@pytest.mark.parametrize(("certified", "bound"), [(0.0, 0.008), (0.004, 0.012)])
def test_an_error_within_its_noise_is_drawn_as_a_bound(certified, bound):
    figure = plot.history(np.array([0.1]), solution([10], [0.5], certified), tolerance=0.1)
    axes = figure.axes[1]
    assert f"certified at most {bound}" in axes.get_legend_handles_labels()[1]
    (point,) = (line for line in axes.lines if line.get_marker() == "v")
    np.testing.assert_allclose(np.asarray(point.get_ydata(), float), bound, rtol=1e-6)


def test_no_window_is_opened(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test's, perhaps
    plot.history(np.array([0.1]), solution([10], [0.5]), tolerance=0.1)
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("name", ["grid.pdf", "grid", "grid.txt"])
def test_a_grid_is_written_as_png_only(tmp_path, name):
    grid = plot.image_grid(np.zeros((2, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match=r"this picture is written as \.png"):
        plot.save(grid, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_finished_leaves_the_old_one_whole(tmp_path):
    path = tmp_path / "deep" / "file.json"
    with files.replacing(path) as temporary:
        temporary.write_text("old")

    def fail_half_way():
        with files.replacing(path) as temporary:
            temporary.write_text("new, half of")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        fail_half_way()
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_clouds_share_a_plane_and_refuse_other_columns():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    figure = plot.clouds({"data": rows, "new": rows[:5]}, "rows")
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    points = [np.asarray(axes.collections[0].get_offsets()) for axes in (left, right)]
    np.testing.assert_allclose(points[0][:5], points[1])
    mirrored = plot.clouds({"data": rows[::-1].copy()}).axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(np.asarray(mirrored)[::-1], points[0], atol=1e-9)
    plain = plot.clouds({"data": rows[:, :2]}).axes[0].collections[0].get_offsets()
    np.testing.assert_array_equal(np.asarray(plain), rows[:, :2])
    alone = plot.clouds({"data": rows[:1]}).axes[0].collections[0].get_offsets()
    np.testing.assert_array_equal(np.asarray(alone), [[0, 0]])
    with pytest.raises(ValueError, match=r"`sets\['new'\]` has shape \(5, 3\)"):
        plot.clouds({"data": rows, "new": rows[:5, :3]})
    with pytest.raises(ValueError, match="`sets` is empty"):
        plot.clouds({})
