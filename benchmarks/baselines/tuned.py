"""What ``modes.py --works baselines --search`` chose, on seeds that are not reported."""

from collections.abc import Mapping
from typing import Any

TUNED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {}
"""By method and set; other sets take those of the ring or the grid, whichever they are like."""
