r"""The coupling of a solution: pairs (x, T(x)) with the rows of their targets, any batch at once.

Draw j has a key of its own, made of the seed and j. Batch k of size b holds draws k b to
(k + 1) b - 1. So any batch costs one batch, in any order and in any process, and the noise of a
draw is the same whatever the size of a batch. Under ``antithetic`` draws come in orbits of eight:
one sample of the source with eight patterns of signs, for which one product serves.

Sources: Pooladian et al., Multisample flow matching, ICML 2023 (couplings for flow matching);
semidiscrete couplings: arXiv 2509.25519. Numbered draws and their keys are this library's.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import checks, problem
from aeot_jax.ot.couplings import identity, inverse, numbers, pairing, placing, states, table
from aeot_jax.ot.couplings.pairing import Pairs
from aeot_jax.ot.couplings.states import Options
from aeot_jax.ot.couplings.table import Table
from aeot_jax.ot.problem import Problem
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.typing import ArrayLike, Given

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
        k = arguments.whole("k", k, "the number of a batch")
        end = self.options.num_batches
        number = k + end if k < 0 and end is not None else k
        if not 0 <= number < (states.most_batches(self.options) if end is None else end):
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
        end = states.most_batches(options) if options.num_batches is None else options.num_batches
        return (self[k] for k in range(first, end))

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
            an interruption, or with more draws, it keeps and verifies what is there. With None the
            table is in memory, 8 bytes a draw.
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
        return np.concatenate(list(found))[first - begin :][:count]

    def inverse(
        self, i: Given[int], n: Given[int], *, max_draws: Given[int | None] = None
    ) -> Float[Array, "n d"]:
        """Samples of the source inside cell i: noise that the map carries to target i.

        They are independent of each other and of all batches: draws are made until n lie in the
        cell. Most draws lose to one of 256 other targets and cost little.

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
        found = inverse.inside(self._parts, i, n, limit)
        return arguments.placed(found.astype(np.dtype(self.options.dtype)))


def coupling(
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    seed: Given[int] = 0,
    batch_size: Given[int] = 256,
    num_batches: Given[int | None] = None,
    sharding: Given[Sharding | None] = None,
    dtype: Given[DTypeLike | None] = None,
    antithetic: Given[bool] = False,
) -> Coupling:
    """Pairs (x, T(x), index) to train on: ``c[k]`` is batch k, which costs one batch for any k.

    A batch depends on the seed, k and the batch size alone: not on other batches, the process or
    the order of calls. It has the same bits on one kind of device. ``index`` gives the rows of the
    targets, so that labels, originals and texts follow. Equal targets take turns, in the proportion
    of their weights, so that every row appears.

    Args:
      mu: source measure; or a ``Solution`` of ``solve``, which stands for mu, y, h and nu.
      y: targets (m, d).
      h: heights (m,), of ``solve``; -inf for a target that owns no cell.
      nu: weights (m,), by which equal targets share their cell; None is uniform.
      seed: 0 to 2^63 - 1.
      batch_size: pairs in a batch, b.
      num_batches: how many batches there are, which grain and torch ask for; None is no end.
      sharding: where a batch shall lie: a ``NamedSharding`` of its rows, whose shards divide b.
        Every device holds all targets and makes its own rows, x, y and index, and nothing moves
        between devices. In several processes all call ``c[k]`` alike. None is the default device.
      dtype: of x and y: float32 (None), bfloat16, float16, float64. Cells are found in float32.
      antithetic: draws come in orbits of eight, one sample with eight patterns of signs. This costs
        half of the product or less, from 32 dimensions and batches of 256 on. The eight pairs of an
        orbit depend on each other: a gradient may have more noise than that of as many independent
        pairs. It takes a source with a ``symmetry``.

    Returns:
      A ``Coupling``.

    Raises:
      ValueError: if a shape or a value does not fit, if the shards do not divide the batch, or
        inside of ``jax.jit``.

    Source: Pooladian et al., Multisample flow matching, ICML 2023; their coupling is that of two
    batches, here it is exact.
    """
    options = states.checked(seed, batch_size, num_batches, dtype, antithetic)
    asked, heights = _asked("coupling", mu, y, h, nu)
    return _made(asked, heights, options, sharding)


def coupling_from_state(
    state: Given[Mapping[str, Any]],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    sharding: Given[Sharding | None] = None,
) -> Coupling:
    """The coupling of a state; it iterates from that batch on before which the state was taken.

    Args:
      state: what ``Coupling.state`` gave, in this process or another.
      mu: as for ``coupling``.
      y: as for ``coupling``.
      h: as for ``coupling``.
      nu: as for ``coupling``.
      sharding: as for ``coupling``; devices are no part of a state.

    Raises:
      ValueError: as for ``coupling``, and if the state is that of another solution or version.
    """
    states.check_kind(state)
    asked, heights = _asked("coupling_from_state", mu, y, h, nu)
    solution = identity.of(asked.mu, asked.y, heights, asked.nu)
    return _made(asked, heights, states.read(state, solution), sharding)


def _asked(function: str, mu: Any, y: Any, h: Any, nu: Any) -> tuple[Problem, Any]:
    """The problem and its heights as they were given, known and of the right kind."""
    mu, y, h, nu = parts_of(mu, y, h, nu)
    way = "call it before, outside of `jax.jit`, and pass it the batches"
    arguments.refuse_trace(function, way, mu=mu, y=y, h=h, nu=nu)
    points = checks.points("y", y)
    checks.check_measure(mu, points)
    checks.weights(nu, points)
    checks.heights("h", h, points)
    return problem.asked(mu, y, nu), arguments.array("h", h)


def _made(asked: Problem, h: Any, options: Options, sharding: Any) -> Coupling:
    if options.antithetic and getattr(asked.mu, "symmetry", None) is None:
        raise ValueError(
            f"`antithetic` is True, which takes a source with a `symmetry`, but `mu` is "
            f"{type(asked.mu).__name__}; pass False."
        )
    return Coupling(asked, h, options, placing.check(sharding, options.batch_size))
