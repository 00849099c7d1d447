"""Commands in processes that are killed: started once, forked for each command.

Reads one JSON line a command: {"arguments": [...], "folder": ..., "event": k or null, "after":
seconds or null}; kills it before the k-th file event in the folder, or after so much of its CPU
time; answers with {"code": ..., "events": ..., "said": ...}.
"""

import json
import os
import signal
import sys
import tempfile
import warnings

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def child(order: dict, said: int, counted: int) -> None:
    """Run the command; never returns."""
    os.dup2(said, 1)
    os.dup2(said, 2)
    folder, events = order["folder"], 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal events
        if event in EVENTS and any(folder in path(argument) for argument in arguments):
            if events == order["event"]:
                os.kill(os.getpid(), signal.SIGKILL)
            events += 1

    sys.addaudithook(watch)
    if order["after"] is not None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which kills, and cannot be caught
        signal.setitimer(signal.ITIMER_PROF, order["after"])
    from aeot_jax import cli

    code = cli.main(order["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os.pwrite(counted, str(events).encode(), 0)
    os._exit(code)


def path(argument: object) -> str:
    return str(argument) if isinstance(argument, str | os.PathLike) else ""


def serve() -> None:
    # What they import is imported once; no computation is begun, which a fork would not survive.
    import matplotlib.figure  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import aeot_jax.cli  # noqa: F401

    warnings.simplefilter("ignore")
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as counted:
            if not (pid := os.fork()):
                child(order, said.fileno(), counted.fileno())
            _, status = os.waitpid(pid, 0)
            answer = {
                "code": os.waitstatus_to_exitcode(status),
                "events": int(os.pread(counted.fileno(), 99, 0) or 0),
                "said": os.pread(said.fileno(), 10_000, 0).decode(),
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
