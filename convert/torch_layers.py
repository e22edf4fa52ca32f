"""The published models' operations in PyTorch, over a state dict: what the JAX models are compared with.

Layouts are PyTorch's: (batch, channels, time, mels) and (batch, channels, time).
"""

import dataclasses
from collections.abc import Callable, MutableMapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from panns_jax.frontend import FrontendConfig

Dropout = Callable[[Tensor, float], Tensor]
"""From what dropout acts on and its rate to what is left, scaled up by 1 / (1 - rate)."""

_EPSILON = 1e-5
_MOMENTUM = 0.1
_MIN_POWER = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Layers that are called by their published names.

    Attributes:
      weights: the state dict. In training mode the running statistics in it are updated in place.
      training: whether batch normalisation takes the statistics of the batch.
      dropout: what dropout does; None for nothing.
      outputs: where the output of every layer goes, under its name, with channels as the last axis; None for nowhere.
      path: name of the block that the layers are in, with a dot at its end, or "".
    """

    weights: MutableMapping[str, Tensor]
    training: bool = False
    dropout: Dropout | None = None
    outputs: dict[str, Tensor] | None = None
    path: str = ""

    def within(self, block: str) -> "Layers":
        """The layers of a block."""
        return dataclasses.replace(self, path=f"{self.path}{block}.")

    def has(self, entry: str) -> bool:
        """Whether there is an entry of this name."""
        return self.path + entry in self.weights

    def note(self, x: Tensor, name: str = "", *, channels: int = 1) -> Tensor:
        """Notes `x` as the output of a layer, or of the block itself, and returns it; `channels` is their axis."""
        if self.outputs is not None:
            self.outputs[(self.path + name).removesuffix(".")] = x.detach().movedim(channels, -1)
        return x

    def conv(self, name: str, x: Tensor, *, padding: int = 0, stride: int = 1, dilation: int = 1) -> Tensor:
        """Convolution, in as many dimensions and groups as its weights have."""
        weight, bias = self._weight_and_bias(name)
        convolve = F.conv1d if weight.ndim == 3 else F.conv2d
        groups = x.shape[1] // weight.shape[1]
        y = convolve(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return self.note(y, name)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation of the channels."""
        weight, bias = self._weight_and_bias(name)
        mean, var = (self.weights[f"{self.path}{name}.{field}"] for field in ("running_mean", "running_var"))
        y = F.batch_norm(x, mean, var, weight, bias, training=self.training, momentum=_MOMENTUM, eps=_EPSILON)
        return self.note(y, name)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Linear layer over the last axis."""
        weight, bias = self._weight_and_bias(name)
        return self.note(F.linear(x, weight, bias), name, channels=-1)

    def drop(self, x: Tensor, rate: float) -> Tensor:
        """Dropout, in training mode."""
        if not self.training or self.dropout is None or rate == 0:
            return x
        return self.dropout(x, rate)

    @property
    def in_place(self) -> bool:
        """Whether activations overwrite what they are given, as the published ones do: unless it is to be kept."""
        return self.outputs is None

    def relu(self, x: Tensor) -> Tensor:
        """ReLU; `x` may be overwritten."""
        return F.relu(x, inplace=self.in_place)

    def constant(self, name: str) -> Tensor:
        """An entry of the state dict as it is."""
        return self.weights[self.path + name]

    def _weight_and_bias(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self.weights[f"{self.path}{name}.weight"], self.weights.get(f"{self.path}{name}.bias")


Step = Callable[[Layers, str, Tensor], Tensor]
"""One of a numbered row of layers: from where it is, its number and its input to its output."""


def in_a_row(layers: Layers, x: Tensor, steps: Sequence[Step]) -> Tensor:
    """Layers one after another, each under its number."""
    for number, step in enumerate(steps):
        x = step(layers, str(number), x)
    return layers.note(x)


def conv_step(padding: int = 0) -> Step:
    return lambda layers, name, x: layers.conv(name, x, padding=padding)


def norm_step(layers: Layers, name: str, x: Tensor) -> Tensor:
    return layers.norm(name, x)


def activation_step(function: Callable[..., Tensor]) -> Step:
    """ReLU or one of its kind, a function of PyTorch that can work in place."""
    return lambda layers, name, x: layers.note(function(x, inplace=layers.in_place), name)


def mean_step(window: int) -> Step:
    """Average pooling in all dimensions; it has its number also where it does nothing."""
    return lambda layers, name, x: layers.note(mean_pool(x, window), name)


def mean_pool(x: Tensor, window: int | tuple[int, int]) -> Tensor:
    """Mean of windows that do not overlap."""
    return F.avg_pool2d(x, window) if x.ndim == 4 else F.avg_pool1d(x, window)


def conv_block(layers: Layers, x: Tensor, *, convolutions: int, padding: int, pool: int | tuple[int, int]) -> Tensor:
    """Convolution, batch normalisation and ReLU, once or more; then average pooling."""
    for i in range(1, convolutions + 1):
        x = layers.relu(layers.norm(f"bn{i}", layers.conv(f"conv{i}", x, padding=padding)))
    return layers.note(mean_pool(x, pool))


def residual_block(layers: Layers, x: Tensor, *, stride: int) -> Tensor:
    """ReLU of branch and shortcut. Over spectrograms it is of two or three convolutions, over waveforms of two."""
    branch = _branch_1d if x.ndim == 3 else _bottleneck if layers.has("conv3.weight") else _branch_2d
    y = branch(layers, x, stride)
    if stride > 1 or x.shape[1] != y.shape[1]:
        pool = [mean_step(stride)] if stride > 1 else []
        x = in_a_row(layers.within("downsample"), x, [*pool, conv_step(), norm_step])
    return layers.note(layers.relu(x + y))


def _branch_2d(layers: Layers, x: Tensor, stride: int) -> Tensor:
    x = layers.relu(layers.norm("bn1", layers.conv("conv1", mean_pool(x, stride), padding=1)))
    return layers.norm("bn2", layers.conv("conv2", layers.drop(x, 0.1), padding=1))


def _bottleneck(layers: Layers, x: Tensor, stride: int) -> Tensor:
    x = layers.relu(layers.norm("bn1", layers.conv("conv1", mean_pool(x, stride))))
    x = layers.relu(layers.norm("bn2", layers.conv("conv2", x, padding=1)))
    return layers.norm("bn3", layers.conv("conv3", layers.drop(x, 0.1)))


def _branch_1d(layers: Layers, x: Tensor, stride: int) -> Tensor:
    x = layers.relu(layers.norm("bn1", layers.conv("conv1", F.max_pool1d(x, stride), padding=1)))
    return layers.norm("bn2", layers.conv("conv2", layers.drop(x, 0.1), padding=2, dilation=2))


def residual_layers(layers: Layers, x: Tensor, *, blocks: Sequence[int], stride: int) -> Tensor:
    """Groups of residual blocks; the first block of every group but the first strides."""
    for i, count in enumerate(blocks, start=1):
        group = layers.within(f"layer{i}")
        for j in range(count):
            x = residual_block(group.within(str(j)), x, stride=stride if i > 1 and j == 0 else 1)
        group.note(x)
    return layers.note(x)


def log_mel(layers: Layers, waveform: Tensor, config: FrontendConfig) -> Tensor:
    """Log-mel spectrogram in dB, by the stored convolution kernels and mel matrix.

    Args:
      layers: the whole model; the names of the front end's constants are in its weights.
      waveform: (batch, samples).
      config: window_size and hop_size are used.

    Returns:
      (batch, frames, mel_bins).
    """
    half = config.window_size // 2
    padded = F.pad(waveform[:, None], (half, half), mode="reflect")
    kernels = (layers.constant(f"spectrogram_extractor.stft.conv_{part}.weight") for part in ("real", "imag"))
    real, imaginary = (F.conv1d(padded, kernel, stride=config.hop_size) for kernel in kernels)
    power = layers.note(real**2 + imaginary**2, "spectrogram_extractor").transpose(1, 2)
    mel = power @ layers.constant("logmel_extractor.melW")
    return layers.note(10 * torch.log10(mel.clamp(min=_MIN_POWER)), "logmel_extractor", channels=-1)
