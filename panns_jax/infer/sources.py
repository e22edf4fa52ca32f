"""Where the sounds come from that a model hears."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


@runtime_checkable
class Source(Protocol):
    """A sound that can be heard."""

    @property
    def name(self) -> str:
        """What it is called in tables and messages."""
        ...

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        """The samples at that rate, mono, in parts of any length; at least one sample.

        Raises:
          InputError: it cannot be read (also in the middle); the message names it.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SoundFile:
    """A sound file.

    Attributes:
      path: of any format that `panns_jax.audio.read_waveform` reads.
    """

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        from panns_jax.audio import read_waveform

        yield read_waveform(self.path, sample_rate)
