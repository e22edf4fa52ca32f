"""Convolution in one or two dimensions."""

from jax import lax
from jaxtyping import Array, Float

_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def convolve(
    x: Float[Array, "batch *space in_channels"],
    kernel: Float[Array, "*window in_channels out_channels"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> Float[Array, "batch *other_space out_channels"]:
    """Convolves with zero padding; stride, padding and dilation are those of every dimension.

    Args:
      x: over one dimension (batch, time, channels), or two (batch, time, mels, channels).
      kernel: of the same type as `x`, which is that of the result.
      stride: steps of `x` from one place to the next.
      padding: zeros put on every side.
      dilation: steps of `x` from one it looks at to the next.
      precision: of the products of float32 values; matters on GPUs and TPUs.
    """
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
