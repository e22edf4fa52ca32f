"""Two sets of layer outputs side by side: how far they are apart, how far they may be, and what follows."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

# Absolute, on probabilities (clipwise, framewise): the project's parity bound. Rounding makes about 1e-6 of it.
PROBABILITY = 1e-4

# Relative to the largest entry of the embedding: likewise the project's bound.
EMBEDDING = 1e-3

# Relative to the largest value of the layer. Two float32 implementations that sum in different orders come within 5e-6
# in all 29 models. A wrong epsilon of a batch normalisation (1e-3 for 1e-5) makes 5e-4, a wrong padding more.
LAYER = 1e-4

# In dB, where the reference is above the floor. Below, real FFT and Fourier convolution round by more than the signal
# there is; normalised, the decibels are judged in the same places.
DECIBELS = 0.02
FLOOR_DECIBELS = -80.0

_LOGMEL = "logmel_extractor"
_NORMALISED_LOGMEL = "bn0"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A layer or an output on both sides.

    Attributes:
      name: as published; of an output, the field's.
      shape: of what was compared, with channels last.
      largest: the greatest absolute value of the reference.
      difference: the greatest absolute difference; infinite where the two cannot be compared, NaN where one side is.
      allowed: how great it may be.
      trouble: why the two cannot be compared; None where they can.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    difference: float
    allowed: float
    trouble: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the two sides are the same up to rounding."""
        return self.trouble is None and self.difference <= self.allowed  # false for NaN

    @property
    def relative(self) -> float:
        """The difference divided by the largest value; 0 where there is none."""
        return 0.0 if self.difference == 0 else self.difference / self.largest if self.largest else math.inf


def compare_layers(
    ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], *, reads_logmel: bool, prefix: str = ""
) -> list[Difference]:
    """Compares layer by layer, in the reference's order; what only one side has is a difference, too.

    Args:
      ours: outputs by published name, channels last.
      reference: likewise.
      reads_logmel: whether `logmel_extractor` and `bn0` are decibels and what a normalisation makes of them.
      prefix: what their names begin with.
    """
    logmel, normalised = prefix + _LOGMEL, prefix + _NORMALISED_LOGMEL
    loud = reference[logmel] > FLOOR_DECIBELS if reads_logmel and logmel in reference else None
    differences = []
    for name in (*reference, *(name for name in ours if name not in reference)):
        where = loud if name in (logmel, normalised) else None
        allowed = (DECIBELS, False) if name == logmel else (LAYER, True)
        differences.append(_difference(name, ours.get(name), reference.get(name), allowed, where))
    return differences


def compare_outputs(ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> list[Difference]:
    """Compares what the models put out, by the names of `Output`'s fields."""
    return [
        _difference(name, ours.get(name), reference.get(name), _allowed_of_output(name))
        for name in (*reference, *(name for name in ours if name not in reference))
    ]


def first_that_differs(differences: list[Difference]) -> Difference | None:
    """The first one on the way from the waveform to the outputs."""
    return next((difference for difference in differences if not difference.agrees), None)


def _allowed_of_output(name: str) -> tuple[float, bool]:
    if name in ("clipwise", "framewise"):
        return PROBABILITY, False
    return EMBEDDING, True


def _difference(
    name: str,
    ours: np.ndarray | None,
    reference: np.ndarray | None,
    allowed: tuple[float, bool],
    where: np.ndarray | None = None,
) -> Difference:
    """Compares `where` that is true; `allowed` is relative to the largest value if its second part is true."""
    if ours is None or reference is None:
        there = reference if ours is None else ours
        assert there is not None
        return Difference(
            name, there.shape, _largest(there), math.inf, 0, f"only in {'PyTorch' if ours is None else 'JAX'}"
        )
    if ours.shape != reference.shape:
        trouble = f"of shape {ours.shape} instead of {reference.shape}"
        return Difference(name, reference.shape, _largest(reference), math.inf, 0, trouble)
    if where is not None and where.shape == reference.shape:
        ours, reference, shape = ours[where], reference[where], reference.shape
    else:
        shape = reference.shape
    largest = _largest(reference)
    tolerance, relative = allowed
    return Difference(name, shape, largest, _largest(ours - reference), tolerance * largest if relative else tolerance)


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max()) if x.size else 0.0
