"""``python -m aeot_jax`` is ``aeot-jax``."""

import contextlib
import importlib.util
import os
import signal
import sys
from typing import Any

_NEEDED = ("tyro", "rich", "platformdirs")
"""Libraries that only the command line imports."""


def main() -> int:
    """Import the command line and the command, which takes a second or more, and run it.

    Until then Ctrl-C and SIGTERM end the process at once, because an exception in the middle of an
    import may be caught by the importer.

    Returns:
      The exit code.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"Error: the command line needs {' and '.join(missing)}; install what is missing with: "
            "pip install 'aeot-jax[cli]'.",
            file=sys.stderr,
        )
        return 2
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        from aeot_jax import cli  # a background process ignores Ctrl-C, and must

        return cli.main()
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    from aeot_jax import cli

    with contextlib.suppress(ImportError):  # reported when the command runs
        cli.prepare()
    for number, handler in before.items():
        signal.signal(number, handler)
    return cli.main()


def _end(number: int, frame: Any) -> None:
    del number, frame
    os.write(2, b"Interrupted; nothing was done.\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
