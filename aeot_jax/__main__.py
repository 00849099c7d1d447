"""``python -m aeot_jax`` is ``aeot-jax``."""

import sys

from aeot_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
