"""Layers that the families share. Layout: NHWC with time = H and mel = W."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from panns_jax.frontend import Stripes, spec_augment

_xavier = nnx.initializers.xavier_uniform()


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over the last axis, with PyTorch's running statistics.

    PyTorch normalises by the biased variance of the batch, yet feeds the unbiased one to the running variance,
    new = 0.9·old + 0.1·batch. Flax feeds the biased one.
    """

    def __init__(self, num_features: int, *, rngs: nnx.Rngs):
        super().__init__(num_features, momentum=0.9, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Array, "*batch features"]
    ) -> Float[Array, "*batch features"]:
        if self.use_running_average:
            return super().__call__(x)
        kept = self.momentum * self.var[...]
        y = super().__call__(x)
        count = x.size // x.shape[-1]
        # A single value has no unbiased variance; its biased one, 0, is kept then.
        unbiased = count / max(count - 1, 1)
        self.var[...] = kept + (self.var[...] - kept) * unbiased
        return y


class SpecAugment(nnx.Module):
    """SpecAugment in training mode, the identity in evaluation mode; switched like dropout."""

    def __init__(self, stripes: Stripes) -> None:
        self.stripes = stripes
        self.deterministic = False

    def __call__(
        self, x: Float[Array, "batch frames mels"], rngs: nnx.Rngs | None
    ) -> Float[Array, "batch frames mels"]:
        if self.deterministic:
            return x
        assert rngs is not None  # Model checks it, and says so in a sentence
        return spec_augment(x, rngs.spec_augment(), self.stripes)


def conv(
    in_channels: int, out_channels: int, kernel_size: tuple[int, ...], *, padding: int, rngs: nnx.Rngs
) -> nnx.Conv:
    """Convolution without bias, Xavier-uniform weights, `padding` on every side, full float32 precision."""
    return nnx.Conv(
        in_channels,
        out_channels,
        kernel_size,
        padding=((padding, padding),) * len(kernel_size),  # a list would make the graph definition unhashable
        use_bias=False,
        kernel_init=_xavier,
        precision=lax.Precision.HIGHEST,
        rngs=rngs,
    )


def linear(in_features: int, out_features: int, *, bias: float = 0.0, rngs: nnx.Rngs) -> nnx.Linear:
    """Linear layer with Xavier-uniform weights and every bias at `bias`, at full float32 precision."""
    return nnx.Linear(
        in_features,
        out_features,
        kernel_init=_xavier,
        bias_init=nnx.initializers.constant(bias),
        precision=lax.Precision.HIGHEST,
        rngs=rngs,
    )


def avg_pool(
    x: Float[Array, "batch time mels channels"], window: tuple[int, int]
) -> Float[Array, "batch pooled_time pooled_mels channels"]:
    """Mean over windows that do not overlap; what does not fill a window is dropped."""
    return x if window == (1, 1) else nnx.avg_pool(x, window, strides=window)


class ConvBlock(nnx.Module):
    """Twice convolution 3 × 3, batch normalisation and ReLU, then average pooling (table I of the paper, VGG-like)."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(in_channels, out_channels, (3, 3), padding=1, rngs=rngs)
        self.conv2 = conv(out_channels, out_channels, (3, 3), padding=1, rngs=rngs)
        self.bn1 = BatchNorm(out_channels, rngs=rngs)
        self.bn2 = BatchNorm(out_channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch time mels channels"], *, pool: tuple[int, int]
    ) -> Float[Array, "batch pooled_time pooled_mels out_channels"]:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        x = jax.nn.relu(self.bn2(self.conv2(x)))
        return avg_pool(x, pool)


class ConvBlock5x5(nnx.Module):
    """Convolution 5 × 5, batch normalisation and ReLU, then average pooling (Cnn6)."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(in_channels, out_channels, (5, 5), padding=2, rngs=rngs)
        self.bn1 = BatchNorm(out_channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch time mels channels"], *, pool: tuple[int, int]
    ) -> Float[Array, "batch pooled_time pooled_mels out_channels"]:
        return avg_pool(jax.nn.relu(self.bn1(self.conv1(x))), pool)


def pad_to(waveform: Float[Array, "batch samples"], min_samples: int) -> Float[Array, "batch padded"]:
    """Appends zeros up to `min_samples` samples."""
    missing = min_samples - waveform.shape[-1]
    return jnp.pad(waveform, ((0, 0), (0, missing))) if missing > 0 else waveform
