"""Fits that are killed at random moments and file events: resumed to the bit, no file left over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import handmade
import jax
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax.storage import runs

SHORT, LONG = 2, 60

FILES = sorted({*runs.FILES} - {runs.TRAINING_FILE, runs.EVALUATION})


class Machine:
    """Runs commands in processes of their own; see ``killed.py``."""

    def __init__(self):
        root = Path(__file__).parents[2]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),  # pyright: ignore[reportAttributeAccessIssue]
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, data, folder, *more, event=None, after=None):
        arguments = ["fit", "--data", str(data), "--out", str(folder), "--epochs=2", "--quiet"]
        arguments += ["--tolerance=0.5", "--latent-dim=3", "--autoencoder.width=16"]
        # Fewer programs, which are most of the time.
        arguments += ["--solver.start=zero", "--solver.sampling=independent", *more]
        order = {"arguments": arguments, "folder": str(folder), "event": event, "after": after}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def machine():
    server = Machine()
    yield server
    server.process.communicate()


@pytest.fixture(scope="module")
def fits(machine, tmp_path_factory):
    """The data, an earlier run "0", a fit "1" that nobody killed, and its number of file events."""
    folder = tmp_path_factory.mktemp("fits")
    data = folder / "x.npz"
    np.savez(data, x=tiny.images())
    handmade.write_run(folder / "0")
    (folder / "0" / runs.EVALUATION).unlink()
    return data, folder, machine.run(data, folder / "1", "--seed=1")["events"]


def numbers(run):
    model = aeot.load(run)
    return jax.tree.leaves((model.params, model.centre, model.losses, model.solution))


def same(one, other):
    return all(map(np.array_equal, one, other))


def survived(machine, data, run, old, new, overwrite, **kill):
    """Kill a fit and go on; what is wrong in the end, if anything."""
    more = ("--seed=1", "--overwrite") if overwrite else ("--seed=1",)
    machine.run(data, run, *more, **kill)
    if overwrite and not any(same(numbers(run), one) for one in (old, new)):
        return "neither the earlier run nor the new one is whole"
    again = machine.run(data, run, "--seed=1", "--resume")
    if overwrite and again["code"] == 2 and "a run with other options" in again["said"]:
        again = machine.run(data, run, "--seed=1", "--overwrite")  # nothing had been kept
    if again["code"]:
        return f"could not be resumed: {again['said'][-500:]}"
    if not same(numbers(run), new):
        return "the model is another"
    left = sorted(path.name for path in run.iterdir())
    if left != FILES:
        return f"there are {left}"
    runs.check_together(run)
    return "pictures of another run" if runs.foreign_pictures(run) else None


def campaign(machine, fits, tmp_path, tally, count):
    data, folder, events = fits
    old, new = numbers(folder / "0"), numbers(folder / "1")
    rng = np.random.default_rng(count)
    for case in range(count):
        overwrite, by_event = case % 2 == 1, case % 4 < 2
        at = (case // 4 + rng.uniform()) / -(-count // 4)
        # To replace a run takes more events than to begin one.
        kill = (
            {"event": int(at * (events + 8 * overwrite))} if by_event else {"after": 0.1 + 4 * at}
        )
        run = tmp_path / "run"
        handmade.copy(folder / "0", run)
        if not overwrite:
            for path in run.iterdir():
                path.unlink()
        problem = survived(machine, data, run, old, new, overwrite, **kill)
        tally.record(f"{'overwrite' if overwrite else 'fit'} {kill}", problem)


@pytest.mark.long
def test_a_fit_killed_before_its_first_file_leaves_the_earlier_run(machine, fits, tmp_path):
    data, folder, _ = fits
    old, new = numbers(folder / "0"), numbers(folder / "1")
    run = tmp_path / "run"
    handmade.copy(folder / "0", run)
    assert survived(machine, data, run, old, new, overwrite=True, event=0) is None


@pytest.mark.long
def test_a_killed_fit_goes_on(machine, fits, tmp_path, tally):
    campaign(machine, fits, tmp_path, tally, SHORT)


@pytest.mark.slow
def test_killed_fits_go_on(machine, fits, tmp_path, tally):
    campaign(machine, fits, tmp_path, tally, LONG)
