"""ResNet22, ResNet38 and ResNet54: residual networks over the log-mel spectrogram (table II of the paper).

Where a ResNet for images would stride, these take the mean of 2 × 2 before the first convolution of the block.
"""

import dataclasses
from typing import Any, Literal

from flax import nnx

from panns_jax.frontend import FrontendConfig
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features, require_mel_bins
from panns_jax.models.layers import BatchNorm, Conv, ConvBlock, Dropout, avg_pool, mean_over_frequency, relu
from panns_jax.models.residual import ResidualBlock, ResidualLayers


class BasicBlock(ResidualBlock):
    """Two convolutions 3 × 3."""

    def __init__(self, in_channels: int, planes: int, *, stride: int, rngs: nnx.Rngs):
        super().__init__(in_channels, planes, stride=stride, rngs=rngs)
        self.conv1 = Conv(in_channels, planes, (3, 3), padding=1, rngs=rngs)
        self.bn1 = BatchNorm(planes, rngs=rngs)
        self.conv2 = Conv(planes, planes, (3, 3), padding=1, rngs=rngs)
        self.bn2 = BatchNorm(planes, initial_scale=0.0, rngs=rngs)

    def branch(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        x = relu(self.bn1(self.conv1(avg_pool(x, (self.stride, self.stride)))))
        return self.bn2(self.conv2(self.dropout(x, rngs=rngs)))


class Bottleneck(ResidualBlock):
    """Convolutions 1 × 1, 3 × 3 and 1 × 1, the last one to four times as many channels."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, *, stride: int, rngs: nnx.Rngs):
        super().__init__(in_channels, planes, stride=stride, rngs=rngs)
        out_channels = planes * self.expansion
        self.conv1 = Conv(in_channels, planes, (1, 1), rngs=rngs)
        self.bn1 = BatchNorm(planes, rngs=rngs)
        self.conv2 = Conv(planes, planes, (3, 3), padding=1, rngs=rngs)
        self.bn2 = BatchNorm(planes, rngs=rngs)
        self.conv3 = Conv(planes, out_channels, (1, 1), rngs=rngs)
        self.bn3 = BatchNorm(out_channels, initial_scale=0.0, rngs=rngs)

    def branch(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        x = relu(self.bn1(self.conv1(avg_pool(x, (self.stride, self.stride)))))
        x = relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(self.dropout(x, rngs=rngs)))


_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNet:
    """`conv_block1`, four groups of residual blocks (`resnet`), `conv_block_after1`; then the mean over frequency.

    Attributes:
      blocks: number of residual blocks in each group.
      block: "basic" for two 3 × 3 convolutions a block, "bottleneck" for 1 × 1, 3 × 3, 1 × 1.
      planes: channels inside the blocks of each group.
      stem_channels: output channels of `conv_block1`.
      out_channels: of `conv_block_after1`.
      dropout: rate before and after the groups and at the end, in training only; inside the blocks it is 0.1.
    """

    blocks: tuple[int, ...]
    block: Literal["basic", "bottleneck"] = "basic"
    planes: tuple[int, ...] = (64, 128, 256, 512)
    stem_channels: int = 64
    out_channels: int = 2048
    dropout: float = 0.2

    @property
    def reads_logmel(self) -> bool:
        return True

    @property
    def _pooling(self) -> int:
        # By the stem, by every group but the first, and after the groups.
        return 2 ** (len(self.planes) + 1)

    def check(self, frontend: FrontendConfig) -> None:
        require_mel_bins(frontend, self._pooling)

    def min_samples(self, frontend: FrontendConfig) -> int:
        return (self._pooling - 1) * frontend.hop_size

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        block = _BLOCKS[self.block]
        return {
            "conv_block1": ConvBlock(1, self.stem_channels, rngs=rngs),
            "resnet": ResidualLayers(
                block, self.stem_channels, planes=self.planes, blocks=self.blocks, stride=2, rngs=rngs
            ),
            "conv_block_after1": ConvBlock(self.planes[-1] * block.expansion, self.out_channels, rngs=rngs),
            "body_dropout": Dropout(self.dropout),
        }

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        x = layers.conv_block1(features.image, pool=(2, 2))
        x = layers.resnet(layers.body_dropout.after(layers.conv_block1, x, rngs=rngs), rngs=rngs)
        x = layers.body_dropout.after(layers.resnet.last, avg_pool(x, (2, 2)), rngs=rngs)
        x = layers.conv_block_after1(x, pool=(1, 1))
        return mean_over_frequency(layers.body_dropout.after(layers.conv_block_after1, x, rngs=rngs))
