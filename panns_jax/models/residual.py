"""What residual networks over spectrograms and over waveforms share."""

import abc
import itertools
from collections.abc import Sequence
from typing import ClassVar

from flax import nnx

from panns_jax.models.clips import Clips
from panns_jax.models.layers import AvgPool, BatchNorm, Conv, Dropout, Sequential, relu
from panns_jax.models.rematerialization import block


class ResidualBlock(nnx.Module):
    """ReLU of the sum of a shortcut and a branch, which subclasses define.

    Attributes:
      dimensions: 2 over spectrograms, 1 over waveforms.
      expansion: output channels divided by `planes`.
      stride: by which the block pools, in all dimensions.
      downsample: the shortcut; None for the input itself.
    """

    dimensions: ClassVar[int] = 2
    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, planes: int, *, stride: int, rngs: nnx.Rngs):
        out_channels = planes * self.expansion
        self.stride = stride
        self.downsample = _shortcut(in_channels, out_channels, stride=stride, dimensions=self.dimensions, rngs=rngs)
        self.dropout = Dropout(0.1)

    @abc.abstractmethod
    def branch(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        """The branch of convolutions, which ends with a batch normalisation."""

    @block
    def __call__(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        shortcut = x if self.downsample is None else self.downsample(x)
        return relu(self.branch(x, rngs=rngs) + shortcut)


class ResidualLayers(nnx.Module):
    """Groups of blocks, `layer1`, `layer2`, …; every group but the first begins with a block that strides."""

    def __init__(
        self,
        block: type[ResidualBlock],
        in_channels: int,
        *,
        planes: Sequence[int],
        blocks: Sequence[int],
        stride: int,
        rngs: nnx.Rngs,
    ):
        self.count = len(planes)
        for i, (width, count) in enumerate(zip(planes, blocks, strict=True), start=1):
            group = []
            for first in (True, *itertools.repeat(False, count - 1)):
                group.append(block(in_channels, width, stride=stride if first and i > 1 else 1, rngs=rngs))
                in_channels = width * block.expansion
            setattr(self, f"layer{i}", Sequential(group))

    @property
    def last(self) -> nnx.Module:
        """The last group."""
        return getattr(self, f"layer{self.count}")

    def __call__(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        for i in range(1, self.count + 1):
            x = getattr(self, f"layer{i}")(x, rngs=rngs)
        return x


def _shortcut(
    in_channels: int, out_channels: int, *, stride: int, dimensions: int, rngs: nnx.Rngs
) -> Sequential | None:
    """Average pooling by the stride, if any, convolution of size 1, batch normalisation; None where the input fits."""
    if stride == 1 and in_channels == out_channels:
        return None
    pool = [AvgPool((stride,) * dimensions)] if stride > 1 else []
    project = Conv(in_channels, out_channels, (1,) * dimensions, rngs=rngs)
    return Sequential([*pool, project, BatchNorm(out_channels, rngs=rngs)])
