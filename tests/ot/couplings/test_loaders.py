"""Couplings as the source of other libraries' loaders; each library is an extra of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aeot_jax as aeot

B, D = 64, 2
Y = np.random.default_rng(0).normal(size=(40, D)) + 1.0
C = aeot.coupling(aeot.Gaussian(D), Y, -(Y**2).sum(1) / 4, batch_size=B, num_batches=6)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


BEGIN = """
import numpy as np
import aeot_jax as aeot

y = np.random.default_rng(0).normal(size=(40, 2)) + 1.0
c = aeot.coupling(aeot.Gaussian(2), y, -(y**2).sum(1) / 4, batch_size=64, num_batches=6)
"""


def run(path: Path, code: str) -> None:
    """Run a script of its own: loaders start processes and threads, and some keep them."""
    path.write_text(code)
    root = Path(aeot.__file__).parent.parent
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_grain_shuffles_and_resumes():
    grain: Any = pytest.importorskip("grain")
    data = grain.MapDataset.source(C).shuffle(seed=3).repeat(2)
    batches = iter(data.to_iter_dataset())
    first = [next(batches) for _ in range(7)]
    assert isinstance(first[0], aeot.Pairs)
    state = batches.get_state()
    expected = list(batches)
    again = iter(data.to_iter_dataset())
    again.set_state(state)
    for one, other in zip(again, expected, strict=True):
        assert_equal(one, other)
    seen = sorted(float(pairs.x[0, 0]) for pairs in first[:6])
    np.testing.assert_array_equal(seen, sorted(float(pairs.x[0, 0]) for pairs in C))


def test_torch_loads_by_spawned_workers(tmp_path):
    """``batch_size=None``: a coupling makes batches itself. Workers compute on the CPU."""
    pytest.importorskip("torch")
    code = """
import torch
from torch.utils.data import DataLoader


def to_torch(pairs):
    return tuple(torch.from_numpy(np.array(part)) for part in pairs)


if __name__ == "__main__":
    spawned = {"num_workers": 1, "multiprocessing_context": "spawn"}
    loader = DataLoader(c, batch_size=None, collate_fn=to_torch, **spawned)
    for batch, pairs in zip(loader, c, strict=True):
        for tensor, array in zip(batch, pairs, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)
"""
    run(tmp_path / "load.py", BEGIN + code)


def test_tf_data_resumes(tmp_path):
    pytest.importorskip("tensorflow")
    code = """
import tensorflow as tf

signature = (
    tf.TensorSpec((64, 2), tf.float32),
    tf.TensorSpec((64, 2), tf.float32),
    tf.TensorSpec((64,), tf.int32),
)
data = tf.data.Dataset.from_generator(lambda: c.iter(start=2), output_signature=signature)
found = list(data.prefetch(2).as_numpy_iterator())
for batch, pairs in zip(found, c.iter(start=2), strict=True):
    for one, other in zip(batch, pairs, strict=True):
        np.testing.assert_array_equal(one, other)
assert len(found) == 4
"""
    run(tmp_path / "load.py", BEGIN + code)
