"""Cnn6, Cnn10 and Cnn14: VGG-like blocks over the log-mel spectrogram (table I of the paper)."""

import dataclasses
from typing import Any, ClassVar, Literal

from flax import nnx
from jaxtyping import Array, Float

from panns_jax.frontend import FrontendConfig
from panns_jax.models.config import Features
from panns_jax.models.layers import ConvBlock, ConvBlock5x5

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

    reads_logmel: ClassVar[bool] = True

    @property
    def out_channels(self) -> int:
        return self.channels[-1]

    def min_samples(self, frontend: FrontendConfig) -> int:
        return (2**self.pooled_blocks - 1) * frontend.hop_size

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        block = _BLOCKS[self.block]
        pairs = zip((1, *self.channels[:-1]), self.channels, strict=True)
        blocks = {f"conv_block{i}": block(ins, outs, rngs=rngs) for i, (ins, outs) in enumerate(pairs, start=1)}
        return {**blocks, "body_dropout": nnx.Dropout(self.dropout)}

    def __call__(
        self, layers: Any, features: Features, *, rngs: nnx.Rngs | None
    ) -> Float[Array, "batch steps channels"]:
        assert features.logmel is not None
        x = features.logmel[..., None]
        for i in range(1, len(self.channels) + 1):
            pool = (2, 2) if i <= self.pooled_blocks else (1, 1)
            x = getattr(layers, f"conv_block{i}")(x, pool=pool)
            x = layers.body_dropout(x, rngs=rngs)
        return x.mean(axis=2)
