"""Forged models and configurations, each with a valid checksum: one sentence, soon, and no memory.

The short form reads every form once; the long form also gives each to every command that reads it.
"""

import itertools
import json
import os
import resource
import time

import effort
import handmade
import numpy as np
import pytest

from aeot_jax import load
from aeot_jax.checkpoints import checkpoint
from aeot_jax.cli import evaluate, main
from aeot_jax.storage import documents, records, runs

MEBIBYTES = 512
"""What all forms together may take of memory."""

SOLVER, NETS, TRAINING = ("config", "solver"), ("config", "autoencoder"), ("config", "training")


def put(*path):
    """A form: a value in the place of another, in the JSON of the file."""
    *parents, name, value = path

    def change(arrays, meta):
        node = meta
        for parent in parents:
            node = node[parent]
        node[name] = value

    return change


def drop(*path):
    *parents, name = path

    def change(arrays, meta):
        node = meta
        for parent in parents:
            node = node[parent]
        del node[name]

    return change


def array(name, make):
    """A form: another array in the place of one."""

    def change(arrays, meta):
        arrays[name] = np.asarray(make(arrays.get(name)))

    return change


def without(prefix):
    def change(arrays, meta):
        for name in [name for name in arrays if name.startswith(prefix)]:
            del arrays[name]

    return change


def filled(value):
    return lambda old: np.full_like(old, value)


def first(value):
    def make(old):
        new = old.copy()
        new.flat[0] = value
        return new

    return make


KERNEL, H, Y = "params/decoder/stem/kernel", "solution/h", "extension/y"

MODELS = {
    "depth of a million": put(*NETS, "depth", 10**6),
    "depth beyond int64": put(*NETS, "depth", 10**30),
    "depth below 0": put(*NETS, "depth", -1),
    "depth as text": put(*NETS, "depth", "1"),
    "activation unknown": put(*NETS, "activation", "gelu"),
    "activation a number": put(*NETS, "activation", 1),
    "patches unknown": put(*NETS, "patches", "woven"),
    "chroma unknown": put(*NETS, "chroma", "none"),
    "depth as float": put(*NETS, "depth", 1.0),
    "depth as truth": put(*NETS, "depth", True),
    "no depth": put(*NETS, "depth", None),
    "depth of another network": put(*NETS, "depth", 2),
    "depth of a smaller network": put(*NETS, "depth", 0),
    "width of a thousand million": put(*NETS, "width", 10**9),
    "width 0": put(*NETS, "width", 0),
    "width of another network": put(*NETS, "width", 15),
    "width as list": put(*NETS, "width", [16]),
    "codes of 10^12 dimensions": put(*NETS, "latent_dim", 10**12),
    "codes of another dimension": put(*NETS, "latent_dim", 4),
    "dimension as text": put(*NETS, "latent_dim", "3"),
    "network of no kind": put(*NETS, "kind", "vae"),
    "network of another kind": put(*NETS, "kind", "conv"),
    "kind null": put(*NETS, "kind", None),
    "network as text": put("config", "autoencoder", "mlp"),
    "no network": drop("config", "autoencoder"),
    "network option of a newer version": put(*NETS, "attention", True),
    "source unknown": put("config", "source", "torus"),
    "source a number": put("config", "source", 3),
    "source a list": put("config", "source", ["gaussian"]),
    "config null": put("config", None),
    "config a list": put("config", []),
    "config a text": put("config", "{}"),
    "no config": drop("config"),
    "no solver": drop("config", "solver"),
    "solver null": put("config", "solver", None),
    "section of a newer version": put("config", "guidance", {}),
    "option of a newer version": put(*SOLVER, "momentum", 0.9),
    "option with a hostile name": put(*SOLVER, "x" * 10**6, 0.9),
    "tolerance a text": put(*SOLVER, "tolerance", "small"),
    "tolerance NaN": put(*SOLVER, "tolerance", float("nan")),
    "tolerance below 0": put(*SOLVER, "tolerance", -1),
    "tolerance beyond floats": put(*SOLVER, "tolerance", 10**400),
    "optimizer a text": put(*SOLVER, "optimizer", "adam"),
    "devices a number": put(*SOLVER, "devices", 3),
    "method unknown": put(*SOLVER, "method", "magic"),
    "rate null": put(*SOLVER, "learning_rate", None),
    "epochs a float": put(*TRAINING, "epochs", 1.5),
    "epochs an object": put(*TRAINING, "epochs", {"of": 3}),
    "warm-up of 2": put(*TRAINING, "warmup", 2),
    "threshold of 7": put("config", "extension", "threshold", 7),
    "samples below 0": put("config", "extension", "num_samples", -5),
    "no image shape": drop("image_shape"),
    "image shape null": put("image_shape", None),
    "image shape of two": put("image_shape", [8, 8]),
    "image shape of four": put("image_shape", [8, 8, 1, 1]),
    "image shape of texts": put("image_shape", ["8", 8, 1]),
    "image shape of floats": put("image_shape", [8.0, 8, 1]),
    "image shape of lists": put("image_shape", [[8], 8, 1]),
    "image shape of truths": put("image_shape", [8, 8, True]),
    "image of a thousand million": put("image_shape", [10**9, 8, 1]),
    "image of nothing": put("image_shape", [0, 8, 1]),
    "image of two channels": put("image_shape", [8, 8, 2]),
    "image of another size": put("image_shape", [9, 8, 1]),
    "parameters NaN": array(KERNEL, filled(np.nan)),
    "one parameter NaN": array(KERNEL, first(np.nan)),
    "one parameter infinite": array("params/encoder/head/bias", first(np.inf)),
    "parameters of integers": array(KERNEL, lambda old: old.astype(np.int32)),
    "parameters of halves": array(KERNEL, lambda old: old.astype(np.float16)),
    "parameters of doubles": array(KERNEL, lambda old: old.astype(np.float64)),
    "parameters of big ends": array(KERNEL, lambda old: old.astype(">f4")),
    "parameters of complex numbers": array(KERNEL, lambda old: old.astype(np.complex64)),
    "parameters of text": array(KERNEL, lambda old: np.full(old.shape, "x")),
    "parameters turned": array(KERNEL, lambda old: old.T),
    "parameters flat": array(KERNEL, np.ravel),
    "a parameter missing": without(KERNEL),
    "the decoder missing": without("params/decoder"),
    "all parameters missing": without("params"),
    "codes NaN": array(Y, first(np.nan)),
    "codes of other dimensions": array(Y, lambda old: old[:, :2]),
    "codes missing": without(Y),
    "no codes": array(Y, lambda old: old[:0]),
    "codes flat": array(Y, np.ravel),
    "codes of doubles": array(Y, lambda old: old.astype(np.float64)),
    "centre NaN": array("centre", filled(np.nan)),
    "centre a number": array("centre", lambda old: old[0]),
    "centre missing": without("centre"),
    "scale 0": array("scale", filled(0)),
    "scale below 0": array("scale", first(-1)),
    "heights NaN": array(H, first(np.nan)),
    "heights infinite": array(H, first(np.inf)),
    "all heights away": array("extension/h", filled(-np.inf)),
    "heights of other targets": array(H, lambda old: old[:-1]),
    "heights missing": without(H),
    "heights inside heights": array(f"{H}/x", lambda _: 1.0),
    "the solution missing": without("solution"),
    "the extension missing": without("extension"),
    "certificate missing": without("solution/certificate"),
    "certificate NaN": array("solution/certificate/mass_error", filled(np.nan)),
    "field of a newer version": array("solution/certificate/entropy", lambda _: np.float32(1)),
    "array of a newer version": array("attention", lambda _: np.ones(3)),
    "array without a name": array("/", lambda _: np.ones(3)),
    "status unknown": array("solution/status", filled(99)),
    "status of two": array("solution/status", lambda old: np.array([1, 1], np.int32)),
    "status a float": array("solution/status", lambda old: old.astype(np.float32)),
    "method unknown in numbers": array("solution/method", filled(-1)),
    "samples counted below 0": array("solution/num_samples", filled(-1)),
    "history of two axes": array("solution/history/mass_error", lambda old: old[None]),
    "history of two lengths": array("solution/history/num_samples", lambda old: old[:1]),
    "threshold NaN": array("extension/threshold", filled(np.nan)),
    "threshold beyond pi": array("extension/threshold", filled(9)),
    "band below 0": array("extension/band", filled(-1)),
    "margin infinite": array("extension/margin", filled(np.inf)),
    "frame without size": array("extension/frame/scale", filled(0)),
    "frame missing": without("extension/frame"),
    "angles below 0": array("extension/face_angles", first(-1)),
    "losses NaN": array("losses", filled(np.nan)),
    "losses of two axes": array("losses", lambda old: old[None]),
    "seconds NaN": array("seconds/map", filled(np.nan)),
    "seconds without end": lambda arrays, _: arrays.update(
        {f"seconds/{i}": np.float32(1) for i in range(999)}
    ),
    "labels that fall": array("classes/labels", lambda old: old[::-1]),
    "labels twice": array("classes/labels", filled(0)),
    "names of classes a text": put("label_names", "cats"),
    "names of classes numbers": put("label_names", [0, 1, 2]),
    "names of classes twice": put("label_names", ["a", "a", "b", "c", "d", "e"]),
    "names of no letters": put("label_names", ["", "a", "b", "c", "d", "e"]),
    "names of too few classes": put("label_names", ["a"]),
    "labels of floats": array("classes/labels", lambda old: old.astype(np.float32)),
    "labels missing": without("classes/labels"),
    "no labels": array("classes/labels", lambda old: old[:0]),
    "shares of others": array("classes/shares", lambda old: old[:1]),
    "shares of 0": array("classes/shares", filled(0)),
    "classes without maps": without("classes/extension"),
    "classes of other codes": array("classes/extension/y", lambda old: old[:1]),
    "classes of other heights": array("classes/solution/h", lambda old: old[:, :1]),
    "a class without cells": array("classes/extension/h", filled(-np.inf)),
}


def head(**changes):
    """A form: the JSON of the file as it is not written by this library."""

    def write(path, arrays, meta):
        np.savez(path, meta=np.frombuffer(json.dumps({**meta, **changes}).encode(), np.uint8))

    return write


def raw(data):
    def write(path, arrays, meta):
        text = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
        np.savez(path, meta=text, **arrays)

    return write


def bomb(path, arrays, meta):
    huge = np.zeros((2**14, 2**13), np.float32)  # 512 MiB, of which half a MiB is stored
    arrays = {**arrays, KERNEL: huge, "meta": text(meta)}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def many(path, arrays, meta):
    arrays = {f"a{i}": np.zeros(0) for i in range(12_000)} | {"meta": text(meta)}
    np.savez(path, allow_pickle=False, **arrays)


def text(meta):
    return np.frombuffer(json.dumps(meta).encode(), np.uint8)


FILES = {
    "JSON nested deeply": raw(b"[" * 100_000 + b"]" * 100_000),
    "JSON a list": raw(b"[1]"),
    "JSON cut": raw(b'{"kind": "mo'),
    "JSON of no text": raw(b"\xff\xfe\x00"),
    "JSON with a number of 5,000 digits": raw(b'{"kind": 1' + b"0" * 5000 + b"}"),
    "JSON of two megabytes": raw(b" " * 2**21),
    "JSON of floats": raw(np.ones(9)),
    "JSON of two axes": raw(np.full((3, 3), 32, np.uint8)),
    "JSON empty": raw(b""),
    "schema of a newer version": head(schema=3),
    "schema a text": head(schema="2"),
    "schema a truth": head(schema=True),
    "schema hostile": head(schema="x" * 10**5),
    "kind a list": head(kind=["model"]),
    "kind another": head(kind="training"),
    "arrays that grow": bomb,
    "arrays without end": many,
}


def forge(path, form, arrays, meta):
    """Write a form to a file, with the checksum that belongs to it."""
    arrays, meta = dict(arrays), json.loads(json.dumps(meta))
    if form in FILES:
        FILES[form](path, arrays, meta)
    else:
        MODELS[form](arrays, meta)
        records.write(path, "model", arrays, meta)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return handmade.write_run(tmp_path_factory.mktemp("run"))


class Limits:
    """What a form takes; the most memory of a process only ever grows."""

    def __init__(self):
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def problem(self, started):
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.peak) / 2**10
        if too_much := effort.problem(time.process_time() - started):
            return too_much
        return f"took {grown:.0f} MiB" if grown > MEBIBYTES else None


def one_sentence(said):
    """What is wrong with an error, if anything."""
    lines = said.strip().splitlines()
    if len(lines) != 1 or not lines[0].endswith("."):
        return f"said {said[-300:]!r}"
    return None if len(lines[0]) < 1000 else f"said {len(lines[0])} characters"


@pytest.mark.parametrize(("every", "least"), [(6, 9), pytest.param(1, 58, marks=pytest.mark.long)])
def test_forged_models_are_refused_in_one_sentence(run, tmp_path, tally, every, least):
    arrays, meta = records.read(run / runs.MODEL_FILE, "model")
    limits = Limits()
    path = tmp_path / "model.npz"
    for form in (*MODELS, *FILES)[::every]:
        forge(path, form, arrays, meta)
        started = time.process_time()
        try:
            load(path)
            problem = "was loaded"
        except ValueError as error:
            problem = one_sentence(str(error)) or limits.problem(started)
            if problem is None and "model.npz" not in str(error):
                problem = f"is not named in {error}"
            if problem is None and "newer" in form and "version" not in str(error):
                problem = f"is not said to be newer in {error}"
        except BaseException as error:
            problem = f"gave {error!r}"
        tally.record(form, problem)
    assert tally.tried >= least
    checkpoint.write(handmade.model(), path)
    load(path)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sample", "evaluate", "resume"])
def test_no_command_takes_a_forged_model(run, tmp_path, tally, capsys, command):
    arrays, meta = records.read(run / runs.MODEL_FILE, "model")
    out = tmp_path / "out.npz"
    arguments = {
        "sample": ["sample", f"{tmp_path}/run", "--npz", str(out)],
        "evaluate": ["evaluate", f"{tmp_path}/run", "--quiet"],
        "resume": ["fit", "--data=digits", "--limit=60", f"--out={tmp_path}/run", "--resume"],
    }[command]
    limits = Limits()
    for form in (*MODELS, *FILES):
        folder = handmade.copy(run, tmp_path / "run")
        for name in (runs.CONFIG, runs.METRICS):
            (folder / name).unlink()
        forge(folder / runs.MODEL_FILE, form, arrays, meta)
        tally.record(form, refused(arguments, capsys, limits))
        assert not out.exists()


def refused(arguments, capsys, limits):
    """What is wrong with how a command refuses, if anything."""
    started = time.process_time()
    try:
        code = main(arguments)
    except BaseException as error:
        return f"gave {error!r}"
    finally:
        said = capsys.readouterr().err
    # Before the error, a fit says what it learns and a command may warn.
    lines = [line for line in said.strip().splitlines() if line.startswith(("Error", "Traceback"))]
    if code != 2 or "Traceback" in said:
        return f"ended with {code}: {said[-300:]!r}"
    return one_sentence("\n".join(lines)) or limits.problem(started)


WRONG = {
    ("source", "path"): (
        *(None, 3, 1.5, True, [], {}, "", ".", "x/y", "a\0b", "/" + "x" * 5000),
        *("~nobody/x", "/nowhere/at/all", "/dev/null", "mnist\n", ["digits"]),
    ),
    ("source", "limit"): ("60", 1.5, True, [], {}, -1, 0, 1, 10**30, [60]),
    ("source", "hold_out"): (None, "20", 2.5, False, [], {}, -1, 5, 10**30, 31),
    ("source", "seed"): (None, "0", 0.5, True, [], {}, -1, 2**32, 10**30),
    ("source", "labels"): (3, True, [], {}, "", "y.npy", "a\0b", "/nowhere.npy"),
    ("source",): (None, [], "digits", 3, {}, {"limit": 60}),
    ("source", "augment"): (True,),
    ("data",): (None, [], "digits", {}, {"sha256": None}, {"sha256": 3}, {"sha256": "abc"}),
    ("labels",): (None, "yes", 1, []),
    ("seed",): (None, "0", 1.5, []),
    ("version",): (None, 3, []),
    ("model",): (None, 3, "abc", "1" * 64, []),
    ("schema",): (None, "2", 3, 2.0, True, [], "x" * 10**5),
    ("config",): (None, [], "x", {}, {"solver": {}}),
    ("config", "solver"): (None, [], {"tolerance": "x"}, {"momentum": 1}),
    ("config", "autoencoder"): ({"depth": -1}, {"depth": "1"}, {"width": 0}),
}

TEXTS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "cut": b'{"schema": 2, "sour',
    "lists nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "objects nested deeply": b'{"source":' * 100_000 + b"1" + b"}" * 100_000,
    "no text": b"\xff\xfe\x00\x01",
    "zeros": bytes(4096),
    "a number of 5,000 digits": b'{"schema": 1' + b"0" * 5000 + b"}",
    "17 megabytes": b" " * (17 * 2**20),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
}


def hostile(run):
    """Name and writer of every hostile config.json."""
    good = {**documents.read(run / runs.CONFIG)}
    del good[documents.SEAL]
    for path, values in WRONG.items():
        for value in values:
            content = json.loads(json.dumps(good))
            put(*path, value)(None, content)
            yield (
                f"{'.'.join(path)} = {value!r:.30}",
                lambda file, content=content: documents.write(file, content),
            )
    for name, data in TEXTS.items():
        yield name, lambda file, data=data: file.write_bytes(data)
    yield "no seal", lambda file: file.write_text(json.dumps(good))
    yield "a folder", lambda file: file.mkdir()
    yield "a pipe", os.mkfifo
    yield "a link to itself", lambda file: file.symlink_to(file.name)
    yield "a device", lambda file: file.symlink_to("/dev/zero")


@pytest.mark.parametrize(("every", "least"), [(6, 11), pytest.param(1, 68, marks=pytest.mark.long)])
def test_hostile_configs_end_in_one_sentence(
    run, tmp_path, tally, capsys, monkeypatch, every, least
):
    def began(*_, **__):
        raise AssertionError("it began")

    monkeypatch.setattr(evaluate, "evaluate", began)
    limits = Limits()
    for form, write in itertools.islice(hostile(run), 0, None, every):
        folder = handmade.copy(run, tmp_path / "run")
        (folder / runs.CONFIG).unlink()
        write(folder / runs.CONFIG)
        problem = refused(["evaluate", str(folder), "--quiet"], capsys, limits)
        tally.record(form, problem)
    assert tally.tried >= least
