"""What every layer of a JAX model puts out, under the layer's published name."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from panns_jax.frontend import log_mel, power_spectrogram
from panns_jax.models.clips import Clips
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.layers import Dropout, SpecAugment, pad_to
from panns_jax.models.model import Model
from panns_jax.models.summary import reads_logmel
from panns_jax.models.transfer import Pretrained

_WITHOUT_NAMES = (nnx.Dropout, Dropout, SpecAugment)
"""Kinds of layers that are ours alone, and do nothing in evaluation mode."""


def layer_outputs(model: Model, waveform: np.ndarray) -> tuple[Output, dict[str, np.ndarray]]:
    """Runs a model, operation by operation: one compilation of the whole takes longer.

    Args:
      model: in evaluation mode.
      waveform: (batch, samples) in [-1, 1].

    Returns:
      What the model puts out; and what its layers do, in the order in which they end, the front end first. Channels are
      the last axis.
    """
    frontend, prefix = model.config.frontend, name_prefix(model.config)
    layers: dict[str, Array] = {}
    if reads_logmel(model.config):
        x = pad_to(jnp.asarray(waveform), model.config.min_samples)
        layers[f"{prefix}spectrogram_extractor"] = power_spectrogram(x, frontend)
        layers[f"{prefix}logmel_extractor"] = log_mel(x, frontend)
    with _recorded(model, layers):
        output = model(waveform)
    return output, {name: np.asarray(x) for name, x in layers.items()}


def name_prefix(config: ModelConfig) -> str:
    """What the names of the layers of a model below a new last layer begin with; nothing for other models."""
    return "base." if isinstance(config.body, Pretrained) else ""


@contextlib.contextmanager
def _recorded(model: Model, outputs: dict[str, Array]) -> Iterator[None]:
    """Inside, what the layers of a model return goes to `outputs`."""
    names = {id(layer): ".".join(map(str, path)) for path, layer in nnx.iter_modules(model) if path}
    kinds = {type(layer) for _, layer in nnx.iter_modules(model)} - {type(model), *_WITHOUT_NAMES}

    def recording(call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(layer: nnx.Module, *args: object, **kwargs: object) -> Any:
            y = call(layer, *args, **kwargs)
            if id(layer) in names:
                first = y[0] if isinstance(y, tuple) else y
                outputs[names[id(layer)]] = first.values if isinstance(first, Clips) else first
            return y

        return recorded

    with contextlib.ExitStack() as patches:
        for kind in kinds:
            if "__call__" in vars(kind) or not any(kind is not other and issubclass(kind, other) for other in kinds):
                patches.enter_context(mock.patch.object(kind, "__call__", recording(kind.__call__)))
        yield
