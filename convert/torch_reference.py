"""PyTorch's reading of a checkpoint, and what it computes from it."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convert.torch_models import as_tensors, run_model
from panns_jax.models.config import ModelConfig


def read_by_torch(path: Path) -> dict[str, np.ndarray] | None:
    """The weights of a checkpoint as PyTorch itself reads them, without running what the file contains.

    Returns:
      Arrays by name, without the prefix "module."; bfloat16 ones as float32. None where PyTorch refuses the file, as it
      does where there is more than tensors and arrays in it.
    """
    allowed: list[Any] = [
        np.ndarray,
        np.dtype,
        np._core.multiarray._reconstruct,  # pyright: ignore[reportAttributeAccessIssue]
        (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # pyright: ignore[reportAttributeAccessIssue]
        *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            warnings.simplefilter("ignore")
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return None
    weights = contents.get("model", contents)
    return {name.removeprefix("module."): _array(tensor) for name, tensor in weights.items()}


def run_by_torch(
    config: ModelConfig, weights: Mapping[str, np.ndarray], waveform: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Runs a checkpoint in evaluation mode.

    Args:
      config: the model.
      weights: arrays under the published names, in PyTorch's layouts.
      waveform: (batch, samples) in [-1, 1].

    Returns:
      The model's outputs by the names of `Output`'s fields; and those of its layers by published name, channels last,
      in the order in which they run.

    Raises:
      NoCounterpart: the model was not written in PyTorch.
    """
    layers: dict[str, Tensor] = {}
    with torch.inference_mode():
        outputs = run_model(config, as_tensors(weights, config), torch.from_numpy(waveform), outputs=layers)
    return {name: _array(x) for name, x in outputs.items()}, {name: _array(x) for name, x in layers.items()}


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
