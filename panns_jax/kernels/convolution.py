"""Convolution in one or two dimensions, as layers ask for it."""

from panns_jax.kernels.direct import xla_convolution as convolve

__all__ = ["convolve"]
