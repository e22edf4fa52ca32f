"""The kernels there are, by name."""

import functools
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from panns_jax.kernels.direct import Columns, Direct, Pointwise, Shifted
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles
from panns_jax.kernels.winograd import Winograd


@runtime_checkable
class Kernel(Protocol):
    """One way to convolve. A new one is a class of these members and an entry of `KERNELS`."""

    @property
    def name(self) -> str:
        """What the table of choices calls it."""
        ...

    def suits(self, shape: ConvShape) -> bool:
        """Whether it can do `shape` at all."""
        ...

    def growth(self, shape: ConvShape) -> float:
        """How many numbers it holds for each one of the kernel's; 0 where it reads the kernel as it is."""
        ...

    def transform(
        self, kernel: Float[Array, "*window in_channels out_channels"], shape: ConvShape
    ) -> tuple[Array, ...]:
        """What it needs of the kernel, made once.

        Must be the same for every `shape.batch` and every time, `shape.space[0]`: a prepared model keeps it by the
        layer and the kernel's name, for batches and clips of all sizes.
        """
        ...

    def __call__(
        self, x: Float[Array, "batch *space in_channels"], weights: tuple[Array, ...], shape: ConvShape
    ) -> Float[Array, "batch *other_space out_channels"] | Tiles:
        """Convolves `x` with what `transform` made."""
        ...


DIRECT = Direct()

_WINOGRAD = [Winograd(*tile) for tile in ((2, 2), (2, 4), (4, 2), (4, 4), (6, 2))]
_NARROW = [Winograd(rows, None) for rows in (1, 2, 4, 6)]
_FOR_FEW_TILES = [Winograd(*tile, blocks=True) for tile in ((2, 2), (2, 4), (4, 2), (4, 4), (1, None), (2, None))]

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel for kernel in (DIRECT, Pointwise(), Shifted(), Columns(), *_WINOGRAD, *_NARROW, *_FOR_FEW_TILES)
}


@functools.cache
def suiting(shape: ConvShape) -> tuple[Kernel, ...]:
    """The kernels that can do `shape`."""
    return tuple(kernel for kernel in KERNELS.values() if kernel.suits(shape))
