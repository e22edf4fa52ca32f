"""MobileNetV1 and MobileNetV2: few operations, by depthwise convolutions (section II-D of the paper).

Where a MobileNet for images would stride, these take the mean of 2 × 2, between the convolution and its normalisation.
"""

import abc
import dataclasses
from typing import Any

import jax
from flax import nnx

from panns_jax.frontend import FrontendConfig
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features, require_mel_bins
from panns_jax.models.layers import Apply, AvgPool, BatchNorm, Conv, DepthwiseConv, Sequential, mean_over_frequency
from panns_jax.models.rematerialization import block


@dataclasses.dataclass(frozen=True, kw_only=True)
class _MobileNet(abc.ABC):
    """Layers `features` in a row; then the mean over frequency."""

    @property
    def reads_logmel(self) -> bool:
        return True

    @property
    @abc.abstractmethod
    def strides(self) -> tuple[int, ...]:
        """By which the layers pool, one after another."""

    @abc.abstractmethod
    def features(self, *, rngs: nnx.Rngs) -> Sequential:
        """The layers, numbered as published."""

    @property
    def _pooling(self) -> int:
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    def check(self, frontend: FrontendConfig) -> None:
        require_mel_bins(frontend, self._pooling)

    def min_samples(self, frontend: FrontendConfig) -> int:
        return (self._pooling - 1) * frontend.hop_size

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        return {"features": self.features(rngs=rngs)}

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        return mean_over_frequency(layers.features(features.image))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV1(_MobileNet):
    """A convolution that pools, and depthwise-separable ones.

    Attributes:
      stem_channels: output channels of the first convolution.
      blocks: (output channels, stride) of each depthwise-separable convolution.
    """

    stem_channels: int
    blocks: tuple[tuple[int, int], ...]

    @property
    def strides(self) -> tuple[int, ...]:
        return (2, *(stride for _, stride in self.blocks))

    @property
    def out_channels(self) -> int:
        return self.blocks[-1][0]

    def features(self, *, rngs: nnx.Rngs) -> Sequential:
        layers = [_stem(self.stem_channels, Apply(jax.nn.relu), rngs=rngs)]
        ins = (self.stem_channels, *(channels for channels, _ in self.blocks))
        for in_channels, (out_channels, stride) in zip(ins, self.blocks, strict=False):
            layers.append(_separable(in_channels, out_channels, stride, rngs=rngs))
        return Sequential(layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetV2(_MobileNet):
    """A convolution that pools, inverted residual blocks, and a convolution 1 × 1.

    Attributes:
      stem_channels: output channels of the first convolution.
      groups: (expansion, output channels, number of blocks, stride of the first one) of each group of blocks.
      out_channels: of the last convolution.
    """

    stem_channels: int
    groups: tuple[tuple[int, int, int, int], ...]
    out_channels: int

    @property
    def strides(self) -> tuple[int, ...]:
        return (2, *(stride for *_, stride in self.groups))

    def features(self, *, rngs: nnx.Rngs) -> Sequential:
        layers: list[nnx.Module] = [_stem(self.stem_channels, Apply(jax.nn.relu6), rngs=rngs)]
        channels = self.stem_channels
        for expansion, out_channels, count, first_stride in self.groups:
            for stride in (first_stride, *(1,) * (count - 1)):
                layers.append(InvertedResidual(channels, out_channels, expansion=expansion, stride=stride, rngs=rngs))
                channels = out_channels
        layers.append(Block([*_pointwise(channels, self.out_channels, rngs=rngs), Apply(jax.nn.relu6)]))
        return Sequential(layers)


class Block(Sequential):
    """Layers in a row that are one step of the whole."""

    @block
    def __call__(self, x: Clips, **options: object) -> Clips:
        return super().__call__(x, **options)


class InvertedResidual(nnx.Module):
    """To more channels (1 × 1), depthwise 3 × 3, to fewer channels (1 × 1), and the input added where it fits."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int, rngs: nnx.Rngs):
        hidden = in_channels * expansion
        expand = [*_pointwise(in_channels, hidden, rngs=rngs), Apply(jax.nn.relu6)] if expansion > 1 else []
        depthwise = [*_depthwise(hidden, stride, rngs=rngs), Apply(jax.nn.relu6)]
        self.conv = Sequential([*expand, *depthwise, *_pointwise(hidden, out_channels, rngs=rngs)])
        self.adds_input = stride == 1 and in_channels == out_channels

    @block
    def __call__(self, x: Clips) -> Clips:
        y = self.conv(x)
        return x + y if self.adds_input else y


def _stem(out_channels: int, activation: nnx.Module, *, rngs: nnx.Rngs) -> Block:
    convolution = Conv(1, out_channels, (3, 3), padding=1, rngs=rngs)
    return Block([convolution, AvgPool((2, 2)), BatchNorm(out_channels, rngs=rngs), activation])


def _separable(in_channels: int, out_channels: int, stride: int, *, rngs: nnx.Rngs) -> Block:
    depthwise = [*_depthwise(in_channels, stride, rngs=rngs), Apply(jax.nn.relu)]
    return Block([*depthwise, *_pointwise(in_channels, out_channels, rngs=rngs), Apply(jax.nn.relu)])


def _depthwise(channels: int, stride: int, *, rngs: nnx.Rngs) -> list[nnx.Module]:
    pool = AvgPool((stride, stride))  # has its number where it does nothing, too
    return [DepthwiseConv(channels, (3, 3), rngs=rngs), pool, BatchNorm(channels, rngs=rngs)]


def _pointwise(in_channels: int, out_channels: int, *, rngs: nnx.Rngs) -> list[nnx.Module]:
    return [Conv(in_channels, out_channels, (1, 1), rngs=rngs), BatchNorm(out_channels, rngs=rngs)]
