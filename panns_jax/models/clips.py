"""Batches of clips of different lengths on their way through the layers."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clips:
    """What layers take and return: values over time, of which only the first ones are a clip's own.

    Each clip gets what it would get alone: whatever looks at neighbours in time (`Conv`, pooling, `mean`, `max`) puts
    in place of foreign values what it pads a single clip with. Without lengths nothing is put anywhere.

    Attributes:
      values: all of them; those of a clip beyond its length mean nothing.
      lengths: number of each clip's own time steps, at least 1; None where all are.
    """

    values: Float[Array, "batch time *rest"]
    lengths: Int[Array, " batch"] | None = None

    def map(self, function: Callable[[Array], Array]) -> "Clips":
        """Applies a function that treats every time step alike and keeps their number."""
        return Clips(function(self.values), self.lengths)

    def steps(self, values: Array, count: Callable[[Int[Array, " batch"]], Int[Array, " batch"]]) -> "Clips":
        """Other values, with as many time steps as `count` makes of the lengths."""
        return Clips(values, None if self.lengths is None else count(self.lengths))

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
        return Clips(self.values + other.values, self.lengths)
