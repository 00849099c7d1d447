"""One's own data, features and samples judged as the library's are."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax import metrics
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.evaluate import evaluate, newness, novelty, reconstruction, scores, trips

KEY = jax.random.key(0)


def rows(seed: int, n: int = 200, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(n, 4)) * [1, 10, 100, 1e-3]


def test_samples_of_the_law_score_as_real_data_do_and_shifted_ones_worse():
    good = metrics.compare(KEY, rows(0, 400), rows(1), rows(2))
    bad = metrics.compare(KEY, rows(0, 400), rows(1) + np.array([3, 0, 0, 0]), rows(2))
    floor = good["frechet"]["floor_test"]
    assert good["features"] == "standardised columns"
    assert good["frechet"]["distance"] < 3 * floor
    assert bad["frechet"]["distance"] > 8  # the squared shift in deviations is 9
    assert bad["prdc"]["coverage"] < good["prdc"]["coverage"] / 2
    assert good["memory"]["num_copies"] == 0


def test_copies_are_found():
    found = metrics.compare(KEY, rows(0, 400), rows(0, 400)[:100], rows(2))
    assert found["memory"]["num_copies"] == 100
    assert found["memory"]["share_nearer"] == 1


def test_units_do_not_matter():
    one = metrics.compare(KEY, rows(0, 100), rows(1, 50))
    scale = np.array([8.0, 0.5, 4.0, 64.0])
    other = metrics.compare(KEY, scale * rows(0, 100), scale * rows(1, 50))
    assert one["frechet"]["distance"] == pytest.approx(other["frechet"]["distance"], rel=1e-4)
    assert one["memory"] is None


def test_ones_own_features_are_given_pixels_as_floats_in_batches():
    seen = []

    def features(x):
        seen.append((x.dtype, x.shape[0], float(x.max()) <= 1))
        return x.reshape(len(x), 8, -1).mean(2)

    images = tiny.images(100)
    found = metrics.compare(KEY, images, images[:40] / 255.0, features=features)
    assert found["features"] == "own"
    assert found["classes"] is None
    assert {one[2] for one in seen} == {True}
    assert max(one[1] for one in seen) <= 64


def test_bytes_of_features_are_numbers_and_no_pixels():
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 9, (2, 60, 3)).astype(np.float32)
    kinds = (np.uint8, np.int32)
    scores = [
        metrics.compare(KEY, *rows, features=lambda x, kind=kind: np.asarray(x, kind))
        for kind in kinds
    ]
    assert scores[0]["frechet"] == scores[1]["frechet"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"generated": rows(1)[:, :3]}, r"`generated` has rows of shape \(3,\), but `real`"),
        ({"generated": rows(1, 19)}, "`generated` holds 19 rows; pass at least 20"),
        ({"real": rows(1, 39)}, "`real` holds 39 rows; pass at least 40"),
        ({"held_out": rows(1) * np.nan}, "`held_out` holds a value in row 0 that is not finite"),
        ({"generated": np.zeros(30)}, r"`generated` has shape \(30,\)"),
        ({"features": lambda x: x[:1]}, "`features` made shape"),
        ({"real": None}, "`real` is None"),
        ({"generated": None}, "`generated` is None"),
        ({"labels": np.arange(7)}, r"`labels` has shape \(7,\); pass one integer for each of 200"),
        ({"labels": np.arange(200) % 2}, "`labels` is given for a classifier, but rows have none"),
        (
            {"labels": np.arange(200) % 2, "features": lambda x: x},
            "`labels` is given for a classifier, but `features` replace it",
        ),
        ({"features": lambda x: x * np.nan}, "`features` made a value of row 0 that is not finite"),
        ({"features": lambda x: x[:, :0]}, "`features` returned no number for a row"),
        ({"features": lambda x: np.asarray(x, float) * 1e300}, "`features` made a value of row"),
        ({"generated": rows(1) * 1e25}, r"`generated` lies up to .*e\+25 from 0 where it is comp"),
        ({"held_out": rows(0)}, "`held_out` is at a median distance of 0 from `real`"),
        ({"num_samples": 5}, "`num_samples` is 5; pass at least 20"),
    ],
)
def test_sets_that_do_not_fit_are_refused(given, said):
    sets = {"real": rows(0), "generated": rows(1)}
    with pytest.raises(ValueError, match=said):
        metrics.compare(KEY, **{**sets, **given})


@pytest.mark.long
def test_a_model_of_codes_is_judged_in_the_space_of_its_codes():
    codes = rows(0, 120)
    model = aeot.fit_codes(KEY, codes, tiny.CONFIG)
    found = evaluate(KEY, model, Table(codes, None, "codes"), Table(rows(5, 60), None, "codes"))
    assert found["reconstruction"] is None
    assert found["features"] == "standardised columns"
    assert found["frechet"]["distance"] >= 0
    assert found["memory"]["num_generated"] == 60
    assert found["novelty"]["num_unseen"] == 60
    assert found["decoded"] is None
    with pytest.raises(ValueError, match="fitted to codes"):
        reconstruction(model, codes)
    with pytest.raises(ValueError, match=r"rows of shape \(3,\), but the model makes \(4,\)"):
        evaluate(KEY, model, Table(codes[:, :3], None, "codes"))


@pytest.mark.parametrize(
    "names",
    [(-1, 2020), *(pytest.param(one, marks=pytest.mark.long) for one in ((0, 1), (1990, 2020)))],
)
def test_any_integers_are_classes_of_an_evaluation(names):
    place = np.arange(60) % 2
    data = ImageSet(tiny.images(60)[..., None], np.array(names, np.int32)[place], "x")
    np.testing.assert_array_equal(scores.usable_labels(data), place)
    found = evaluate(KEY, tiny.model(), data, num_samples=30)
    assert found["classes"]["of"] == 2


def test_one_class_is_as_none():
    data = ImageSet(tiny.images(60)[..., None], np.full(60, 7, np.int32), "x")
    assert scores.usable_labels(data) is None


def test_unseen_data_are_encoded_once(monkeypatch):
    calls = []

    def counted(model, data):
        calls.append(len(data))
        return round_trips(model, data)

    round_trips = trips.round_trips
    for module in (trips, scores):
        monkeypatch.setattr(module, "round_trips", counted)
    monkeypatch.setattr(newness, "encode_all", None)
    pictures = tiny.images(90)[..., None]
    sets = (ImageSet(some, None, "x") for some in (pictures[:60], pictures[60:]))
    found = evaluate(KEY, tiny.model(), *sets, num_samples=30)
    assert calls == [60, 30]
    assert found["novelty"]["num_unseen"] == found["decoded"]["num_samples"] == 30
    assert found["novelty"]["num_repeated"] == 0
    again = [trip.codes for trip in trips.round_trips(tiny.model(), pictures[:60])]
    told = newness.novelty_beside(tiny.model(), rows(0, 30)[:, :3], np.concatenate(again))
    assert told is not None
    assert told["num_repeated"] == told["num_unseen"] == 60


@pytest.mark.long
def test_a_table_is_judged_in_units_of_its_columns():
    config = aeot.Config(
        tiny.CONFIG.autoencoder, aeot.TrainConfig(epochs=40), solver=tiny.CONFIG.solver
    )
    table = rows(0, 120)
    model = aeot.fit(KEY, table, config)
    found = reconstruction(model, table)
    assert found["variance"] == pytest.approx(1.0, abs=1e-3)
    assert found["mse"] < 0.9
    judged = evaluate(KEY, model, Table(table, None, "t"), Table(rows(3, 60), None, "t"))
    assert judged["reconstruction"]["held_out"]["num_images"] == 60
    assert judged["novelty"]["unseen"] == "held out"
    assert judged["decoded"]["num_samples"] == 60
    # Codes and rows of a table pass through NumPy, which must encode as the model does.
    np.testing.assert_allclose(newness.codes_of(model, table), aeot.encode(model, table), atol=1e-4)


def test_copies_of_training_codes_are_not_new_to_a_model():
    model, pictures = tiny.model(), tiny.images(90)[..., None]
    copies = model.extension.y[:30]
    for unseen, reference, number in (
        (pictures[60:], "held out", 30),
        (pictures[60:70], "left out", 30),  # too few
        (None, "left out", 30),
    ):
        found = novelty(model, copies, unseen)
        assert found is not None
        assert found["nearer"] == found["share_near"] == 1
        assert (found["unseen"], found["num_unseen"]) == (reference, number)
    np.testing.assert_allclose(
        newness.codes_of(model, pictures), aeot.encode(model, pictures), atol=1e-4
    )
    few = dataclasses.replace(model.extension, y=copies[:20], h=model.extension.h[:20])
    assert novelty(dataclasses.replace(model, extension=few), copies) is None
    with pytest.raises(ValueError, match=r"`unseen` holds images of shape \(7, 8, 1\), but the mo"):
        novelty(model, copies, pictures[:, :7])
