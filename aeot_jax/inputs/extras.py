"""Libraries that not every use needs: a sentence says how to install what is missing."""

import importlib.util


def require(module: str, extra: str, what: str) -> None:
    """Make sure that a library can be imported.

    Args:
      module: its name in Python.
      extra: of this package, which brings it.
      what: what it does here, to follow its name.

    Raises:
      ImportError: a sentence, if it is missing.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"{module}, which {what}, is missing; install it with: pip install 'aeot-jax[{extra}]'."
        )
