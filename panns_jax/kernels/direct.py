"""Convolutions that read the kernel as it is: no memory of their own, and right for every shape."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.products import multiply
from panns_jax.kernels.shape import ConvShape

_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

# Places of an image up to which the inputs of each are worth being put side by side.
_FEW = 8192

# Taps up to which a sum of shifted inputs is tried.
_FEW_TAPS = 32


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


class _AsItIs:
    """What kernels have in common that read the layer's own weights."""

    def growth(self, shape: ConvShape) -> float:
        return 0.0

    def transform(self, kernel: Array, shape: ConvShape) -> tuple[Array, ...]:
        return (kernel,)


@dataclasses.dataclass(frozen=True)
class Direct(_AsItIs):
    """XLA's own convolution.

    Attributes:
      precision: of the products of float32 values; matters on GPUs and TPUs.
    """

    name: str = "xla"
    precision: lax.Precision = lax.Precision.HIGHEST

    def suits(self, shape: ConvShape) -> bool:
        return True

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        return xla_convolution(
            x,
            kernel.astype(x.dtype),
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            precision=self.precision,
        )


@dataclasses.dataclass(frozen=True)
class Shifted(_AsItIs):
    """A sum of shifted inputs times numbers, for one input channel: a matrix product would have little to add up."""

    name: str = "shifted"

    def suits(self, shape: ConvShape) -> bool:
        return shape.in_channels == 1 and shape.dilation == 1 and math.prod(shape.window) <= _FEW_TAPS

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        factors = kernel.reshape(-1, shape.out_channels).astype(x.dtype)
        terms = (view * factor for view, factor in zip(_views(x, shape), factors, strict=True))
        return sum(terms, start=jnp.zeros((), x.dtype))


@dataclasses.dataclass(frozen=True)
class Pointwise(_AsItIs):
    """A matrix product over the channels, for windows of one place."""

    name: str = "product"

    def suits(self, shape: ConvShape) -> bool:
        return shape.pointwise

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        matrix = kernel.reshape(shape.in_channels, shape.out_channels).astype(x.dtype)
        y = multiply(x.reshape(-1, shape.in_channels), matrix)
        return y.reshape(*x.shape[:-1], shape.out_channels).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Columns(_AsItIs):
    """One matrix product over all taps: each place's inputs side by side; for few places, or one channel."""

    name: str = "columns"

    def suits(self, shape: ConvShape) -> bool:
        few = shape.places <= _FEW or shape.in_channels == 1
        return shape.dilation == 1 and not shape.pointwise and few

    def __call__(self, x: Array, weights: tuple[Array, ...], shape: ConvShape) -> Array:
        (kernel,) = weights
        views = _views(x, shape)
        matrix = lax.optimization_barrier(jnp.concatenate(views, axis=-1))
        y = multiply(matrix.reshape(-1, matrix.shape[-1]), kernel.reshape(-1, shape.out_channels).astype(x.dtype))
        return y.reshape(*views[0].shape[:-1], shape.out_channels).astype(x.dtype)


def _views(x: Float[Array, "batch *space channels"], shape: ConvShape) -> list[Float[Array, "batch *other channels"]]:
    """What each tap of the window is multiplied by; empty where the window is longer than what it lies on."""
    padded = jnp.pad(x, ((0, 0), *((shape.padding,) * 2 for _ in shape.window), (0, 0)))
    sizes = zip(padded.shape[1:-1], shape.window, strict=True)
    counts = [max(0, (size - taps) // shape.stride + 1) for size, taps in sizes]

    def steps(first: int, count: int) -> slice:
        return slice(first, first + shape.stride * count, shape.stride)

    taps = itertools.product(*map(range, shape.window))
    return [padded[(slice(None), *map(steps, tap, counts))] for tap in taps]
