"""Two real processes over loopback: one answer, one writer, and no hang when one dies."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax.nn import train

WORKER = Path(__file__).with_name("worker.py")


IDLE = 60
"""Seconds in which a process that goes on uses some processor time, however busy the machine is."""


def used(process: subprocess.Popen) -> float:
    """Ticks of processor time that a running process has used; where nobody says, as if it did."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return int(fields[11]) + int(fields[12])


def wait(process: subprocess.Popen) -> int:
    """Wait for the end of a process for as long as it gets on."""
    before = -math.inf
    while True:
        try:
            return process.wait(timeout=IDLE)
        except subprocess.TimeoutExpired:
            now = used(process)
            if now < before + 0.01 * IDLE * os.sysconf("SC_CLK_TCK"):
                raise
            before = now


def launch(what: str, folder: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes; the second is waited for first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = os.pathsep.join([str(WORKER.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": path}
    environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir  # pyright: ignore
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    said = [(folder / f"{rank}.out", folder / f"{rank}.err") for rank in range(2)]
    running: list[subprocess.Popen] = []
    try:
        for rank, (out, err) in enumerate(said):
            command = [sys.executable, str(WORKER), what, address, str(rank), str(folder)]
            with out.open("w") as stdout, err.open("w") as stderr:
                running.append(
                    subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment)
                )
        codes = [wait(process) for process in reversed(running)][::-1]
    finally:
        for process in running:
            process.kill()
            process.wait()
    texts = [(out.read_text(), err.read_text()) for out, err in said]
    return [(code, *text) for code, text in zip(codes, texts, strict=True)]


@pytest.mark.long
def test_two_processes_solve_and_train_as_one_and_notice_other_data(tmp_path):
    done = launch("solve", tmp_path)
    assert [code for code, _, _ in done] == [0, 0], done
    found = [json.loads(out.splitlines()[-1]) for _, out, _ in done]
    y = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    mu = aeot.Gaussian(6)
    config = aeot.SolverConfig(tolerance=0.3, sampling="independent", start="zero")
    alone = aeot.solve(jax.random.key(0), mu, y, config=config)
    few_steps = dataclasses.replace(config, max_steps=8, tolerance=None)
    whole = aeot.solve(jax.random.key(0), mu, y, config=few_steps)
    fresh = aeot.certify(jax.random.key(1), mu, y, alone.h, num_samples=10_000)
    ext = aeot.extension(jax.random.key(2), mu, y, alone.h)
    z, _, _ = aeot.generate(jax.random.key(3), ext, 5_000)
    images, config = tiny.images()[..., None], tiny.CONFIG
    _, losses = train.fit(tiny.KEY, images, config.autoencoder, config.training)
    for other in found:
        np.testing.assert_array_equal(np.float32(other["h"]), alone.h)
        assert other["error"] == float(fresh.mass_error)
        np.testing.assert_array_equal(np.float32(other["halves"]), whole.h)  # of the targets each
        # With other targets in one of them, both stop before the first step.
        assert "`y` ([1]) differ from those of process 0" in other["said"]
        np.testing.assert_array_equal(np.float32(other["z"]), z[::500])
        assert other["spread"] == 2
        np.testing.assert_allclose(other["losses"], losses, rtol=1e-5)


@pytest.mark.long
def test_when_one_process_dies_the_other_ends_with_an_error(tmp_path):
    first, second = launch("die", tmp_path)
    assert second[0] == 7
    assert first[0] not in (0, None)
    said = first[2].lower()
    assert any(word in said for word in ("gloo", "connection", "heartbeat", "unavailable")), said


@pytest.mark.long
def test_the_command_line_writes_one_folder(tmp_path):
    np.savez(tmp_path / "x.npz", x=tiny.images(80))
    done = launch("cli", tmp_path)
    assert [code for code, _, _ in done] == [0, 0], done
    assert [out.splitlines()[-1] for _, out, _ in done] == ["0", "0"]
    assert "mass error" in done[0][1]
    assert "mass error" not in done[1][1]
    names = {file.name for file in (tmp_path / "cli").iterdir()}
    assert {"model.npz", "config.json", "metrics.json", "samples.png"} <= names
    assert not [name for name in names if name.startswith(".") or "checkpoint" in name]


@pytest.mark.parametrize("name", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
def test_a_variable_that_is_no_number_is_named(monkeypatch, name):
    from aeot_jax.machines import processes

    monkeypatch.setenv(name, "two")
    with pytest.raises(ValueError, match=f"`{name}` is 'two'; set it to a whole number"):
        processes.join()
