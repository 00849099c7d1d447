"""What a way of drawing is: independent samples of any source, and what another way may change."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.ot.cells import power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.cells.contenders import Contenders
from aeot_jax.ot.devices.placement import ALONE, NUM_STREAMS, Axes
from aeot_jax.typing import PRNGKey, Samples, Targets


@dataclass(frozen=True)
class Way:
    """Independent samples, as ``mu.sample`` gives them, each in the cell that the kernel finds.

    Another way is a subclass that overrides what differs, with a line in ``table.py``. Each of its
    samples must have the distribution of the source. An instance is static: it holds no arrays.

    Attributes:
      whole: the number of samples in a stream is a multiple of it, if the user names no batch.
      least: the number of samples in a stream is a multiple of it, if the user names a batch.
      independent: whether the streams of a batch are independent of each other, so that their
        counts estimate chi^2. The samples inside a stream may depend on each other.
      turns: whether ``prepared`` changes the targets.
    """

    whole: ClassVar[int] = 8
    least: ClassVar[int] = 1
    independent: ClassVar[bool] = True
    turns: ClassVar[bool] = False

    @property
    def can_share(self) -> bool:
        """Whether ``contending`` speaks of the samples of ``owners``: one class defines both."""
        first = {
            name: next(kind for kind in type(self).__mro__ if name in vars(kind))
            for name in ("owners", "contending")
        }
        return self.independent and first["owners"] is first["contending"]

    def lack(self, mu: Measure, batch_size: int | None) -> str | None:
        """None if the source serves, else the rest of an error sentence that says what it lacks."""
        del mu, batch_size

    def spanning(self, streams: int) -> "Way":
        """The same way where a batch has so many streams."""
        del streams
        return self

    def prepared(self, key: PRNGKey, mu: Measure, y: Targets) -> Targets:
        """Change the targets (m, d) before the steps, such that every cell keeps its mass.

        It is called where ``turns``.
        """
        del key, mu
        return y

    def drawn(self, key: PRNGKey, mu: Measure, stream: Int[Array, ""], num_samples: int) -> Samples:
        """The rows that ``owners`` needs for ``num_samples`` samples of one stream of a batch."""
        return draw(jax.random.fold_in(key, stream), mu, num_samples)

    def owners(self, x: Samples, rows: Rows, h: Float[Array, " rows"]) -> Int[Array, "*n"]:
        """Cells of all samples that ``drawn`` stands for, whatever their order."""
        return power.best(x, rows, h)[1]

    def leaders(
        self, x: Samples, rows: Rows, h: Float[Array, " rows"]
    ) -> tuple[Float[Array, "*n"], Int[Array, "*n"]]:
        """Highest score of each sample among these targets, and where; shaped as ``owners``."""
        return power.leaders(x, rows, h)

    def contending(self, x: Samples, rows: Rows, h: Float[Array, " rows"]) -> Contenders:
        """The best plane at each sample among these targets and those that may come second.

        Their order is that of ``owners``, flat. A way that overrides ``owners`` and not this counts
        whole samples.
        """
        return power.contending(x, rows, h)


class Batch(NamedTuple):
    """How a batch of samples is drawn; static.

    Attributes:
      way: of drawing.
      samples_per_stream: samples of each logical stream; a multiple of ``way.least``.
      streams: logical streams.
      probes: inverted lists that each sample looks at, where the targets have them; 0 looks at all
        targets.
    """

    way: Way
    samples_per_stream: int
    streams: int = NUM_STREAMS
    probes: int = 0

    @property
    def size(self) -> int:
        """Samples of all streams."""
        return self.samples_per_stream * self.streams


class Draws(NamedTuple):
    """How batches are drawn, and by which devices; static.

    Attributes:
      batch: how each is drawn.
      axes: mapped axes over whose devices streams and targets are sharded.
    """

    batch: Batch
    axes: Axes = ALONE
