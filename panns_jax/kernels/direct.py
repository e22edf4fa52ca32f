"""Convolutions that read the kernel as it is: no memory of their own, and right for every shape."""

import dataclasses
import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.products import multiply
from panns_jax.kernels.shape import ConvShape

_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

# Places of an image up to which the inputs of each are worth being put side by side.
_FEW = 8192


def xla_convolution(
    x: Float[Array, "batch *space in_channels"],
    kernel: Float[Array, "*window in_channels out_channels"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> Float[Array, "batch *other_space out_channels"]:
    """XLA's own convolution; stride, padding and dilation are those of every dimension."""
    dimensions = kernel.ndim - 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * dimensions,
        padding=((padding, padding),) * dimensions,
        rhs_dilation=(dilation,) * dimensions,
        dimension_numbers=_LAYOUTS[dimensions],
        precision=precision,
    )


@dataclasses.dataclass(frozen=True)
class Direct:
    """XLA's own convolution."""

    name: str = "xla"

    def suits(self, shape: ConvShape) -> bool:
        return True

    def growth(self, shape: ConvShape) -> float:
        return 0.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return (kernel,)

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        return xla_convolution(
            x, kernel.astype(x.dtype), stride=shape.stride, padding=shape.padding, dilation=shape.dilation
        )


@dataclasses.dataclass(frozen=True)
class Shifted:
    """A sum of shifted inputs times numbers, for one input channel: a matrix product would have nothing to add up."""

    name: str = "shifted"

    def suits(self, shape: ConvShape) -> bool:
        return shape.keeps_size and shape.in_channels == 1 and len(shape.window) == 2

    def growth(self, shape: ConvShape) -> float:
        return 0.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return (kernel,)

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        height, width = shape.space
        pads = ((0, 0), *((size // 2, size // 2) for size in shape.window), (0, 0))
        padded = lax.optimization_barrier(jnp.pad(x, pads))
        terms = (
            padded[:, i : i + height, j : j + width] * kernel[i, j, 0].astype(x.dtype)
            for i in range(shape.window[0])
            for j in range(shape.window[1])
        )
        return sum(terms, start=jnp.zeros((), x.dtype))


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A matrix product over the channels, for windows of one place."""

    name: str = "product"

    def suits(self, shape: ConvShape) -> bool:
        return shape.pointwise

    def growth(self, shape: ConvShape) -> float:
        return 0.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return (kernel,)

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        matrix = kernel.reshape(shape.in_channels, shape.out_channels).astype(x.dtype)
        y = multiply(x.reshape(-1, shape.in_channels), matrix)
        return y.reshape(*x.shape[:-1], shape.out_channels).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Columns:
    """One matrix product over all taps: each place's inputs side by side; for images of few places."""

    name: str = "columns"

    def suits(self, shape: ConvShape) -> bool:
        return shape.dilation == 1 and not shape.pointwise and shape.places <= _FEW

    def growth(self, shape: ConvShape) -> float:
        return 0.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return (kernel,)

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        padded = jnp.pad(x, ((0, 0), *(((shape.padding,) * 2,) * len(shape.window)), (0, 0)))
        spans = [(size - taps) // shape.stride + 1 for size, taps in zip(padded.shape[1:-1], shape.window, strict=True)]

        def _steps(first: int, count: int) -> slice:
            return slice(first, first + shape.stride * (count - 1) + 1, shape.stride)

        taps = list(itertools.product(*map(range, shape.window)))
        views = [padded[(slice(None), *map(_steps, tap, spans))] for tap in taps]
        matrix = lax.optimization_barrier(jnp.concatenate(views, axis=-1).reshape(-1, len(taps) * shape.in_channels))
        y = multiply(matrix, kernel.reshape(-1, shape.out_channels).astype(x.dtype))
        return y.reshape(x.shape[0], *spans, shape.out_channels).astype(x.dtype)
