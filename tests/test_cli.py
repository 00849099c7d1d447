"""The command line, from options to files: whole runs on a few digits."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import aeot_jax as aeot
from aeot_jax import report
from aeot_jax.checkpoints import checkpoint
from aeot_jax.cli import commands, figures, main, parsing
from aeot_jax.cli import evaluate as cli_evaluate
from aeot_jax.cli import fit as cli_fit
from aeot_jax.cli import sample as cli_sample
from aeot_jax.cli.options import folder, source
from aeot_jax.cli.options.pictures import AS_THEY_ARE
from aeot_jax.cli.options.seeds import Purpose, key
from aeot_jax.cli.screen.progress import progress
from aeot_jax.data import images
from aeot_jax.storage import documents
from aeot_jax.storage.locks import locked

TINY = ["--limit", "100", "--hold-out", "40", "--epochs", "2", "--tolerance", "0.3", "--no-report"]
TINY += ["--latent-dim", "3", "--autoencoder.width", "16", "--training.batch-size", "20"]
TINY += ["--solver.start", "gaussian"]
"""The shapes and the start of `tiny.CONFIG`, as compilation is most of the time; tests/report has
reports.
"""

FILES = {"model.npz", "config.json", "metrics.json", "samples.png", "reconstructions.png"}
FILES |= {"history.png"}


def fit(out, *more, data="digits"):
    return main(["fit", "--data", str(data), "--out", str(out), *TINY, *more])


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """One small run that the tests share; none of them changes it."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert fit(out, "--quiet") == 0
    return out


def read(path):
    return json.loads(path.read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def said(capsys):
    """What was written to stderr, as one line."""
    return " ".join(capsys.readouterr().err.split())


def test_a_run_leaves_its_files_and_nothing_else(fitted):
    assert {path.name for path in fitted.iterdir()} == FILES
    for name in ("samples.png", "reconstructions.png", "history.png"):
        with Image.open(fitted / name) as image:
            image.verify()


def test_metrics_state_what_the_model_says(fitted):
    metrics, model = read(fitted / "metrics.json"), aeot.load(fitted)
    assert list(metrics)[:2] == ["mass_error", "mass_error_se"]
    assert metrics["mass_error"] == pytest.approx(float(model.solution.mass_error))
    assert metrics["upper"] == pytest.approx(float(model.solution.certificate.upper))
    assert metrics["upper"] <= metrics["tolerance"] == 0.3
    assert metrics["converged"]
    assert metrics["status"] == aeot.message(model.solution)
    assert metrics["num_unverified"] == metrics["unverified_weight"] == 0
    assert metrics["num_targets"] == 60 == model.solution.h.shape[0]
    assert metrics["epochs"] == 2 == len(model.losses)
    assert metrics["refine_epochs"] == 0
    assert metrics["novelty"]["num_new"] == 512
    assert metrics["novelty"]["num_unseen"] == 40
    assert 0 <= metrics["novelty"]["nearer"] <= 1
    assert metrics["reconstruction"]["images"] == "held out"
    assert metrics["reconstruction"]["num_images"] == 40
    assert 0 < metrics["reconstruction_mse"] < 1
    assert 0 <= metrics["share_rejected"] < 1
    assert set(metrics["stages"]) == {"autoencoder", "codes", "transport", "map"}
    assert metrics["stages"]["autoencoder"]["samples"] == 120
    assert sum(s["seconds"] for s in metrics["stages"].values()) <= metrics["seconds"]
    assert metrics["peak_memory_mib"] > 50
    assert metrics["versions"]["aeot_jax"] == aeot.__version__
    assert metrics["data"]["image_shape"] == [8, 8, 1]


@pytest.mark.long
def test_a_run_says_whether_it_has_learned_anything(fitted, tmp_path, capsys):
    """Judged against the mean of the training images, which takes no learning."""
    splits = source.load(folder.read_source(fitted)[0])
    assert splits.held_out is not None
    mean = splits.train.values.mean(axis=0) / 255
    error = ((splits.held_out.values / 255 - mean) ** 2).mean()
    metrics = read(fitted / "metrics.json")
    assert metrics["mean_image_error"] == pytest.approx(error, rel=1e-5)
    assert metrics["learned"] == (metrics["reconstruction_mse"] <= 0.95 * error)
    assert fit(tmp_path, "--training.learning-rate", "1e-9", "--quiet") == 0
    out, err = capsys.readouterr()
    assert "Warning: the autoencoder has learned nothing: its error, 0." in err
    assert f"mean image: {error:.4f}" in " ".join(out.split())
    assert read(tmp_path / "metrics.json")["learned"] is False
    assert main(["evaluate", str(tmp_path), "--num", "40", "--quiet"]) == 0
    assert "has learned nothing" in said(capsys)
    evaluation = read(tmp_path / "evaluation.json")["reconstruction"]
    assert evaluation["held_out"]["variance"] == pytest.approx(error, rel=1e-5)
    assert not evaluation["train"]["learned"]


def test_the_config_says_how_to_make_the_run_again(fitted):
    config = read(fitted / "config.json")
    expected = {"path": "digits", "limit": 100, "hold_out": 40, "seed": 0, "labels": None}
    pictures = config["source"].pop("pictures")
    assert config["source"] == {**expected, "at_random": True, "codes": False}
    assert pictures == asdict(AS_THEY_ARE)
    assert not config["labels"]
    assert config["config"]["solver"]["tolerance"] == 0.3
    assert config["config"]["training"]["epochs"] == 2
    splits = source.load(folder.read_source(fitted)[0])
    assert splits.fingerprint() == config["data"]["sha256"]


def test_held_out_images_are_not_trained_on(fitted):
    splits = source.load(folder.read_source(fitted)[0])
    assert splits.held_out is not None
    assert (len(splits.train), len(splits.held_out)) == (60, 40)
    train = {image.tobytes() for image in splits.train.values}
    assert not any(image.tobytes() in train for image in splits.held_out.values)


def test_sampling_is_reproducible_and_follows_the_seed(fitted, tmp_path, capsys):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        files = ["--out", f"{tmp_path}/deep/{name}.png", "--npz", f"{tmp_path}/{name}.npz"]
        assert main(["sample", str(fitted), "--num", "9", *files, "--seed", seed]) == 0
    assert "9 images -> " in capsys.readouterr().out
    a, b, c = (np.load(tmp_path / f"{name}.npz")["images"] for name in "abc")
    assert (a.shape, a.dtype) == ((9, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    grid = np.asarray(Image.open(tmp_path / "deep" / "a.png"))
    np.testing.assert_array_equal(grid[4:68:8, 4:68:8], a[0, :, :, 0])


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """The run of `fitted` on two devices, with labels from a file: is the digit odd?"""
    folder = tmp_path_factory.mktemp("labelled")
    digits = images.load("digits").labels
    assert digits is not None
    np.save(folder / "odd.npy", digits % 2)
    more = ["--labels-file", f"{folder}/odd.npy", "--devices", "2"]
    assert fit(folder / "run", "--quiet", *more) == 0
    return folder / "run"


@pytest.mark.long
def test_labels_add_a_map_per_class(labelled, fitted):
    metrics, config = read(labelled / "metrics.json"), read(labelled / "config.json")
    assert config["labels"]
    splits = source.load(folder.read_source(labelled)[0])
    model = aeot.load(labelled)
    assert model.classes is not None
    assert [one["label"] for one in metrics["classes"]] == [0, 1]
    assert all(one["converged"] for one in metrics["classes"])
    # The labels of the file went with their images through --limit and --hold-out.
    true = source.load(source.Source("digits", 100, 40, at_random=True)).train.labels
    assert true is not None
    np.testing.assert_array_equal(splits.train.labels, true % 2)
    np.testing.assert_allclose([one["share"] for one in metrics["classes"]], model.classes.shares)
    assert metrics["classes"][1]["share"] == pytest.approx((true % 2).mean())
    plain = aeot.load(fitted)
    assert plain.classes is None
    assert read(fitted / "metrics.json")["classes"] is None
    # Two devices trained it as one did.
    np.testing.assert_allclose(model.losses, plain.losses, rtol=1e-5)


@pytest.mark.long
def test_a_class_is_sampled_on_its_own(labelled, tmp_path, capsys):
    pixels = {}
    for name, more in (("all", []), ("1", ["--label", "1"]), ("2", ["--label=1", "--devices=2"])):
        path = tmp_path / f"{name}.npz"
        assert main(["sample", str(labelled), "--num", "9", "--npz", str(path), *more]) == 0
        pixels[name] = np.load(path)["images"]
    np.testing.assert_array_equal(pixels["1"], pixels["2"])
    assert (pixels["1"] != pixels["all"]).any()
    model = aeot.load(labelled)
    expected = aeot.sample(key(0, Purpose.SAMPLE), model, 9, label=1)
    np.testing.assert_array_equal(pixels["1"], np.rint(np.asarray(expected) * 255))
    capsys.readouterr()
    assert main(["sample", str(labelled), "--npz", str(path), "--label", "7"]) == 2
    assert "`--label` is 7, which no class has; pass one of 0, 1." in said(capsys)


@pytest.mark.long
def test_classes_short_of_the_tolerance_are_named(labelled, tmp_path, capsys, monkeypatch):
    model = aeot.load(labelled)
    assert model.classes is not None
    status = jnp.array([aeot.Status.CONVERGED, aeot.Status.STEP_LIMIT])
    solution = replace(model.classes.solution, status=status)
    short = replace(model, classes=replace(model.classes, solution=solution))
    monkeypatch.setattr(aeot, "fit", lambda *_, **__: short)
    assert fit(tmp_path, "--labels") == 0
    assert "Warning: the maps of these classes did not reach the tolerance: 1." in said(capsys)


def test_many_images_are_made_in_pieces_of_one_size(fitted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli_sample, "_PIECE", 64)
    made = ["sample", str(fitted), "--num", "150", "--npz", str(tmp_path / "x.npy")]
    assert main(made) == 0
    out, err = capsys.readouterr()
    assert "150 images -> " in out
    assert "100 %  150 images" in err
    images = np.load(tmp_path / "x.npy")
    assert images.shape == (150, 8, 8, 1)
    assert len(np.unique(images.reshape(150, -1), axis=0)) > 100
    assert main([*made, "--out", str(tmp_path / "x.png"), "--num", "10001"]) == 2
    assert "a picture shows 10,000 images at most" in capsys.readouterr().err
    assert main([*made, "--num", str(10**14)]) == 2
    assert "GB are free in" in capsys.readouterr().err


@pytest.mark.long
def test_evaluation_judges_against_images_not_seen(fitted, tmp_path, capsys):
    before = contents(fitted)
    assert main(["evaluate", str(fitted), "--num", "60", "--quiet"]) == 0
    results = read(fitted / "evaluation.json")
    (fitted / "evaluation.json").unlink()
    assert contents(fitted) == before
    said = capsys.readouterr().out
    assert "Fréchet distance" in said
    assert "novelty" in said
    assert results["certificate"]["num_samples"] >= 100
    assert 0 <= results["mass_error"] < 1
    assert results["reconstruction"]["held_out"]["num_images"] == 40
    compared = results["frechet"]["num_samples"], results["decoded"]["num_samples"]
    assert compared == (30, 30)  # halves of the training images are compared with each other
    assert results["frechet"]["distance"] > results["frechet"]["floor_test"] >= 0
    assert results["memory"]["num_held_out"] == 40
    assert results["novelty"]["num_unseen"] == 40
    assert results["novelty"]["unseen"] == "held out"
    assert min(results["decoded"].values()) >= 0
    assert 0 <= results["prdc"]["precision"] <= 1
    assert results["classes"]["of"] == 10


@pytest.mark.long
def test_a_report_is_written_by_a_fit_and_on_demand(fitted, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    assert main(["report", str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert {path.name for path in run.iterdir()} == {*FILES, "report.html"}
    text = (run / "report.html").read_text()
    assert "40 held out images" in text
    again = ["fit", "--data", "digits", "--out", str(run), *TINY, "--quiet", "--resume"]
    assert main(again) == 0
    assert (run / "report.html").read_text() == text  # it is of this model
    again[again.index("--resume")] = "--overwrite"
    assert main(again) == 0  # whose report would be of another model
    assert {path.name for path in run.iterdir()} == FILES
    again[again.index("--overwrite")] = "--resume"
    again.remove("--no-report")
    assert main(again) == 0
    plain = re.sub("<.*?>", "", (run / "report.html").read_text())
    assert "aeot-jax fit --data digits --limit 100 --hold-out 40 --out NEW" in plain
    assert str(run / "report.html") in capsys.readouterr().out.replace("\n", "")


def test_a_report_without_its_images_says_why(fitted, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8))
    seen = []
    monkeypatch.setattr(report, "write", lambda _key, material, _path: seen.append(material))
    for data, sentence in (("nowhere", "cannot be read: "), (str(other), "not those that the")):
        assert main(["report", str(run), "--data", data]) == 0
        shown = said(capsys)
        assert "Warning: The images are not shown, because" in shown
        assert sentence in shown
        assert seen[-1].train is None
        assert sentence in seen[-1].absent
    (run / "config.json").unlink()
    assert main(["report", str(run)]) == 0
    assert "config.json, which says where they are, is gone" in said(capsys)
    config = {**read(fitted / "config.json"), "schema": 99}
    del config["sha256"]
    documents.write(run / "config.json", config)
    assert main(["report", str(run)]) == 2
    assert "has schema 99, this version reads" in said(capsys)


@pytest.mark.long
def test_runs_are_compared(fitted, labelled, tmp_path, capsys):
    before = contents(fitted)
    page = tmp_path / "page.html"
    assert main(["compare", str(fitted), str(labelled), "--out", str(page)]) == 0
    shown = capsys.readouterr()
    assert "mass error (lower)" in " ".join(shown.out.split())
    assert "Scores are missing of" in shown.err
    text = page.read_text()
    assert text.count('<img src="data:image/') == 3
    assert "2 of 2" in text
    assert contents(fitted) == before
    bare = tmp_path / "bare"
    shutil.copytree(fitted, bare)
    (bare / "metrics.json").unlink()
    assert main(["compare", str(fitted), str(bare), "--out", str(page), "--overwrite"]) == 2
    assert "has no metrics.json; repeat the `aeot-jax fit`" in said(capsys)


@pytest.mark.long
def test_a_run_is_not_compared_with_itself_and_no_page_is_lost(
    fitted, labelled, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(fitted)
    assert main(["compare", str(fitted), str(fitted)]) == 2
    assert "is given twice; pass folders of different runs, each once" in said(capsys)
    for other in ("link", f"{fitted}/../{fitted.name}", os.path.relpath(fitted)):
        assert main(["compare", str(fitted), other]) == 2
        assert "are the same run; pass folders of different ones" in said(capsys)
    Path("comparison.html").write_text("my own notes")
    assert main(["compare", str(fitted), str(labelled)]) == 2
    assert "which is there already; replace it with --overwrite" in said(capsys)
    assert Path("comparison.html").read_text() == "my own notes"
    assert main(["compare", str(fitted), str(labelled), "--overwrite"]) == 0
    assert "<html" in Path("comparison.html").read_text()


@pytest.mark.long
def test_files_of_two_runs_are_told_apart(fitted, labelled, tmp_path, capsys):
    run = tmp_path / "run"
    sampled = ["sample", str(run), "--npz", f"{tmp_path}/x.npz"]
    for name in ("model.npz", "config.json", "metrics.json"):
        shutil.copytree(fitted, run, dirs_exist_ok=True)
        shutil.copy(labelled / name, run)
        for command in (sampled, ["evaluate", str(run), "--quiet"]):
            assert main(command) == 2
            assert "holds files of two runs" in said(capsys)
    shutil.copytree(fitted, run, dirs_exist_ok=True)
    shutil.copy(labelled / "config.json", run)
    with pytest.raises(ValueError, match=r"files of two runs: config\.json"):
        aeot.load(run)
    assert fit(run, "--quiet", "--resume") == 0  # writes them again
    shutil.copy(fitted / "history.png", run / "samples.png")
    assert main(sampled) == 0
    assert f"Warning: samples.png in '{run}' are not the pictures" in said(capsys)
    shutil.copy(labelled / "model.npz", run)
    assert fit(run, "--quiet", "--resume") == 2
    assert "holds a run with other options (--labels)" in said(capsys)
    assert main(["sample", f"{run}/model.npz", "--npz", f"{tmp_path}/x.npz"]) == 0


def test_a_replacement_that_is_interrupted_leaves_the_run_and_is_resumed(
    fitted, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "run"
    shutil.copytree(fitted, out)
    before = contents(out)

    def stop(*_, **__):
        raise KeyboardInterrupt

    again = ["--quiet", "--seed", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(aeot, "fit", stop)
        assert fit(out, *again, "--overwrite") == 130
    assert "Interrupted before anything was kept. Start again with: aeot" in (text := said(capsys))
    assert text.endswith("--overwrite")
    assert contents(out) == before
    with monkeypatch.context() as patch:
        patch.setattr(figures, "draw", stop)
        assert fit(out, *again, "--overwrite") == 130
    assert "what was done is kept. Continue with: aeot-jax fit" in said(capsys)
    assert {name: (out / name).read_bytes() for name in FILES} == before
    assert fit(out, *again) == 2
    assert fit(out, *again, "--resume") == 0
    assert {path.name for path in out.iterdir()} == FILES
    assert read(out / "metrics.json")["seed"] == 5 == read(out / "config.json")["seed"]
    assert main(["sample", str(out), "--npz", f"{tmp_path}/x.npz"]) == 0


def test_a_second_fit_in_one_folder_is_refused(tmp_path, capsys):
    said_in_thread = []

    def second():
        said_in_thread.append(fit(tmp_path))

    with locked(tmp_path, "--out"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert said_in_thread == [2]
    assert f"`--out` '{tmp_path}' is being written by process {os.getpid()}" in said(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("fit --data digits --out /proc/run", "nothing can be written to '/proc'"),
        ("fit --data digits --out FILE/run", "FILE' is a file; pass another place"),
        ("fit --data digits --out RUN", "has a folder in the place of the file metrics.json"),
        ("fit --data ~nobody-of-this-name/x --out OUT", "~nobody-of-this-name/x' cannot be used"),
        ("sample FITTED --out GRID.png", "that is a folder; pass the name of a file"),
        ("sample FITTED --npz /proc/x.npz", "nothing can be written to '/proc'"),
        ("sample FITTED --out FILE/x.png", "FILE' is a file; pass another place"),
        ("evaluate EVALUATED", "EVALUATED/evaluation.json', but that is a folder"),
        ("report REPORTED", "REPORTED/report.html', but that is a folder"),
        ("compare FITTED FITTED --out /proc/x.html", "nothing can be written to '/proc'"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    command, sentence, fitted, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for module, work in ((aeot, "fit"), (aeot, "sample_with_info"), (cli_evaluate, "evaluate")):
        monkeypatch.setattr(module, work, None)
    Path("FILE").touch()
    places = "RUN/metrics.json", "GRID.png", "EVALUATED/evaluation.json", "REPORTED/report.html"
    for place in places:
        Path(place).mkdir(parents=True)
    assert main([str(fitted) if part == "FITTED" else part for part in command.split()]) == 2
    assert sentence in said(capsys)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_of_the_imports_is_a_sentence(tmp_path, number):
    start = f"""
import builtins, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from aeot_jax.__main__ import main
take = builtins.__import__
def importing(name, *rest, **more):
    if name == "jax":
        signal.raise_signal({int(number)})
    return take(name, *rest, **more)
builtins.__import__ = importing
main()
"""
    options = ["fit", "--data", "digits", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-c", start, *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted; nothing was done.\n")
    assert not list(tmp_path.iterdir())


def test_a_termination_is_an_interruption(tmp_path, capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(aeot, "fit", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert fit(tmp_path / "run") == 130
    assert "Start again with: aeot-jax fit" in said(capsys)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_holds_another_is_refused(fitted, capsys):
    before = contents(fitted)
    assert fit(fitted) == 2
    assert "holds another run (model.npz); continue it with --resume, replace" in said(capsys)
    assert fit(fitted, "--resume", "--overwrite") == 2
    assert "exclude each other" in said(capsys)
    assert contents(fitted) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "1"], "(--seed; --data, or what is there)"),
        (["--epochs", "3"], "(--training.epochs was 2 and is 3)"),
        (["--limit", "150"], "(--data, or what is there)"),
    ],
)
def test_another_fit_does_not_resume_a_run_and_says_what_has_changed(fitted, capsys, change, words):
    before = contents(fitted)
    assert fit(fitted, "--quiet", "--resume", *change) == 2
    assert f"holds a run with other options {words}; give the same" in said(capsys)
    assert contents(fitted) == before


def test_a_run_is_resumed_to_the_last_bit_and_overwritten_on_demand(
    fitted, tmp_path, monkeypatch, capsys
):
    out, calls = tmp_path / "run", []

    def interrupted(self, state, losses, *, save=checkpoint.Run.save_training):
        save(self, state, losses)
        calls.append(len(losses))
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Run, "save_training", interrupted)
    assert fit(out, "--quiet") == 130
    assert {path.name for path in out.iterdir()} == {"checkpoint.npz"}
    assert fit(out, "--quiet", "--resume") == 0
    assert calls == [1, 2]
    assert "s since the last start" in capsys.readouterr().out
    assert read(out / "metrics.json")["resumed"] is True
    assert read(fitted / "metrics.json")["resumed"] is False
    whole, resumed = aeot.load(fitted), aeot.load(out)
    np.testing.assert_array_equal(whole.solution.h, resumed.solution.h)
    np.testing.assert_array_equal(whole.losses, resumed.losses)
    assert fit(out, "--quiet", "--overwrite", "--seed", "5") == 0
    assert {path.name for path in out.iterdir()} == FILES
    assert read(out / "metrics.json")["seed"] == 5
    assert (aeot.load(out).solution.h != whole.solution.h).any()


@pytest.mark.long
def test_an_interrupted_transport_leaves_a_model_and_a_way_on(tmp_path, capsys, monkeypatch):
    @contextmanager
    def impatient(console, *, quiet):
        def report(news):
            if news.stage == "transport":
                raise KeyboardInterrupt

        yield report

    close = "--tolerance", "0.1"  # nearer than any start, so that there are steps to interrupt
    with monkeypatch.context() as patch:
        patch.setattr(cli_fit, "progress", impatient)
        assert fit(tmp_path, *close) == 130
    assert "--resume" in said(capsys)
    assert not read(tmp_path / "metrics.json")["converged"]
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "checkpoint.npz"}
    assert fit(tmp_path, *close, "--resume") == 0
    assert read(tmp_path / "metrics.json")["converged"]
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_an_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(aeot, "fit", stop)
    assert fit(tmp_path / "my run", "--overwrite") == 130
    again = f"aeot-jax fit --data digits --out '{tmp_path}/my run' {' '.join(TINY)} --resume"
    assert again in said(capsys)


def test_a_run_short_of_its_tolerance_is_kept_with_a_warning(fitted, tmp_path, capsys, monkeypatch):
    model = aeot.load(fitted)
    solution = replace(model.solution, status=jnp.int32(aeot.Status.STEP_LIMIT))
    monkeypatch.setattr(aeot, "fit", lambda *_, **__: replace(model, solution=solution))
    assert fit(tmp_path) == 0
    assert f"Warning: {aeot.message(aeot.Status.STEP_LIMIT)}" in said(capsys)
    assert not read(tmp_path / "metrics.json")["converged"]


@pytest.mark.parametrize(
    ("typed", "text", "said"),
    [
        ("--solver.batch-size 20", "`batch_size` is 64, but there are only 20 images", None),
        ("--solver.learning-rate=0.1", "lower `learning_rate`, now 0.5, and train again", None),
        ("--solver.learning-rate 0.1", "lower `learning_rate` of the training", None),
        ("--training.learning-rate 0.5", "`learning_rate`, now 0.5", "--training.learning-rate"),
        (
            "--solver.batch-size 3 --training.batch_size 7",
            "`batch_size` is 7,",
            "--training.batch-",
        ),
        ("", "`num_samples` is 0; pass at least 1", "--extension.num-samples"),
        ("--solver.tolerance 0.1", "raise `tolerance` or", "--solver.tolerance"),
    ],
)
def test_a_sentence_names_the_option_whose_value_it_tells(typed, text, said):
    found = parsing.as_typed(commands.load("fit"), typed.split(), text)
    assert f"`{said}" in found if said else found == text


def test_a_full_disk_leaves_the_earlier_run_whole(fitted, tmp_path, capsys, monkeypatch):
    before = contents(fitted)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    assert fit(fitted, "--overwrite", "--quiet") == 2
    assert "no space is left on the disk" in said(capsys)
    assert contents(fitted) == before


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("fit --data nowhere --out OUT", "is neither a file nor a folder nor one of digits"),
        ("fit --data EMPTY --out OUT", "holds nothing; pass a folder of images"),
        ("fit --data digits --out FILE", "'FILE', which is a file; pass a folder"),
        ("fit --data digits --out OUT --limit 1", "`--limit` is 1"),
        ("fit --data digits --out OUT --hold-out 5", "`--hold-out` is 5"),
        ("fit --data digits --out OUT --hold-out 999", "more than half"),
        ("fit --data digits --out OUT --seed -1", "`--seed` is -1"),
        ("fit --data digits --out OUT --tolerance 0", "`--tolerance` is 0"),
        ("fit --data digits --out OUT --epochs 0", "`--epochs` is 0"),
        (
            "fit --data digits --out OUT --epochs 3 --training.epochs 4",
            "`--epochs` is 3 and `--training.epochs` is 4",
        ),
        (
            "fit --data digits --out OUT --limit 20 --training.batch-size 64",
            "`--training.batch-size` is 64, but there are only 20 images",
        ),
        ("fit --data NAN.npz --out OUT", "NaN"),
        ("fit --data EQUAL.npz --out OUT", "are equal"),
        ("fit --data LABELS.npz --out OUT", "one label per image"),
        ("fit --data ONE.npz --out OUT", "at least two"),
        ("fit --data NOLABELS.npz --out OUT --labels", "'NOLABELS.npz' has no labels; pass them"),
        ("fit --data OTHER.npz --out OUT --labels-file no.npy", "no.npy' is not a file"),
        ("fit --data OTHER.npz --out OUT --labels-file FILE", "FILE' cannot be read"),
        ("fit --data OTHER.npz --out OUT --labels-file ONE.npz", "is an .npz file; pass an .npy"),
        ("fit --data OTHER.npz --out OUT --labels-file SHORT.npy", "does not fit 180 images"),
        ("fit --data digits --out OUT --image-size 3", "`--image-size` is '3'; pass one number or"),
        ("fit --data digits --out OUT --image-size 8x", "`--image-size` is '8x'; pass one number"),
        ("fit --data digits --out OUT --grey --colour", "exclude each other; give one of them"),
        ("fit --data digits --out OUT --image-size 200", "each from 4 to 128"),
        ("fit --data digits --out OUT --limit 60 --seed -1", "`--seed` is -1; pass an integer"),
        ("fit --data ROWS.npy --out OUT --image-size 8", "the data are a table of 3 columns, but"),
        ("data ROWS.npy --grey", "the data are a table of 3 columns, but options of pictures"),
        ("fit --codes ROWS.npy --out OUT --latent_dim 2", "`--latent-dim` is for images and"),
        ("fit --codes ROWS.npy --out OUT --training.noise=0", "`--training.noise` is for images"),
        ("fit --codes ROWS.npy --out OUT --grey", "`--grey` is for images, but --codes have"),
        ("fit --data TABLE.npy --out OUT", "all rows of `--data` are equal"),
        ("fit --data digits --out OUT --devices 3", "`--devices` holds 3 devices, over which"),
        ("fit --data digits --out OUT --devices 9", "`--devices` is 9, but JAX finds 8 (cpu)"),
        (
            "fit --data digits --out OUT --devices 8 --training.batch-size 20",
            "`--training.batch-size` is 20, which 8 devices cannot share evenly",
        ),
        ("sample nowhere --out a.png", "is not a finished run"),
        ("sample FITTED --out a.png --label 3", "was fitted without labels; fit one with --labels"),
        ("sample FITTED --out a.png --devices 0", "`--devices` is 0, but JAX finds 8"),
        ("sample EMPTY --out a.png", "the folder holds no model.npz"),
        ("sample FILE --out a.png", "is damaged or not a file of this library"),
        ("sample FITTED", "neither `--out` nor `--npz`"),
        ("sample FITTED --out a.jpg", "ends in .png"),
        ("sample FITTED --out a.png --num 0", "`--num` is 0"),
        ("evaluate nowhere", "is not a folder"),
        ("evaluate FITTED --num 5", "`--num` is 5; pass at least 20"),
        ("evaluate FITTED --data OTHER.npz", "but the model makes (8, 8, 1)"),
        ("report nowhere", "is not a folder"),
        ("report EMPTY", "the folder holds no model.npz"),
        ("report HALF", "'HALF' holds a fit that is not finished; go on with the same"),
        ("report FITTED --seed -1", "`--seed` is -1"),
        ("compare FITTED", "pass two or more folders of runs"),
        ("compare FITTED EMPTY", "the folder holds no model.npz"),
        ("compare FITTED HALF", "holds a fit that is not finished"),
        ("compare FITTED FILE --out a.pdf", "ends in .html"),
        ("data nowhere", "`PATH` 'nowhere' is neither a file"),
        ("fit --data nowhere --out OUT", "/nowhere' is neither a file"),
        ("fit --data FILE --out OUT", "Error: `--data` '"),
        ("fit --codes FILE --out OUT", "Error: `--codes` '"),
        ("fit --data EMPTY --out OUT", "Error: `--data` '"),
        ("fit --data NAN.npz --out OUT", "of the images of `--data` '"),
        (
            "fit --data WHOLE.npy --out OUT",
            "if it is a table, convert it to floats, as by .astype(float).",
        ),
        (
            "fit --codes WHOLE.npy --out OUT",
            "if it is a table, convert it to floats, as by .astype(float).",
        ),
        ("fit --data LABELS.npz --out OUT", "of the labels of `--data` '"),
        ("fit --data NANTABLE.npy --out OUT", "Error: `--data` holds a value in row 7"),
        ("fit --codes NANTABLE.npy --out OUT", "Error: `--codes` holds a value in row 7"),
        ("evaluate FITTED --data FILE", "Error: `--data` '"),
        ("evaluate --real FILE --generated TABLE.npy", "Error: `--real` '"),
        ("evaluate --real NOLABELS.npz --generated nowhere", "Error: `--generated` '"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    command, sentence, fitted, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    Path("EMPTY").mkdir()
    Path("HALF").mkdir()
    Path("HALF/checkpoint.npz").touch()
    Path("FILE").write_text("nothing")
    np.savez("NAN.npz", x=np.where(pixels == 7, np.nan, pixels / 255))
    np.savez("EQUAL.npz", x=np.full((60, 8, 8), 99, np.uint8))
    np.savez("LABELS.npz", x=pixels, y=np.zeros(59, np.int32))
    np.savez("ONE.npz", x=pixels[:1])
    np.savez("NOLABELS.npz", x=pixels)
    np.save("SHORT.npy", np.arange(60))
    np.save("TABLE.npy", np.ones((60, 9)))
    np.save("WHOLE.npy", np.arange(180).reshape(60, 3))
    np.save("ROWS.npy", np.random.default_rng(0).normal(size=(60, 3)))
    np.save("NANTABLE.npy", np.where(np.arange(60)[:, None] == 7, np.nan, np.eye(60)))
    np.savez("OTHER.npz", x=pixels[:, :6, :6].repeat(3, axis=0))
    arguments = [str(fitted) if part == "FITTED" else part for part in command.split()]
    before = set(tmp_path.rglob("*"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in captured.err
    assert not captured.out
    made = set(tmp_path.rglob("*")) - before
    assert not {path for path in made if path.is_file()}


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError):
        fit(tmp_path / "out", "--debug", data="nowhere")


def test_figures_are_known_to_be_possible_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(aeot, "fit", None)
    assert fit(tmp_path / "out") == 2
    assert "install it with: pip install 'aeot-jax[plot]'" in said(capsys)


def test_test_images_of_the_source_are_used_where_there_are_any(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels[:60], x_test=pixels[60:])
    splits = source.load(source.Source(str(tmp_path / "a.npz")))
    assert splits.kind == "test"
    assert splits.held_out is not None
    assert (len(splits.train), len(splits.held_out)) == (60, 30)
    with pytest.raises(ValueError, match="has 30 test images of its own"):
        source.load(source.Source(str(tmp_path / "a.npz"), hold_out=20))
    np.savez(tmp_path / "b.npz", x=pixels)
    assert source.load(source.Source(str(tmp_path / "b.npz"))).held_out is None


def test_a_damaged_test_set_is_not_taken_for_none(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, x_test=np.full((30, 8, 8), 2.0))
    with pytest.raises(ValueError, match=r"a\.npz"):
        source.load(source.Source(str(tmp_path / "a.npz")))


def test_data_says_what_there_is(tmp_path, capsys):
    assert main(["data"]) == 0
    known = capsys.readouterr().out
    assert all(name in known for name in ("digits", "mnist", "fashion-mnist"))
    assert main(["data", "digits"]) == 0
    assert "1,797" in (shown := capsys.readouterr().out)
    assert "10 classes of 174 to 183" in shown


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder as people have it: two classes, two sizes, one file broken."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, (name, colour) in enumerate(
        (("cats", (255, 200, 40)), ("d\u00f6gs", (40, 90, 255)))
    ):
        (root / name).mkdir()
        for i in range(14):
            pixels = rng.integers(0, 90, ((20, 30) if i % 2 else (24, 16)) + (3,), dtype=np.uint8)
            pixels[: len(pixels) // 2] = np.array(colour) - 3 * i - label
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return root


@pytest.fixture(scope="session")
def photographed(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "photos"
    sizes = ["--image-size", "8", "--skip-broken", "--labels", "--grey"]
    options = ["--epochs", "2", "--tolerance", "0.5", "--quiet", "--autoencoder.latent-dim", "3"]
    assert main(["fit", "--data", str(photos), "--out", str(out), *sizes, *options]) == 0
    return out


@pytest.mark.long
def test_photos_are_learned_by_the_names_of_their_classes(photographed, photos, tmp_path, capsys):
    config, metrics = read(photographed / "config.json"), read(photographed / "metrics.json")
    assert config["data"]["label_names"] == ["cats", "d\u00f6gs"]
    assert config["data"]["skipped"][0].startswith("'cats/broken.jpg' (")
    assert config["data"]["image_shape"] == [8, 8, 1]
    assert [one["name"] for one in metrics["classes"]] == ["cats", "d\u00f6gs"]
    with Image.open(photographed / "samples.png") as picture:  # a titled row for each class
        assert picture.size[1] == 2 * (72 + 32)
    model = aeot.load(photographed)
    assert model.label_names == ("cats", "d\u00f6gs")
    pixels = {}
    for label in ("cats", "d\u00f6gs", "do\u0308gs", "1", "0"):
        files = ["--npz", f"{tmp_path}/a.npz", "--out", f"{tmp_path}/a.png"]
        assert main(["sample", str(photographed), "--num", "6", "--label", label, *files]) == 0
        pixels[label] = np.load(tmp_path / "a.npz")["images"]
    same = pixels["d\u00f6gs"]
    np.testing.assert_array_equal(pixels["do\u0308gs"], same)
    np.testing.assert_array_equal(pixels["1"], same)
    np.testing.assert_array_equal(pixels["0"], pixels["cats"])
    assert (pixels["cats"] != same).any()
    capsys.readouterr()
    assert main(["sample", str(photographed), "--label", "dogs", "--out", f"{tmp_path}/b.png"]) == 2
    assert (
        "`--label` is 'dogs', which no class has; the nearest of 2 classes are 'd\u00f6gs'"
        in said(capsys)
    )
    assert main(["evaluate", str(photographed), "--num", "20", "--quiet"]) == 2
    err = said(capsys)
    assert "`train` holds 28 images" in err  # too few to be compared
    assert "1 broken picture was left out: 'cats/broken.jpg'" in err
    assert "not those that the model was fitted to" not in err


def test_data_shows_classes_by_name_and_says_what_to_type(photos, capsys):
    assert main(["data", str(photos), "--skip-broken"]) == 0
    assert "--image-size 16" in capsys.readouterr().out
    assert main(["data", str(photos), "--image-size", "8x12"]) == 0
    assert "--image-size 8x12 --skip-broken" in capsys.readouterr().out
    command = ["data", str(photos), "--image-size", "8x12", "--resize", "pad", "--skip-broken"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "cats (14), d\u00f6gs (14)" in " ".join(shown.out.split())
    assert "28 of 8 x 12 x 3" in shown.out
    assert "1 file cannot be read: 'cats/broken.jpg' (" in " ".join(shown.out.split())
    assert not shown.err


def test_help_explains_every_option(capsys):
    for command in ([], ["fit"], ["sample"], ["evaluate"], ["report"], ["compare"], ["data"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("--tolerance", "(default: 0.1)", "--solver.method", "--hold-out", "fashion-mnist"):
        assert word in text
    assert "optimizer" not in text.split("--solver.start")[1].split("--solver.adam-share")[0]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_is_in_the_words_of_the_command_line(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("fit", "sample", "evaluate", "report", "compare", "data"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= columns for line in lines if " " in line.strip())
        text = " ".join(" ".join(lines).split())
        for word in ("solve_", "Certificate.", "optimizer", "None is", "[[", "(default: )"):
            assert word not in text, (command, word)
        options = [line.split()[0] for line in lines if line.startswith("  --")]
        assert len(options) == len(set(options))
        if command == "fit":
            items = [line.split()[1] for line in lines if line.strip().startswith("- ")]
            assert items == ["digits:", "mnist:", "fashion-mnist:", "photos64:"]


def test_a_terminal_gets_bars_and_a_file_gets_lines(capsys):
    from rich.console import Console

    for terminal in (True, False):
        console = Console(force_terminal=terminal, width=100)
        with progress(console, quiet=False) as report:
            for done in range(4):
                report(aeot.Progress("autoencoder", done, 3, f"loss {done}"))
        shown = capsys.readouterr().out
        assert ("━" in shown) == terminal
        assert "loss 3" in shown
        assert ("loss 1" in shown) <= terminal
    with progress(console, quiet=True) as report:
        report(aeot.Progress("map", 1, 1, "note"))
    assert not capsys.readouterr().out


@pytest.mark.long
def test_ctrl_c_ends_a_real_process_with_130(tmp_path):
    """Sent once training has begun, as a terminal sends it."""
    # A shell without job control starts its background jobs with SIGINT ignored, for their children
    # too; a terminal does not.
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('aeot_jax', run_name='__main__', alter_sys=True)"
    )
    options = ["fit", "--data", "digits", "--out", "run", "--epochs", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", start, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with process:
        while not (tmp_path / "run" / "checkpoint.npz").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert "aeot-jax fit --data digits --out run --epochs 100000 --resume" in err
    assert "Traceback" not in err
