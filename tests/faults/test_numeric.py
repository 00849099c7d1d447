"""Numeric fuzz: whatever the scale, the offset and the shape of a problem, the best plane wins.

The judge is float64 NumPy on the numbers as they were passed, centred. What float32 may lose is
rounding by the extent of the targets around their middle, not by their distance to the origin: a
winner's score is within that of the best, and a value within the rounding of its own terms.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

import aeot_jax as aeot

SHAPES = [(1, 1, 1), (5, 1, 1), (1, 16, 7), (40, 16, 7)]
"""Targets, samples, dimensions: few pairs of the last two, since each is compiled anew."""

KINDS = ("scattered", "collinear", "duplicates", "clusters", "equal")
DTYPES = (np.float32, np.float64, np.int64, np.float16, bfloat16)
ROUNDING = 2.0**-24
"""Of one operation in float32."""


@dataclass(frozen=True)
class Case:
    """A problem to try.

    Attributes:
      shape: targets m, samples n, dimensions d.
      seed: of the numbers.
      kind: how the targets lie.
      dtype: in which the targets are passed; the samples and heights in float64.
      scale: power of ten of the targets.
      scores: power of ten of the scores; the samples follow.
      offset: of the targets, in spreads.
      hidden: whether some targets have height -inf and no weight.
      tiny: whether some weights are tiny.
    """

    shape: tuple[int, int, int]
    seed: int
    kind: str
    dtype: type
    scale: float
    scores: float
    offset: float
    hidden: bool
    tiny: bool


CASES = st.builds(
    Case,
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    scale=st.floats(-30, 30),
    scores=st.floats(-6, 6),
    offset=st.sampled_from([0.0, 1.0, 1e3, 1e5, 1e6]),
    hidden=st.booleans(),
    tiny=st.booleans(),
)


@dataclass(frozen=True)
class Numbers:
    """The arrays of a case as they are passed, and in float64 for the judge.

    Attributes:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,).
      nu: weights (m,).
      near: targets around their middle (m, d), float64.
      middle: that middle (d,).
    """

    x: np.ndarray
    y: np.ndarray
    h: np.ndarray
    nu: np.ndarray
    near: np.ndarray
    middle: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Planes of the centred targets above each sample (n, m)."""
        return self.x @ self.near.T + self.h

    @property
    def rounding(self) -> np.ndarray:
        """What two scores may be confused by (n, 1)."""
        heights = np.abs(self.h[np.isfinite(self.h)]).max()
        reach = np.abs(self.x) @ np.abs(self.near).max(0) + heights
        return (4 * (self.x.shape[1] + 4) * ROUNDING * reach + 1e-37)[:, None]

    @property
    def rounding_of_values(self) -> np.ndarray:
        """What a value u_h(x) may be off by (n,): its terms are those of the targets themselves."""
        reach = np.abs(self.x) @ np.abs(self.middle)
        return self.rounding[:, 0] + 4 * (self.x.shape[1] + 4) * ROUNDING * reach


def made(case: Case) -> Numbers:
    """The arrays of a case."""
    (m, n, d), rng = case.shape, np.random.default_rng(case.seed)
    y = rng.normal(size=(m, d))
    if case.kind == "collinear":
        y = rng.normal(size=(m, 1)) * y[:1]
    elif case.kind == "duplicates":
        y = y[rng.integers(max(1, m // 2), size=m)]
    elif case.kind == "clusters":
        y = 1e-4 * y + y[rng.integers(min(m, 3), size=m)]
    elif case.kind == "equal":
        y = np.repeat(y[:1], m, axis=0)
    y = y + case.offset * rng.choice([-1.0, 1.0], size=d)
    scale, dtype = case.scale, case.dtype
    if dtype is np.float16:  # from 6e-8 to 6e4
        y, scale = np.clip(y, -1e4, 1e4), 0.0
    elif dtype is np.int64:
        y, scale = np.rint(1e6 * y), 6.0
    else:
        y = y * 10.0**scale
    y = y.astype(dtype)
    wide = y.astype(np.float64)
    x = rng.normal(size=(n, d)) * 10.0 ** np.clip(case.scores - scale, -30, 30)
    h = rng.normal(size=m) * 10.0 ** np.clip(case.scores, -30, 30)
    nu = rng.uniform(0.1, 1.0, m)
    if case.tiny:
        nu[rng.integers(m, size=m // 3)] = 1e-30
    if case.hidden and m > 1:
        hidden = rng.permutation(m)[: m // 3]
        h[hidden], nu[hidden] = -np.inf, 0.0
    middle = wide[np.isfinite(h)].mean(0)
    return Numbers(x, y, h, nu / nu.sum(), wide - middle, middle)


def check_winners(case: Case) -> None:
    """``assign``, ``top_k`` and ``transport`` choose planes within rounding of the highest."""
    a = made(case)
    m = len(a.h)
    scores, rows = a.scores, np.arange(len(a.x))
    best = np.sort(scores, axis=1)[:, ::-1]
    value, index = (np.asarray(part) for part in aeot.assign(a.x, a.y, a.h))
    assert (scores[rows, index] >= best[:, 0] - a.rounding[:, 0]).all()
    true = best[:, 0] + a.x @ a.middle
    assert (np.abs(value - true) <= a.rounding_of_values).all()

    k = min(3, m)
    indices = np.asarray(aeot.top_k(a.x, a.y, a.h, k)[1])
    assert all(len(set(row)) == k for row in indices.tolist())
    with np.errstate(invalid="ignore"):  # -inf of targets that own no cell
        lost = best[:, :k] - scores[rows[:, None], indices]
    assert (np.where(np.isfinite(best[:, :k]), lost, 0.0) <= a.rounding).all()

    carried = np.asarray(aeot.transport(a.x, a.y, a.h))
    assert carried.dtype == np.float32
    equal = (carried[:, None, :] == a.y.astype(np.float32)[None, :, :]).all(2)
    reached = np.where(equal, scores, -np.inf).max(1)
    assert (reached >= best[:, 0] - a.rounding[:, 0]).all()


def check_values(case: Case) -> None:
    """``brenier``, ``kantorovich``, ``energy`` and ``c_transform`` are right to their rounding."""
    a = made(case)
    true = a.scores.max(1) + a.x @ a.middle
    allowed = a.rounding_of_values
    found = np.asarray(aeot.brenier(a.x, a.y, a.h), np.float64)
    assert (np.abs(found - true) <= allowed).all()

    known = a.nu > 0
    energy = float(aeot.energy(a.h, a.x, a.y, a.nu))
    of_weights = a.nu[known] @ a.h[known]
    heights = 8 * ROUNDING * np.abs(a.h[known]).max()
    assert abs(energy - (true.mean() - of_weights)) <= 4 * allowed.max() + 4 * heights

    square = (a.x**2).sum(1) / 2
    if square.max() < 1e30:
        phi = np.asarray(aeot.kantorovich(a.x, a.y, a.h), np.float64)
        rounding = 4 * (a.x.shape[1] + 4) * ROUNDING * square
        assert (np.abs(phi - (square - true)) <= allowed + rounding + 1e-37).all()

    away = a.x[:, None, :] - a.y.astype(np.float64)[None, :, :]
    with np.errstate(over="ignore"):
        cost = (away**2).sum(2) / 2
    if cost.max() < 1e30:
        transform = np.asarray(aeot.c_transform(a.x, a.y, a.h), np.float64)
        heights = np.abs(a.h[np.isfinite(a.h)]).max()
        # Both points are rounded around the middle before they are subtracted.
        around = np.abs(a.x - a.middle)[:, None, :] * np.abs(away)
        reach = cost.max(1) + around.sum(2).max(1) + heights
        rounding = 8 * (a.x.shape[1] + 4) * ROUNDING * reach + 1e-37
        assert (np.abs(transform - (cost - a.h).min(1)) <= rounding).all()


CHECKS = {"winners": check_winners, "values": check_values}


def run(check, examples: int, tally) -> None:
    """Try so many cases; hypothesis makes what fails smaller."""

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None)
    @given(CASES)
    def tried(case: Case) -> None:
        try:
            check(case)
        except AssertionError as error:
            tally.record(repr(case), str(error))
            raise
        tally.record(repr(case), None)

    tried()


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", CHECKS)
def test_numbers_of_any_size_are_scored_right(name, examples, tally):
    run(CHECKS[name], examples, tally)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_many_numbers_of_any_size_are_scored_right(name, tally):
    run(CHECKS[name], 2000, tally)
