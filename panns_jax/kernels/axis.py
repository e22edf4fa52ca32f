"""Short convolutions along one axis with fewer products than outputs × taps (Winograd 1980; Lavin and Gray 2016)."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

# The points at which the polynomials are evaluated, best conditioned first; the last one is infinity.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
MOST_PRODUCTS = len(_POINTS) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """outputs = gather @ ((taps @ kernel) * (spread @ inputs)), of which only the product in the middle is costly.

    Attributes:
      spread: (products, inputs), applied to the inputs.
      taps: (products, taps of the kernel), applied to the kernel.
      gather: (outputs, products), applied to the products.
      padding: zeros that are before the first output's inputs; 0 where the padding is part of the algorithm.
    """

    spread: Float[np.ndarray, "products inputs"]
    taps: Float[np.ndarray, "products taps"]
    gather: Float[np.ndarray, "outputs products"]
    padding: int

    @property
    def outputs(self) -> int:
        return self.gather.shape[0]

    @property
    def inputs(self) -> int:
        return self.spread.shape[1]

    @property
    def products(self) -> int:
        return self.gather.shape[1]

    def tiles(self, size: int) -> int:
        """How many times the algorithm is applied to `size` places."""
        return -(-size // self.outputs)


def products(outputs: int, taps: int) -> int:
    """How many products F(outputs, taps) takes."""
    return outputs + taps - 1


@functools.cache
def cook_toom(outputs: int, taps: int) -> Axis:
    """F(outputs, taps): `outputs` neighbouring outputs from outputs + taps - 1 products.

    By the transposed Cook-Toom algorithm: two polynomials are multiplied by way of their values at as many points,
    infinity among them, as their product has coefficients. One output, or one tap, needs no algorithm.

    Raises:
      ValueError: that takes more than `MOST_PRODUCTS`, with which rounding would grow too far.
    """
    size = products(outputs, taps)
    padding = taps // 2
    if outputs == 1:
        return Axis(np.eye(taps), np.eye(taps), np.ones((1, taps)), padding)
    if taps == 1:
        return Axis(np.eye(outputs), np.ones((outputs, 1)), np.eye(outputs), padding)
    if size > MOST_PRODUCTS:
        raise ValueError(f"{outputs} outputs of {taps} taps take {size} products, more than {MOST_PRODUCTS}")
    points = np.array(_POINTS[: size - 1])
    spread, kernel, gather = np.zeros((size, size)), np.zeros((size, taps)), np.zeros((outputs, size))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        gather[:, i] = point ** np.arange(outputs)
        kernel[i] = point ** np.arange(taps) / np.prod(point - others)
        spread[i, :-1] = np.poly(others)[::-1]
    gather[-1, -1] = kernel[-1, -1] = 1
    spread[-1] = np.poly(points)[::-1]
    return Axis(spread, kernel, gather, padding)


@functools.cache
def whole(size: int) -> Axis:
    """An axis of `size` 1 or 2 and three taps, all of it at once, with what the zeros around it save.

    Of one place only the middle tap meets anything but zeros. Of two places a and b the outputs are k₁a + k₂b and
    k₀a + k₁b, from three products: (k₀ - k₁)·a, k₁·(a + b) and (k₂ - k₁)·b.
    """
    if size == 1:
        return Axis(np.eye(1), np.array([[0.0, 1.0, 0.0]]), np.eye(1), 0)
    spread = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    taps = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    gather = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    return Axis(spread, taps, gather, 0)
