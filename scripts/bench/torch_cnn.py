"""Cnn14 in PyTorch as one would write it to train fast on a GPU, under the published names.

The front end is torch.stft's and float32, SpecAugment is drawn for all clips at once: both are faster than the
published ones.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panns_jax.frontend import Stripes
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import ClipHead
from panns_jax.pretrained.conversion import frontend_constants


class TorchCnn(nn.Module):
    """From int16 or float32 waveforms (rows, samples) to probabilities (clips, classes)."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], *, halves: bool) -> None:
        super().__init__()
        self.config, self.halves = config, halves
        frontend = config.frontend
        body, head = cast(Cnn, config.body), cast(ClipHead, config.head)
        self.bn0 = nn.BatchNorm2d(frontend.mel_bins)
        self.count = len(body.channels)
        for i, (ins, outs) in enumerate(zip((1, *body.channels[:-1]), body.channels, strict=True), start=1):
            setattr(self, f"conv_block{i}", _Block(ins, outs, pool=2 if i <= body.pooled_blocks else 1))
        self.fc1 = nn.Linear(body.channels[-1], head.embedding_dim)
        self.fc_audioset = nn.Linear(head.embedding_dim, config.num_classes)
        self.body_dropout, self.head_dropout = body.dropout, head.dropout
        given = {name: torch.from_numpy(np.asarray(array)) for name, array in weights.items()}
        missing, unexpected = self.load_state_dict(given, strict=False)
        assert not unexpected and all("num_batches" in name for name in missing), (missing, unexpected)
        mel = frontend_constants(config)["logmel_extractor.melW"]
        self.register_buffer("mel", torch.from_numpy(np.asarray(mel, np.float32)), persistent=False)
        self.register_buffer("hann", torch.hann_window(frontend.window_size), persistent=False)

    def forward(self, waveform: Tensor, blend: Tensor | None = None) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            x = self._log_mel(waveform)
            x = self.bn0(x.transpose(1, 2)[..., None]).transpose(1, 3)  # (rows, 1, frames, mels)
            if self.training and self.config.spec_augment is not None:
                x = _spec_augment(x, self.config.spec_augment)
            x = x if blend is None else mixup(x, blend)
        with torch.autocast(waveform.device.type, torch.bfloat16, enabled=self.halves):
            for i in range(1, self.count + 1):
                x = getattr(self, f"conv_block{i}")(x)
                x = F.dropout(x, self.body_dropout, self.training)
        with torch.autocast(waveform.device.type, enabled=False):
            x = x.float().mean(dim=3)
            x = x.amax(dim=2) + x.mean(dim=2)
            # As published, the classifier reads the whole embedding; dropout would touch the reported one only.
            x = F.relu(self.fc1(F.dropout(x, self.head_dropout, self.training)))
            return torch.sigmoid(self.fc_audioset(x))

    def _log_mel(self, waveform: Tensor) -> Tensor:
        waveform = waveform.float() / 32767 if waveform.dtype == torch.int16 else waveform
        frontend, hann, mel = self.config.frontend, cast(Tensor, self.hann), cast(Tensor, self.mel)
        with torch.no_grad():
            spectrum = torch.stft(
                waveform, frontend.window_size, frontend.hop_size, window=hann, center=True, return_complex=True
            )
            parts = torch.view_as_real(spectrum)
            power = parts[..., 0] ** 2 + parts[..., 1] ** 2
            return 10 * torch.log10((power.transpose(1, 2) @ mel).clamp(min=1e-10))


class _Block(nn.Module):
    def __init__(self, ins: int, outs: int, *, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outs), nn.BatchNorm2d(outs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, self.pool) if self.pool > 1 else x


def mixup(x: Tensor, blend: Tensor) -> Tensor:
    """λ·x₂ₖ + (1-λ)·x₂ₖ₊₁ for each pair of rows."""
    weight = blend.reshape(-1, *(1,) * (x.ndim - 1))
    return weight * x[0::2] + (1 - weight) * x[1::2]


def _spec_augment(x: Tensor, stripes: Stripes) -> Tensor:
    """Stripes of frames and of mel bands set to 0, for each clip its own; (rows, 1, frames, mels)."""
    drawn = ((2, stripes.time_stripes, stripes.time_width), (3, stripes.mel_stripes, stripes.mel_width))
    for axis, count, width in drawn:
        size, rows = x.shape[axis], len(x)
        length = torch.randint(0, width, (rows, count, 1), device=x.device)
        start = (torch.rand((rows, count, 1), device=x.device) * (size - length)).long()
        places = torch.arange(size, device=x.device)
        kept = ~((places >= start) & (places < start + length)).any(dim=1)
        x = x * kept.reshape(rows, 1, *((size, 1) if axis == 2 else (1, size)))
    return x


class TorchStep:
    """Training steps with mixup, SpecAugment and dropout; called, it does one and returns the loss before it."""

    def __init__(
        self, model: TorchCnn, batch: Mapping[str, np.ndarray], learning_rate: float, *, tf32: bool, compiled: bool
    ) -> None:
        self._tf32 = tf32
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(device).train()
        self._batch = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
        # The published training's rule, in one kernel for all weights where there is one.
        fused = device == "cuda"
        self._optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, amsgrad=True, fused=fused)
        self._loss = torch.compile(self._plain) if compiled else self._plain

    def _plain(self, waveform: Tensor, target: Tensor, blend: Tensor) -> Tensor:
        clipwise = self._model(waveform, blend)
        return F.binary_cross_entropy(clipwise.clamp(0, 1), mixup(target, blend))

    def __call__(self) -> float:
        use_tf32(self._tf32)
        waveform, target = self._batch["waveform"], self._batch["target"]
        loss = self._loss(waveform, target, torch.rand(len(waveform) // 2, device=waveform.device))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        synchronize()
        return loss.item()


def use_tf32(allowed: bool) -> None:
    """Whether float32 convolutions and products may be TF32; off is not PyTorch's default for convolutions."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
