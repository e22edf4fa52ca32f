"""Images in pieces, as Winograd's algorithm computes them."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from panns_jax.kernels.products import summed

Piece = Float[Array, "batch down across channels"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("pieces",), meta_fields=("size",))
@dataclasses.dataclass(frozen=True)
class Tiles:
    """An image cut into tiles, held by place in the tile: what treats every value alike can be done before they are
    put together, which spares reading and writing the whole image once more.

    Attributes:
      pieces: pieces[i][j][b, t, s] is the value at row t · rows + i, column s · columns + j of image b.
      size: rows and columns of the image; what the tiles have beyond means nothing.
    """

    pieces: tuple[tuple[Piece, ...], ...]
    size: tuple[int, int]

    def map(self, function: Callable[[Array], Array]) -> "Tiles":
        """Applies a function of each value, and of which channel it is, alone."""
        return Tiles(tuple(tuple(function(piece) for piece in row) for row in self.pieces), self.size)

    @property
    def halves(self) -> bool:
        """Whether windows of 2 × 2 lie within tiles."""
        return len(self.pieces) % 2 == 0 and len(self.pieces[0]) % 2 == 0

    def mean_of_2x2(self) -> "Tiles":
        """Mean over windows of 2 × 2 that do not overlap, where `halves`; an odd row or column is dropped."""
        pieces = tuple(
            tuple(
                _mean(self.pieces[i][j], self.pieces[i][j + 1], self.pieces[i + 1][j], self.pieces[i + 1][j + 1])
                for j in range(0, len(self.pieces[0]), 2)
            )
            for i in range(0, len(self.pieces), 2)
        )
        return Tiles(pieces, (self.size[0] // 2, self.size[1] // 2))

    def whole(self) -> Float[Array, "batch height width channels"]:
        """The image in one piece."""
        batch, down, across, channels = self.pieces[0][0].shape
        height, width = self.size
        rows = [jnp.stack(row, axis=3).reshape(batch, down, across * len(row), channels) for row in self.pieces]
        image = jnp.stack(rows, axis=2).reshape(batch, down * len(rows), -1, channels)
        return image[:, :height, :width]


def _mean(*pieces: Piece) -> Piece:
    """The mean of pieces of one type, added up in float32 at least."""
    dtype = pieces[0].dtype
    total = sum((piece.astype(summed(dtype)) for piece in pieces[1:]), start=pieces[0].astype(summed(dtype)))
    return (total * (1 / len(pieces))).astype(dtype)
