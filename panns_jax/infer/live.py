"""What a model hears of a sound while it goes on."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from panns_jax.errors import InputError
from panns_jax.infer.listener import LOUDEST
from panns_jax.infer.programs import prepared_where_faster
from panns_jax.infer.ring import Ring
from panns_jax.infer.windows import Windows
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model


class LiveListener:
    """Runs a model on windows of up to one length, by one program that is compiled beforehand.

    Shorter windows get what they get alone, as published: they stand at the beginning of a whole one, with their length
    beside them. The model is to be in evaluation mode, as `load_model` returns it.

    Attributes:
      config: the model's.
      windows: what is heard.
    """

    def __init__(self, model: Model, windows: Windows) -> None:
        self.config: ModelConfig = model.config
        self.windows = windows
        whole = math.ceil(round(windows.length * self.config.sample_rate, 6))
        self._padded = np.zeros((1, max(whole, self.config.min_samples)), np.float32)
        prepared = prepared_where_faster(model)
        if prepared is None:
            graph, state = nnx.split(model)
            self._run: Callable[..., Any] = functools.partial(_run, graph, state)
        else:
            self._run = lambda waveform, lengths: prepared(waveform, lengths=lengths).clipwise

    def prepare(self) -> None:
        """Compiles, so that the first window is answered as fast as the others.

        Raises:
          InputError: as `hear` does.
        """
        self.hear(np.zeros(self._padded.shape[1], np.float32))

    def hear(self, window: Float[np.ndarray, "_"]) -> Float[np.ndarray, " classes"]:
        """The probabilities of the classes in a window, mono, in [-1, 1] at the model's sample rate.

        Raises:
          InputError: the samples are far beyond full scale, or the weights yield values that are no numbers.
        """
        peak = float(np.abs(window).max())
        if not math.isfinite(peak):
            raise InputError("there are samples that are no finite numbers")
        if peak > LOUDEST:
            raise InputError(f"the samples reach {peak:g}, where 1 is full scale")
        # A window below what the model needs is heard with silence behind it, as everywhere.
        length = max(len(window), self.config.min_samples)
        self._padded[0, : len(window)] = window
        self._padded[0, len(window) :] = 0
        clipwise = np.asarray(self._run(self._padded, np.array([length], np.int32)))[0]
        if not np.isfinite(clipwise).all():
            raise InputError(f"{self.config.name} answers with values that are no numbers: its weights may be damaged")
        return clipwise


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model heard in a window of a sound that goes on.

    Attributes:
      clipwise: probability of each class, in [0, 1].
      start: of the window, in seconds from the beginning of the sound.
      end: likewise.
      captured: when its last sample came, by `time.monotonic`.
      real_time_factor: seconds that the model took, by those from one window to the next: below 1 it keeps up.
      peak: of its samples, where 1 is full scale.
      dropped: windows that were left out since the one before, as their sound came too fast for the model.
      unheard: seconds between this window and the one before, which no window holds.
    """

    clipwise: Float[np.ndarray, " classes"]
    start: float
    end: float
    captured: float
    real_time_factor: float
    peak: float
    dropped: int
    unheard: float


def answers(listener: LiveListener, ring: Ring) -> Iterator[Answer]:
    """What the model hears in each window, until the sound ends.

    Raises:
      InputError: the sound cannot be read any more, has no samples, or cannot be heard.
    """
    rate, is_empty = ring.sample_rate, True
    while (window := ring.next()) is not None:
        begun, is_empty = time.monotonic(), False
        clipwise = listener.hear(window.samples)
        yield Answer(
            clipwise,
            window.first / rate,
            window.end / rate,
            window.captured,
            (time.monotonic() - begun) / listener.windows.hop,
            float(np.abs(window.samples).max()),
            window.dropped,
            window.unheard / rate,
        )
    if is_empty:
        raise InputError("there is no sound: it ended before the first sample")


@functools.partial(jax.jit, static_argnums=0)
def _run(
    graph: nnx.GraphDef[Model], state: Any, waveform: Float[Array | np.ndarray, "1 samples"], lengths: Int[Any, "1"]
) -> Float[Array, "1 classes"]:
    return nnx.merge(graph, state)(waveform, lengths=lengths).clipwise
