"""Without the libraries of the command line the package works, and says what is missing."""

import subprocess
import sys

import pytest

BLOCK = """
import importlib.abc, sys
GONE = {"tyro", "pooch", "requests", "PIL", "platformdirs", "filelock", "matplotlib"}
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in GONE else find(name, *rest)
sys.meta_path.insert(0, Gone())
"""


def without(code):
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False
    )


def test_solving_needs_no_library_of_the_command_line():
    done = without(
        """
import jax, numpy as np
import aeot_jax as aeot
y = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
print(aeot.solve(jax.random.key(0), aeot.Gaussian(2), y))
for name in dir(aeot):
    getattr(aeot, name)
import aeot_jax.metrics, aeot_jax.data.images, aeot_jax.plot, aeot_jax.evaluate
"""
    )
    assert done.returncode == 0, done.stderr
    assert "20 heights by EXACT" in done.stdout


@pytest.mark.parametrize("source", ["mnist", "pictures"])
def test_readers_say_what_to_install(source, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    place = source if source == "mnist" else str(tmp_path)
    done = without(f"from aeot_jax.data import images; images.load({place!r})")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert last.endswith("is missing; install it with: pip install 'aeot-jax[cli]'.")


def test_the_command_says_what_to_install():
    done = without("from aeot_jax.__main__ import main; sys.exit(main())")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: the command line needs tyro and platformdirs; install")
    assert "pip install 'aeot-jax[cli]'" in line
