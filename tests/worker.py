"""One of several processes of a test: joins the others and does what it is told."""

import dataclasses
import itertools
import json
import os
import sys

import jax


def train() -> tuple[int, list[float]]:
    """Devices that hold the parameters while they are trained, and the losses."""
    import tiny

    from aeot_jax.nn import train

    holders = []
    _, losses = train.fit(
        tiny.KEY,
        tiny.images()[..., None],
        tiny.CONFIG.autoencoder,
        tiny.CONFIG.training,
        devices=tuple(jax.devices()),
        on_epoch=lambda state, _: holders.append(len(state.epoch.sharding.device_set)),
    )
    return min(holders), losses


def main(what: str, address: str, rank: int, folder: str) -> None:
    if what == "cli":
        from aeot_jax import cli

        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        os.environ.update(zip(names, (address, "2", str(rank)), strict=True))
        arguments = ["fit", "--data", f"{folder}/x.npz", "--out", f"{folder}/cli", "--epochs", "1"]
        others = ["--tolerance", "0.5", "--autoencoder.kind", "mlp", "--latent-dim", "3"]
        print(json.dumps(cli.main([*arguments, *others, "--distributed"])), flush=True)
        return
    jax.distributed.initialize(
        address,
        2,
        rank,
        initialization_timeout=300,
        heartbeat_timeout_seconds=10 if what == "die" else 100,
        shutdown_timeout_seconds=10 if what == "die" else 100,
    )
    import numpy as np

    import aeot_jax as aeot

    y = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    config = aeot.SolverConfig(tolerance=0.3, sampling="independent", start="zero")
    mu, key = aeot.Gaussian(6), jax.random.key(0)
    if what == "solve":
        solution = aeot.solve(key, mu, y, config=config)
        fresh = aeot.certify(jax.random.key(1), mu, y, solution.h, num_samples=10_000)
        found = {"h": np.asarray(solution.h).tolist(), "error": float(fresh.mass_error)}
        try:
            aeot.solve(key, mu, y + rank, config=config)
        except ValueError as error:
            found["said"] = str(error)
        halves = dataclasses.replace(config, max_steps=8, tolerance=None, target_shards=2)
        found["halves"] = aeot.solve(key, mu, y, config=halves).h.tolist()
        ext = aeot.extension(jax.random.key(2), mu, y, solution.h)
        z, _, _ = aeot.generate(jax.random.key(3), ext, 5_000)  # two chunks
        found["z"] = np.asarray(z)[::500].tolist()
        found["spread"], found["losses"] = train()
        print(json.dumps(found), flush=True)
    else:
        steps = itertools.count()

        def on_progress(_: aeot.SolveProgress) -> None:
            if next(steps) == 2 and rank == 1:
                os._exit(7)

        forever = aeot.SolverConfig(
            tolerance=None, max_steps=100_000, sampling="independent", start="zero"
        )
        aeot.solve(key, mu, y, config=forever, on_progress=on_progress)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
