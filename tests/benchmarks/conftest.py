"""The benchmarks are scripts of a folder, and import each other as such."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
