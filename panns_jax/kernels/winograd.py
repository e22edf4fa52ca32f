"""Winograd's convolution, as one matrix product for each product of the algorithm.

Both axes are transformed (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4.1). A
matrix holds one row per tile and one column per channel. XLA's CPU code multiplies matrices near the machine's limit
if they are separate arrays: a batch of them, or slices of one array, takes twice as long.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.axis import MOST_PRODUCTS, Axis, cook_toom, products, whole
from panns_jax.kernels.products import BLOCK, in_blocks, multiply
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles

# Tiles up to which blocks of weights are tried.
_FEW_TILES = 16

Rows = Float[Array, "tiles channels"]


@dataclasses.dataclass(frozen=True)
class Winograd:
    """Tiles of `rows` × `columns` outputs; columns "all" stands for an axis of width 1 or 2 at once.

    One dimension is taken for two: beside each place lie those that a dilated window steps over.

    Attributes:
      rows: outputs of a tile in time.
      columns: outputs of a tile across mels; None for "all".
      blocks: whether the weights lie in blocks, for images of few tiles.
    """

    rows: int
    columns: int | None
    blocks: bool = False

    @property
    def name(self) -> str:
        return f"winograd {self.rows}x{self.columns or 'all'}{' in blocks' if self.blocks else ''}"

    def suits(self, shape: ConvShape) -> bool:
        # With one input channel the products have nothing to add up.
        if not shape.keeps_size or shape.window[0] == 1 or shape.in_channels == 1:
            return False
        if shape.dilation > 1 and len(shape.window) > 1:
            return False
        # Of bfloat16's 8 bits the transforms of larger tiles leave too few.
        if shape.dtype == "bfloat16" and max(self.rows, self.columns or 1) > 2:
            return False
        if self.blocks and (shape.dtype == "bfloat16" or shape.out_channels % BLOCK):
            return False
        return self._divides(shape) and not (self.blocks and self._tiles(shape) > _FEW_TILES)

    def _divides(self, shape: ConvShape) -> bool:
        """Whether there are algorithms for this tile and this window."""
        narrow = len(shape.window) == 1 or (shape.space[1] <= 2 and shape.window[1] == 3)
        if narrow or self.columns is None:
            return narrow and self.columns is None and products(self.rows, shape.window[0]) <= MOST_PRODUCTS
        tiles = zip((self.rows, self.columns), shape.window, strict=True)
        return shape.window[-1] > 1 and all(products(*pair) <= MOST_PRODUCTS for pair in tiles)

    def axes(self, shape: ConvShape) -> tuple[Axis, Axis]:
        """The algorithms for time and for mels."""
        rows = cook_toom(self.rows, shape.window[0])
        if len(shape.window) == 1:
            return rows, cook_toom(1, 1)
        return rows, whole(shape.space[1]) if self.columns is None else cook_toom(self.columns, shape.window[1])

    def _tiles(self, shape: ConvShape) -> int:
        height, width = shape.space if len(shape.space) == 2 else (-(-shape.space[0] // shape.dilation), shape.dilation)
        rows, columns = self.axes(shape)
        return shape.batch * rows.tiles(height) * columns.tiles(width)

    def growth(self, shape: ConvShape) -> float:
        """Numbers in the transformed weights for each one of the kernel."""
        rows, columns = self.axes(shape)
        return rows.products * columns.products * shape.in_channels * shape.out_channels / shape.weights

    def transform(
        self, kernel: Float[Array, "*window in_channels out_channels"], shape: ConvShape
    ) -> tuple[Array, ...]:
        """The kernel as one matrix (in_channels, out_channels), or its blocks, for each product."""
        rows, columns = self.axes(shape)
        matrices = transformed(_in_two_dimensions(kernel), rows, columns)
        return tuple(map(in_blocks, matrices) if self.blocks else matrices)

    def __call__(
        self, x: Float[Array, "batch *space in_channels"], weights: tuple[Array, ...], shape: ConvShape
    ) -> Tiles | Array:
        rows, columns = self.axes(shape)
        image = (x if x.ndim == 4 else _beside(x, shape.dilation)).astype(jnp.float32)
        inputs = spread(image, rows, columns)
        results = [multiply(v, u) for v, u in zip(inputs, weights, strict=True)]
        tiles = gather(results, rows, columns, (image.shape[0], image.shape[1], image.shape[2]))
        tiles = tiles.map(lambda piece: piece.astype(x.dtype))
        return tiles if x.ndim == 4 else tiles.whole().reshape(x.shape[0], -1, shape.out_channels)[:, : x.shape[1]]


def transformed(kernel: Float[Array, "height width inputs outputs"], rows: Axis, columns: Axis) -> list[Array]:
    """taps · kernel · tapsᵀ of both axes, one matrix (in_channels, out_channels) per product."""
    across = [[combine(factors, list(kernel[i])) for factors in columns.taps] for i in range(kernel.shape[0])]
    return [combine(factors, [row[j] for row in across]) for factors in rows.taps for j in range(columns.products)]


def spread(image: Float[Array, "batch height width channels"], rows: Axis, columns: Axis) -> list[Rows]:
    """The inputs of the products: one matrix (tiles, channels) for each."""
    batch, height, width, channels = image.shape
    down, across = rows.tiles(height), columns.tiles(width)
    padded = jnp.pad(image, ((0, 0), _pads(rows, height), _pads(columns, width), (0, 0)))
    strips = [every(padded, 1, i, rows.outputs, down) for i in range(rows.inputs)]
    matrices = []
    for factors in rows.spread:
        strip = combine(factors, strips)
        places = [every(strip, 2, j, columns.outputs, across) for j in range(columns.inputs)]
        matrices += [combine(others, places).reshape(batch * down * across, channels) for others in columns.spread]
    return matrices


def gather(results: list[Rows], rows: Axis, columns: Axis, size: tuple[int, int, int]) -> Tiles:
    """The outputs in tiles from the results of the products; `size` is batch, height and width."""
    batch, height, width = size
    grid = [y.reshape(batch, rows.tiles(height), columns.tiles(width), -1) for y in results]
    by_row = [grid[i * columns.products : (i + 1) * columns.products] for i in range(rows.products)]
    pieces = []
    for factors in rows.gather:
        line = [combine(factors, [row[j] for row in by_row]) for j in range(columns.products)]
        pieces.append(tuple(combine(others, line) for others in columns.gather))
    return Tiles(tuple(pieces), (height, width))


def _pads(axis: Axis, size: int) -> tuple[int, int]:
    needed = axis.outputs * (axis.tiles(size) - 1) + axis.inputs
    return axis.padding, needed - size - axis.padding


def every(x: Array, dimension: int, first: int, step: int, count: int) -> Array:
    """`count` places of a dimension, from `first` on, `step` apart."""
    return lax.slice_in_dim(x, first, first + step * (count - 1) + 1, step, dimension)


def _beside(x: Float[Array, "batch time channels"], dilation: int) -> Float[Array, "batch rows dilation channels"]:
    """As many places of time side by side as a dilated window steps."""
    batch, time, channels = x.shape
    rows = -(-time // dilation)
    return jnp.pad(x, ((0, 0), (0, rows * dilation - time), (0, 0))).reshape(batch, rows, dilation, channels)


def _in_two_dimensions(kernel: Array) -> Array:
    return kernel if kernel.ndim == 4 else kernel[:, None]


def combine(factors: Float[np.ndarray, " values"], values: Sequence[Array]) -> Array:
    """Σ factor · value, without the terms of factor 0 and the multiplications by 1."""
    total = None
    for factor, value in zip(factors, values, strict=True):
        if factor == 0:
            continue
        term = value if factor == 1 else -value if factor == -1 else value * np.float32(factor)
        total = term if total is None else total + term
    return jnp.zeros_like(values[0]) if total is None else total
