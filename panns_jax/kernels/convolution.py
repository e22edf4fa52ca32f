"""Convolution in one or two dimensions, as layers ask for it."""

from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.gradients import convolve_to_train, kernel_to_train
from panns_jax.kernels.shape import ConvShape


def convolve(
    x: Float[Array, "batch *space in_channels"],
    kernel: Float[Array, "*window in_channels out_channels"],
    shape: ConvShape,
    *,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> Float[Array, "batch *other_space out_channels"]:
    """Convolves with zero padding.

    Args:
      x: over one dimension (batch, time, channels), or two (batch, time, mels, channels).
      kernel: of the same type as `x`, which is that of the result.
      shape: sizes of both, and the steps.
      precision: of the products of float32 values; matters on GPUs and TPUs.
    """
    by = kernel_to_train(shape)
    if by is not None:
        return convolve_to_train(x, kernel, shape, by)
    return xla_convolution(
        x, kernel, stride=shape.stride, padding=shape.padding, dilation=shape.dilation, precision=precision
    )
