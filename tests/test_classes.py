"""One problem per class: solved as each would be alone, sampled alone, saved whole."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax import SolverConfig, Status
from aeot_jax.checkpoints import identity
from aeot_jax.classes import solve_classes, solving
from aeot_jax.classes.labels import place_of
from aeot_jax.drawing import draw_codes
from aeot_jax.measures import Gaussian
from aeot_jax.ot.extension import extension, generate
from aeot_jax.ot.merging import CoincidenceWarning

KEY = jax.random.key(2)
SIZES = {7: 40, -1: 25, 3: 12, 5: 1}
RNG = np.random.default_rng(0)
LABELS = np.repeat(list(SIZES), list(SIZES.values()))
CODES = (RNG.normal(size=(len(LABELS), 3)) + LABELS[:, None]).astype(np.float32)
ORDER = RNG.permutation(len(LABELS))
LABELS, CODES = LABELS[ORDER], CODES[ORDER]
CODES[np.flatnonzero(LABELS == 3)[4]] = CODES[np.flatnonzero(LABELS == 3)[1]]  # one code twice
CONFIG = SolverConfig(tolerance=0.3, start="gaussian")  # one start: less to compile
IMAGE_LABELS = np.arange(60) % 3 + 1


@pytest.fixture(scope="module")
def classes():
    return solve_classes(KEY, Gaussian(3), CODES, LABELS, CONFIG, num_samples=64)


@pytest.fixture(scope="module")
def reported():
    return []


@pytest.fixture(scope="module")
def model(reported):
    return aeot.fit(
        tiny.KEY, tiny.images(), tiny.CONFIG, labels=IMAGE_LABELS, on_progress=reported.append
    )


def test_every_class_is_solved_to_the_tolerance(classes):
    np.testing.assert_array_equal(classes.labels, [-1, 3, 5, 7])
    np.testing.assert_allclose(classes.shares, np.array([25, 12, 1, 40]) / 78, rtol=1e-6)
    assert (classes.solution.status == Status.CONVERGED).all()
    assert classes.solution.h.shape == (4, 40)


@pytest.mark.parametrize("label", SIZES)
def test_masses_of_a_class_are_equal_and_padding_has_none(classes, label):
    """A count in float64 NumPy that shares nothing with the certificate."""
    ext = classes.of(label)
    y, h = np.asarray(ext.y, np.float64), np.asarray(ext.h, np.float64)
    own = CODES[label == LABELS]
    np.testing.assert_array_equal(ext.y[: len(own)], own)
    assert np.isneginf(h[len(own) :]).all()
    x = np.random.default_rng(1).normal(size=(100_000, 3))
    mass = np.bincount((x @ y.T + h).argmax(1), minlength=40) / len(x)
    nu = np.zeros(40)
    _, first, count = np.unique(own, axis=0, return_index=True, return_counts=True)
    nu[first] = count / len(own)
    active = nu > 0
    assert mass[~active].sum() == 0
    assert np.sqrt(((mass - nu)[active] ** 2 / nu[active]).sum()) < 0.3


@pytest.mark.parametrize("label", SIZES)
def test_a_class_generates_blends_of_its_own_codes_only(classes, label):
    ext = classes.of(label)
    z, accepted, info = aeot.generate(KEY, ext, 64)
    own = CODES[label == LABELS]
    assert np.asarray(accepted).any()
    assert (np.asarray(info.index) < len(own)).all()
    # What fills the places of other classes' codes is never read.
    poisoned = ext.y.at[len(own) :].set(1e6)
    z_poisoned, _, _ = aeot.generate(KEY, replace(ext, y=poisoned), 64)
    np.testing.assert_allclose(z_poisoned, z, rtol=1e-5)
    # No further out than the codes reach, but for what a blend is scaled back by.
    centre = own.mean(0)
    reach = np.linalg.norm(own - centre, axis=1).max()
    assert np.linalg.norm(np.asarray(z) - centre, axis=1).max() <= 1.5 * reach


def test_every_class_is_what_it_would_be_alone(classes):
    keys = jax.random.split(jax.random.split(KEY)[0], 4)
    for i, label in enumerate(np.asarray(classes.labels)):
        rows = classes.index(int(label))
        np.testing.assert_array_equal(rows, np.flatnonzero(label == LABELS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoincidenceWarning)
            alone = aeot.solve(keys[i], Gaussian(3), CODES[rows], config=CONFIG)
        np.testing.assert_array_equal(alone.h, classes.solution.h[i, : len(rows)])
        assert alone.num_steps == classes.solution.num_steps[i]
        assert alone.certificate.upper == classes.solution.certificate.upper[i]


def test_weights_of_a_class_sum_to_its_share(classes):
    m = len(LABELS)
    same = solve_classes(
        KEY, Gaussian(3), CODES, LABELS, CONFIG, nu=np.full(m, 1 / m), extension=False
    )
    np.testing.assert_array_equal(same.solution.h, classes.solution.h)
    nu = np.where(LABELS == 7, 2.0, 1.0) * np.linspace(1, 2, m)
    nu /= nu.sum()
    found = solve_classes(KEY, Gaussian(3), CODES, LABELS, CONFIG, nu=nu, extension=False)
    shares = [nu[label == LABELS].sum() for label in found.labels]
    np.testing.assert_allclose(found.shares, shares, rtol=1e-6)
    own, h = found.index(7), np.asarray(found.solution.h[3], np.float64)
    x = np.random.default_rng(1).normal(size=(100_000, 3))
    mass = np.bincount((x @ CODES[own].T + h).argmax(1), minlength=40) / len(x)
    wanted = nu[own] / nu[own].sum()
    assert np.square(mass - wanted) @ (1 / wanted) < 0.3**2 + 2 * 40 / len(x)
    with pytest.raises(ValueError, match="`nu` is zero for all codes of class 5; leave them out"):
        solve_classes(KEY, Gaussian(3), CODES, LABELS, CONFIG, nu=(LABELS != 5) / 77)


@pytest.mark.long
def test_classes_on_several_devices_are_the_same(classes):
    several = replace(CONFIG, devices=tuple(jax.devices()[:2]))
    seen = []

    def heard(done, number):
        seen.append((done, number))

    found = solve_classes(
        KEY, Gaussian(3), CODES, LABELS, several, num_samples=64, on_progress=heard
    )
    assert seen == [(done, 4) for done in range(5)]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(classes), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_offset_of_the_codes_moves_no_height(classes):
    near = CODES.astype(np.float64)
    far = solve_classes(KEY, Gaussian(3), near + 2.0**30, LABELS, CONFIG, extension=False)
    np.testing.assert_allclose(far.solution.h, classes.solution.h, atol=1e-4)


def test_an_error_in_one_class_ends_all_devices(monkeypatch):
    seen = []

    def failing(*args):
        seen.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(solving, "solve_prepared", failing)
    several = replace(CONFIG, devices=tuple(jax.devices()[:2]))
    with pytest.raises(KeyboardInterrupt):
        solve_classes(KEY, Gaussian(3), np.tile(CODES, (5, 1)), np.arange(390) // 4, several)
    assert len(seen) < 5  # of 98 classes


def test_a_model_keeps_the_kernels_of_its_classes(model, monkeypatch, tmp_path):
    """One class of three has too few codes."""
    monkeypatch.setattr(extension, "LEAST_CODES", 20)
    labels = np.minimum(np.arange(60), 44) // 22 + 1  # 22, 22 and 16
    maps = solve_classes(KEY, Gaussian(3), model.extension.y, labels, tiny.CONFIG.solver)
    made = replace(model, classes=maps.calibrated(KEY))
    aeot.save(made, tmp_path / "model.npz")
    again = aeot.load(tmp_path / "model.npz")
    jax.tree.map(np.testing.assert_array_equal, again.classes, made.classes)
    assert [again.classes.of(label).noise is None for label in (1, 2, 3)] == [False, False, True]
    for label, novelty in ((1, 0.5), (2, 1), (3, "blend"), (3, None)):
        codes, _ = draw_codes(KEY, again, 8, label=label, novelty=novelty)
        assert np.isfinite(codes).all()
    with pytest.raises(ValueError, match=r"`novelty` is 1, .* has no kernels; .* of each"):
        aeot.sample(KEY, again, 8, label=3, novelty=1)


def test_progress_tells_the_classes_that_are_solved(model, reported):
    del model  # which reports
    heard = [news for news in reported if news.stage == "map"]
    assert [(news.done, news.total) for news in heard[1:]] == [(done, 4) for done in range(5)]
    assert [news.note for news in heard[1:-1]] == [f"{k} of 3 classes solved" for k in range(4)]
    assert (heard[0].done, heard[0].total) == (0, 1)  # the map of all comes first


def test_without_maps_there_are_heights_alone(classes):
    found = solve_classes(KEY, Gaussian(3), CODES, LABELS, CONFIG, extension=False)
    np.testing.assert_array_equal(found.solution.h, classes.solution.h)
    with pytest.raises(ValueError, match=r"`extension` is None; .* `extension=True`"):
        found.of(3)
    with pytest.raises(ValueError, match=r"`extension` is None; .* `extension=True`"):
        found.calibrated(KEY)


def test_a_class_without_its_rows_says_so(classes):
    with pytest.raises(ValueError, match="`rows` is None, because the file is of an earlier"):
        replace(classes, rows=None).index(3)


@pytest.mark.long
def test_limits_are_those_of_every_class_and_the_time_is_that_of_all():
    rough = SolverConfig(tolerance=0.3, adam_share=1.0, learning_rate=1e-5, start="zero")
    rough = replace(rough, max_steps=20)
    found = solve_classes(KEY, Gaussian(3), CODES, LABELS, rough, extension=False)
    # What is certified is said class by class: one code has one cell.
    expected = np.where(found.labels == 5, Status.CONVERGED, Status.STEP_LIMIT)
    np.testing.assert_array_equal(found.solution.status, expected)
    over = replace(rough, max_steps=None, time_limit=1e-6)
    found = solve_classes(KEY, Gaussian(3), CODES, LABELS, over, extension=False)
    assert (found.solution.num_steps == 0).all()
    expected = np.where(found.labels == 5, Status.CONVERGED, Status.TIME_LIMIT)
    np.testing.assert_array_equal(found.solution.status, expected)


def test_without_labels_nothing_changes(model):
    plain = tiny.model()
    assert plain.classes is None
    tiny.assert_same(replace(model, classes=None), plain)
    np.testing.assert_array_equal(aeot.sample(KEY, model, 8), aeot.sample(KEY, plain, 8))


def test_samples_of_a_class_are_decoded_from_its_map(model):
    images = aeot.sample(KEY, model, 40, label=2)
    ext = model.classes.of(2)
    z, accepted, _ = aeot.generate(jax.random.fold_in(KEY, 0), ext, 128)
    expected = aeot.decode(model, z[np.asarray(accepted)][:40])
    np.testing.assert_allclose(images, expected, atol=2e-5)
    codes = np.asarray(aeot.encode(model, tiny.images()[IMAGE_LABELS == 2]))
    np.testing.assert_allclose(ext.y, codes, atol=2e-5)


def test_a_walk_may_stay_in_a_class(model):
    walk = aeot.interpolate(model, -jnp.ones(3), jnp.ones(3), 3, label=2)
    points = jnp.outer(jnp.array([-1.0, 0, 1]), jnp.ones(3))
    # Eagerly the last bit differs.
    z, _, _ = jax.jit(generate.extend)(points, model.classes.of(2))
    np.testing.assert_array_equal(walk.z, z)


def test_classes_are_saved_and_loaded_to_the_last_bit(model, tmp_path):
    aeot.save(model, tmp_path / "m.npz")
    again = aeot.load(tmp_path / "m.npz")
    tiny.assert_same(again, model)
    np.testing.assert_array_equal(
        aeot.sample(KEY, again, 8, label=3), aeot.sample(KEY, model, 8, label=3)
    )


def test_labels_are_part_of_what_a_run_is():
    images = tiny.images()[..., None]
    labels = IMAGE_LABELS.astype(np.int32)
    names = {
        identity.of(KEY, images, tiny.CONFIG, some) for some in (None, labels, labels[::-1].copy())
    }
    assert len(names) == 3


NAMES = ("nought", "one", "two", "three")


def test_classes_have_names(model, tmp_path):
    """Texts as labels, or names for numbers: the same model as by numbers."""
    texts = [f"kind {i}" for i in IMAGE_LABELS]
    by_text = aeot.fit(tiny.KEY, tiny.images(), tiny.CONFIG, labels=texts)
    assert by_text.label_names == ("kind 1", "kind 2", "kind 3")
    named = replace(model, label_names=NAMES)
    aeot.save(named, tmp_path / "model.npz")
    again = aeot.load(tmp_path / "model.npz")
    assert again.label_names == NAMES
    expected = aeot.sample(KEY, model, 8, label=2)
    np.testing.assert_array_equal(aeot.sample(KEY, again, 8, label="two"), expected)
    np.testing.assert_array_equal(aeot.sample(KEY, again, 8, label=2), expected)
    np.testing.assert_array_equal(aeot.sample(KEY, by_text, 8, label="kind 2"), expected)
    walk = aeot.interpolate(again, -jnp.ones(3), jnp.ones(3), 3, label="two")
    assert walk.images.shape[0] == 3
    with pytest.raises(ValueError, match=r"`label` is 'tow', .* nearest of 3 classes are 'two'"):
        aeot.sample(KEY, again, 4, label="tow")
    with pytest.raises(ValueError, match="`label` is 'nought', which no class has"):
        aeot.sample(KEY, again, 4, label="nought")
    with pytest.raises(ValueError, match=r"'two', but the classes of this model are numbers; "):
        aeot.sample(KEY, model, 4, label="two")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (None, NAMES, "`labels` is None; leave one of them out"),
        (list("ab") * 30, NAMES, "`labels` are texts already"),
        (IMAGE_LABELS, NAMES[:3], "`label_names` has 3 names, but `labels` run from 1 to 3"),
        (-IMAGE_LABELS, NAMES, "run from -3 to -1"),
        (IMAGE_LABELS, ["a", "b", "a", "c"], "`label_names` has 'a' twice"),
        (IMAGE_LABELS, "abcd", "`label_names` is 'abcd'; pass a list of names"),
        (IMAGE_LABELS, ["a", "", "b", "c"], "pass a list of names"),
        (IMAGE_LABELS, ["x" * 200_000, "a", "b", "c"], "shorten them"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_any_work(labels, names, message):
    with pytest.raises(ValueError, match=message):
        aeot.fit(KEY, tiny.images(), tiny.CONFIG, labels=labels, label_names=names)


def test_mistakes_are_explained(model, classes):
    with pytest.raises(ValueError, match="`label` is 9, which no class has; pass one of 1, 2, 3"):
        aeot.sample(KEY, model, 4, label=9)
    with pytest.raises(ValueError, match="`label` is 1, but the model was fitted without labels"):
        aeot.sample(KEY, tiny.model(), 4, label=1)
    with pytest.raises(ValueError, match=r"shape \(59,\) of `labels` does not fit 60 images"):
        aeot.fit(KEY, tiny.images(), tiny.CONFIG, labels=IMAGE_LABELS[1:])
    with pytest.raises(ValueError, match="of `labels` is neither integer nor text"):
        aeot.fit(KEY, tiny.images(), tiny.CONFIG, labels=IMAGE_LABELS.astype("M8[D]"))
    with pytest.raises(ValueError, match=r"`labels` has shape \(77,\) and dtype int64"):
        solve_classes(KEY, Gaussian(3), CODES, LABELS[1:], CONFIG)
    with pytest.raises(ValueError, match="and dtype float64; pass one integer"):
        solve_classes(KEY, Gaussian(3), CODES, LABELS / 2, CONFIG)
    wide = LABELS.astype(np.int64) + 2**31 * (LABELS == 5)
    place = int(np.flatnonzero(LABELS == 5)[0])
    with pytest.raises(ValueError, match=f"`labels` is 2147483653 at {place}, beyond 32 bits"):
        solve_classes(KEY, Gaussian(3), CODES, wide, CONFIG)
    for label, sentence in (
        (np.array([3, 5]), r"`label` has shape \(2,\); pass one label, an integer"),
        ("cat", "`label` is 'cat', which no class has; pass one of -1, 3, 5, 7"),
    ):
        with pytest.raises(ValueError, match=sentence):  # `of` itself has its types checked here
            place_of(label, np.asarray(classes.labels))
    with pytest.raises(ValueError, match="`threshold` is 4"):
        solve_classes(KEY, Gaussian(3), CODES, LABELS, CONFIG, threshold=4.0)
