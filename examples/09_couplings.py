"""Train on couplings that can be resumed: labels follow, and a table spares the products."""

# %% [markdown]
# # Train on a coupling
#
# `aeot.coupling` makes pairs (x, T(x)) of noise and data in batches. Batch k depends on the seed, k
# and the size of a batch alone: it is made at once, in any order and in any process. `index` gives
# the rows of the data, so that labels follow. Here a small network learns which way each digit
# lies, at every time between noise and digit, and knows the label.

# %%
import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import aeot_jax as aeot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few digits, few steps of training")
options = parser.parse_args()

num_digits, num_steps = (300, 60) if options.quick else (1797, 3000)

# %% [markdown]
# ## Couple
# 64 pixels each, of unit variance on average; the heights are solved once.

# %%
digits: Any = load_digits()
y = digits.data[:num_digits] - digits.data.mean(0)
y = (y / y.std()).astype(np.float32)
labels = jnp.asarray(digits.target[:num_digits])
solution = aeot.solve(
    jax.random.key(0), aeot.Gaussian(64), y, None, aeot.SolverConfig(tolerance=0.2)
)
c = aeot.coupling(solution, seed=0, batch_size=256, num_batches=num_steps)
print(c)


# %%
class Velocity(nnx.Module):
    """v(x, t, label): where a point on its way goes."""

    def __init__(self, rngs: nnx.Rngs, width: int = 256):
        self.label = nnx.Embed(10, 32, rngs=rngs)
        sizes = [64 + 1 + 32, width, width, 64]
        pairs = itertools.pairwise(sizes)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairs])

    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        """Velocities (b, 64) at points x (b, 64), times t (b, 1) and labels (b,)."""
        z = jnp.concatenate([x, t, self.label(label)], axis=1)
        *hidden, last = self.layers
        for layer in hidden:
            z = nnx.silu(layer(z))
        return last(z)


graph, params = nnx.split(Velocity(nnx.Rngs(0)))
optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, num_steps))

# %% [markdown]
# ## Train, stop, go on
# Twenty lines: the loop takes any iterator of batches, and a step depends on its number k alone. So
# a training that was cut off goes on from the state of the coupling, which is a dict of integers
# for `orbax` or JSON, beside the parameters.


# %%
@jax.jit
def train_step(params, memory, k, pairs: aeot.Pairs):
    def loss(params):
        t = jax.random.uniform(jax.random.fold_in(jax.random.key(1), k), (len(pairs.x), 1))
        between = (1 - t) * pairs.x + t * pairs.y
        velocity = nnx.merge(graph, params)(between, t, labels[pairs.index])
        return jnp.square(velocity - (pairs.y - pairs.x)).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, memory = optimizer.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, value


def train(params, memory, batches, first: int, last: int):
    value = jnp.nan
    for k, pairs in zip(range(first, last), batches, strict=False):
        params, memory, value = train_step(params, memory, k, pairs)
    return params, memory, float(value)


half = num_steps // 2
memory = optimizer.init(params)
whole, _, loss = train(params, memory, c, 0, num_steps)
print(f"{num_steps} steps: loss {loss:.4f}")

before, memory_then, _ = train(params, memory, c, 0, half)
state = c.state(half)
print(f"state: {state}")
again = aeot.coupling_from_state(state, solution)
after, _, loss_again = train(before, memory_then, again.iter(), half, num_steps)
same = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, after))
print(f"stopped after {half} and gone on: loss {loss_again:.4f}, the same parameters: {same}")

# %% [markdown]
# ## Without products
# A table keeps which row each draw belongs to, 8 bytes a draw. The noise is made again from its
# number. Where an epoch is to be seen more than once, or shuffled, no product is needed.

# %%
with tempfile.TemporaryDirectory() as folder:
    table = c.table(4096 if options.quick else 65_536, Path(folder) / "table")
    print(table)
    j, index = table[np.random.default_rng(0).permutation(len(table))[:256]]
    x = c.noise(j)
    np.testing.assert_array_equal(aeot.assign(x, y, solution.h)[1], index)
    counts = np.bincount(table[:][1], minlength=num_digits)
print(f"{(counts == 0).sum()} of {num_digits} digits have no draw among {counts.sum():,}")

# %% [markdown]
# ## Look back
# Noise that the map carries to one digit, and how much nearer one Euler step from there brings it.

# %%
i = 7
x = c.inverse(i, 16)
model = nnx.merge(graph, whole)
end = x + model(x, jnp.zeros((16, 1)), jnp.full(16, labels[i]))
distance = jnp.linalg.norm(end - y[i][None], axis=1).mean()
print(f"16 samples in cell {i}; one step ends {distance:.2f} from its digit on average,")
print(f"noise begins {jnp.linalg.norm(x - y[i][None], axis=1).mean():.2f} from it")
