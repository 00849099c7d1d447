import logging
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
from tiny import assert_same

import aeot_jax as aeot
from aeot_jax import SolverConfig, Status, TrainConfig
from aeot_jax.checkpoints.checkpoint import MODEL_FILE, TRAINING_FILE
from aeot_jax.fitting import stages
from aeot_jax.fitting.inputs import devices_for
from aeot_jax.pipeline import STAGES
from aeot_jax.storage.runs import NEXT

SAMPLE_KEY = jax.random.key(3)


def run(folder, **changes):
    arguments = {"key": tiny.KEY, "images": tiny.images(), "config": tiny.CONFIG}
    return aeot.fit(**{**arguments, **changes}, run_dir=folder)


def interrupt_at(stage, done):
    def callback(progress):
        if (progress.stage, progress.done) == (stage, done):
            raise KeyboardInterrupt

    return callback


def test_the_model_is_certified_and_complete():
    model = tiny.model()
    assert model.solution.converged
    bound = float(model.solution.mass_error + 2 * model.solution.mass_error_se)
    assert bound <= 0.3
    assert model.losses.shape == (2,)
    assert model.image_shape == (8, 8, 1)
    assert set(model.seconds) == set(STAGES)
    assert model.extension.y.shape == (60, 3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model))


def test_masses_of_the_cells_are_those_asked_for():
    """A count in float64 NumPy that shares nothing with the certificate."""
    solution, ext = tiny.model().solution, tiny.model().extension
    x = np.random.default_rng(0).normal(size=(200_000, 3))
    cells = (x @ np.asarray(ext.y, np.float64).T + np.asarray(solution.h)).argmax(1)
    relative = np.bincount(cells, minlength=60) / len(x) * 60 - 1
    # Counting noise of 60 / 200,000 per cell is far below the standard error stated.
    expected = float(solution.mass_error)
    assert np.sqrt((relative**2).mean()) == pytest.approx(
        expected, abs=4 * float(solution.mass_error_se)
    )


def test_the_same_key_gives_the_same_model_with_or_without_a_folder(tmp_path):
    model = run(tmp_path / "run")
    assert_same(model, tiny.model())
    assert_same(aeot.load(tmp_path / "run"), model)
    assert [file.name for file in (tmp_path / "run").iterdir()] == [MODEL_FILE]


def test_another_key_gives_another_model():
    other = aeot.fit(jax.random.key(1), tiny.images(), tiny.CONFIG)
    assert not np.array_equal(other.extension.y, tiny.model().extension.y)


@pytest.mark.long
def test_devices_share_the_whole_fit():
    four = tuple(jax.devices()[:4])
    model, alone = aeot.fit(tiny.KEY, tiny.images(), tiny.CONFIG, devices=four), tiny.model()
    assert model.config == tiny.CONFIG
    assert model.solution.converged
    np.testing.assert_allclose(model.losses, alone.losses, rtol=1e-5)
    np.testing.assert_allclose(model.extension.y, alone.extension.y, atol=1e-4)
    # Onto the same codes the transport is the same, to the last bit.
    solve_key = jax.random.split(tiny.KEY, 3)[1]
    mu = aeot.Gaussian(3)
    again = aeot.solve(solve_key, mu, model.extension.y, config=tiny.CONFIG.solver)
    np.testing.assert_array_equal(again.h, model.solution.h)


def test_devices_that_nobody_named_refuse_no_batch(monkeypatch):
    devices = tuple(jax.devices())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for size, number in ((20, 4), (16, 8), (15, 1), (None, 8)):
        training = TrainConfig(batch_size=size)
        assert devices_for(60, training, tiny.CONFIG.solver) == devices[:number]
    # 5,000 images have batches of 156, of 152 where eight devices are asked for.
    assert devices_for(5_000, TrainConfig(), SolverConfig()) == devices[:4]
    assert devices_for(5_000, TrainConfig(), SolverConfig(devices=devices)) == devices


def test_devices_that_do_not_fit_are_refused_before_any_work():
    devices = tuple(jax.devices())
    elsewhere = replace(tiny.CONFIG, solver=SolverConfig(devices=devices[1:3]))
    for config, some, said in (
        (tiny.CONFIG, devices, "`batch_size` is 20, which 8 devices cannot share evenly"),
        (tiny.CONFIG, devices[:3], "`devices` holds 3 devices, over which the 8 logical"),
        (tiny.CONFIG, (), "`devices` is empty"),
        (tiny.CONFIG, devices[:1] * 2, "`devices` names a device twice"),
        (elsewhere, devices[:2], "`config.solver.devices` is .*; give one"),
    ):
        with pytest.raises(ValueError, match=said):
            run(None, config=config, devices=some, on_progress=lambda _: pytest.fail("it began"))


def test_stages_are_reported_in_order_from_start_to_end(caplog):
    seen, heard = [], []
    with caplog.at_level(logging.DEBUG, logger="aeot_jax"):
        model = aeot.fit(
            tiny.KEY, tiny.images(), tiny.CONFIG, on_progress=seen.append, on_event=heard.append
        )
    assert [tuple(event.values) for event in heard] == [tuple(news.values) for news in seen]
    assert len(caplog.records) == len(seen)
    assert sorted(event.seconds for event in heard) == [event.seconds for event in heard]
    losses = [event.values["loss"] for event in heard if event.kind == "loss"]
    np.testing.assert_allclose(losses, model.losses, rtol=1e-6)
    (certificate,) = (event for event in heard if event.kind == "certificate")
    assert certificate.values["upper"] == float(model.solution.certificate.upper)
    assert certificate.values["converged"] == 1
    assert {event.kind for event in heard} == {"stage", "loss", "estimate", "certificate"}
    assert "certified" in [news for news in seen if news.stage == "transport"][-1].note
    assert list(dict.fromkeys(progress.stage for progress in seen)) == list(STAGES)
    for stage in STAGES:
        done = [progress.done / progress.total for progress in seen if progress.stage == stage]
        assert done == sorted(done)
        assert done[-1] >= 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_training_resumes_to_the_same_model(tmp_path, epochs):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_progress=interrupt_at("autoencoder", epochs))
    with pytest.raises(ValueError, match=r"already holds a run \(checkpoint\.npz\)"):
        run(tmp_path)
    seen = []
    model = run(tmp_path, resume=True, on_progress=seen.append)
    assert seen[0].done == epochs
    assert_same(model, tiny.model())
    np.testing.assert_array_equal(
        aeot.sample(SAMPLE_KEY, model, 33), aeot.sample(SAMPLE_KEY, tiny.model(), 33)
    )
    assert [file.name for file in tmp_path.iterdir()] == [MODEL_FILE]


REFINED = replace(tiny.CONFIG, training=replace(tiny.CONFIG.training, refine_epochs=2))


@pytest.fixture(scope="module")
def refined():
    return run(None, config=REFINED)


def test_refining_the_decoder_moves_no_code(refined):
    same = {name: getattr(tiny.model(), name) for name in ("params", "losses", "config")}
    assert_same(replace(refined, **same), tiny.model())
    assert refined.losses.shape == (4,)
    assert not np.array_equal(
        aeot.decode(refined, refined.extension.y), aeot.decode(tiny.model(), refined.extension.y)
    )


@pytest.mark.long  # tests/nn/test_refine.py resumes a training there, and a run is resumed above
@pytest.mark.parametrize("epochs", [2, 3])
def test_an_interrupted_second_stage_resumes_to_the_same_model(tmp_path, epochs, refined):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config=REFINED, on_progress=interrupt_at("autoencoder", epochs))
    seen = []
    model = run(tmp_path, config=REFINED, resume=True, on_progress=seen.append)
    assert (seen[0].done, seen[0].total) == (epochs, 4)
    assert_same(model, refined)


def test_an_interruption_before_the_first_epoch_leaves_no_run(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_progress=interrupt_at("autoencoder", 0))
    assert_same(run(tmp_path), tiny.model())


def test_an_interruption_after_the_transport_resumes_to_the_same_model(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_progress=interrupt_at("map", 0))
    assert_same(run(tmp_path, resume=True), tiny.model())


def test_an_interrupted_transport_gives_a_model_that_says_so_and_resumes(tmp_path):
    def stop(progress):
        if progress.stage == "transport":
            raise KeyboardInterrupt

    model = run(tmp_path, on_progress=stop)
    assert model.solution.status == Status.INTERRUPTED
    assert aeot.sample(SAMPLE_KEY, model, 33).shape[0] == 33
    assert aeot.load(tmp_path).solution.status == Status.INTERRUPTED
    assert_same(run(tmp_path, resume=True), tiny.model())
    assert [file.name for file in tmp_path.iterdir()] == [MODEL_FILE]


@pytest.mark.long
def test_an_interrupted_transport_does_not_go_on_with_its_classes(tmp_path, monkeypatch):
    def stop(progress):
        if progress.stage == "transport":
            raise KeyboardInterrupt

    labels = np.array(["a", "b"])[np.arange(60) % 2]
    with monkeypatch.context() as patch:
        patch.setattr(stages, "solve_classes", lambda *_, **__: pytest.fail("classes were solved"))
        model = run(tmp_path, labels=labels, on_progress=stop)
    assert model.classes is None
    assert aeot.load(tmp_path).label_names == ("a", "b")
    with pytest.raises(ValueError, match="interrupted before the maps of classes; go on with `res"):
        aeot.sample(SAMPLE_KEY, model, 3, label="a")
    again = run(tmp_path, labels=labels, resume=True)
    assert again.solution.converged
    assert again.classes is not None
    np.testing.assert_array_equal(again.solution.h, tiny.model().solution.h)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


def test_a_finished_run_is_returned_at_once(finished):
    seen = []
    assert_same(run(finished, resume=True, on_progress=seen.append), tiny.model())
    assert seen == []


def test_a_folder_with_a_run_is_refused(finished):
    before = (finished / MODEL_FILE).read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run \(model\.npz\); resume it, over"):
        run(finished)
    assert (finished / MODEL_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"key": jax.random.key(1)},
        {"images": tiny.images(seed=1)},
        {"config": replace(tiny.CONFIG, source="ball")},
    ],
    ids=["key", "images", "config"],
)
def test_another_fit_does_not_resume_a_run(finished, changes):
    with pytest.raises(ValueError, match="other images or labels or another configuration"):
        run(finished, resume=True, **changes)


def test_overwriting_keeps_the_old_model_until_the_new_one_is_saved(tmp_path):
    run(tmp_path)
    other = {"key": jax.random.key(1), "overwrite": True}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **other, on_progress=interrupt_at("map", 0))
    assert_same(aeot.load(tmp_path), tiny.model())
    new = run(tmp_path, key=jax.random.key(1), resume=True)
    assert_same(aeot.load(tmp_path), new)
    assert not np.array_equal(new.solution.h, tiny.model().solution.h)
    assert_same(run(tmp_path, overwrite=True), tiny.model())


def test_a_disk_that_fills_keeps_the_old_model_and_the_checkpoint(tmp_path, monkeypatch):
    run(tmp_path)
    write = np.savez
    calls = []

    def third_time_full(file, **arrays):
        calls.append(file)
        if len(calls) == 3:  # after two epochs, the model
            file.write(b"PK")
            raise OSError(28, "No space left on device")
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", third_time_full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, key=jax.random.key(1), overwrite=True)
    assert_same(aeot.load(tmp_path), tiny.model())
    assert sorted(file.name for file in tmp_path.iterdir()) == [NEXT, MODEL_FILE]
    assert [file.name for file in (tmp_path / NEXT).iterdir()] == [TRAINING_FILE]
    seen = []
    run(tmp_path, key=jax.random.key(1), resume=True, on_progress=seen.append)
    assert seen[0].done == 2  # nothing is trained again


def test_a_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_progress=interrupt_at("autoencoder", 1))
    whole = (tmp_path / TRAINING_FILE).read_bytes()
    (tmp_path / TRAINING_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.npz' is damaged"):
        run(tmp_path, resume=True)
    assert_same(run(tmp_path, overwrite=True), tiny.model())


def test_the_same_pixels_in_every_form_give_the_same_model():
    images = tiny.images()
    for same in (images[..., None], images / 255, (images / 255).astype(np.float32)):
        assert_same(aeot.fit(tiny.KEY, same, tiny.CONFIG), tiny.model())


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.full((60, 8, 8), 7, np.uint8), "are equal once rounded"),
        (tiny.images(1), "needed to learn how they vary"),
        (tiny.images()[0], "neither \\(n, height, width\\)"),
        (np.full((60, 8, 8), np.nan), "NaN or infinite"),
        (tiny.images() * 1.0, "outside \\[0, 1\\]"),
        (tiny.images(shape=(3, 8)), "size 3 x 8"),
        (tiny.images(19), "`batch_size` is 20, but there are only 19"),
    ],
)
def test_images_that_cannot_be_used_are_refused_before_anything_is_written(
    tmp_path, images, sentence
):
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "run", images=images)
    assert not list(tmp_path.glob("run/*"))


def test_flags_without_a_folder_are_refused():
    with pytest.raises(ValueError, match="`resume` is set, but `run_dir` is None"):
        aeot.fit(tiny.KEY, tiny.images(), tiny.CONFIG, resume=True)
    with pytest.raises(ValueError, match="`overwrite` is set, but `run_dir` is None"):
        aeot.fit(tiny.KEY, tiny.images(), tiny.CONFIG, overwrite=True)


def test_a_tolerance_out_of_reach_is_refused_before_the_training(tmp_path):
    seen = []
    config = replace(tiny.CONFIG, solver=SolverConfig(tolerance=0.01, max_samples=1000))
    with pytest.raises(ValueError, match=r"`tolerance` is 0\.01, which 60 targets cannot reach"):
        run(tmp_path / "run", config=config, on_progress=seen.append)
    assert seen == []


def test_a_training_that_diverges_says_what_to_change(tmp_path):
    config = replace(tiny.CONFIG, training=TrainConfig(epochs=2, batch_size=20, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match="lower `learning_rate`"):
        run(tmp_path, config=config)


def test_copies_among_the_images_are_named_and_fitted():
    images = np.concatenate([tiny.images(40), tiny.images(20)])  # 20 images twice
    with pytest.warns(UserWarning, match="holds 20 targets that equal an earlier one"):
        model = aeot.fit(tiny.KEY, images, tiny.CONFIG)
    assert model.solution.converged
    h = np.asarray(model.solution.h)
    np.testing.assert_array_equal(h[:20], h[40:])
    assert aeot.sample(SAMPLE_KEY, model, 33).shape == (33, 8, 8, 1)


def test_directions_that_the_codes_do_not_use_stay_small():
    """Two images twice each span one line of three: the rest must not be blown up to noise."""
    pair = tiny.images(2)
    images = np.concatenate([pair] * 30)
    with pytest.warns(UserWarning, match="holds 58 targets"):
        model = aeot.fit(tiny.KEY, images, tiny.CONFIG)
    z = np.asarray(model.extension.y)
    assert np.isfinite(z).all()
    assert abs(z).max() < 3
    assert np.isfinite(aeot.sample(SAMPLE_KEY, model, 33)).all()
