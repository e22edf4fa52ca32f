"""A model ready to hear one clip after another."""

import collections
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.infer.heard import Heard
from panns_jax.infer.prepared import PreparedModel, prepare
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.model import Model

# What 32-bit integers reach when they are stored as floating point by mistake: wrong, but the published tool answers.
# The power of samples beyond 1e16 overflows, and answers to that would mean nothing.
LOUDEST = 2.0**31

# Seconds of sound, in clips of one length, after which a prepared model repays. Its program for Cnn14 takes about 10 s
# longer to compile than a plain one, and saves about 15 ms per second of sound: who prepares once as much could have
# been saved as it costs never takes more than twice the time of who knew beforehand how much there is to hear.
REPAYS = 600.0

# Seconds of sound up to which a program of a prepared model is worth its memory: that of Cnn14 takes 8 MB per second,
# a plain one 2.5 MB.
LONGEST = 60.0


class Predictor:
    """Runs a model on whole clips; compiled once for each length of clip, whichever model of the kind.

    On CPU, lengths that are heard often get a program of the prepared model, which answers the same but for rounding.

    The model is to be in evaluation mode, as `load_model` returns it. A clip is neither cut nor padded (but for clips
    shorter than `config.min_samples`): the answer is the published one.
    """

    def __init__(self, model: Model) -> None:
        self.config: ModelConfig = model.config
        self._graph, self._state = nnx.split(model)
        self._heard: collections.Counter[int] = collections.Counter()

    def hear(self, waveform: Float[np.ndarray, " samples"]) -> Heard:
        """Runs the model on one clip, in [-1, 1] at `config.sample_rate`.

        Raises:
          InputError: the samples are far beyond full scale, the clip is too long for the memory, or the weights yield
            values that are no numbers.
        """
        peak = float(np.abs(waveform).max())
        if peak > LOUDEST:
            raise InputError(f"the samples reach {peak:g}, where 1 is full scale")
        # Padded here as the model would pad it: short clips of all lengths share one compiled program.
        missing = max(0, self.config.min_samples - len(waveform))
        try:
            output = self._answer(np.pad(waveform, (0, missing))[None])
            clipwise = np.asarray(output.clipwise)
        except jax.errors.JaxRuntimeError as error:
            seconds = len(waveform) / self.config.sample_rate
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{seconds:.1f} s of sound could not be heard, as where memory is short; cut it ({reason})"
            ) from error
        if not np.isfinite(clipwise).all():
            raise InputError(f"{self.config.name} answers with values that are no numbers: its weights may be damaged")
        return Heard(clipwise[0], None if output.embedding is None else np.asarray(output.embedding)[0])

    def _answer(self, waveform: Float[np.ndarray, "1 samples"]) -> Output:
        samples = waveform.shape[1]
        seconds = samples / self.config.sample_rate
        often = seconds * self._heard[samples] >= REPAYS
        self._heard[samples] += 1
        if often and seconds <= LONGEST and self._prepared is not None:
            return self._prepared(waveform)
        return _run(self._graph, self._state, waveform)

    @functools.cached_property
    def _prepared(self) -> PreparedModel | None:
        return prepared_where_faster(nnx.merge(self._graph, self._state))


@functools.partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef[Model], state: Any, waveform: Float[Array | np.ndarray, "1 samples"]) -> Output:
    return nnx.merge(graph, state)(waveform)


def prepared_where_faster(model: Model) -> PreparedModel | None:
    """The prepared model; None on GPU and TPU, and where this processor is slower in the model's precision."""
    if jax.default_backend() != "cpu":
        return None
    try:
        return prepare(model)
    except InputError:  # bfloat16, for which the processor has no instructions
        return None
