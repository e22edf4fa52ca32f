"""What a written program answers beside what the model itself answers."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.audio import read_waveform
from panns_jax.errors import InputError
from panns_jax.infer.export.program import Program, flat_outputs

Runner = Callable[[Float[np.ndarray, "batch samples"]], Sequence[np.ndarray]]
"""Runs a written program: waveforms to its outputs in their order."""

# Of probabilities, and of the largest value of other outputs where that is above 1. In bfloat16, whose steps are 0.4 %,
# two programs of the same model differ as far as bfloat16 itself is from float32.
TOLERANCE, TOLERANCE_IN_BFLOAT16 = 1e-5, 2e-2

_SECONDS_OF_A_FILE = 10


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How near a written program came to the model.

    Attributes:
      batches: that were compared.
      largest: difference of any value, over the largest value of that output where that is above 1.
    """

    batches: int
    largest: float


def compare(program: Program, run: Runner, audio: Sequence[Path]) -> Agreement:
    """Compares a written program with the model, on noise, tones, silence and sound files.

    Args:
      program: what was written.
      run: the written program.
      audio: sound files to try it with, too.

    Raises:
      InputError: they differ by more than rounding, or a sound file cannot be read.
    """
    model = _model_itself(program)
    tolerance = TOLERANCE_IN_BFLOAT16 if program.model.precision == "bfloat16" else TOLERANCE
    batches, largest = 0, 0.0
    for what, waveforms in _batches(program, audio):
        for name, ours, theirs in zip(program.outputs, model(waveforms), run(waveforms), strict=True):
            wanted, got = np.asarray(ours), np.asarray(theirs)
            difference = _difference(wanted, got)
            if not difference <= tolerance:
                raise InputError(
                    f"the program differs from the model in {name}, by {difference:.2g} where {tolerance:g} is rounding"
                    f" ({what}); it was not written"
                )
            largest = max(largest, difference)
        batches += 1
    return Agreement(batches, largest)


def _model_itself(program: Program) -> Callable[[Float[np.ndarray, "batch samples"]], tuple[Array, ...]]:
    """The model as it is run here. Its weights are an argument: XLA computes ahead with constants, for a long time."""
    graph, state = nnx.split(program.model)

    @jax.jit
    def run(state: Any, waveforms: Array) -> tuple[Array, ...]:
        return flat_outputs(dataclasses.replace(program, model=nnx.merge(graph, state)))(waveforms)

    return lambda waveforms: run(state, waveforms)


def _difference(wanted: np.ndarray, got: np.ndarray) -> float:
    if wanted.shape != got.shape:
        return float("inf")
    return float(np.abs(wanted - got).max() / max(1.0, float(np.abs(wanted).max())))


def _batches(program: Program, audio: Sequence[Path]) -> Iterator[tuple[str, Float[np.ndarray, "batch samples"]]]:
    rng, rate = np.random.default_rng(0), program.model.config.sample_rate
    for count, samples in enumerate(program.lengths, start=1):
        yield f"noise, {count} x {samples} samples", rng.uniform(-1, 1, (count, samples)).astype(np.float32)
    samples = program.lengths[-1]
    time = np.arange(samples) / rate
    tones = [0.5 * np.sin(2 * np.pi * rate * share * time * (1 + time)) for share in (0.003, 0.03)]
    # Over faint noise: in a pure tone most bands hold nothing but the rounding of the Fourier transform, 0.1 dB of it,
    # and that of one transform is not that of another.
    noisy = [tone + rng.normal(0, 1e-3, samples) for tone in tones]
    yield "tones and silence", np.stack([*noisy, np.zeros(samples)]).astype(np.float32)
    for path in audio:
        waveform = read_waveform(path, rate, seconds=_SECONDS_OF_A_FILE)
        wanted = program.samples or max(len(waveform), program.model.config.min_samples)
        yield str(path), np.pad(waveform, (0, max(0, wanted - len(waveform))))[None, :wanted]
