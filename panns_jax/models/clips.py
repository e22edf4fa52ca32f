"""Batches of clips of different lengths on their way through the layers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from panns_jax.kernels.tiles import Tiles

T = TypeVar("T", int, Array)


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
    """What a time step stands for, in samples of the waveform.

    Attributes:
      receptive_field: samples that it depends on, zeros and reflections at the ends of the clip among them.
      step: samples from one time step to the next.
    """

    receptive_field: int = 1
    step: int = 1

    def through(self, window: Window) -> "View":
        """The view of what comes out of `window`."""
        reach = window.dilation * (window.size - 1) * self.step
        return View(self.receptive_field + reach, self.step * window.stride)

    def beside(self, other: "View") -> "View":
        """The view of what is made of both."""
        return View(max(self.receptive_field, other.receptive_field), max(self.step, other.step))


SAMPLE = View()


@functools.partial(jax.tree_util.register_dataclass, data_fields=("held", "lengths"), meta_fields=("view",))
@dataclasses.dataclass(frozen=True)
class Clips:
    """What layers take and return: values over time, of which only the first ones are a clip's own.

    Each clip gets what it would get alone: whatever looks at neighbours in time (`Conv`, pooling, `mean`, `max`) puts
    in place of foreign values what it pads a single clip with. Without lengths nothing is put anywhere.

    Attributes:
      held: the values, (batch, time, …), or, as a kernel left them, in tiles; those of a clip beyond its length mean
        nothing.
      lengths: number of each clip's own time steps, at least 1; None where all are.
      view: what a time step stands for.
    """

    held: Float[Array, "batch time *rest"] | Tiles
    lengths: Int[Array, " batch"] | None = None
    view: View = SAMPLE

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
        lengths = None if self.lengths is None else window.steps(self.lengths)
        return Clips(held, lengths, self.view.through(window))

    def own(self, fill: float = 0.0) -> Float[Array, "batch time *rest"]:
        """The values, with `fill` for those that are not the clip's own."""
        if self.lengths is None:
            return self.values
        own = jnp.arange(self.values.shape[1]) < self.lengths[:, None]
        return jnp.where(own.reshape(own.shape + (1,) * (self.values.ndim - 2)), self.values, fill)

    def mean(self) -> Float[Array, "batch *rest"]:
        """Mean over time."""
        if self.lengths is None:
            return self.values.mean(axis=1)
        count = self.lengths.reshape(-1, *(1,) * (self.values.ndim - 2))
        return self.own().sum(axis=1) / count

    def max(self) -> Float[Array, "batch *rest"]:
        """Maximum over time, whose gradient goes to the first step that has it, as published.

        That of `jnp.max` would be shared among equal ones, and probabilities near 1 are often equal.
        """
        values = self.own(-jnp.inf)
        first = values.argmax(axis=1, keepdims=True)
        return jnp.take_along_axis(values, first, axis=1).squeeze(axis=1)

    def __add__(self, other: "Clips") -> "Clips":
        """Sums of the values of the same clips at the same times."""
        return Clips(self.values + other.values, self.lengths, self.view.beside(other.view))
