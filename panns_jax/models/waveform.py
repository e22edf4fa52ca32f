"""Networks over waveforms: LeeNet11, LeeNet24, DaiNet19, Res1dNet31 and Res1dNet51 (section II-E of the paper)."""

import dataclasses
from typing import Any

from flax import nnx

from panns_jax.frontend import FrontendConfig
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features
from panns_jax.models.layers import BatchNorm, Conv, Dropout, max_pool, relu
from panns_jax.models.rematerialization import block
from panns_jax.models.residual import ResidualBlock, ResidualLayers


class _WaveformBody:
    """What the bodies that read nothing but the waveform have in common."""

    @property
    def reads_logmel(self) -> bool:
        return False

    def check(self, frontend: FrontendConfig) -> None:
        """Any front end will do: only its sample rate counts."""


class LeeNetBlock(nnx.Module):
    """Convolutions of size 3, batch normalisation and ReLU, one or two; then padded max pooling."""

    def __init__(self, in_channels: int, out_channels: int, *, convolutions: int, stride: int, rngs: nnx.Rngs):
        self.convolutions = convolutions
        for i in range(1, convolutions + 1):
            first = i == 1
            channels = in_channels if first else out_channels
            layer = Conv(channels, out_channels, (3,), stride=stride if first else 1, padding=1, rngs=rngs)
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", BatchNorm(out_channels, rngs=rngs))

    @block
    def __call__(self, x: Clips, *, pool: int) -> Clips:
        for i in range(1, self.convolutions + 1):
            x = relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        # Windows of 3, padded by 1: the published models have one step more than there are whole windows.
        return max_pool(x, pool, padding=pool // 2) if pool > 1 else x


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeeNet(_WaveformBody):
    """Blocks `conv_block1`, which strides by 3, `conv_block2`, …, which pool by 3.

    Attributes:
      channels: output channels of each block.
      convolutions: number of convolutions in each block.
      pools_last: whether the last block pools, too.
      dropout: rate after each block but the last, in training only.
    """

    channels: tuple[int, ...]
    convolutions: int
    pools_last: bool
    dropout: float = 0.0

    @property
    def out_channels(self) -> int:
        return self.channels[-1]

    def min_samples(self, frontend: FrontendConfig) -> int:
        return 1  # every layer pads

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        pairs = zip((1, *self.channels[:-1]), self.channels, strict=True)
        blocks = {
            f"conv_block{i}": LeeNetBlock(*pair, convolutions=self.convolutions, stride=3 if i == 1 else 1, rngs=rngs)
            for i, pair in enumerate(pairs, start=1)
        }
        return {**blocks, "body_dropout": Dropout(self.dropout)}

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        x, last = features.signal, len(self.channels)
        x = layers.conv_block1(x, pool=1)
        for i in range(2, last + 1):
            x = layers.body_dropout.after(getattr(layers, f"conv_block{i - 1}"), x, rngs=rngs)
            x = getattr(layers, f"conv_block{i}")(x, pool=3 if i < last or self.pools_last else 1)
        return x


class DaiNetBlock(nnx.Module):
    """Four convolutions of size 3 with batch normalisation, and the input or its projection added."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        for i in range(1, 5):
            channels = in_channels if i == 1 else out_channels
            setattr(self, f"conv{i}", Conv(channels, out_channels, (3,), padding=1, rngs=rngs))
            setattr(self, f"bn{i}", BatchNorm(out_channels, initial_scale=float(i < 4), rngs=rngs))
        # The published checkpoints have the projection also where the input itself is added.
        self.downsample = Conv(in_channels, out_channels, (1,), rngs=rngs)
        self.bn_downsample = BatchNorm(out_channels, rngs=rngs)

    @block
    def __call__(self, x: Clips) -> Clips:
        y = x
        for i in range(1, 5):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < 4:
                y = relu(y)
        projected = x if x.values.shape == y.values.shape else self.bn_downsample(self.downsample(x))
        return relu(y + projected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaiNet(_WaveformBody):
    """`conv0` of size 80 with stride 4; blocks `conv_block1`, `conv_block2`, …, between which time is pooled by 4.

    Attributes:
      channels: output channels of each block; `conv0` has as many as the first one.
    """

    channels: tuple[int, ...]

    @property
    def out_channels(self) -> int:
        return self.channels[-1]

    def min_samples(self, frontend: FrontendConfig) -> int:
        return 80 + 4 * (4 ** (len(self.channels) - 1) - 1)

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        first = self.channels[0]
        pairs = zip((first, *self.channels[:-1]), self.channels, strict=True)
        return {
            "conv0": Conv(1, first, (80,), stride=4, rngs=rngs),
            "bn0": BatchNorm(first, rngs=rngs),
            **{f"conv_block{i}": DaiNetBlock(*pair, rngs=rngs) for i, pair in enumerate(pairs, start=1)},
        }

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        x = layers.bn0(layers.conv0(features.signal))  # no ReLU, as published
        x = layers.conv_block1(x)
        for i in range(2, len(self.channels) + 1):
            x = getattr(layers, f"conv_block{i}")(max_pool(x, 4))
        return x


class BasicBlock1d(ResidualBlock):
    """Two convolutions of size 3, the second one with holes; the stride is max pooling here, a mean in the shortcut."""

    dimensions = 1

    def __init__(self, in_channels: int, planes: int, *, stride: int, rngs: nnx.Rngs):
        super().__init__(in_channels, planes, stride=stride, rngs=rngs)
        self.conv1 = Conv(in_channels, planes, (3,), padding=1, rngs=rngs)
        self.bn1 = BatchNorm(planes, rngs=rngs)
        self.conv2 = Conv(planes, planes, (3,), padding=2, dilation=2, rngs=rngs)
        self.bn2 = BatchNorm(planes, initial_scale=0.0, rngs=rngs)

    def branch(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        if self.stride > 1:
            x = max_pool(x, self.stride)
        x = relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(self.dropout(x, rngs=rngs)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Res1dNet(_WaveformBody):
    """`conv0` of size 11 with stride 5; groups of residual blocks (`resnet`), between which time is pooled by 4.

    Attributes:
      blocks: number of residual blocks in each group.
      planes: channels of each group; `conv0` has as many as the first one.
    """

    blocks: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024, 2048)

    @property
    def out_channels(self) -> int:
        return self.planes[-1]

    def min_samples(self, frontend: FrontendConfig) -> int:
        return 5 * (4 ** (len(self.planes) - 1) - 1) + 1

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        first = self.planes[0]
        return {
            "conv0": Conv(1, first, (11,), stride=5, padding=5, rngs=rngs),
            "bn0": BatchNorm(first, rngs=rngs),
            "resnet": ResidualLayers(BasicBlock1d, first, planes=self.planes, blocks=self.blocks, stride=4, rngs=rngs),
        }

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        x = layers.bn0(layers.conv0(features.signal))  # no ReLU, as published
        return layers.resnet(x, rngs=rngs)
