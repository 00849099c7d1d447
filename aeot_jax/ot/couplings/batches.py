"""Batches of a coupling by their numbers, and what else its draws tell."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, Sharding
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.ot.couplings import identity, inverse, numbers, pairing, placing, states, table
from aeot_jax.ot.couplings.pairing import Pairs
from aeot_jax.ot.couplings.states import Options
from aeot_jax.ot.couplings.table import Table
from aeot_jax.ot.problem import Problem
from aeot_jax.typing import Given

_TABLE_DRAWS = 4096
"""Draws that are paired together for a table."""


class Coupling:
    """A sequence of batches of pairs; ``coupling`` makes it.

    ``c[k]`` is batch k, ``len(c)`` the number of batches where it is known. It can be pickled, and
    is a source for other loaders: ``grain.MapDataset.source(c)``; ``DataLoader(c, batch_size=None,
    multiprocessing_context="spawn", ...)`` of torch, whose workers compute on the CPU
    (``JAX_PLATFORMS=cpu``); ``tf.data.Dataset.from_generator(lambda: c.iter(start=k), ...)``.

    Attributes:
      problem: source, targets and weights, as they were given.
      h: heights (m,).
      options: seed, batch size and the rest.
      sharding: where a batch lies; None is the default device.
    """

    def __init__(self, asked: Problem, h: Any, options: Options, sharding: Sharding | None = None):
        """As ``coupling``, from values that are checked."""
        self.problem, self.h, self.options, self.sharding = asked, h, options, sharding
        key = jax.random.key(np.uint32(options.seed & 0xFFFFFFFF), impl="threefry2x32")
        key = jax.random.fold_in(key, np.uint32(options.seed >> 32))
        made = pairing.parts_of_batches(key, asked.mu, asked.y, h, asked.nu, turns=True)
        self._parts = placing.placed(sharding, made)
        self._make = self._program()

    def _program(self) -> Any:
        options, dtype = self.options, np.dtype(self.options.dtype)
        if isinstance(self.sharding, NamedSharding):
            size = options.batch_size
            return placing.program(self.sharding, size, dtype, options.antithetic)
        chosen = {"count": options.batch_size, "dtype": dtype, "dependent": options.antithetic}
        return functools.partial(pairing.paired, **chosen)

    def __repr__(self) -> str:
        options = self.options
        many = "endless" if options.num_batches is None else f"{options.num_batches:,}"
        batches = f"{many} batches of {options.batch_size:,}, seed {options.seed}"
        return f"Coupling({self.problem!r}; {batches})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.sharding is not None:
            raise TypeError(
                "`sharding` names devices of this process, which cannot be pickled; pickle a "
                "coupling without it, and pass `sharding` where it is used."
            )
        return Coupling, (self.problem, self.h, self.options)

    def __len__(self) -> int:
        if self.options.num_batches is None:
            raise TypeError(
                "`num_batches` is None, so that this coupling has no length; pass `num_batches=` "
                "to `coupling`."
            )
        return self.options.num_batches

    def __bool__(self) -> bool:
        return True  # also without a length

    def __getitem__(self, k: Given[SupportsIndex]) -> Pairs:
        """Batch k: x (b, d), y (b, d) and index (b,).

        Args:
          k: from 0 on; from -1 down it counts from the end, if there is one.

        Raises:
          IndexError: if there is no such batch.
          ValueError: if it is no integer.
        """
        if isinstance(k, Tracer):
            raise ValueError(
                f"`k` is {arguments.shown(k)}, but a batch is named by a known number; call `c[k]` "
                "outside of `jax.jit`, and pass it the batch."
            )
        k = arguments.whole("k", k, "the number of a batch")
        end = self.options.num_batches
        number = k + end if k < 0 and end is not None else k
        if not 0 <= number < self.options.end:
            told = "begins at 0 and has 2^63 draws" if end is None else f"has {end:,} batches"
            raise IndexError(f"`k` is {k}, but the coupling {told}; pass the number of a batch.")
        return self._make(self._parts, numbers.words(number * self.options.batch_size))

    def __iter__(self) -> Iterator[Pairs]:
        return self.iter()

    def iter(self, start: Given[SupportsIndex | None] = None) -> Iterator[Pairs]:
        """All batches from ``start`` on, without end if ``num_batches`` is None.

        Args:
          start: the first; None is 0, or the batch at which the state was taken that made this
            coupling.

        Raises:
          ValueError: if there is no such batch.
        """
        options = self.options
        first = options.start if start is None else states.check_start("start", start, options)
        return (self[k] for k in range(first, options.end))

    def noise(self, j: Given[SupportsIndex | np.ndarray | Array]) -> Float[Array, "..."]:
        """The noise of draw j = k * batch_size + r: row r of ``c[k].x``, for any size of a batch.

        Args:
          j: number of a draw, 0 to 2^63 - 1; or several, integers (n,), as a table gives them.

        Returns:
          One sample of the source (d,), or samples (n, d).

        Raises:
          ValueError: if it is no such number.
        """
        number = numbers.checked("j", j)
        words = numbers.words(np.atleast_1d(np.asarray(number, np.uint64)))
        dtype, dependent = np.dtype(self.options.dtype), self.options.antithetic
        parts = self._parts
        with placing.axes_in_use(self.sharding):
            x = pairing.noise_of(parts.key, parts.mu, words, dtype=dtype, dependent=dependent)
            return x if np.ndim(number) else x[0]

    def state(self, k: Given[SupportsIndex]) -> dict[str, int]:
        """What ``coupling_from_state`` needs to go on before batch k: a small dict of integers.

        Args:
          k: number of batches that were used, if they were used in order.

        Raises:
          ValueError: if there is no such batch.
        """
        at = states.check_start("k", k, self.options)
        return states.of(self.options, self._identity, at)

    @functools.cached_property
    def _identity(self) -> int:
        asked = self.problem
        return identity.of(asked.mu, asked.y, self.h, asked.nu)

    def table(
        self,
        n: Given[int],
        path: Given[str | Path | None] = None,
        *,
        shard_size: Given[int] = 2**20,
    ) -> Table:
        """Which target each of the first n draws goes to: a training then needs no more products.

        ``j, index = table[rows]`` gives numbers of draws for ``noise`` and the rows of the targets.
        Where two targets suit a draw alike but for rounding, a batch may hold the other one.

        Args:
          n: draws 0 to n - 1.
          path: a folder. It is written shard by shard, each whole or not at all; called again after
            an interruption, or with more draws, it keeps and verifies what is there; where nothing
            is missing it may be read-only. With None the table is in memory, 8 bytes a draw.
          shard_size: draws in a shard.

        Raises:
          ValueError: if the folder holds the table of another coupling or a damaged one, is written
            by another process, or if the batches lie on devices of several processes.
          OSError: if the folder cannot be written.
        """
        n, shard_size = table.check_size(n, shard_size)
        if jax.process_count() > 1 and self.sharding is not None:
            raise ValueError(
                "`sharding` spreads batches over several processes; make the table by a coupling "
                "without it, in one process."
            )
        if path is None:
            return table.in_memory(n, shard_size, self._indices)
        known = {"seed": self.options.seed, "antithetic": int(self.options.antithetic)}
        known["solution"] = self._identity
        folder = arguments.path("path", path)
        return table.in_folder(folder, n, shard_size, known, self._indices)

    def _indices(self, first: int, count: int) -> np.ndarray:
        """Targets of the draws from ``first`` on."""
        begin = first - first % _TABLE_DRAWS
        found = pairing.indices(
            self._parts,
            (numbers.words(at) for at in range(begin, first + count, _TABLE_DRAWS)),
            count=_TABLE_DRAWS,
            dependent=self.options.antithetic,
        )
        with placing.axes_in_use(self.sharding):
            return np.concatenate(list(found))[first - begin :][:count]

    def inverse(
        self, i: Given[int], n: Given[int], *, max_draws: Given[int | None] = None
    ) -> Float[Array, "n d"]:
        """Samples of the source inside cell i: noise that the map carries to target i.

        They are independent of each other and of all batches, and the same in every call: for
        others ask for more. Draws are made until n lie in the cell. Most draws lose to one of 256
        other targets and cost little.

        Args:
          i: row of a target; equal targets share one cell.
          n: how many.
          max_draws: draws after which the search ends; None is eight times what the weight of the
            target lets expect, and at least 65,536.

        Raises:
          ValueError: if the target owns no cell, or if fewer were found: it says how many.
        """
        m = np.shape(self.problem.y)[0]
        i = arguments.whole("i", i, "the row of a target")
        if not 0 <= i < m:
            raise ValueError(f"`i` is {i}, but `y` has {m} targets; pass 0 to {m - 1}.")
        n = arguments.count("n", n, what="how many samples")
        share = 1 / m if self.problem.nu is None else float(np.asarray(self.problem.nu)[i])
        limit = inverse.expected(share or 1 / m, n)
        if max_draws is not None:
            limit = arguments.whole("max_draws", max_draws, "how many draws to make at most")
            if not 1 <= limit < numbers.MOST:
                raise ValueError(f"`max_draws` is {limit}; pass how many draws, at least 1.")
        with placing.axes_in_use(self.sharding):
            found = inverse.inside(self._parts, i, n, limit)
        return arguments.placed(found.astype(np.dtype(self.options.dtype)))
