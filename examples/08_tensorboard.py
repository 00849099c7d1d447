"""Watch a fit in TensorBoard."""

# %% [markdown]
# # Watch a fit in TensorBoard
#
# `fit(on_event=...)` calls one function with every loss of the training, every estimate of the
# transport and its certificate. Here they are written as TensorBoard's event files, by
# tensorboardX (`pip install 'aeot-jax[tensorboard]'`); `tensorboard --logdir runs` shows
# them. The logger `aeot_jax` says the same in words.

# %%
import argparse
import logging
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

import aeot_jax as aeot
from aeot_jax.data import images

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few images, few epochs, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/08_tensorboard"), help="the folder")
options = parser.parse_args()

logging.basicConfig(format="%(message)s")
logging.getLogger("aeot_jax").setLevel(logging.INFO)

# %% [markdown]
# An event has a kind ("stage", "loss", "estimate", "certificate"), numbers by name, and how far the
# stage has come, which is the step of its curve.

# %%
with SummaryWriter(str(options.out)) as writer:

    def write(event: aeot.Event) -> None:
        """Every number is a curve of its own."""
        for name, value in event.values.items():
            writer.add_scalar(f"{event.stage}/{event.kind}/{name}", value, int(event.done))

    digits = images.load("digits").images[: 300 if options.quick else None]
    quick = aeot.Config(
        training=aeot.TrainConfig(epochs=3), solver=aeot.SolverConfig(tolerance=0.5)
    )
    config = quick if options.quick else aeot.Config()
    model = aeot.fit(jax.random.key(0), digits, config, on_event=write)
    new = aeot.sample(jax.random.key(1), model, 16)
    writer.add_images("new", jax.device_get(new), dataformats="NHWC")

print(model)
print(f"wrote {options.out}")
