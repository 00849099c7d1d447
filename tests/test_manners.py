"""The command line's manners: help at any width, names nearly right, presets, a cache, warnings."""

import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from rich.console import Console

import aeot_jax
from aeot_jax.cli import cache, commands, main, parse, parsing, pieces
from aeot_jax.cli.options import presets
from aeot_jax.cli.options.recipe import read
from aeot_jax.cli.screen import manual, notices
from aeot_jax.ot.merging import CoincidenceWarning

CONFIG = {"version": aeot_jax.__version__, "config": {"solver": {"tolerance": 0.3}}}


def _without_cache():
    return {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**_without_cache(), **environment},
        check=False,
    )


def help_of(name, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *commands.ABOUT])
def test_help_fits_the_screen_and_loses_no_word(name, capsys, monkeypatch):
    wide = help_of(name, capsys, monkeypatch, 100)
    for columns in (40, 80):
        text = help_of(name, capsys, monkeypatch, columns)
        assert text.split() == wide.split()
        for line in text.splitlines():
            assert len(line) <= columns or len(line.split()) == 1, line
    assert "`" not in wide
    assert "tyro-dummy" not in wide
    assert "{None}" not in wide


def test_every_option_is_explained():
    for name in commands.ABOUT:
        command = commands.load(name)
        assert "--debug" in parsing.names(command)
        if name == "fit":
            assert {"--data", "--solver.tolerance", "--preset"} <= set(parsing.names(command))


def test_neither_help_nor_version_imports_jax():
    code = "import sys\nfrom aeot_jax.cli import main\ntry:\n    main([{!r}])\nexcept SystemExit:\n"
    for option in ("--help", "--version"):
        done = process("-c", code.format(option) + "    pass\nprint(*sys.modules)")
        *_, modules = done.stdout.splitlines()
        assert not {"jax", "numpy", "flax", "scipy"} & set(modules.split())
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("fitt --data x", "`fitt` is not a command (did you mean fit?)"),
        ("", "no command is given; there are fit, sample, evaluate, "),
        ("fit --epoch 3", "`--epoch` is not an option of `aeot-jax fit` (did you mean --epochs?)"),
        ("fit --solver.tolerence=1", "(did you mean --solver.tolerance?)"),
        ("fit", "`aeot-jax fit` needs --out"),
        ("fit --out o --data x --epochs many", "`--epochs` is 'many', which cannot be read"),
        ("fit --out o --preset digit", "is 'digit' (did you mean digits?); pass one of digits,"),
        ("fit --out o --config nowhere", "`--config` is 'nowhere', but there is no such file"),
        ("sample", "`aeot-jax sample` needs RUN"),
    ],
)
def test_what_is_nearly_right_is_named(arguments, sentence, capsys):
    assert main(arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line


def test_options_win_over_the_file_and_the_preset(tmp_path):
    path = tmp_path / "config.json"
    source = {"path": "digits", "limit": 300, "hold_out": 40, "seed": 7, "labels": None}
    path.write_text(json.dumps({**CONFIG, "source": source, "seed": 7, "labels": True}))
    options = parse(["fit", "--config", str(path), "--out", "o", "--limit", "200", "--epochs=2"])
    assert (options.data, options.limit, options.hold_out) == ("digits", 200, 40)
    assert (options.seed, options.labels) == (7, True)
    config = options.full_config()
    assert (config.solver.tolerance, config.training.epochs) == (0.3, 2)
    options = parse(["fit", "--config", str(tmp_path), "--out", "o", "--tolerance", "0.2"])
    assert options.full_config().solver.tolerance == 0.2
    assert parse(["fit", "--preset", "digits", "--out", "o"]).data == "digits"
    assert parse(["fit", "--preset=digits", "--out=o", "--hold-out=30"]).hold_out == 30
    for name in presets.PRESETS:
        parse(["fit", "--preset", name, "--data", "x", "--out", "o"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"config": {"solver": {"tolerence": 1}}}, "(did you mean tolerance?)"),
        ({**CONFIG, "config": {"trainig": {}}}, "(did you mean training?)"),
        ({"sed": 1}, "it holds 'sed' (did you mean seed?); take that out"),
        ({"seed": "one"}, "`seed` is 'one', not a whole number"),
        ({"schema": 9, "version": "7.1"}, "it has schema 9 of version '7.1'"),
        ({"version": "7.1", "config": {"new": 1}}, "with the version that wrote it ('7.1')"),
        ([], "it holds no object of JSON"),
    ],
)
def test_a_file_of_options_is_read_with_care(content, sentence, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read(path)


def test_warnings_are_lines_in_words(capsys):
    console = Console(stderr=True, width=200)
    with notices.in_words(console):
        warnings.warn("some\n  text", UserWarning, stacklevel=1)
        warnings.warn(CoincidenceWarning(5), stacklevel=1)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Warning: some text"
    assert second.startswith("Warning: 5 codes equal another one")
    assert ".py" not in first + second


def test_a_reader_that_has_gone_is_no_error():
    command = f"{sys.executable} -m aeot_jax fit --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: aeot-jax fit")
    assert not done.stderr


CACHE = """
import os, sys
import jax
from rich.console import Console
from aeot_jax.cli import cache
for home in sys.argv[1:]:
    os.environ["XDG_CACHE_HOME"] = home
    cache.enable(Console(stderr=True, width=400))
    print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)
"""


def test_programs_are_kept_where_the_user_wants(tmp_path):
    place = cache.folder()
    assert place.parts[-3:-1] == ("aeot_jax", "programs")
    home, file = tmp_path / "home", tmp_path / "file"
    file.touch()
    done = process("-c", CACHE, str(file), str(home))
    nowhere, kept = (line.split() for line in done.stdout.splitlines())
    assert nowhere[0] == "None"
    (line,) = done.stderr.splitlines()
    assert line.startswith("Warning: compiled programs cannot be kept in")
    assert kept[0] == str(home / "aeot_jax" / "programs" / place.name)
    assert 0 < int(kept[1]) <= 2**30
    own = {"JAX_COMPILATION_CACHE_DIR": "/own", "JAX_COMPILATION_CACHE_MAX_SIZE": "7"}
    assert process("-c", CACHE, str(home), **own).stdout.split() == ["/own", "7"]
    off = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    assert process("-c", CACHE, str(home), **off).stdout.split()[0] == "None"


def test_entries_keep_long_words_whole():
    for columns in (40, 80):
        lines = manual.entry("--solver.average-share NUMBER", "x" * 50 + " and more", columns)
        assert "x" * 50 in "\n".join(lines)
    assert np.size(manual.entry("a", "", 80)) == 1


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_file_written_in_pieces_is_the_array(name, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (100, 4, 3, 1), dtype=np.uint8)
    path = tmp_path / name
    with pieces.writing(path, "rows", 100, array[0]) as write:
        for start in range(0, 100, 32):
            write(array[start : start + 32])
        assert not path.exists()
    found = np.load(path)
    np.testing.assert_array_equal(found["rows"] if name == "a.npz" else found, array)
    with pytest.raises(KeyboardInterrupt), pieces.writing(path, "rows", 100, array[0]):
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with pytest.raises(ValueError, match=r"`--num` asks for 1,000,000\.0 GB, but .* are free in"):
        pieces.check_room(path, 10**15, "--num")
