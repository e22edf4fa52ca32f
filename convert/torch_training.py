"""The published training in PyTorch: binary cross-entropy and Adam with AMSGrad, step by step on one batch."""

import dataclasses
from collections.abc import Callable, Mapping

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
    step = make_train_step(config, tensors, learning_rate=learning_rate, dropout=dropout)
    blend = None if mixup_lambda is None else torch.tensor(mixup_lambda, dtype=torch.float32)
    given, goal = (torch.tensor(array, dtype=torch.float32) for array in (waveform, target))
    losses: list[float] = []
    gradients: dict[str, np.ndarray] = {}
    statistics: dict[str, np.ndarray] = {}
    for number in range(steps):
        losses.append(step(given, goal, blend))
        if number == 0:
            gradients = {name: _array(x.grad) for name, x in tensors.items() if x.grad is not None}
            statistics = {name: _array(x) for name, x in tensors.items() if name.endswith(_STATISTICS)}
    return Trained(losses, gradients, statistics, {name: _array(x) for name, x in tensors.items()})


def make_train_step(
    config: ModelConfig, tensors: dict[str, Tensor], *, learning_rate: float, dropout: Dropout | None = None
) -> Callable[[Tensor, Tensor, Tensor | None], float]:
    """One step of the same: forward, backward, update.

    Args:
      config: the model.
      tensors: of `as_tensors`; they are updated in place, and hold the gradients afterwards.
      learning_rate: as in `train_steps`.
      dropout: likewise.

    Returns:
      A function of waveforms (rows, samples), targets (rows, classes) and weights λ (rows // 2,) or None, which returns
      the loss before the update.
    """
    parameters = [tensors[name].requires_grad_() for name in _parameter_names(config)]
    optimizer = torch.optim.Adam(
        parameters, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=True
    )

    def step(waveform: Tensor, target: Tensor, blend: Tensor | None) -> float:
        output = run_model(config, tensors, waveform, training=True, mixup_lambda=blend, dropout=dropout)
        goal = target if blend is None else mixup(target, blend)
        loss = F.binary_cross_entropy(output["clipwise"].clamp(0, 1), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _parameter_names(config: ModelConfig) -> list[str]:
    return [entry.published for entry in entries(config) if not entry.published.endswith(_STATISTICS)]


def _array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().copy()
