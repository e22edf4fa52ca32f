"""Convolutions to train with: forward, and both gradients, as matrix products.

XLA's CPU code takes up to nine times as long as these for the gradient by the weights, and two to four times as long
for the gradient by the input. All three are of Winograd's algorithm, y = gather · ((taps · k) ∘ (spread · x)): the
gradient by x is the same convolution with the taps turned round, and that by k is
tapsᵀ · ((gatherᵀ · dy) ∘ (spread · x)).
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.axis import Axis
from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.winograd import Winograd, combine, every, gather, spread, transformed

# Larger tiles gain nothing in training, where the weights are transformed at every step: 4 x 2 or 2 x 4 was fastest, or
# within noise of it, in all three for all layers of Cnn14, on Zen 4 as on Sapphire Rapids.
_WIDE, _NARROW = Winograd(4, 2), Winograd(2, None)

# Below these sizes nothing is to be gained.
_FEWEST_CHANNELS, _FEWEST_PLACES = 16, 128

_in_use: ContextVar[bool] = ContextVar("_in_use", default=False)


@contextmanager
def gradients_by_products() -> Iterator[None]:
    """What is traced within it convolves, and is differentiated, by the kernels of this module where they are faster.

    For one CPU device, and reverse mode: `jax.grad` works, `jax.jvp` does not.
    """
    token = _in_use.set(True)
    try:
        yield
    finally:
        _in_use.reset(token)


def kernel_to_train(shape: ConvShape) -> Winograd | None:
    """The kernel by which a convolution that is traced now is to be done, or None for XLA's own."""
    if not _in_use.get() or shape.window != (3, 3) or shape.dtype != "float32":
        return None
    if min(shape.in_channels, shape.out_channels) < _FEWEST_CHANNELS or shape.places < _FEWEST_PLACES:
        return None
    return next((kernel for kernel in (_WIDE, _NARROW) if kernel.suits(shape)), None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_to_train(
    x: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "rows columns in_channels out_channels"],
    shape: ConvShape,
    by: Winograd,
) -> Float[Array, "batch height width out_channels"]:
    """A convolution whose gradients are done by the same kernel; where none are wanted, XLA's own."""
    return xla_convolution(x, kernel, padding=shape.padding)


def _with_residuals(x: Array, kernel: Array, shape: ConvShape, by: Winograd) -> tuple[Array, tuple[Array, Array]]:
    return forward(x, kernel, shape, by), (x, kernel)


def _gradients(shape: ConvShape, by: Winograd, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return input_gradient(dy, kernel, shape, by), weight_gradient(x, dy, shape, by)


convolve_to_train.defvjp(_with_residuals, _gradients)


def forward(x: Array, kernel: Array, shape: ConvShape, by: Winograd) -> Array:
    """The convolution, from the kernel as it is."""
    return _products(x, kernel, shape, by, contracted=0)


def input_gradient(dy: Array, kernel: Array, shape: ConvShape, by: Winograd) -> Array:
    """The gradient by the input: the convolution of `dy` with the taps turned round, from out to in channels."""
    return _products(dy, kernel[::-1, ::-1], shape, by, contracted=1)


def _products(x: Array, kernel: Array, shape: ConvShape, by: Winograd, *, contracted: int) -> Array:
    rows, columns = by.axes(shape)
    # Transposing the weights would cost XLA more than the products; they are read along the other axis instead.
    results = [
        lax.dot_general(v, u, (((1,), (contracted,)), ((), ())), precision=lax.Precision.HIGHEST)
        for v, u in zip(spread(x, rows, columns), transformed(kernel, rows, columns), strict=True)
    ]
    return gather(results, rows, columns, (x.shape[0], x.shape[1], x.shape[2])).whole()


def weight_gradient(x: Array, dy: Array, shape: ConvShape, by: Winograd) -> Array:
    """The gradient by the kernel."""
    rows, columns = by.axes(shape)
    products = [
        lax.dot_general(v, m, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
        for v, m in zip(spread(x, rows, columns), _spread_back(dy, rows, columns), strict=True)
    ]
    by_row = [products[i * columns.products : (i + 1) * columns.products] for i in range(rows.products)]
    taps = []
    for factors in rows.taps.T:
        line = [combine(factors, [row[j] for row in by_row]) for j in range(columns.products)]
        taps.append(jnp.stack([combine(others, line) for others in columns.taps.T]))
    return jnp.stack(taps)


def _spread_back(dy: Array, rows: Axis, columns: Axis) -> list[Array]:
    """gatherᵀ of both axes: from tiles of outputs to one matrix (tiles, channels) per product."""
    batch, height, width, channels = dy.shape
    down, across = rows.tiles(height), columns.tiles(width)
    pads = ((0, 0), (0, down * rows.outputs - height), (0, across * columns.outputs - width), (0, 0))
    padded = jnp.pad(dy, pads)
    strips = [every(padded, 1, i, rows.outputs, down) for i in range(rows.outputs)]
    matrices = []
    for factors in rows.gather.T:
        strip = combine(factors, strips)
        places = [every(strip, 2, j, columns.outputs, across) for j in range(columns.outputs)]
        matrices += [combine(others, places).reshape(batch * down * across, channels) for others in columns.gather.T]
    return matrices
