"""A model of `convert` as a module, which PyTorch can export."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from convert.torch_models import as_tensors, run_model
from panns_jax.models.config import ModelConfig


class TorchModule(torch.nn.Module):
    """From waveforms (batch, samples) to all outputs of a model; clipwise is the first."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]):
        super().__init__()
        self.config = config
        self._names = {}
        for name, tensor in as_tensors(weights, config).items():
            self._names[name] = name.replace(".", "__")  # PyTorch allows no dots
            self.register_buffer(self._names[name], tensor)

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        weights = {name: getattr(self, buffer) for name, buffer in self._names.items()}
        return tuple(run_model(self.config, weights, waveform).values())
