"""Film strips show every frame, and every singular face where the walk crosses it."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex

from aeot_jax import plot
from aeot_jax.plot.film import _check
from aeot_jax.plot.style import RED
from aeot_jax.walk import Crossings, Walk

RNG = np.random.default_rng(0)


def walk(channels=1, frames=5):
    found = Crossings(
        t=np.array([0.1, 0.35, 0.8]),
        cells=np.array([[0, 1], [1, 2], [2, 0]]),
        angle=np.array([0.2, 1.5, 0.9]),
        singular=np.array([False, True, True]),
    )
    return Walk(
        along="source",
        t=np.linspace(0, 1, frames),
        z=jnp.zeros((frames, 3)),
        images=jnp.asarray(RNG.uniform(size=(frames, 4, 6, channels)), jnp.float32),
        rejected=np.arange(frames) == 1,
        crossings=found,
        threshold=0.8,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_singular_faces_are_marked_where_they_are_crossed(channels, tmp_path):
    figure = plot.film_strip(walk(channels))
    frames, faces = figure.axes
    np.testing.assert_array_equal(frames.lines[0].get_xdata(), [0.35, 0.8])
    lines: Any = faces.collections[0]
    segments = np.array(lines.get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], [0.1, 0.35, 0.8])
    np.testing.assert_allclose(segments[:, 1, 1], [0.2, 1.5, 0.9])
    red = [to_hex(c) == RED for c in lines.get_edgecolor()]
    assert red == [False, True, True]
    assert frames.get_xlim() == faces.get_xlim()
    assert frames.get_title("right") == "3 faces, 2 singular"
    plot.save(figure, tmp_path / "film.png")


def test_frames_stand_at_their_times_and_the_rejected_in_red():
    shown = walk()
    frames = plot.film_strip(shown).axes[0]
    assert len(frames.images) == 5
    for t, pixels, image in zip(shown.t, shown.images, frames.images, strict=True):
        left, right, bottom, top = image.get_extent()
        assert (left + right) / 2 == pytest.approx(t)
        assert (right - left) / (top - bottom) == pytest.approx(6 / 4)
        np.testing.assert_array_equal(image.get_array(), np.rint(255 * np.asarray(pixels[..., 0])))
    red = [to_hex(patch.get_edgecolor()) == RED for patch in frames.patches]
    assert red == [False, True, False, False, False]
    # One unit is one length on both axes, or frames would not keep their shape.
    width, height = frames.get_window_extent().size
    assert width / np.ptp(frames.get_xlim()) == pytest.approx(height / np.ptp(frames.get_ylim()))


def test_walks_are_shown_one_below_the_other():
    calm = replace(walk(frames=9), crossings=Crossings(*(a[:0] for a in walk().crossings)))
    figure = plot.film_strip(walk(), replace(calm, along="codes"), titles=["one", "two"])
    assert [axes.get_title("left") for axes in figure.axes[::2]] == ["one", "two"]
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert tops == sorted(tops, reverse=True)
    assert figure.axes[-1].get_position().y0 > 0


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="`walks` is empty"):
        plot.film_strip()
    with pytest.raises(ValueError, match="`titles` has 1 entries for 2 walks"):
        plot.film_strip(walk(), walk(), titles=["one"])
    # `film_strip` itself has its types checked here.
    with pytest.raises(ValueError, match=r"`walks` holds a list; unpack it, film_strip\(\*walks\)"):
        _check(([walk()],))
    with pytest.raises(
        ValueError, match="`walks` holds a ndarray; pass what `interpolate` returns"
    ):
        _check((walk(), np.zeros(3)))
