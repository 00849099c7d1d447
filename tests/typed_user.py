# pyright: strict
"""What a user's own script may say, under the strictest checks; read by pyright, never run."""

from pathlib import Path

import jax
import numpy as np

import aeot_jax as aeot


def transport(targets: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> jax.Array:
    """Points of the source, carried onto targets."""
    keys = jax.random.split(jax.random.key(0), 4)
    mu = aeot.Gaussian(dim=targets.shape[1])
    config = aeot.SolverConfig(tolerance=0.2)
    solution = aeot.solve(keys[0], mu, targets, config=config)
    aeot.raise_if_failed(solution)
    print(solution, aeot.message(solution), float(solution.mass_error))
    extension = aeot.extension(keys[1], mu, targets, solution.h)
    codes, accepted, info = aeot.generate(keys[2], extension, 64)
    print(float(accepted.mean()), info.num_blended.shape)
    moved = aeot.transport(mu.sample(keys[3], 100), targets, solution.h)
    return moved + codes.sum()


def pictures(images: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], run: Path) -> None:
    """A model, its images and its codes."""
    key = jax.random.key(0)

    def seen(news: aeot.Progress) -> None:
        print(news.stage, news.done, news.note)

    def heard(event: aeot.Event) -> None:
        print(event.kind, event.seconds, event.values.get("loss"))

    config = aeot.Config(training=aeot.TrainConfig(epochs=2))
    model = aeot.fit(key, images, config, run_dir=run, on_progress=seen, on_event=heard)
    new = aeot.sample(key, model, 16)
    codes = aeot.encode(model, images)
    print(new.shape, aeot.decode(model, codes).dtype)
    aeot.save(model, run / "copy.npz")
    print(aeot.load(run / "copy.npz"))
