"""Batches of clips of different lengths on their way through the layers."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from panns_jax.kernels.tiles import Tiles

T = TypeVar("T", int, Array, Array | np.ndarray)


@dataclasses.dataclass(frozen=True)
class Window:
    """What an operation, such as a convolution, sees of time at once.

    Attributes:
      size: time steps that it looks at.
      stride: from one place to the next.
      padding: time steps put on both sides.
      dilation: from one time step that it looks at to the next.
    """

    size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def reaches(self) -> bool:
        """Whether it looks beyond the end of a clip."""
        return self.padding > 0

    def steps(self, time: T) -> T:
        """Number of places in `time` time steps."""
        return (time + 2 * self.padding - self.dilation * (self.size - 1) - 1) // self.stride + 1


class View(NamedTuple):
    """What a time step stands for, in samples of the waveform. The step of number n has its place at sample n · step.

    Attributes:
      before: samples before its place that it depends on, zeros and reflections before the clip among them.
      after: samples from its place on that it depends on, zeros and reflections behind the clip among them.
      step: samples from one time step to the next.
    """

    before: int = 0
    after: int = 1
    step: int = 1

    @property
    def receptive_field(self) -> int:
        """Samples that it depends on in all."""
        return self.before + self.after

    def through(self, window: Window) -> "View":
        """The view of what comes out of `window`."""
        before = window.padding * self.step
        reach = window.dilation * (window.size - 1) * self.step
        return View(self.before + before, self.after + reach - before, self.step * window.stride)

    def beside(self, other: "View") -> "View":
        """The view of what is made of both."""
        return View(max(self.before, other.before), max(self.after, other.after), max(self.step, other.step))


SAMPLE = View()


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("held", "lengths", "starts"), meta_fields=("view", "bin_size")
)
@dataclasses.dataclass(frozen=True)
class Clips:
    """What layers take and return: values over time, of which only the first ones are a clip's own.

    Each clip gets what it would get alone: whatever looks at neighbours in time (`Conv`, pooling, `mean`, `max`) puts
    in place of foreign values what it pads a single clip with. Without lengths nothing is put anywhere.

    Several clips may lie in a row one behind the other (`panns_jax.infer.tape`), for all that is not pooled over the
    whole of time. Then `batch` counts the rows, which are divided into bins, and `lengths` and `starts` tell of each
    bin which clip it belongs to. Clips start with a bin, and have the bins up to the next one's for themselves.

    Attributes:
      held: the values, (batch, time, …), or, as a kernel left them, in tiles; those of a clip beyond its length mean
        nothing.
      lengths: number of each clip's own time steps, at least 1; None where all are. In rows, of each bin's clip; 0 for
        bins of none.
      view: what a time step stands for.
      starts: in rows, the first time step of each bin's clip; else None.
      bin_size: in rows, samples of the waveform in a bin.
    """

    held: Float[Array, "batch time *rest"] | Tiles
    lengths: Int[Array | np.ndarray, "batch *bins"] | None = None
    view: View = SAMPLE
    starts: Int[Array, "batch bins"] | None = None
    bin_size: int = 0

    @property
    def values(self) -> Float[Array, "batch time *rest"]:
        """The values in one piece."""
        return self.held.whole() if isinstance(self.held, Tiles) else self.held

    def map(self, function: Callable[[Array], Array]) -> "Clips":
        """Applies a function that treats every time step alike and keeps their number."""
        return dataclasses.replace(self, held=function(self.values))

    def each(self, function: Callable[[Array], Array]) -> "Clips":
        """Applies a function of every value, and of which channel (the last axis) it is, alone."""
        held = self.held.map(function) if isinstance(self.held, Tiles) else function(self.held)
        return dataclasses.replace(self, held=held)

    def through(self, window: Window, held: Array | Tiles) -> "Clips":
        """Other values, those that `window` makes of these."""
        for watcher in _watchers:
            watcher.append(Reach(self.view.step, self.lengths, window.padding))
        lengths = None if self.lengths is None else window.steps(self.lengths)
        starts = None if self.starts is None else self.starts // window.stride
        return Clips(held, lengths, self.view.through(window), starts, self.bin_size)

    def own(self, fill: float = 0.0) -> Float[Array, "batch time *rest"]:
        """The values, with `fill` for those that are not the clip's own."""
        if self.lengths is None:
            return self.values
        own = self._place < self._ends
        return jnp.where(own.reshape(own.shape + (1,) * (self.values.ndim - 2)), self.values, fill)

    @property
    def _place(self) -> Int[Array, " time"]:
        return jnp.arange(self.values.shape[1])

    @property
    def _ends(self) -> Int[Array | np.ndarray, "batch #time"]:
        """The time step at which the clip ends that may have each time step."""
        assert self.lengths is not None
        if self.starts is None:
            return self.lengths[:, None]
        ends = self.starts + self.lengths
        # The front end makes a frame more than fills the last bin.
        last = ends.shape[1] - 1
        return ends[:, np.minimum(np.arange(self.values.shape[1]) // (self.bin_size // self.view.step), last)]

    def mean(self) -> Float[Array, "batch *rest"]:
        """Mean over time; not in rows."""
        if self.lengths is None:
            return self.values.mean(axis=1)
        assert self.starts is None
        count = self.lengths.reshape(-1, *(1,) * (self.values.ndim - 2))
        return self.own().sum(axis=1) / count

    def max(self) -> Float[Array, "batch *rest"]:
        """Maximum over time, whose gradient goes to the first step that has it, as published; not in rows.

        That of `jnp.max` would be shared among equal ones, and probabilities near 1 are often equal.
        """
        assert self.starts is None
        values = self.own(-jnp.inf)
        first = values.argmax(axis=1, keepdims=True)
        return jnp.take_along_axis(values, first, axis=1).squeeze(axis=1)

    def __add__(self, other: "Clips") -> "Clips":
        """Sums of the values of the same clips at the same times."""
        return dataclasses.replace(self, held=self.values + other.values, view=self.view.beside(other.view))


class Reach(NamedTuple):
    """How far a window that clips go through looks.

    Attributes:
      step: samples from one time step to the next, before the window.
      lengths: of the clips, in these time steps.
      padding: time steps beyond their ends that it looks at.
    """

    step: int
    lengths: Int[Array | np.ndarray, "batch *clips"] | None
    padding: int


_watchers: list[list[Reach]] = []


@contextlib.contextmanager
def reaches() -> Iterator[list[Reach]]:
    """Gives a list of all windows that clips go through in the block."""
    _watchers.append(seen := [])
    try:
        yield seen
    finally:
        _watchers.remove(seen)
