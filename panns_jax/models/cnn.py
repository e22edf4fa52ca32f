"""Cnn6, Cnn10 and Cnn14: VGG-like blocks over the log-mel spectrogram (table I of the paper)."""

import dataclasses
from typing import Any, Literal

from flax import nnx

from panns_jax.frontend import FrontendConfig
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features, require_mel_bins
from panns_jax.models.layers import ConvBlock, ConvBlock5x5, Dropout, mean_over_frequency

_BLOCKS = {"3x3": ConvBlock, "5x5": ConvBlock5x5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cnn:
    """Blocks `conv_block1`, `conv_block2`, …, each followed by dropout; then the mean over frequency.

    Attributes:
      channels: output channels of each block.
      pooled_blocks: how many blocks, from the first on, halve time and frequency; the others do not pool.
      block: "3x3" for two 3 × 3 convolutions a block, "5x5" for one 5 × 5 convolution.
      dropout: rate after each block, in training only.
    """

    channels: tuple[int, ...]
    pooled_blocks: int
    block: Literal["3x3", "5x5"] = "3x3"
    dropout: float = 0.2

    @property
    def reads_logmel(self) -> bool:
        return True

    @property
    def out_channels(self) -> int:
        return self.channels[-1]

    def check(self, frontend: FrontendConfig) -> None:
        require_mel_bins(frontend, 2**self.pooled_blocks)

    def min_samples(self, frontend: FrontendConfig) -> int:
        return (2**self.pooled_blocks - 1) * frontend.hop_size

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        return self.build_from(1, in_channels=1, rngs=rngs)

    def build_from(self, first: int, *, in_channels: int, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The layers of the blocks from number `first` on, which reads `in_channels` channels."""
        block = _BLOCKS[self.block]
        outs = self.channels[first - 1 :]
        pairs = zip((in_channels, *outs[:-1]), outs, strict=True)
        blocks = {f"conv_block{i}": block(*pair, rngs=rngs) for i, pair in enumerate(pairs, start=first)}
        return {**blocks, "body_dropout": Dropout(self.dropout)}

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        return self.run_from(1, layers, features.image, rngs=rngs)

    def run_from(self, first: int, layers: Any, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        """Runs the layers of `build_from`, and takes the mean over frequency."""
        for i in range(first, len(self.channels) + 1):
            pool = (2, 2) if i <= self.pooled_blocks else (1, 1)
            block = getattr(layers, f"conv_block{i}")
            x = layers.body_dropout.after(block, block(x, pool=pool), rngs=rngs)
        return mean_over_frequency(x)
