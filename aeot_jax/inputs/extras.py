"""Optional libraries: an error says how to install a missing one."""

import importlib.util


def require(module: str, extra: str, what: str) -> None:
    """Raise an error unless a library can be imported.

    Args:
      module: its name in Python.
      extra: the extra of this package that installs it.
      what: what it does here, a verb phrase for the error.

    Raises:
      ImportError: if it is missing.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"{module}, which {what}, is missing; install it with: pip install 'aeot-jax[{extra}]'."
        )
