"""Wavegram_Cnn14 and its kin: a spectrogram that is learnt, read by Cnn14 (section III-B of the paper)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.core import min_dim

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig, mixup
from panns_jax.models.clips import Clips
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Features
from panns_jax.models.layers import BatchNorm, Conv, ConvBlock, max_pool, relu
from panns_jax.models.rematerialization import block

_STRIDE = 5
_POOL = 4


class WavegramBlock(nnx.Module):
    """Two convolutions of size 3, the second one with holes, each with batch normalisation and ReLU; max pooling."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(in_channels, out_channels, (3,), padding=1, rngs=rngs)
        self.conv2 = Conv(out_channels, out_channels, (3,), padding=2, dilation=2, rngs=rngs)
        self.bn1 = BatchNorm(out_channels, rngs=rngs)
        self.bn2 = BatchNorm(out_channels, rngs=rngs)

    @block
    def __call__(self, x: Clips) -> Clips:
        x = relu(self.bn1(self.conv1(x)))
        return max_pool(relu(self.bn2(self.conv2(x))), _POOL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wavegram:
    """`pre_conv0`, `pre_block1`, …: the waveform to a wavegram, which stands beside the log-mel spectrogram after
    `conv_block1`, or in its place; then the other blocks of a `Cnn`.

    Attributes:
      cnn: the blocks.
      channels: of the blocks of the wavegram. The last one's become rows of `frequencies` each.
      frequencies: of the wavegram, as many as `conv_block1` leaves of the mel bins.
      reads_logmel: whether the log-mel spectrogram is read as well.
    """

    cnn: Cnn
    channels: tuple[int, ...] = (64, 128, 128)
    frequencies: int = 32
    reads_logmel: bool

    @property
    def out_channels(self) -> int:
        return self.cnn.out_channels

    @property
    def _hop_size(self) -> int:
        return _STRIDE * _POOL ** len(self.channels)

    def check(self, frontend: FrontendConfig) -> None:
        self.cnn.check(frontend)
        if not self.reads_logmel:
            return
        if frontend.hop_size != self._hop_size:
            raise InputError(
                f"hop_size must be {self._hop_size}, the step of the wavegram beside the spectrogram; got"
                f" {frontend.hop_size}"
            )
        if frontend.mel_bins // 2 != self.frequencies:
            raise InputError(
                f"mel_bins must be {2 * self.frequencies}, as the wavegram beside the spectrogram has"
                f" {self.frequencies} frequencies; got {frontend.mel_bins}"
            )

    def min_samples(self, frontend: FrontendConfig) -> int:
        steps = 2**self.cnn.pooled_blocks * _POOL ** len(self.channels)
        return max((steps - 1) * _STRIDE + 1, self.cnn.min_samples(frontend) if self.reads_logmel else 1)

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        first = self.channels[0]
        pairs = zip((first, *self.channels[:-1]), self.channels, strict=True)
        blocks = {f"pre_block{i}": WavegramBlock(*pair, rngs=rngs) for i, pair in enumerate(pairs, start=1)}
        width = self.cnn.channels[0]
        layers = {
            "pre_conv0": Conv(1, first, (11,), stride=_STRIDE, padding=5, rngs=rngs),
            "pre_bn0": BatchNorm(first, rngs=rngs),
            **blocks,
            self._last_block: ConvBlock(self.channels[-1] // self.frequencies, width, rngs=rngs),
            "conv_block1": ConvBlock(1, width, rngs=rngs),
            **self.cnn.build_from(2, in_channels=2 * width if self.reads_logmel else width, rngs=rngs),
        }
        # Without the spectrogram, `conv_block1` and `bn0` are in the published checkpoints all the same.
        return layers if self.reads_logmel else {**layers, "bn0": BatchNorm(frontend.mel_bins, rngs=rngs)}

    @property
    def _last_block(self) -> str:
        return f"pre_block{len(self.channels) + 1}"

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        x, blend = self._wavegram(layers, features.signal), features.blend
        if blend is not None:
            x = x.map(lambda values: mixup(values, blend))
        if self.reads_logmel:
            x = side_by_side(layers.conv_block1(features.image, pool=(2, 2)), x)
        last = layers.conv_block1 if self.reads_logmel else getattr(layers, self._last_block)
        x = layers.body_dropout.after(last, x, rngs=rngs)
        return self.cnn.run_from(2, layers, x, rngs=rngs)

    def _wavegram(self, layers: Any, signal: Clips) -> Clips:
        x = relu(layers.pre_bn0(layers.pre_conv0(signal)))
        for i in range(1, len(self.channels) + 1):
            x = getattr(layers, f"pre_block{i}")(x)
        return getattr(layers, self._last_block)(as_image(x, self.frequencies), pool=(2, 1))


def as_image(x: Clips, frequencies: int) -> Clips:
    """Channel c becomes frequency c % frequencies of channel c // frequencies."""
    rows, steps, channels = x.values.shape
    shape = (rows, steps, channels // frequencies, frequencies)
    return x.map(lambda values: values.reshape(shape).swapaxes(2, 3))


def side_by_side(x: Clips, y: Clips) -> Clips:
    """The channels of both. One of them can be a step longer, where the published models fail: it is cut."""
    steps = min_dim(x.values.shape[1], y.values.shape[1])  # of symbols, too, as exported programs have
    values = jnp.concatenate([lax.slice_in_dim(of.values, 0, steps, axis=1) for of in (x, y)], axis=-1)
    lengths = _shorter(x.lengths, y.lengths)
    return dataclasses.replace(x, held=values, lengths=lengths, view=x.view.beside(y.view))


def _shorter(x: Any, y: Any) -> Any:
    if x is None or y is None:
        return None
    return np.minimum(x, y) if isinstance(x, np.ndarray) else jnp.minimum(x, y)
