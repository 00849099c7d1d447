"""See a surface in space through the pieces of a ReLU autoencoder, and project noise onto it."""

# %% [markdown]
# # A surface, its code, and the pieces of the networks
#
# With rectified linear units an encoder is a continuous map that is affine on each of finitely many
# polyhedra of space, and so is the decoder on polygons of the code. Here both are counted and drawn
# for a bent sheet in space: what the first half of the paper shows for scanned figures.

# %%
import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy.spatial import KDTree

import aeot_jax as aeot
from aeot_jax import manifold, plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few points, few epochs")
parser.add_argument("--out", type=Path, default=Path("runs/14_pieces.png"), help="the figure")
options = parser.parse_args()

num_points, epochs = (400, 20) if options.quick else (2000, 300)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The surface
# A sheet bent like an S, one unit wide.


# %%
def sheet(n: int) -> np.ndarray:
    bend, along = np.pi * rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
    across, up = np.sin(bend), np.sign(bend) * (np.cos(bend) - 1)
    return np.stack([across, along, up], axis=1).astype(np.float32)


x = sheet(num_points)

# %% [markdown]
# ## Learn it
# The library's own autoencoder of a table, with rectified units and codes in the plane. (The
# transport onto its codes comes with it.)

# %%
model = aeot.fit(
    jax.random.key(0),
    x,
    aeot.Config(
        aeot.AutoencoderConfig(latent_dim=2, width=10, activation="relu"),
        aeot.TrainConfig(epochs=epochs, batch_size=100, learning_rate=1e-2, noise=0.05),
    ),
)
encoder, decoder = manifold.encoder(model), manifold.decoder(model)
both = manifold.compose(encoder, decoder)
back = manifold.apply(both, x)
error = np.sqrt(((back - x) ** 2).sum(1).mean())
print(f"what comes back is {error:.3f} from the points, on a sheet 2 wide")

# %% [markdown]
# ## Count the pieces
# At samples, by the pattern of active units; in the plane of the code all of them, as polygons; and
# along a line through space from end to end. The bound is the product, over the layers, of the most
# parts into which so many hyperplanes cut a space.

# %%
z = manifold.apply(encoder, x)
low, high = z.min(0) - 0.3, z.max(0) + 0.3
polygons = manifold.plane(decoder, low, high)
for name, network, points in (
    ("encoder", encoder, x),
    ("decoder", decoder, z),
    ("both", both, x),
):
    seen = manifold.cells(network, points)
    digits = len(str(manifold.piece_bound(network)))
    print(f"{name}: the points are in {seen.count} cells; there are fewer than 10^{digits}")
line = manifold.along(encoder, x[[x[:, 2].argmin(), x[:, 2].argmax()]])
most = manifold.piece_bound(encoder, dim=1)
print(f"decoder: {len(polygons)} polygons around the codes")
print(f"encoder: {line.num_pieces} pieces along a line from end to end, of at most {most:,}")

# %% [markdown]
# ## Denoise by projection
# Encode and decode a noisy point, and it lands on the surface that was learned. That removes noise
# from points of this surface. Points of another one, the same sheet turned by a quarter, land on
# this one too, and so far from their own. Distances are to the surface that a point came from.

# %%
turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
dense, clean = KDTree(sheet(200_000)), sheet(2000)
sigmas = np.array([0.02, 0.05, 0.1, 0.2, 0.3])
rows = []
for sigma in sigmas:
    noise = sigma * rng.normal(size=clean.shape)
    moved = manifold.apply(both, clean + noise)
    lost = manifold.apply(both, (clean + noise) @ turn) @ turn.T  # seen from its own surface
    rows.append([dense.query(points)[0].mean() for points in (clean + noise, moved, lost)])
    print(
        "noise {:.2f}: {:.3f} away, then {:.3f}; of another surface {:.3f}".format(sigma, *rows[-1])
    )

# %% [markdown]
# ## Look
# A colour for each cell: of the encoder on the surface, of the decoder in the plane of the code,
# and of both on what comes back.

# %%
figure = Figure(figsize=(13, 3.4), layout="constrained")
many = sheet(num_points if options.quick else 20_000)


def shades(index: np.ndarray) -> np.ndarray:
    """Shades in no order, so that neighbours differ."""
    return np.random.default_rng(1).permutation(index.max() + 1)[index] / max(1, index.max())


def in_space(place: int, points: np.ndarray, network: manifold.ReLUNetwork, title: str) -> None:
    axes: Any = figure.add_subplot(1, 4, place, projection="3d")
    colour = shades(manifold.cells(network, many).index)
    axes.scatter(*points.T, s=2, c=colour, cmap="cividis", linewidth=0, depthshade=False)
    axes.set_title(title, fontsize=9)
    axes.set_box_aspect((2, 2, 4), zoom=1.3)
    axes.view_init(15, -60)
    axes.set_axis_off()


in_space(1, many, encoder, "the surface, in cells of the encoder")
axes = figure.add_subplot(1, 4, 2)
patches = PolyCollection(list(polygons.corners), array=shades(np.arange(len(polygons))))
patches.set(cmap="cividis", alpha=0.6, edgecolor="white")
axes.add_collection(patches)
axes.plot(*z.T, ".", ms=1.5, color="black")
axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
axes.set_title("codes, in cells of the decoder", fontsize=9)
in_space(3, manifold.apply(both, many), both, "what comes back, in cells of both")
axes = figure.add_subplot(1, 4, 4)
for name, values, style, colour in (
    ("noisy", np.array(rows)[:, 0], "s--", "0.5"),
    ("projected", np.array(rows)[:, 1], "o-", "#0072B2"),
    ("of another surface, projected", np.array(rows)[:, 2], "^:", "#D55E00"),
):
    axes.plot(sigmas, values, style, color=colour, label=name)
axes.set(xlabel="noise", ylim=(0, 0.33))
axes.set_title("distance to the own surface", fontsize=9)
axes.legend(fontsize=8)
print(f"figure in {plot.save(figure, options.out)}")
