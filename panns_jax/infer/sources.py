"""Where the sounds come from that a model hears."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.audio import Reading
from panns_jax.errors import InputError
from panns_jax.files import require_file

if TYPE_CHECKING:
    from panns_jax.streams import RawFormat


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
      reading: how it is mixed and resampled.
      raw: what the samples of a file are that holds nothing else.
    """

    path: Path
    reading: Reading = dataclasses.field(default_factory=Reading)
    raw: "RawFormat | None" = None

    @property
    def name(self) -> str:
        return str(self.path)

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        """The samples in blocks of some seconds, in memory that does not grow with the length of the file.

        Raises:
          InputError: it cannot be read; the message names it.
        """
        if self.raw is None:
            from panns_jax.audio import waveform_blocks

            yield from waveform_blocks(self.path, sample_rate, self.reading)
            return
        from panns_jax.streams import stream_blocks

        require_file(self.path, "a file of raw samples")
        with self.path.open("rb") as file:
            yield from stream_blocks(file, sample_rate, self.reading, raw=self.raw, name=self.name)


@dataclasses.dataclass(frozen=True)
class StandardInput:
    """What another program hands over; it can be heard once.

    Attributes:
      reading: how it is mixed and resampled.
      raw: what the samples are, where nothing else is handed over; None for a sound in any format.
    """

    reading: Reading = dataclasses.field(default_factory=Reading)
    raw: "RawFormat | None" = None

    @property
    def name(self) -> str:
        return "standard input"

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        """The samples in blocks of some seconds.

        Raises:
          InputError: it cannot be read, or is a terminal.
        """
        from panns_jax.streams import stream_blocks

        if sys.stdin.isatty():
            raise InputError("standard input: is a terminal; have a program write sound to it, or name a file")
        # Unbuffered: a thread that waits for more must hold nothing that Python needs at its end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            yield from stream_blocks(stream, sample_rate, self.reading, raw=self.raw, name=self.name)


@dataclasses.dataclass(frozen=True)
class Unusable:
    """What was named as a sound and is none, such as an empty folder.

    Attributes:
      name: what was named.
      reason: why it cannot be heard, as the end of a sentence.
    """

    name: str
    reason: str

    @property
    def error(self) -> InputError:
        """What is to be said of it."""
        return InputError(f"{self.name}: {self.reason}")

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        """There are none.

        Raises:
          InputError: always; it names it and the reason.
        """
        raise self.error
        yield


def failure(source: Source) -> str | None:
    """Why a sound cannot be heard, as far as a look at it tells; None where nothing speaks against it."""
    if isinstance(source, Unusable):
        return str(source.error)
    if isinstance(source, SoundFile):
        try:
            require_file(source.path, "a sound file")
        except InputError as error:
            return str(error)
    return None
