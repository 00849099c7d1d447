"""A page stands on its own: valid, without network or scripts, every picture with its words."""

import dataclasses
import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax.data.images import ImageSet
from aeot_jax.report import facts, figures, page, picture
from aeot_jax.report.numbers import measured
from aeot_jax.report.parts import Material, OfClass, Pairs, name_of
from aeot_jax.report.trips import kept_detail

KEY = jax.random.key(7)

NAME = "<b>mine</b> & 'yours'"

_VOID = {"meta", "link", "img", "source", "br", "hr", "input"}


class Checked(HTMLParser):
    """Tags that open and close in order, and what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.figures, self.links, self.ids = [], [], [], [], []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"<{self.open[-1]}> is not closed"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(found)
        if tag == "figure":
            self.figures.append("")
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("src", "srcset", "href", "data") if name in found]
        assert tag != "script"
        assert not any(name.startswith("on") for name in found)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data):
        self.text += data
        if "figcaption" in self.open:
            self.figures[-1] += data


def check(text):
    found = Checked(text)
    assert text.startswith("<!DOCTYPE html>")
    assert len(text.encode()) < 3_000_000
    assert all(link.startswith("data:") for link in found.links)
    styles = " ".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert len(found.ids) == len(set(found.ids))
    assert len(found.images) == len(found.figures)
    for image, caption in zip(found.images, found.figures, strict=True):
        assert len(image["alt"]) > 20
        assert caption.strip().endswith(".")
    return found


def material(**changes):
    pixels = tiny.images(100)
    train = ImageSet(pixels[:60, ..., None], np.arange(60, dtype=np.int32) % 3, "rows")
    held_out = ImageSet(pixels[60:, ..., None], None, "rows")
    both = {"train": train, "held_out": held_out, "kind": "held out"}
    return Material(NAME, **{"model": tiny.model(), **both, **changes})


@pytest.fixture(scope="module")
def found():
    return facts.gather(KEY, material())


@pytest.fixture(scope="module")
def text(found):
    return page.render(found)


def titles(text):
    return [unescape(title) for title in re.findall(r"<h[23]>(.*?)</h[23]>", text)]


def test_a_page_is_valid_and_needs_nothing_else(text):
    found = check(text)
    assert len(found.images) > 10
    assert NAME in found.text
    assert NAME not in text


def test_a_page_begins_with_its_verdict(found, text):
    first = text.index('class="headline')
    assert first < text.index("<h2>")
    assert page.judge(found.numbers).headline in unescape(text)


def test_a_page_holds_what_a_person_looks_for(text):
    expected = {"New", "Real", "Does it copy?", "Transport", "Masses of the cells"}
    expected |= {"Training of the autoencoder", "Plane angles, and the cut", "Codes by class"}
    expected |= {"New codes among those of the data", "Walks through the source"}
    expected |= {f"The {kind} of 40 held-out images" for kind in ("best", "middle", "worst")}
    expected |= {"Errors of the reconstructions", "New above, nearest training image below"}
    assert expected <= set(titles(text))


@pytest.mark.long
def test_a_page_says_how_new_the_samples_are(found, text):
    new = {"share_near": 0.73, "share_near_se": 0.02, "alpha": 0.05, "nearer": 0.671}
    new |= {"unseen": "held out", "num_unseen": 200}
    assert "By their codes" not in text
    told = dataclasses.replace(found, material=material(metrics={"novelty": new}))
    page_of = Checked(page.render(told)).text
    assert "73 % of new samples are as near to a training one as the nearest 5 % of" in page_of
    assert "the nearer of the two in 67 % of all pairs" in page_of
    assert "equal a training code" not in page_of
    repeated = material(metrics={"novelty": {**new, "num_repeated": 50}})
    told = dataclasses.replace(found, material=repeated)
    assert "25 % of these unseen codes equal a training code" in Checked(page.render(told)).text
    burst = material(metrics={"novelty": {**new, "num_twins": 40}})
    told = dataclasses.replace(found, material=burst)
    assert "20 % of them are near copies of a training code, and" in Checked(page.render(told)).text
    for broken in ({"alpha": "x"}, {**new, "nearer": None}, "new", 1):
        told = dataclasses.replace(found, material=material(metrics={"novelty": broken}))
        assert "By their codes" not in page.render(told)
    scored = {"novelty": new, "decoded": {"distance": 0.25, "copies": 0.125, "decoder": 0.5}}
    told = dataclasses.replace(found, material=material(evaluation=scored))
    assert re.search("decoded unseen data.*0.250.*0.125", Checked(page.render(told)).text, re.S)


def test_a_page_tells_the_epochs_that_refined_the_decoder(found, text):
    assert "of the decoder alone" not in text
    losses = jnp.array([1.0, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2, 0.2])
    config = dataclasses.replace(tiny.CONFIG, training=aeot.TrainConfig(epochs=5))
    model = dataclasses.replace(tiny.model(), losses=losses, config=config)
    told = material(model=model)
    numbers = measured(told, None, None, ())
    assert numbers.falling == pytest.approx(1 / 3)  # from 0.3 to 0.2, not from 0.2 to 0.2
    told = dataclasses.replace(found, material=told, numbers=numbers)
    page_of = Checked(page.render(told)).text
    assert "5 epochs and 3 of the decoder alone" in page_of
    assert "The last 3 epochs refine the decoder alone" in page_of


def test_the_same_key_gives_the_same_page(found, text):
    assert page.render(found) == text


def test_without_images_a_page_says_so_and_shows_the_rest():
    absent = "The images are gone."
    text = page.render(
        facts.gather(KEY, material(train=None, held_out=None, kind=None, absent=absent))
    )
    check(text)
    assert absent in text
    shown = titles(text)
    assert {"New", "Transport", "Masses of the cells"} <= set(shown)
    assert not {"Real", "Reconstructions", "Does it copy?"} & set(shown)


def test_pairs_stand_by_their_errors(found):
    pairs = found.pairs
    difference = pairs.decoded.astype(float) - pairs.original / 255
    np.testing.assert_allclose(pairs.error, (difference**2).mean(axis=(1, 2, 3)), rtol=1e-5)
    assert (np.diff(pairs.error) >= 0).all()
    assert found.numbers.detail == kept_detail(pairs.original, pairs.decoded)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 18, 300])
def test_no_pair_is_shown_twice(n):
    shown = [i for part in facts.three_kinds(n).values() for i in range(n)[part]]
    assert len(shown) == len(set(shown))
    assert shown[0] == 0
    assert shown[-1] == n - 1


def test_neighbours_are_the_nearest(found):
    near = found.neighbours
    train = np.asarray(tiny.images(100)[:60]).reshape(60, -1) / 255
    new = near.sample.reshape(len(near.sample), -1) / 255
    distance = np.sqrt(((new[:, None] - train[None]) ** 2).mean(axis=2))
    np.testing.assert_allclose(near.of_samples[: len(new)], distance.min(axis=1), rtol=1e-5)
    picked = near.neighbour.reshape(len(new), -1) / 255
    of_picked = np.sqrt(((new - picked) ** 2).mean(axis=1))
    np.testing.assert_allclose(of_picked, distance.min(axis=1), rtol=1e-5)


def test_counts_are_those_of_cells(found):
    ext, key = material().model.extension, jax.random.split(KEY, 5)[2]
    counts = np.zeros(60, int)
    for i in range(found.cells.counts.sum() // 4096):
        x = aeot.measures.draw(jax.random.fold_in(key, i), ext.mu, 4096)
        counts += np.bincount(np.asarray(aeot.assign(x, ext.y, ext.h)[1]), minlength=60)
    assert counts.sum() == found.cells.counts.sum() > 0
    assert np.abs(found.cells.counts - counts).sum() <= 2  # at a face rounding may turn one
    np.testing.assert_allclose(found.cells.weights.sum(), 1)


@pytest.mark.parametrize("n", [300, 100_000])
def test_right_masses_keep_to_their_band(n):
    rng = np.random.default_rng(n)
    weights = rng.dirichlet(np.full(50, 5.0))
    total = np.zeros(0)
    for _ in range(200):
        counts = rng.multinomial(n, weights)
        edges, expected, spread = figures._expected(counts, weights, n)
        assert expected.sum() == pytest.approx(50, abs=0.1)
        found = np.histogram(counts, edges)[0]
        total = np.append(total, ((found - expected) / np.maximum(spread, 0.5))[spread > 0.3])
    assert abs(total.mean()) < 0.1
    assert total.std() < 1.15


@pytest.fixture(scope="module")
def classed():
    """A model with two classes, of some of its codes each."""
    model = tiny.model()
    ext, solution = model.extension, model.solution
    parts = [
        dataclasses.replace(ext, y=ext.y[some], h=ext.h[some], neighbour_angles=ext.h[some])
        for some in (slice(0, 25), slice(25, 50))
    ]
    return dataclasses.replace(
        model,
        classes=aeot.Classes(
            jnp.array([3, 4]),
            jnp.array([0.4, 0.6]),
            jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), solution),
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts),
        ),
    )


def test_the_map_of_a_class_is_the_same_in_more_arrays(classed):
    ext = classed.classes.of(4)
    filled = facts._filled(ext, classed.extension)
    for one, other in zip(jax.tree.leaves(filled), jax.tree.leaves(classed.extension), strict=True):
        assert one.shape == other.shape
    expected, got = aeot.generate(KEY, ext, 1024), aeot.generate(KEY, filled, 1024)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_classes_are_shown_by_their_names(classed, found):
    classes = facts._classes(KEY, classed, "images")
    assert [one.name for one in classes] == ["3", "4"]
    assert [one.share for one in classes] == pytest.approx([0.4, 0.6])
    text = page.render(dataclasses.replace(found, classes=classes))
    check(text)
    assert {"Classes", "3", "4"} <= set(titles(text))
    named = SimpleNamespace(label_names=("a", "b", "c", "cats"))
    assert [name_of(named, label) for label in (3, 4)] == ["cats", "4"]


def test_a_model_of_codes_alone_gets_plots_in_place_of_pictures():
    model = dataclasses.replace(tiny.model(), params=None, image_shape=None, losses=jnp.zeros(0))
    found = facts.gather(KEY, Material("codes", model))
    assert found.form == "codes"
    assert found.real is not None
    y, scale, centre = map(np.asarray, (model.extension.y, model.scale, model.centre))
    np.testing.assert_allclose(found.real, y * scale + centre, rtol=1e-5, atol=1e-5)
    text = page.render(found)
    check(text)
    shown = set(titles(text))
    assert {"New rows among real ones", "Transport", "Masses of the cells"} <= shown
    assert not {"New", "Reconstructions", "Walks through the source", "Does it copy?"} & shown
    assert "Training of the autoencoder" not in shown
    assert "New codes among those of the data" not in shown  # which the rows are already
    few = {"frechet": {"num_samples": 25, "distance": 1.0}, "data": {"num_held_out": 19}}
    scored = dataclasses.replace(
        found,
        material=dataclasses.replace(found.material, evaluation=few),
        numbers=dataclasses.replace(found.numbers, evaluated=True, compared=25),
    )
    text = page.render(scored)
    assert text.count("These scores compare 25 codes with 25") == 2
    assert "decoded unseen codes: only 19 codes were held out, and 20 are needed." in text


@pytest.mark.long
def test_large_colour_pictures_are_made_small_enough(found):
    noise = np.random.default_rng(0).integers(0, 256, (60, 128, 96, 3), dtype=np.uint8)
    large = dataclasses.replace(
        found,
        new=noise,
        real=noise,
        pairs=Pairs(noise, noise / 255, np.arange(60.0), "training"),
        neighbours=dataclasses.replace(found.neighbours, sample=noise[:10], neighbour=noise[:10]),
        classes=tuple(OfClass(f"{i}", 0.05, 0.1, 0.01, 0.12, True, noise[:6]) for i in range(12)),
    )
    check(page.render(large))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_pixel_and_gaps_that_are_seen_through(channels):
    import base64
    import io

    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (5, 8, 6, channels), dtype=np.uint8)
    uri = picture.grid(images, columns=3, side=64, title="t", alt="a", caption="c").light
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        canvas = np.asarray(image)
    scale, gap = 8, 4
    assert canvas.shape == (2 * 64 + gap, 3 * 48 + 2 * gap, channels + 1)
    for i, image in enumerate(images):
        top, left = i // 3 * (64 + gap), i % 3 * (48 + gap)
        tile = canvas[top : top + 64 : scale, left : left + 48 : scale]
        np.testing.assert_array_equal(tile[..., :-1], image)
    assert (canvas[64, :, -1] == 0).all()
    assert (canvas[:64, 48:52, -1] == 0).all()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

FRAME = """<!DOCTYPE html><meta charset="utf-8"><title>frame</title>
<iframe id="f" style="width: {width}px; height: 800px; border: 0" srcdoc="{page}"></iframe>
<pre id="said"></pre>
<script>
onload = () => {{
  const inside = document.getElementById("f").contentDocument;
  const beyond = [...inside.querySelectorAll("body *")]
    .filter(one => !one.closest(".scroll table") && one.getBoundingClientRect().right > {width} + 1)
    .map(one => one.outerHTML.slice(0, 80));
  const broken = [...inside.images].filter(one => !one.naturalWidth).map(one => one.alt);
  const wide = inside.documentElement.scrollWidth;
  document.getElementById("said").textContent = JSON.stringify({{wide, beyond, broken}});
}};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_shows_it_whole(text, width, tmp_path):
    """Nothing reaches beyond the screen, every picture is drawn, no error is reported."""
    (tmp_path / "frame.html").write_text(
        FRAME.format(width=width, page=escape(text)), encoding="utf-8"
    )
    quiet = "--no-first-run --disable-background-networking --disable-component-update"
    quiet += " --disable-sync --disable-gpu --no-sandbox --headless --enable-logging=stderr"
    done = subprocess.run(
        [
            *(str(CHROMIUM), *quiet.split(), f"--user-data-dir={tmp_path}/profile", "--dump-dom"),
            f"file://{tmp_path}/frame.html",
        ],
        capture_output=True,
        text=True,
    )
    assert ":CONSOLE" not in done.stderr
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None, done.stderr[-2000:]
    found = json.loads(unescape(said[1]))
    assert not found["beyond"]
    assert not found["broken"]
    assert found["wide"] <= width
