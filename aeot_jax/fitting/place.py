"""The folder that a fit writes to, owned by process 0."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from aeot_jax import arguments
from aeot_jax.checkpoints import checkpoint
from aeot_jax.machines import processes
from aeot_jax.model import AEOT, Config
from aeot_jax.ot.solver.result import Status
from aeot_jax.storage import runs
from aeot_jax.storage.locks import locked
from aeot_jax.typing import Given


class Place:
    """The folder of a run, if there is one, and whether to resume or to replace a run in it."""

    def __init__(
        self,
        run_dir: Given[str | os.PathLike[str] | None],
        *,
        resume: Given[bool],
        overwrite: Given[bool],
    ) -> None:
        self.flags = {
            "resume": arguments.flag("resume", resume),
            "overwrite": arguments.flag("overwrite", overwrite),
        }
        if run_dir is None and (resume or overwrite):
            name = "resume" if resume else "overwrite"
            raise ValueError(f"`{name}` is set, but `run_dir` is None; pass the folder of the run.")
        self.folder = None if run_dir is None else arguments.path("run_dir", run_dir)


def config_for(place: Place, config: Config) -> Config:
    """The configuration of a fit; if it resumes a run of an earlier version, what that one did."""
    if place.folder is None or not place.flags["resume"]:
        return config
    return checkpoint.as_begun(place.folder, config)


def in_folder(
    place: Place, fingerprint: str, work: Callable[[checkpoint.Run | None], AEOT]
) -> AEOT:
    """Run `work`, or read its finished model; save the model if there is a folder."""
    folder = place.folder
    if folder is None:
        return work(None)
    with ExitStack() as writing:
        run = _open_run(folder, fingerprint, writing, **place.flags)
        first = processes.is_first()
        model = run.finished
        if model is None:
            model = work(run)
            if first:
                run.save_model(model)
        whole = int(model.solution.status) != Status.INTERRUPTED
        if first and run.folder != folder and whole:
            runs.replace(folder)
        return model


def _open_run(
    folder: Path, identity: str, writing: ExitStack, *, resume: Given[bool], overwrite: Given[bool]
) -> checkpoint.Run:
    """Open the run in process 0, which owns the folder; the others read the same files."""
    run, problem = None, None
    if processes.is_first():
        try:
            runs.check_place(folder, "run_dir")
            writing.enter_context(locked(folder, "run_dir"))
            runs.tidy(folder)
            run = checkpoint.open_run(folder, identity, resume=resume, overwrite=overwrite)
            writing.callback(runs.remove_if_empty, folder / runs.NEXT)
        except (ValueError, OSError) as error:
            problem = error
    found = run is not None and (run.finished is not None or run.training is not None)
    found = processes.settle("run_dir", str(folder), problem, found)
    if run is not None:
        return run
    if not found:
        return checkpoint.Run(folder, identity, None, None)
    return checkpoint.open_run(folder, identity, resume=True)
