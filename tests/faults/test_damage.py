"""Damage of every file of a run: named in a sentence, or without consequence.

What a command computes is taken from what it would compute with: a damage is harmless if that is
the same to the bit.
"""

import dataclasses
import hashlib
import json

import handmade
import jax
import numpy as np
import pytest

from aeot_jax import report
from aeot_jax.checkpoints import checkpoint
from aeot_jax.cli import evaluate, main, sample
from aeot_jax.nn import train
from aeot_jax.storage import runs

SHORT, MORE, LONG = 4, 27, 300

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with the checkpoint of a training beside it, as an interrupted transport leaves it."""
    folder = handmade.write_run(tmp_path_factory.mktemp("run"))
    checkpoint.Run(folder, handmade.IDENTITY, None, None).save_training(fresh(), [0.5])
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return handmade.write_run(tmp_path_factory.mktemp("other"), seed=1)


def fresh(epoch=1):
    nets, training = handmade.CONFIG.autoencoder, handmade.CONFIG.training
    state = train.init(KEY, handmade.SHAPE, nets, training, 60)
    return dataclasses.replace(state, epoch=np.int32(epoch))


class Seen(Exception):  # noqa: N818 - no error
    """What a command would compute with."""


def digest(*trees):
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def outcome(command, folder, capsys):
    """What a command said and what it would compute with; None where it refused."""
    capsys.readouterr()
    if command == "resume":
        try:
            found = checkpoint.open_run(folder, handmade.IDENTITY, resume=True)
            state = found.training and found.training.restore(fresh())
        except (ValueError, OSError) as error:
            return str(error), None
        return "", digest(state, found.training and found.training.losses)
    arguments = {"sample": ["--npz", "x.npz"], "evaluate": ["--quiet"], "report": []}[command]
    try:
        code = main([command, str(folder), *arguments])
    except Seen as seen:
        return capsys.readouterr().err, str(seen)
    said = capsys.readouterr().err
    return said, None if code == 2 else f"ended with {code}"


@pytest.fixture
def watched(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def stop(key, model, *others, **_):
        raise Seen(digest(model, [getattr(one, "images", one) for one in others]))

    def stop_page(key, material, path):
        known = sorted(json.dumps(one) for one in (material.metrics, material.evaluation))
        raise Seen(digest(material.model, material.train.images) + str(known))

    monkeypatch.setattr(report, "write", stop_page)
    monkeypatch.setattr(sample.aeot, "sample_with_info", stop)
    monkeypatch.setattr(evaluate, "evaluate", stop)


def flip(rng, data):
    at = rng.integers(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :]


def cut(rng, data):
    return data[: rng.integers(len(data))]


def blank(rng, data):
    at = rng.integers(len(data))
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def turn(rng, data):
    """Two pages in each other's place."""
    size = max(1, len(data) // 8)
    one, two = sorted(rng.choice(8, 2, replace=False) * size)
    parts = data[:one], data[two : two + size], data[one + size : two], data[one : one + size]
    return b"".join((*parts, data[two + size :]))


def longer(rng, data):
    return data + rng.bytes(100)


def digit(rng, data):
    """A digit for a digit, which leaves JSON whole."""
    at = [i for i, byte in enumerate(data) if byte in b"0123456789"]
    i = at[rng.integers(len(at))] if at else 0
    return data[:i] + b"%d" % ((data[i] - 47) % 10) + data[i + 1 :]


DAMAGES = (flip, flip, cut, blank, turn, longer, digit)
COMMANDS = ("sample", "evaluate", "report", "resume")


def problem_of(command, folder, name, expected, capsys):
    try:
        said, found = outcome(command, folder, capsys)
    except BaseException as error:
        return f"{command} gave {error!r}"
    if found == expected:
        return None
    if found is not None:
        return f"{command} went on with other numbers: {found}"
    if name not in said or "Traceback" in said or len(said.strip().splitlines()) != 1:
        return f"{command} said {said[-300:]!r}"
    return None


def campaign(run, other, tmp_path, tally, capsys, count):
    rng = np.random.default_rng(count)
    expected = {command: outcome(command, run, capsys)[1] for command in COMMANDS}
    assert all(expected.values())
    for case in range(count):
        name = runs.FILES[case % len(runs.FILES)]
        damage = DAMAGES[case // len(runs.FILES) % len(DAMAGES)]
        folder = handmade.copy(run, tmp_path / "run")
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(damage(rng, data))
        problems = [problem_of(c, folder, name, expected[c], capsys) for c in COMMANDS]
        tally.record(f"{damage.__name__} of {name}", next(filter(None, problems), None))
    for name in runs.FILES:
        folder = handmade.copy(run, tmp_path / "run")
        if (other / name).exists():
            (folder / name).write_bytes((other / name).read_bytes())
            for command in ("sample", "evaluate"):
                said, found = outcome(command, folder, capsys)
                foreign = name in (runs.MODEL_FILE, runs.CONFIG, runs.METRICS)
                wrong = found is not None if foreign else found != expected[command]
                if foreign or name in runs.PICTURES:
                    wrong |= name not in said
                tally.record(f"another run's {name}", f"{command} said {said}" if wrong else None)
        folder = handmade.copy(run, tmp_path / "run")
        (folder / name).unlink()
        (folder / name).mkdir()
        problems = [problem_of(c, folder, name, expected[c], capsys) for c in COMMANDS]
        tally.record(f"a folder for {name}", next(filter(None, problems), None))


@pytest.mark.parametrize("count", [SHORT, pytest.param(MORE, marks=pytest.mark.long)])
def test_damage_is_named_or_harmless(run, other, tmp_path, tally, capsys, watched, count):
    campaign(run, other, tmp_path, tally, capsys, count)


@pytest.mark.slow
def test_much_damage_is_named_or_harmless(run, other, tmp_path, tally, capsys, watched):
    campaign(run, other, tmp_path, tally, capsys, LONG)
