"""Semi-discrete optimal transport and AE-OT generative models in JAX.

The public names are those of ``names.py``. They are imported on first use, so that a command can
start, and handle Ctrl-C, before JAX is imported.
"""

import importlib
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from aeot_jax._version import __version__ as __version__

if TYPE_CHECKING:
    from aeot_jax.names import *  # noqa: F403

logging.getLogger(__name__).addHandler(logging.NullHandler())  # no output by default


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        # Modules first, without `names`: they import each other in this way.
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f"{__name__}.{name}")
        names = vars(importlib.import_module(f"{__name__}.names"))
        if name in names:
            globals()[name] = names[name]  # so that the next access is direct
            return names[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names only."""
    names = vars(importlib.import_module(f"{__name__}.names"))
    return sorted({"__version__", *(name for name in names if not name.startswith("_"))})
