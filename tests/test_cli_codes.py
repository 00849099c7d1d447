"""Codes and tables of somebody's own on the command line: in and out in two commands."""

import importlib
import json

import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.cli import main
from aeot_jax.report.command import command

SHORT = ("--tolerance", "0.5", "--quiet", "--extension.num-samples", "256")
SHORT += ("--solver.start", "gaussian")  # one start compiles quicker than a choice of four


def numbers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * [1, 10, 1e-3] + [1e4, 0, 0]


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    np.save(folder / "codes.npy", numbers(160, 0))
    np.save(folder / "more.npy", numbers(60, 1))
    arguments = ["fit", "--codes", str(folder / "codes.npy"), "--out", str(folder / "run")]
    assert main([*arguments, "--hold-out", "40", *SHORT]) == 0
    return folder


@pytest.mark.long
def test_a_run_of_codes_leaves_its_files(codes):
    left = {path.name for path in (codes / "run").iterdir()}
    assert {"model.npz", "config.json", "metrics.json", "samples.png", "report.html"} <= left
    assert "reconstructions.png" not in left
    metrics = json.loads((codes / "run" / "metrics.json").read_text())
    assert metrics["reconstruction"] is None
    assert metrics["final_loss"] is None
    again = command(json.loads((codes / "run" / "config.json").read_text()))
    assert again is not None
    assert again.startswith(f"aeot-jax fit --codes {codes / 'codes.npy'} --hold-out 40 --out NEW")


@pytest.mark.long
def test_a_run_of_codes_is_repeated_by_its_config(codes, tmp_path):
    config = str(codes / "run" / "config.json")
    again = ["fit", "--config", config, "--out", str(tmp_path / "again"), "--quiet", "--no-report"]
    assert main(again) == 0
    models = (aeot.load(folder / "model.npz") for folder in (codes / "run", tmp_path / "again"))
    one, other = (np.asarray(model.solution.h) for model in models)
    np.testing.assert_array_equal(one, other)


def test_new_codes_are_written_in_their_units(codes, capsys):
    out = codes / "new.npz"
    picture = codes / "new.png"
    asked = ["--num", "50", "--npz", str(out), "--out", str(picture)]
    assert main(["sample", str(codes / "run"), *asked]) == 0
    new = np.load(out)["codes"]
    assert new.shape == (50, 3)
    assert new.dtype == np.float32
    assert (np.abs(new.mean(0) - [1e4, 0, 0]) < [1, 10, 1e-3]).all()
    assert picture.stat().st_size > 1000
    assert "50 codes ->" in capsys.readouterr().out


def test_codes_are_evaluated_in_their_own_space(codes, capsys):
    run = codes / "run"
    assert main(["evaluate", str(run), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"in {run / 'evaluation.json'}\nto see more: aeot-jax report {run}\n")
    found = json.loads((codes / "run" / "evaluation.json").read_text())
    assert found["reconstruction"] is None
    assert found["features"] == "standardised columns"
    assert found["memory"] is not None
    assert "near copies" in out


def test_data_from_elsewhere_are_compared(codes, capsys, monkeypatch):
    (codes / "own_features_of_a_user.py").write_text("def f(x):\n    return x[:, :2]\n")
    monkeypatch.chdir(codes)
    asked = ["evaluate", "--real", "codes.npy", "--generated", "more.npy", "--quiet"]
    assert main([*asked, "--features", "own_features_of_a_user:f"]) == 0
    assert "Fréchet distance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def f(x): raise RuntimeError('boom\\nand more')",
            "it raised RuntimeError (boom and more)",
        ),
        ("def f(): return 1", "it raised TypeError (f() takes 0"),
        ("def f(x): raise SystemExit(3)", "it raised SystemExit (3)"),
        ("def f(x:", "raised SyntaxError ("),
        (
            "import no_such_library",
            "raised ModuleNotFoundError (No module named 'no_such_library')",
        ),
        ("raise RuntimeError('no GPU')", "raised RuntimeError (no GPU)"),
        ("def f(x): return x[:1]", "`--features` made shape (1, 3) of 64 rows"),
        (
            "def f(x): return [[1.0] * (i + 1) for i in range(len(x))]",
            "`--features(...)` is [[1.0]",
        ),
        ("def f(x): return x * float('nan')", "`--features` made a value of row 0"),
        ("def f(x): return None", "`--features(...)` is None"),
    ],
)
def test_whatever_features_do_is_one_sentence(codes, capsys, monkeypatch, code, said):
    monkeypatch.chdir(codes)
    name = f"features_{abs(hash(code))}"
    (codes / f"{name}.py").write_text(code + "\n")
    importlib.invalidate_caches()  # the folder may be as new as what is known of it
    asked = ["evaluate", "--real", "codes.npy", "--generated", "more.npy", "--quiet"]
    assert main([*asked, "--features", f"{name}:f"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: `--features")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate"], "pass either the folder of a run, or --real and --generated"),
        (["evaluate", "--real", "codes.npy"], "only one of `--real` and `--generated`"),
        (["evaluate", "run", "--features", "nothing"], "pass module:function"),
        (["evaluate", "run", "--features", "no_such_module:f"], "no module 'no_such_module'"),
        (["evaluate", "run", "--features", "json:f"], "'json' has no such function"),
        (["fit", "--out", "x"], "neither of `--data` and `--codes` is given"),
        (["fit", "--out", "x", "--data", "digits", "--codes", "codes.npy"], "both of `--data`"),
        (["fit", "--out", "x", "--codes", "digits"], "`--codes` 'digits' holds images"),
        (["fit", "--out", "x", "--codes", "nan.npy"], "not finite"),
        (["fit", "--out", "x", "--codes", "codes.npy", "--labels"], "one integer or text per row"),
        (["fit", "--out", "x", "--codes", "codes.npy", "--limit", "1"], "at least 2 codes"),
        (["fit", "--out", "x", "--codes", "codes.npy", "--hold-out", "5"], "at least 20 codes"),
        (["fit", "--out", "x", "--codes", "codes.npy", "--hold-out", "99"], "half of 160 codes"),
        (["fit", "--out", "x", "--data", "codes.npy", "--hold-out", "99"], "half of 160 rows"),
    ],
)
def test_mistakes_end_in_one_sentence(codes, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(codes)
    np.save("nan.npy", np.full((40, 2), np.nan))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not (codes / "x").exists()


@pytest.mark.long
def test_a_table_is_fitted_sampled_by_class_and_evaluated(tmp_path):
    data = tmp_path / "table.npz"
    np.savez(data, x=numbers(160, 3), y=np.array(["a", "b"])[np.arange(160) % 2])
    run = tmp_path / "run"
    asked = ["--data", str(data), "--out", str(run), "--labels", "--epochs", "2"]
    assert main(["fit", *asked, *SHORT]) == 0
    new = tmp_path / "new.npy"
    assert main(["sample", str(run), "--num", "20", "--label", "b", "--npz", str(new)]) == 0
    assert np.load(new).shape == (20, 3)
    assert (run / "reconstructions.png").exists()
    assert main(["evaluate", str(run), "--quiet"]) == 0
    assert json.loads((run / "evaluation.json").read_text())["reconstruction"]["train"]["mse"] > 0
