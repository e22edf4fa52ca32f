"""All models of the registry in PyTorch: one composition, which a model's config drives as it drives the JAX one.

It shares configs, and no code, with `panns_jax.models`, and is held to the published figures by tests of its own.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convert.torch_layers import (
    Dropout,
    Layers,
    Step,
    activation_step,
    conv_block,
    conv_step,
    in_a_row,
    log_mel,
    mean_pool,
    mean_step,
    norm_step,
    residual_layers,
)
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import ClipHead, DecisionHead
from panns_jax.models.mobilenet import MobileNetV1, MobileNetV2
from panns_jax.models.resnet import ResNet
from panns_jax.models.transfer import Pretrained, TransferHead
from panns_jax.models.waveform import DaiNet, LeeNet, Res1dNet
from panns_jax.models.wavegram import Wavegram
from panns_jax.pretrained.conversion import frontend_constants


class NoCounterpart(NotImplementedError):
    """This body or head was not written in PyTorch."""


class Features(NamedTuple):
    """What a body reads.

    Attributes:
      waveform: (rows, samples); two rows for each clip where `blend` is given.
      logmel: (batch, 1, frames, mels); None for bodies that do not read it.
      blend: (batch,), weights of the mixup that is left to the body; None for none.
    """

    waveform: Tensor
    logmel: Tensor | None
    blend: Tensor | None = None


def as_tensors(weights: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, Tensor]:
    """A state dict in float32, copied; the front end's constants are added where it has none of them."""
    whole = {**frontend_constants(config), **weights}
    return {name: torch.tensor(np.asarray(array, np.float32)) for name, array in whole.items()}


def run_model(
    config: ModelConfig,
    weights: dict[str, Tensor],
    waveform: Tensor,
    *,
    training: bool = False,
    mixup_lambda: Tensor | None = None,
    dropout: Dropout | None = None,
    outputs: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Tags a batch of clips.

    Args:
      config: the model.
      weights: of `as_tensors`. In training mode the running statistics in it are updated in place.
      waveform: (batch, samples) in [-1, 1]; shorter ones than `config.min_samples` are zero-padded at their end.
      training: whether batch normalisation takes the statistics of the batch. SpecAugment is always off.
      mixup_lambda: (pairs,): blend rows 2k and 2k+1 with weights λ and 1-λ.
      dropout: what dropout does in training; None for nothing.
      outputs: where the output of every layer goes, under its published name, in the order in which the layers run,
        with channels as the last axis.

    Returns:
      What `panns_jax.models.config.Output` holds, by the names of its fields: "clipwise" (batch, classes), and
      "embedding" (batch, dim) or "framewise" (batch, frames, classes).

    Raises:
      NoCounterpart: the model's body or head was not written in PyTorch.
    """
    layers = Layers(weights=weights, training=training, dropout=dropout, outputs=outputs)
    return _run(config, layers, waveform, mixup_lambda)


def _run(
    config: ModelConfig, layers: Layers, waveform: Tensor, mixup_lambda: Tensor | None = None
) -> dict[str, Tensor]:
    x = F.pad(waveform, (0, max(0, config.min_samples - waveform.shape[1])))
    blend = mixup_lambda
    if blend is not None and config.mixup == "waveform":
        x, blend = mixup(x, blend), None
    logmel = None
    if config.body.reads_logmel:
        frames = log_mel(layers, x, config.frontend)
        # The channels of this normalisation are the mel bins.
        logmel = layers.norm("bn0", frames.transpose(1, 2)[..., None]).transpose(1, 3)
        layers.note(logmel[:, 0], "bn0", channels=-1)
        logmel = logmel if blend is None else mixup(logmel, blend)
    steps = run_body(config.body, layers, Features(x, logmel, blend))
    return run_head(config.head, layers, steps, config.frontend.frames(x.shape[1]))


def mixup(x: Tensor, mixup_lambda: Tensor) -> Tensor:
    """λ·x₂ₖ + (1-λ)·x₂ₖ₊₁ for each pair of rows."""
    weight = mixup_lambda.reshape(-1, *(1,) * (x.ndim - 1))
    return weight * x[0::2] + (1 - weight) * x[1::2]


@functools.singledispatch
def run_body(body: object, layers: Layers, features: Features) -> Tensor:
    """From features to (batch, channels, steps)."""
    raise NoCounterpart(type(body).__name__)


@run_body.register
def _cnn(body: Cnn, layers: Layers, features: Features) -> Tensor:
    assert features.logmel is not None
    return _blocks_from(1, body, layers, features.logmel)


def _blocks_from(first: int, body: Cnn, layers: Layers, x: Tensor) -> Tensor:
    convolutions, padding = (1, 2) if body.block == "5x5" else (2, 1)
    for i in range(first, len(body.channels) + 1):
        block = layers.within(f"conv_block{i}")
        x = conv_block(block, x, convolutions=convolutions, padding=padding, pool=2 if i <= body.pooled_blocks else 1)
        x = layers.drop(x, body.dropout)
    return x.mean(dim=3)


@run_body.register
def _resnet(body: ResNet, layers: Layers, features: Features) -> Tensor:
    assert features.logmel is not None
    x = conv_block(layers.within("conv_block1"), features.logmel, convolutions=2, padding=1, pool=2)
    x = layers.drop(x, body.dropout)
    x = residual_layers(layers.within("resnet"), x, blocks=body.blocks, stride=2)
    x = layers.drop(mean_pool(x, 2), body.dropout)
    x = conv_block(layers.within("conv_block_after1"), x, convolutions=2, padding=1, pool=1)
    return layers.drop(x, body.dropout).mean(dim=3)


@run_body.register
def _mobilenet1(body: MobileNetV1, layers: Layers, features: Features) -> Tensor:
    assert features.logmel is not None
    activation = activation_step(F.relu)
    row = [_block(_pooled(2, activation))]
    for _, stride in body.blocks:
        row.append(_block([*_pooled(stride, activation), conv_step(), norm_step, activation]))
    return in_a_row(layers.within("features"), features.logmel, row).mean(dim=3)


@run_body.register
def _mobilenet2(body: MobileNetV2, layers: Layers, features: Features) -> Tensor:
    assert features.logmel is not None
    activation = activation_step(F.relu6)
    row = [_block(_pooled(2, activation))]
    for expansion, _, count, first_stride in body.groups:
        expand = [conv_step(), norm_step, activation] if expansion > 1 else []
        for stride in (first_stride, *(1,) * (count - 1)):
            row.append(_inverted([*expand, *_pooled(stride, activation), conv_step(), norm_step], stride))
    row.append(_block([conv_step(), norm_step, activation]))
    return in_a_row(layers.within("features"), features.logmel, row).mean(dim=3)


def _pooled(stride: int, activation: Step) -> list[Step]:
    """A convolution 3 × 3 that pools where one for images would stride."""
    return [conv_step(padding=1), mean_step(stride), norm_step, activation]


def _block(steps: list[Step]) -> Step:
    return lambda layers, name, x: in_a_row(layers.within(name), x, steps)


def _inverted(steps: list[Step], stride: int) -> Step:
    def run(layers: Layers, name: str, x: Tensor) -> Tensor:
        block = layers.within(name)
        y = in_a_row(block.within("conv"), x, steps)
        return block.note(x + y if stride == 1 and x.shape[1] == y.shape[1] else y)

    return run


@run_body.register
def _leenet(body: LeeNet, layers: Layers, features: Features) -> Tensor:
    x, last = features.waveform[:, None], len(body.channels)
    for i in range(1, last + 1):
        block = layers.within(f"conv_block{i}")
        for j in range(1, body.convolutions + 1):
            x = block.conv(f"conv{j}", x, padding=1, stride=3 if i == j == 1 else 1)
            x = block.relu(block.norm(f"bn{j}", x))
        if i > 1 and (i < last or body.pools_last):
            x = F.max_pool1d(x, 3, padding=1)
        block.note(x)
        x = layers.drop(x, body.dropout) if i < last else x
    return x


@run_body.register
def _dainet(body: DaiNet, layers: Layers, features: Features) -> Tensor:
    x = layers.norm("bn0", layers.conv("conv0", features.waveform[:, None], stride=4))
    for i in range(1, len(body.channels) + 1):
        block = layers.within(f"conv_block{i}")
        x = x if i == 1 else F.max_pool1d(x, 4)
        y = x
        for j in range(1, 5):
            y = block.norm(f"bn{j}", block.conv(f"conv{j}", block.relu(y) if j > 1 else y, padding=1))
        if x.shape != y.shape:
            x = block.norm("bn_downsample", block.conv("downsample", x))
        x = block.note(block.relu(x + y))
    return x


@run_body.register
def _res1dnet(body: Res1dNet, layers: Layers, features: Features) -> Tensor:
    x = layers.norm("bn0", layers.conv("conv0", features.waveform[:, None], padding=5, stride=5))
    return residual_layers(layers.within("resnet"), x, blocks=body.blocks, stride=4)


@run_body.register
def _wavegram(body: Wavegram, layers: Layers, features: Features) -> Tensor:
    x = _wavegram_branch(body, layers, features.waveform)
    x = x if features.blend is None else mixup(x, features.blend)
    if features.logmel is not None:
        y = conv_block(layers.within("conv_block1"), features.logmel, convolutions=2, padding=1, pool=2)
        steps = min(x.shape[2], y.shape[2])
        x = torch.cat([y[:, :, :steps], x[:, :, :steps]], dim=1)
    return _blocks_from(2, body.cnn, layers, layers.drop(x, body.cnn.dropout))


def _wavegram_branch(body: Wavegram, layers: Layers, waveform: Tensor) -> Tensor:
    x = layers.relu(layers.norm("pre_bn0", layers.conv("pre_conv0", waveform[:, None], padding=5, stride=5)))
    count = len(body.channels)
    for i in range(1, count + 1):
        block = layers.within(f"pre_block{i}")
        x = block.relu(block.norm("bn1", block.conv("conv1", x, padding=1)))
        x = block.relu(block.norm("bn2", block.conv("conv2", x, padding=2, dilation=2)))
        x = block.note(F.max_pool1d(x, 4))
    image = x.unflatten(1, (-1, body.frequencies)).transpose(2, 3)
    return conv_block(layers.within(f"pre_block{count + 1}"), image, convolutions=2, padding=1, pool=(2, 1))


@run_body.register
def _pretrained(body: Pretrained, layers: Layers, features: Features) -> Tensor:
    base = layers.within("base")
    return _run(body.base, base, features.waveform, features.blend)["embedding"][:, :, None]


@functools.singledispatch
def run_head(head: object, layers: Layers, x: Tensor, frames: int) -> dict[str, Tensor]:
    """From (batch, channels, steps), and the number of log-mel frames, to the outputs by name."""
    raise NoCounterpart(type(head).__name__)


@run_head.register
def _clip_head(head: ClipHead, layers: Layers, x: Tensor, frames: int) -> dict[str, Tensor]:
    pooled = x.amax(dim=2) + x.mean(dim=2)
    hidden = layers.relu(layers.linear("fc1", layers.drop(pooled, head.dropout) if head.drops_pooled else pooled))
    embedding = layers.drop(hidden, head.dropout)
    return {"clipwise": torch.sigmoid(layers.linear("fc_audioset", hidden)), "embedding": embedding}


@run_head.register
def _decision_head(head: DecisionHead, layers: Layers, x: Tensor, frames: int) -> dict[str, Tensor]:
    x = F.max_pool1d(x, 3, stride=1, padding=1) + F.avg_pool1d(x, 3, stride=1, padding=1)
    x = layers.relu(layers.linear("fc1", layers.drop(x, head.dropout).transpose(1, 2)))
    x = layers.drop(x, head.dropout)
    if head.pooling == "attention":
        clipwise, stepwise = _attention(layers.within("att_block"), x.transpose(1, 2))
    else:
        stepwise = torch.sigmoid(layers.linear("fc_audioset", x))
        clipwise = stepwise.max(dim=1).values if head.pooling == "max" else stepwise.mean(dim=1)
    repeated = stepwise.repeat_interleave(head.frames_per_step, dim=1)
    missing = stepwise[:, -1:].expand(-1, max(0, frames - repeated.shape[1]), -1)
    return {"clipwise": clipwise, "framewise": torch.cat([repeated, missing], dim=1)[:, :frames]}


@run_head.register
def _transfer_head(head: TransferHead, layers: Layers, x: Tensor, frames: int) -> dict[str, Tensor]:
    embedding = hidden = x[:, :, 0]
    for i in range(1, len(head.hidden) + 1):
        hidden = layers.drop(layers.relu(layers.linear(f"fc_hidden{i}", hidden)), head.dropout)
    logits = layers.linear("fc_transfer", hidden)
    # The published model gives the logarithm of the softmax.
    clipwise = torch.sigmoid(logits) if head.multi_label else torch.log_softmax(logits, dim=-1).exp()
    return {"clipwise": clipwise, "embedding": embedding}


def _attention(layers: Layers, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(layers.conv("att", x).clamp(-10, 10), dim=2)
    stepwise = torch.sigmoid(layers.conv("cla", x))
    # Rounding lifts the sum just above 1.
    clipwise = layers.note((weights * stepwise).sum(dim=2).clamp(0, 1))
    return clipwise, stepwise.transpose(1, 2)
