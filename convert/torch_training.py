"""The published training in PyTorch: binary cross-entropy and Adam with AMSGrad, step by step on one batch."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convert.torch_layers import Dropout
from convert.torch_models import as_tensors, mixup, run_model
from panns_jax.models.config import ModelConfig
from panns_jax.pretrained.rules import entries

_STATISTICS = ("running_mean", "running_var")


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training steps left.

    Attributes:
      losses: before each step.
      gradients: of the first step, by published name, in PyTorch's layouts; what has none is not among them.
      statistics: running means and variances after the first step, likewise.
      weights: the state dict after the last step, likewise.
    """

    losses: list[float]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]


def train_steps(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    waveform: np.ndarray,
    target: np.ndarray,
    *,
    steps: int,
    learning_rate: float,
    mixup_lambda: np.ndarray | None = None,
    dropout: Dropout | None = None,
) -> Trained:
    """Trains on the same batch again and again, as published but without SpecAugment.

    Args:
      config: the model.
      weights: arrays under the published names, in PyTorch's layouts; they are copied.
      waveform: (rows, samples) in [-1, 1].
      target: (rows, classes).
      steps: how many.
      learning_rate: of Adam (0.9, 0.999, 1e-8, AMSGrad, no weight decay).
      mixup_lambda: (rows // 2,): weight λ of the first row of each pair; None for no mixup.
      dropout: from what dropout acts on and its rate to what is left; None for no dropout.

    Raises:
      NoCounterpart: the model's body or head was not written in PyTorch.
    """
    tensors = as_tensors(weights, config)
    parameters = {name: tensors[name].requires_grad_() for name in _parameter_names(config)}
    optimizer = torch.optim.Adam(
        parameters.values(), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=True
    )
    blend = None if mixup_lambda is None else torch.tensor(mixup_lambda, dtype=torch.float32)
    goal = torch.tensor(target, dtype=torch.float32)
    goal = goal if blend is None else mixup(goal, blend)
    losses: list[float] = []
    gradients: dict[str, np.ndarray] = {}
    statistics: dict[str, np.ndarray] = {}
    for step in range(steps):
        given = torch.tensor(waveform, dtype=torch.float32)
        output = run_model(config, tensors, given, training=True, mixup_lambda=blend, dropout=dropout)
        loss = F.binary_cross_entropy(output["clipwise"].clamp(0, 1), goal)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {name: _array(x.grad) for name, x in parameters.items() if x.grad is not None}
            statistics = {name: _array(x) for name, x in tensors.items() if name.endswith(_STATISTICS)}
        optimizer.step()
    return Trained(losses, gradients, statistics, {name: _array(x) for name, x in tensors.items()})


def _parameter_names(config: ModelConfig) -> list[str]:
    return [entry.published for entry in entries(config) if not entry.published.endswith(_STATISTICS)]


def _array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().copy()
