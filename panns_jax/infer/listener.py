"""A model that hears sounds of any length, one after another or many at once."""

import functools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.infer.heard import Heard
from panns_jax.infer.predict import LOUDEST, Predictor
from panns_jax.models.config import ModelConfig, Output, Precision
from panns_jax.models.model import Model

DEFAULT_MODEL = "Cnn14"

Waveform = Float[np.ndarray, "_"]
Sound = Waveform | Iterable[Waveform]
"""A sound as a whole or in parts of any length: mono, in [-1, 1], at the model's sample rate."""


class Listener:
    """Runs a model on sounds of any length.

    Each sound gets what the model makes of it as a whole, as published: it is neither cut nor padded (but for sounds
    shorter than `config.min_samples`), whatever its length and whatever is heard beside it, up to rounding.

    The model is to be in evaluation mode, as `load_model` returns it.

    Attributes:
      config: the model's.
    """

    def __init__(self, model: Model) -> None:
        self.config: ModelConfig = model.config
        self._graph, self._state = nnx.split(model)
        self._predictor = Predictor(model)

    @functools.cached_property
    def step(self) -> int:
        """Samples from one step of `Heard.frames` (and `stepwise`) to the next."""
        from panns_jax.models.summary import summary

        return summary(self.config).view.step

    def hear(self, sounds: Iterable[Sound], *, taps: Collection[str] = ()) -> Iterator[Heard | InputError]:
        """Runs the model on one sound after another, taking no more of them than it needs.

        Args:
          sounds: each is read once, to its end, before the next one is asked for.
          taps: what of `Heard` is wanted beside clipwise and embedding.

        Yields:
          What the model makes of each sound, in their order; or why it cannot be heard: the sound, read part by part,
          raised an InputError, has no samples, is far beyond full scale, is too long for the memory, or the weights
          yield values that are no numbers.
        """
        for sound in sounds:
            try:
                yield self._heard(sound, tuple(sorted(taps)))
            except InputError as error:
                yield error

    def _heard(self, sound: Sound, taps: tuple[str, ...]) -> Heard:
        waveform = sound if isinstance(sound, np.ndarray) else np.concatenate([np.zeros(0, np.float32), *sound])
        if not len(waveform):
            raise InputError("there are no samples")
        if not taps:
            return self._predictor.hear(waveform)
        peak = float(np.abs(waveform).max())
        if peak > LOUDEST:
            raise InputError(f"the samples reach {peak:g}, where 1 is full scale")
        missing = max(0, self.config.min_samples - len(waveform))
        inner = tuple("logits" if tap == "stepwise" else tap for tap in taps)
        output = _run(self._graph, self._state, np.pad(waveform, (0, missing))[None], inner)
        if not np.isfinite(output.clipwise).all():
            raise InputError(f"{self.config.name} answers with values that are no numbers: its weights may be damaged")

        def first(array: Array | None) -> Any:
            return None if array is None else np.asarray(array[0])

        stepwise = jax.nn.sigmoid(output.logits) if "stepwise" in taps and output.logits is not None else None
        return Heard(
            first(output.clipwise),
            first(output.embedding),
            first(stepwise) if self.config.embedding_dim is None else None,
            first(output.logits) if "logits" in taps else None,
            first(output.pooled),
            first(output.frames),
        )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(
    graph: nnx.GraphDef[Model], state: Any, waveform: Float[Array | np.ndarray, "1 samples"], taps: tuple[str, ...]
) -> Output:
    return nnx.merge(graph, state)(waveform, taps=taps)


def load_listener(
    model: str | None, checkpoint: Path | None, mirror: str | None = None, precision: Precision = "float32"
) -> Listener:
    """The model of the options `--model`, `--checkpoint`, `--mirror` and `--precision`; Cnn14 where none is named.

    Raises:
      InputError: as `load_model` does.
    """
    from panns_jax.pretrained.load import load_model

    if model is None and checkpoint is None:
        model = DEFAULT_MODEL
    return Listener(load_model(model, checkpoint, mirror=mirror, precision=precision))
