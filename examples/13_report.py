"""Learn from the command line, and read what the report of a run says."""

# %% [markdown]
# # The report of a run
#
# Two commands: `aeot-jax fit` learns and writes a folder, with `report.html` in it; `aeot-jax
# report` writes that page again, for another number of samples or after an evaluation. The page
# says in words what is good, what is weak and what to try; below, these words and the pictures that
# lie beside it. Open `runs/13_report/report.html` for all.

# %%
import argparse
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread

from aeot_jax import plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few images, few epochs, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/13_report.png"), help="the figure")
options = parser.parse_args()

run = options.out.with_suffix("")
few = ["--limit", "300", "--epochs", "3", "--tolerance", "0.4"] if options.quick else []


def aeot_jax(command: str, *arguments: str) -> None:
    """Run a command, as `aeot-jax COMMAND ...` in a terminal."""
    words = [sys.executable, "-m", "aeot_jax", command, *arguments]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


# %% [markdown]
# ## Fit, and report
# Some images are held out: the report compares samples with images that were not learned from.

# %%
shutil.rmtree(run, ignore_errors=True)
aeot_jax(
    "fit",
    "--data",
    "digits",
    "--hold-out",
    "100" if options.quick else "300",
    "--out",
    str(run),
    "--quiet",
    *few,
)
aeot_jax("report", str(run))
for path in sorted(run.iterdir()):
    print(path.name)

# %% [markdown]
# ## What it says
# The verdict: a sentence, and what led to it. The same numbers are in `metrics.json`.

# %%
page = (run / "report.html").read_text(encoding="utf-8")
(verdict,) = re.findall(r'<p class="headline \w+">(.*?)</p>', page)
print(html.unescape(verdict))
for level, title in re.findall(r'<span class="level \w+">(\w+)</span><div><strong>(.*?)\.<', page):
    print(f"  {level}: {html.unescape(title)}")
metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
print(
    f"mass error {metrics['mass_error']:.3f}, with 95 % confidence at most {metrics['upper']:.3f}"
)

# %% [markdown]
# ## Look

# %%
figure = Figure(figsize=(11, 4.4), layout="constrained")
top = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
for axes, (name, title) in zip(
    top,
    {
        "samples": "new images",
        "reconstructions": "images and what their codes keep",
        "history": "losses, and the mass error",
    }.items(),
    strict=True,
):
    axes.imshow(imread(run / f"{name}.png"), cmap="gray")
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()
figure.suptitle(html.unescape(verdict), fontsize=12)
print(f"figure in {plot.save(figure, options.out)}")
