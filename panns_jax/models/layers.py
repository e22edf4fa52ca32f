"""Layers that the families share. Layout: NHWC with time = H and mel = W; NWC in networks over waveforms."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from panns_jax.frontend import Stripes, spec_augment
from panns_jax.kernels.depthwise import depthwise_conv

_xavier = nnx.initializers.xavier_uniform()


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over the last axis, with PyTorch's running statistics.

    PyTorch normalises by the biased variance of the batch, yet feeds the unbiased one to the running variance,
    new = 0.9·old + 0.1·batch. Flax feeds the biased one.
    """

    def __init__(self, num_features: int, *, initial_scale: float = 1.0, rngs: nnx.Rngs):
        super().__init__(
            num_features,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,
            scale_init=nnx.initializers.constant(initial_scale),
            rngs=rngs,
        )

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


class Sequential(nnx.Module):
    """Layers one after another, each under its number, as in PyTorch's module of that name (`features.0.2`)."""

    def __init__(self, layers: Sequence[nnx.Module]):
        self.count = len(layers)
        for number, layer in enumerate(layers):
            setattr(self, str(number), layer)

    def __call__(self, x: Float[Array, "batch *shape"], **options: object) -> Float[Array, "batch *other_shape"]:
        for number in range(self.count):
            x = getattr(self, str(number))(x, **options)
        return x


class Apply(nnx.Module):
    """A function without weights as a layer of a `Sequential`."""

    def __init__(self, function: Callable[[Array], Array]):
        self.function = function

    def __call__(self, x: Float[Array, "batch *shape"]) -> Float[Array, "batch *other_shape"]:
        return self.function(x)


class AvgPool(nnx.Module):
    """`avg_pool` as a layer of a `Sequential`."""

    def __init__(self, window: tuple[int, ...]):
        self.window = window

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *pooled channels"]:
        return avg_pool(x, self.window)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, ...],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    use_bias: bool = False,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Convolution with Xavier-uniform weights, `padding` on every side, at full float32 precision."""
    return nnx.Conv(
        in_channels,
        out_channels,
        kernel_size,
        strides=stride,
        padding=((padding, padding),) * len(kernel_size),  # a list would make the graph definition unhashable
        kernel_dilation=dilation,
        use_bias=use_bias,
        kernel_init=_xavier,
        precision=lax.Precision.HIGHEST,
        rngs=rngs,
    )


class DepthwiseConv(nnx.Conv):
    """Convolution of every channel with a kernel of its own, without bias, that keeps the size."""

    def __init__(self, channels: int, kernel_size: tuple[int, int], *, rngs: nnx.Rngs):
        super().__init__(
            channels,
            channels,
            kernel_size,
            feature_group_count=channels,
            use_bias=False,
            kernel_init=_xavier,
            precision=lax.Precision.HIGHEST,
            rngs=rngs,
        )

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Array, "batch time mels channels"]
    ) -> Float[Array, "batch time mels channels"]:
        return depthwise_conv(x, self.kernel[...])


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
    x: Float[Array, "batch *space channels"], window: tuple[int, ...]
) -> Float[Array, "batch *pooled channels"]:
    """Mean over windows that do not overlap; what does not fill a window is dropped."""
    return x if set(window) == {1} else nnx.avg_pool(x, window, strides=window)


def max_pool(
    x: Float[Array, "batch time channels"], window: int, *, padding: int = 0
) -> Float[Array, "batch pooled_time channels"]:
    """Largest value of windows that do not overlap, after -infinity was put on both sides `padding` times."""
    shape = (1, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, ((0, 0), (padding, padding), (0, 0)))


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
