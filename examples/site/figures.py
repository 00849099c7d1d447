"""Run the examples that have changed, and keep their figures and words for the gallery.

    python examples/site/figures.py              # those that are newer than their figures
    python examples/site/figures.py 01_cells.py  # this one

Figures lie in examples/guides/figures, with a record of what each script made, the digest of the
script and its CPU-seconds.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gallery import EXAMPLES, FIGURES, RECORDS, digest, makers, records
from PIL import Image

WIDEST = 1200
QUICK = {"08_tensorboard.py": ["--quick"]}
"""Arguments of examples whose long form shows nothing more."""

ALT = {
    "overview": "Left, the plane of the noise, divided into one cell for each image and coloured "
    "by the kind of digit, with red lines where the map jumps between kinds; in the middle, the "
    "codes of the images in the same colours, with new codes among them; right, new digits.",
    "01_cells": "Four panels of transport from a square onto scattered points: the coloured cells "
    "of the square, Brenier's potential as a surface, the triangulation of the targets, and "
    "samples with lines to their targets.",
    "01_cells_moons": "The same four panels for a Gaussian onto two moons: colours of the two "
    "moons meet along a crease in the middle of the source.",
    "02_solve": "Left, samples of a disc coloured by the target that they go to; right, the "
    "targets, scattered over a square, in the same colours.",
    "03_singular_set": "Four panels: cells of the source with the singular faces in red and "
    "rejected samples in black, two moons whose edges across the gap are red, samples of the "
    "extension that stay on the moons, and the histogram of the face angles with its threshold.",
    "04_own_networks": "A grid of 64 new digits, decoded from principal components.",
    "05_images": "A grid of 64 new handwritten digits.",
    "05_images_classes": "New digits in ten rows, one row for each digit from 0 to 9.",
    "05_images_walks": "Three film strips of digits: a walk in the source, a walk through the "
    "codes, and a walk from noise to its code, with the faces that each crosses.",
    "06_flow": "Two rows of three panels, for independent and for optimal pairs: paths of the "
    "flow, which are straight for optimal pairs, and where one and four Euler steps lead.",
    "10_space": "Three views of two linked rings in space: the data in two colours, one for each "
    "ring; new points without a cut, some of which lie between the rings; new points with the cut, "
    "none of which do.",
    "11_new_targets": "Three bars, samples a target: about as many before and anew, and a fraction "
    "of that from the solution.",
    "12_conditions": "Left, lines from noise to the points of two moons, each in the colour of its "
    "label: noise of both labels lies everywhere. Middle and right, the same noise carried to one "
    "moon and to the other, as each label asks.",
    "13_report": "The sentence of a report above three of its pictures: new digits; digits above "
    "what their codes keep of them; lines of the loss and of the mass error, which fall.",
    "07_discriminator": "Left, level lines of the discriminator with arrows along its negative "
    "gradient; right, the samples where the arrows lead, on a swiss roll.",
    "14_pieces": "A sheet bent like an S, in colours of the cells of its encoder; its codes in the "
    "plane over the polygons of the decoder; the sheet that comes back, in smaller cells; and "
    "lines: noisy points are farther and farther from the sheet, projected ones stay near, and "
    "those of another sheet end far from their own.",
    "15_spiral": "Three spirals of one, two and four turns in grey, with what a network brings "
    "back in blue: the first is followed closely, the second roughly, of the fourth only the outer "
    "arm; right, error and shared codes rise with the turns.",
    "16_collapse": "Left, a Gaussian cut in two by a vertical line, with a band of orange samples "
    "along it; then two panels of half discs with orange samples between them, from continuous "
    "generators, and one with two separate halves and nothing between.",
}


def run(script: Path) -> dict[str, Any]:
    """Run a script in an empty folder; its figures are copied, and the rest is its record."""
    arguments = QUICK.get(script.name, [])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=folder,
            env={**as_new(), "PYTHONPATH": str(EXAMPLES.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{script} failed:\n{done.stderr}")
        outside = [path.name for path in Path(folder).iterdir() if path.name != "runs"]
        if outside:
            raise SystemExit(f"{script} writes outside of runs/: {outside}")
        figures = {}
        for path in sorted(Path(folder).glob("runs/*.png")):
            figures[keep(path)] = ALT[path.stem]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    printed = re.sub(r"(figure|grid|film strips) in \S+\n", "", done.stdout)
    return {
        "sha256": digest(script),
        "arguments": arguments,
        "seconds": round(seconds, 1),
        "figures": figures,
        "printed": printed,
    }


def as_new() -> dict[str, str]:
    """The environment of somebody who has no cache of compiled programs."""
    return {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}


def keep(path: Path) -> str:
    """Put a picture among the figures, not wider than a page needs."""
    FIGURES.mkdir(exist_ok=True)
    target = FIGURES / f"{path.stem}.webp"
    with Image.open(path) as picture:
        image = picture.convert("RGB")
        image.thumbnail((WIDEST, 4 * WIDEST), Image.Resampling.LANCZOS)
        image.save(target, quality=85, method=6)
    return target.name


def main() -> None:
    parser = argparse.ArgumentParser(description="Run examples that have changed")
    parser.add_argument("names", nargs="*", help="examples; those that have changed by default")
    names = parser.parse_args().names
    known = records()
    for script in makers():
        changed = known.get(script.name, {}).get("sha256") != digest(script)
        if script.name in names or (not names and changed):
            known[script.name] = run(script)
            print(f"{script.name}: {known[script.name]['seconds']} CPU-seconds")
            RECORDS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for figure in FIGURES.glob("*.webp"):
        if not any(figure.name in record["figures"] for record in known.values()):
            figure.unlink()
    gone = set(known) - {script.name for script in makers()}
    for name in gone:
        del known[name]
    RECORDS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
