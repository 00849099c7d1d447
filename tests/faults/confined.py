"""Jobs in processes of their own, of which memory and time are measured.

As a program it reads jobs from its input, one line of JSON each, forks for every one, and answers
with a line: what the job returned and printed, the bytes of memory that it took beyond what was
there, and its seconds of processor time. The readers of data are loaded without JAX, as a fork of
JAX would not be safe; only the job "command" loads the whole package.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

READERS = ("aeot_jax.data.images", "mutations", "scipy.io", "h5py", "pyarrow.parquet")
"""What reads and makes files, where it is installed."""

HANG = 120
"""Seconds after which a job is taken to hang."""


class Confined:
    """The program, running; `run` gives it a job and returns the answer."""

    def __init__(self, kind: str):
        package = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, __file__, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(package), "JAX_PLATFORMS": "cpu"},
            text=True,
        )

    def run(self, *job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def without_jax() -> None:
    """Make the package's modules importable, but not what its own file imports."""
    import importlib.util

    found = importlib.util.find_spec("aeot_jax")
    assert found is not None
    package = types.ModuleType("aeot_jax")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["aeot_jax"] = package


def load(source: str, split: str = "train") -> dict[str, Any]:
    """Load a source; small images are returned."""
    from aeot_jax.data import images

    try:
        found = images.load(source, split=split)
    except Exception as error:
        return said(error)
    pixels = found.images[..., 0].tolist() if found.images.size < 10_000 else None
    return {"error": None, "pixels": pixels, "name": found.name}


def said(error: BaseException) -> dict[str, Any]:
    """What is known of an error: whether it is one that the library foresees, and its text."""
    foreseen = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError)
    return {"error": type(error).__name__, "foreseen": foreseen, "text": str(error)}


def command(*arguments: str) -> dict[str, Any]:
    """Run a command of the command line; what it says is in the answer's "noise"."""
    from aeot_jax import cli

    return {"code": cli.main(arguments)}


def mutate(*job: Any) -> dict[str, Any]:
    """Read random mutations; see `mutations`."""
    import mutations

    return mutations.run(*job)


def nothing() -> dict[str, Any]:
    return {}


def forked(job: Callable[..., dict[str, Any]], arguments: list[Any]) -> dict[str, Any]:
    """Do a job in a fork of this process, and measure it."""
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as noise:
        child = os.fork()
        if child == 0:
            signal.alarm(HANG)
            warnings.simplefilter("error")
            os.dup2(noise.fileno(), 1)
            os.dup2(noise.fileno(), 2)
            try:
                answer = job(*arguments)
            except BaseException as error:
                answer = said(error) | {"foreseen": False}
            answers.write(json.dumps(answer).encode())
            answers.flush()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        _, status, usage = os.wait4(child, 0)
        answers.seek(0)
        noise.seek(0)
        text = answers.read()
        answer = json.loads(text) if text else {"error": f"ended with status {status}", "text": ""}
        answer["noise"] = noise.read().decode(errors="backslashreplace")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return answer | {"peak": peak, "seconds": usage.ru_utime + usage.ru_stime}


def main(kind: str) -> None:
    if kind == "command":
        pass
    else:
        without_jax()
    import PIL.Image

    PIL.Image.init()
    for needed in READERS if kind == "readers" else ():  # once, and not in every fork
        with contextlib.suppress(ImportError):  # of a library that is not installed
            importlib.import_module(needed)
    assert kind == "command" or "jax" not in sys.modules
    jobs = {job.__name__: job for job in (load, command, mutate, nothing)}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    usual = forked(nothing, [])["peak"]
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer = forked(jobs[name], arguments)
        print(json.dumps(answer | {"peak": answer["peak"] - usual}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
