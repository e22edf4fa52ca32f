"""Layers that the families share, from `Clips` to `Clips`.

Layout: NHWC with time = H and mel = W; NWC in networks over waveforms. Layers compute in the type of the values that
they get, from float32 weights; batch normalisation always in float32.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from panns_jax.frontend import Stripes, spec_augment
from panns_jax.kernels.convolution import convolve
from panns_jax.kernels.depthwise import depthwise_conv
from panns_jax.kernels.pooling import largest_of_windows, mean_of_windows
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles
from panns_jax.models.clips import Clips, Window
from panns_jax.models.rematerialization import block, convolved

_xavier = nnx.initializers.xavier_uniform()


def relu(x: Clips) -> Clips:
    """max(x, 0)."""
    return x.each(jax.nn.relu)


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

    def __call__(self, x: Clips) -> Clips:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x.map(self._normalised)

    def _normalised(self, x: Float[Array, "batch *space features"]) -> Float[Array, "batch *space features"]:
        kept = self.momentum * self.var[...]
        y = super().__call__(x).astype(x.dtype)
        if not self.use_running_average:
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

    def __call__(self, x: Clips, rngs: nnx.Rngs | None) -> Clips:
        if self.deterministic:
            return x
        assert rngs is not None  # Model checks it, and says so in a sentence
        key = rngs.spec_augment()
        return x.map(lambda features: spec_augment(features, key, self.stripes))


def freeze(layer: nnx.Module) -> None:
    """Keeps a part of a model in evaluation mode: `Model.train` leaves it there."""
    layer.frozen = True  # pyright: ignore[reportAttributeAccessIssue]
    layer.eval()


def is_frozen(layer: nnx.Module) -> bool:
    """Whether `freeze` was called on it."""
    return getattr(layer, "frozen", False)


class Dropout(nnx.Dropout):
    """Sets values to 0 in training mode."""

    def __call__(self, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x.map(lambda values: super(Dropout, self).__call__(values, rngs=rngs))

    def after(self, layer: nnx.Module, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        """Drops values of what `layer` made, unless that is frozen: then it is in evaluation mode, and so is this."""
        return x if is_frozen(layer) else self(x, rngs=rngs)


class Sequential(nnx.Module):
    """Layers one after another, each under its number, as in PyTorch's module of that name (`features.0.2`)."""

    def __init__(self, layers: Sequence[nnx.Module]):
        self.count = len(layers)
        for number, layer in enumerate(layers):
            setattr(self, str(number), layer)

    def __call__(self, x: Clips, **options: object) -> Clips:
        for number in range(self.count):
            x = getattr(self, str(number))(x, **options)
        return x


class Apply(nnx.Module):
    """A function of every value alone as a layer of a `Sequential`."""

    def __init__(self, function: Callable[[Array], Array]):
        self.function = function

    def __call__(self, x: Clips) -> Clips:
        return x.each(self.function)


class AvgPool(nnx.Module):
    """`avg_pool` as a layer of a `Sequential`."""

    def __init__(self, window: tuple[int, ...]):
        self.window = window

    def __call__(self, x: Clips) -> Clips:
        return avg_pool(x, self.window)


class Conv(nnx.Conv):
    """Convolution with Xavier-uniform weights, zero padding, and full float32 products of float32 values."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        use_bias: bool = False,
        rngs: nnx.Rngs,
    ):
        super().__init__(
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
        self.window = Window(kernel_size[0], stride=stride, padding=padding, dilation=dilation)

    def shape(self, x: Clips) -> ConvShape:
        """What is to be convolved where `x` comes in."""
        batch, *space, in_channels = x.values.shape
        window = self.window
        return ConvShape(
            batch,
            tuple(space),
            in_channels,
            self.out_features,
            tuple(self.kernel_size),
            stride=window.stride,
            padding=window.padding,
            dilation=window.dilation,
            dtype=x.values.dtype.name,
        )

    def __call__(self, x: Clips) -> Clips:  # pyright: ignore[reportIncompatibleMethodOverride]
        values = x.own() if self.window.reaches else x.values
        kernel = self.kernel[...].astype(values.dtype)
        y = convolved(convolve(values, kernel, self.shape(x), precision=lax.Precision(self.precision)))
        if self.bias is not None:
            y = y + self.bias[...].astype(values.dtype)
        return x.through(self.window, y)


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

    def __call__(self, x: Clips) -> Clips:  # pyright: ignore[reportIncompatibleMethodOverride]
        values = x.own()
        kernel = self.kernel[...].astype(values.dtype)
        y = convolved(depthwise_conv(values, kernel, precision=lax.Precision(self.precision)))
        return x.through(Window(self.kernel_size[0], padding=self.kernel_size[0] // 2), y)


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


def mean_over_frequency(x: Clips) -> Clips:
    """(batch, time, mels, channels) to (batch, time, channels)."""
    return x.map(_mean_of_mels)


def _mean_of_mels(values: Float[Array, "batch time mels channels"]) -> Float[Array, "batch time channels"]:
    if values.dtype == jnp.bfloat16:
        # JAX 0.12 makes one operation of convolution, ReLU and mean on CPU, which answers NaN: it does for as little
        # as relu(conv(relu(x), kernel)).sum(axis=2) in bfloat16, with a window of 3 x 3 and 24 channels.
        values = lax.optimization_barrier(values)
    return values.mean(axis=2)


def avg_pool(x: Clips, window: tuple[int, ...]) -> Clips:
    """Mean over windows that do not overlap; what does not fill a window is dropped."""
    if set(window) == {1}:
        return x
    if isinstance(x.held, Tiles) and window == (2, 2) and x.held.halves:
        return x.through(Window(2, stride=2), x.held.mean_of_2x2())
    return x.through(Window(window[0], stride=window[0]), mean_of_windows(x.values, window))


def max_pool(x: Clips, window: int, *, padding: int = 0) -> Clips:
    """Largest value of windows in time that do not overlap, after -infinity was put on both sides `padding` times."""
    padded = jnp.pad(x.own(-jnp.inf), ((0, 0), (padding, padding), (0, 0)), constant_values=-jnp.inf)
    values = largest_of_windows(padded, (window,))
    pooled = x.through(Window(window, stride=window, padding=padding), values)
    # Infinity beyond a clip's end would come back as NaN in gradients, times 0.
    return pooled.map(lambda _: pooled.own())


class ConvBlock(nnx.Module):
    """Twice convolution 3 × 3, batch normalisation and ReLU, then average pooling (table I of the paper, VGG-like)."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(in_channels, out_channels, (3, 3), padding=1, rngs=rngs)
        self.conv2 = Conv(out_channels, out_channels, (3, 3), padding=1, rngs=rngs)
        self.bn1 = BatchNorm(out_channels, rngs=rngs)
        self.bn2 = BatchNorm(out_channels, rngs=rngs)

    @block
    def __call__(self, x: Clips, *, pool: tuple[int, int]) -> Clips:
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        return avg_pool(x, pool)


class ConvBlock5x5(nnx.Module):
    """Convolution 5 × 5, batch normalisation and ReLU, then average pooling (Cnn6)."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(in_channels, out_channels, (5, 5), padding=2, rngs=rngs)
        self.bn1 = BatchNorm(out_channels, rngs=rngs)

    @block
    def __call__(self, x: Clips, *, pool: tuple[int, int]) -> Clips:
        return avg_pool(relu(self.bn1(self.conv1(x))), pool)


def pad_to(waveform: Float[Array, "batch samples"], min_samples: int) -> Float[Array, "batch padded"]:
    """Appends zeros up to `min_samples` samples."""
    missing = min_samples - waveform.shape[-1]
    return jnp.pad(waveform, ((0, 0), (0, missing))) if missing > 0 else waveform
