"""What can be said of a model without its weights: computed from the model itself, and nothing is run."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips, View
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.model import Model
from panns_jax.models.transfer import Pretrained


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a model is like.

    Attributes:
      parameters: number of weights that training changes.
      operations: for one clip, as the paper counts them: two for each multiplication with a weight and the addition
        after it, in all convolutions and linear layers, and in the Fourier transform as if it were a convolution.
      view: what a step of what the body yields stands for.
      outputs: shape of each output and tap for one clip, without the batch.
    """

    parameters: int
    operations: int
    view: View
    outputs: dict[str, tuple[int, ...]]


def summary(config: ModelConfig, seconds: float = 10.0) -> Summary:
    """Describes a model.

    Args:
      config: the model.
      seconds: length of the clip whose operations are counted, and whose outputs are described.
    """
    samples = max(round(seconds * config.sample_rate), config.min_samples)
    counts: list[int] = []
    views: list[View] = []

    def run(state: Any) -> dict[str, Array | None]:
        model = nnx.merge(graph, state)
        _watch(model, counts.append)
        waveform = Clips(jnp.zeros((1, samples)))
        steps = model.steps(waveform)
        views.append(steps.view)
        output = model.answer(waveform, steps)
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(Output)}

    model = abstract_model(config)
    model.eval()
    graph, state = nnx.split(model)
    outputs = jax.eval_shape(run, state)
    return Summary(
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))),
        operations=sum(counts) + _fourier_operations(config, samples),
        view=views[0],
        outputs={name: value.shape[1:] for name, value in outputs.items() if value is not None},
    )


class _Watched(nnx.Module):
    """A layer that tells how many operations it took."""

    def __init__(self, layer: nnx.Module, tell: Callable[[int], None]):
        self.layer = layer
        self.tell = tell

    def __call__(self, x: Any) -> Any:
        layer: Any = self.layer
        y = layer(x)
        values: Array = y.values if isinstance(y, Clips) else y
        kernel = layer.kernel
        self.tell(2 * kernel.size * (values.size // kernel.shape[-1]))
        return y


def _watch(model: Model, tell: Callable[[int], None]) -> None:
    for _, parent in list(nnx.iter_modules(model)):
        for name, layer in list(vars(parent).items()):
            if isinstance(layer, nnx.Conv | nnx.Linear):
                setattr(parent, name, _Watched(layer, tell))


def reads_logmel(config: ModelConfig) -> bool:
    """Whether the model, or the one below its last layer, reads log-mel spectrograms."""
    body = config.body.base.body if isinstance(config.body, Pretrained) else config.body
    return body.reads_logmel


def _fourier_operations(config: ModelConfig, samples: int) -> int:
    if not reads_logmel(config):
        return 0
    frontend = config.frontend
    bins = frontend.window_size // 2 + 1
    return 2 * frontend.frames(samples) * frontend.window_size * 2 * bins
