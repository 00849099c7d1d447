"""Two real processes over loopback: one answer, one writer, and no hang when one dies."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax.nn import train

WORKER = Path(__file__).with_name("worker.py")


def launch(
    what: str, folder: Path, seconds: float, after: float | None = None
) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes; both are ended when the time is over.

    With ``after`` the first may live so many seconds longer than the second.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = os.pathsep.join([str(WORKER.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": path}
    environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir  # pyright: ignore
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), what, address, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    until = time.monotonic() + seconds
    try:
        if after is not None:
            running[1].wait(timeout=seconds)
            until = time.monotonic() + after
        outputs = [p.communicate(timeout=max(1, until - time.monotonic())) for p in running]
        return [(p.returncode, *o) for p, o in zip(running, outputs, strict=True)]
    finally:
        for process in running:
            process.kill()


def test_two_processes_solve_and_train_as_one_and_notice_other_data(tmp_path):
    done = launch("solve", tmp_path, 90)
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


def test_when_one_process_dies_the_other_ends_with_an_error(tmp_path):
    first, second = launch("die", tmp_path, 60, after=30)
    assert second[0] == 7
    assert first[0] not in (0, None)
    said = first[2].lower()
    assert any(word in said for word in ("gloo", "connection", "heartbeat", "unavailable")), said


def test_the_command_line_writes_one_folder(tmp_path):
    np.savez(tmp_path / "x.npz", x=tiny.images(80))
    done = launch("cli", tmp_path, 110)
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
