import json
from itertools import product
from pathlib import Path

import cells
import harness
import latents
import numpy as np
import pytest
import toys
from cells import Cell

from aeot_jax.data.images import ImageSet

SIZES = toys.Sizes(400, 800, 400)


def cell(seed=0, **settings):
    return Cell("grid", "GAN", seed, {"width": 8} | settings)


def test_whatever_determines_a_cell_changes_its_digest():
    others = [cell(), cell(1), cell(width=9), cell(depth=1), Cell("ring", "GAN", 0, {"width": 8})]
    others.append(Cell("grid", "VAE", 0, {"width": 8}))
    assert len({other.digest for other in others}) == len(others)
    assert cell().digest == cell().digest
    assert Cell("grid", "GAN", 0, {"a": 1, "b": 2}).digest == (
        Cell("grid", "GAN", 0, {"b": 2, "a": 1}).digest
    )


def test_cells_on_record_are_not_run_again():
    known, runs = [], []

    def make(one):
        runs.append(one.seed)
        return {"score": one.seed}

    def run(todo, again=()):
        runs.clear()
        cells.run(todo, make, list(known), known.append, again)
        return list(runs)

    assert run([cell(0), cell(1)]) == [0, 1]
    assert run([cell(0), cell(1), cell(2)]) == [2]
    assert run([cell(0, width=9), cell(1)]) == [0]  # its settings have changed
    assert run([cell(0), cell(1)], again=["GAN"]) == [0, 1]
    assert run([cell(3), cell(3)]) == [3]
    assert [line["score"] for line in cells.newest(known)] == [0, 1, 2, 3]


def test_a_run_that_is_cut_off_keeps_what_it_made():
    known = []

    def make(one):
        if one.seed == 1:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        cells.run([cell(0), cell(1)], make, [], known.append)
    assert [line["seed"] for line in known] == [0]


def test_a_line_that_is_no_record_is_named(tmp_path):
    place = tmp_path / "device.jsonl"
    assert cells.lines(place, "a") == []
    place.write_text('{"name": "a"}\n{"name": "b"}\n{"nam\n')
    with pytest.raises(ValueError, match=r"line 3 of device\.jsonl is no record"):
        cells.lines(place, "a")


def test_a_flag_that_names_what_is_not_known_is_refused():
    assert cells.chosen("sets", None, ["a", "b"]) == ["a", "b"]
    assert cells.chosen("sets", ["b"], ["a", "b"]) == ["b"]
    with pytest.raises(ValueError, match="`sets` names 'c'; pass some of: a, b"):
        cells.chosen("sets", ["c"], ["a", "b"])


def test_a_table_has_means_and_half_ranges():
    known = [{"method": "a", "x": 1.0}, {"method": "a", "x": 2.0}, {"method": "b", "x": None}]
    made = cells.table(known, {"x": lambda line: line["x"]}, {"x": 1}, ["b", "a", "c"])
    assert made.splitlines()[2:] == ["| b | 1 |  |", "| a | 2 | 1.5 ± 0.5 |"]


def test_fresh_samples_miss_nothing_and_a_mode_less_is_missed():
    known, fresh = toys.points_of("grid", 0, SIZES)
    own = toys.quality(known, fresh, np.asarray(fresh.points), few=False)
    assert own["captured"] == 25
    assert own["missed"] < 0.15  # the noise of 800 points on 25 modes: sqrt(24 / (2 pi 800)) = 0.07
    points = np.asarray(known.points)
    one = points[np.asarray(known.labels) == 3]
    alone = toys.quality(known, fresh, np.tile(one, (30, 1)), few=False)
    assert alone["captured"] == 1
    assert alone["missed"] == pytest.approx(1 - 1 / 25)


def test_copies_cover_less_of_unseen_data_than_fresh_samples():
    known, fresh = toys.points_of("few of the grid", 0, SIZES)
    points = np.asarray(known.points)
    copies = toys.quality(known, fresh, np.tile(points[:100], (8, 1)), few=True)
    new = np.asarray(toys.points_of("few of the grid", 1, SIZES)[1].points)
    honest = toys.quality(known, fresh, new, few=True)
    assert copies["z5"] == copies["nearer"] == 1
    assert honest["coverage"] > copies["coverage"] + 0.2
    assert honest["missed"] < copies["missed"]


def test_a_search_uses_no_seed_that_is_reported_and_draws_the_same_trials():
    sets, methods = ["grid"], ["GAN", "mixture"]
    one, other = (list(toys.searched(sets, methods, 1.0, SIZES, 4)) for _ in range(2))
    assert len(one) == 4
    assert [c.digest for c in one] == [c.digest for c in other]
    assert len({c.digest for c in one}) == 4
    told = toys.reported(sets, methods, range(3), 1.0, SIZES)
    assert not {c.seed for c in one} & {c.seed for c in told}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return harness.records(toys.FOLDER)


@pytest.mark.long
def test_a_contest_is_resumed_and_shown(place, tmp_path):
    methods = [toys.FLOOR, "noise", "resampling"]

    def run(seeds):
        todo = toys.reported(["ring", "few of the roll"], methods, seeds, 1.0, SIZES)
        toys.run(todo, "baselines of toys", True, [], tmp_path / "samples")
        return cells.lines(place, "baselines of toys")

    assert len(run(range(1))) == 6
    lines = run(range(2))
    assert len(lines) == 12
    assert len({line["digest"] for line in lines}) == 12
    shown = toys.tables(place)
    assert shown.count("| noise | 2 |") == shown.count("| fresh samples | 2 |") == 2
    toys.picture(place, tmp_path / "samples", "ring", tmp_path / "ring.png")
    assert (tmp_path / "ring.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no samples of grid"):
        toys.picture(place, tmp_path / "samples", "grid", tmp_path / "grid.png")


def striped(n, seed=0):
    """Digits for the tests: bytes (n, 4, 4, 1) whose brightness is their label."""
    labels = np.random.default_rng(seed).integers(0, 10, n).astype(np.int32)
    images = np.broadcast_to((25 * labels)[:, None, None, None], (n, 4, 4, 1)).astype(np.uint8)
    return ImageSet(images, labels, "stripes")


def test_stacked_digits_have_a_digit_a_channel():
    images, modes = latents.stacked(np.random.default_rng(0), striped(50), 20)
    assert images.shape == (20, 4, 4, 3)
    digits = images[:, 0, 0] // 25
    np.testing.assert_array_equal(digits @ np.array([100, 10, 1]), modes)
    colour = ImageSet(images, modes.astype(np.int32), "colour")
    with pytest.raises(ValueError, match="digits of one channel with labels 0 to 9"):
        latents.stacked(np.random.default_rng(0), colour, 5)


def test_codes_are_judged_through_one_decoder(place, tmp_path):
    """A decoder that paints a code's two coordinates; a judge of the mean brightness."""
    codes, unseen = (np.random.default_rng(k).random((300, 2)) for k in (0, 1))
    about = {"judge": "0", "autoencoder_s": 1.0}

    def decode(z):
        return np.clip(np.asarray(z), 0, 1).reshape(-1, 1, 2, 1).astype(np.float32)

    def judge(images, seed, z):
        return {"captured": len(images), "reverse_kl": abs(float(images.mean()) - 0.5)}

    bench = latents.Bench("stacked dots", decode, codes, unseen, judge, decode(unseen), about)

    sizes = latents.Sizes(300, 200, 0, 1)
    todo = list(latents.reported("stacked dots", ["resampling"], range(2), 1.0, sizes, None))
    made = latents.run(bench, iter(todo), True, [], tmp_path / "samples")
    assert [line["method"] for line in made] == [latents.REAL, latents.DECODED, *["resampling"] * 2]
    assert all(line["reverse_kl"] < 0.1 for line in made)
    assert latents.run(bench, iter(todo), True, [], tmp_path / "samples") == []
    assert "| resampling | 2 | 200 |" in latents.tables(place)
    latents.picture(place, tmp_path / "samples", "stacked dots", tmp_path / "dots.png")
    assert (tmp_path / "dots.png").exists()


def test_a_search_on_codes_tries_every_combination_with_a_seed_of_its_own():
    methods = ["flow", "two-stage VAE", "resampling"]
    todo = list(latents.searched("dots", methods, 1.0, latents.QUICK, None))
    assert {cell.seed for cell in todo} == {latents.SEARCH_SEED}
    assert [cell.method for cell in todo] == ["flow"] * 3 + ["two-stage VAE"] * 6
    assert len({cell.digest for cell in todo}) == 9
    assert set(latents.TUNED) >= set(latents.TRIED)


def test_records_of_this_repository_are_readable():
    longest = 0
    for place in (Path(harness.__file__).parent / "results" / toys.FOLDER).glob("*.jsonl"):
        for name, of in product(("baselines of toys", "baselines of codes"), ("digest", "seed")):
            assert all(of in line for line in cells.lines(place, name))
        assert json.loads(place.read_text().splitlines()[0])
        searches = toys.search_table(place), latents.search_table(place)
        longest = max(longest, *(table.count("\n") for table in searches))
    assert longest > 1  # a device may have none
