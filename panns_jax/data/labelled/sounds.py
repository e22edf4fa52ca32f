"""Labelled sounds that are files, or parts of files."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.audio import Reading, read_waveform
from panns_jax.errors import InputError
from panns_jax.files import require_file, sha256


class Native(NamedTuple):
    """A sound as it is kept: samples per second, and the number of channels."""

    sample_rate: int
    channels: int


@runtime_checkable
class Kept(Protocol):
    """A sound of which more is known than its samples; those of this package are such."""

    @property
    def recording(self) -> str:
        """What all parts of one recording have in common, and no other sound."""
        ...

    @property
    def part(self) -> tuple[float, float | None]:
        """From where to where in the recording it is, in seconds; (0, None) for all of it."""
        ...

    def size(self) -> int | None:
        """Number of bytes that the recording takes; None where that takes as long to find out as its fingerprint."""
        ...

    def fingerprint(self) -> str:
        """Of the recording's content: the same for copies of it.

        Raises:
          InputError: it cannot be read.
        """
        ...

    def native(self) -> Native | None:
        """How it is kept; None where that cannot be told."""
        ...


@dataclasses.dataclass(frozen=True)
class FileSound:
    """A sound file, or a part of one.

    Attributes:
      path: of any format that `panns_jax.audio.read_waveform` reads.
      reading: which part of it, and how it is mixed and resampled.
      where: the row of a table that names it, for messages; empty where none does.
    """

    path: Path
    reading: Reading = dataclasses.field(default_factory=Reading)
    where: str = dataclasses.field(default="", compare=False)

    @property
    def name(self) -> str:
        """The path, and the part where it is one."""
        return str(self.path) if self.part == (0.0, None) else f"{self.path} {self.reading.part}"

    @property
    def recording(self) -> str:
        """The file, by whatever path or link it is named."""
        return os.path.realpath(self.path)

    @property
    def part(self) -> tuple[float, float | None]:
        """Beginning and end in seconds; None for the end of the file."""
        return self.reading.start, self.reading.end

    def waveform(self, sample_rate: int) -> Float[np.ndarray, " samples"]:
        """The samples of the part: mono float32, nominally in [-1, 1].

        Raises:
          InputError: it cannot be read; the message begins with its name.
        """
        try:
            return read_waveform(self.path, sample_rate, reading=self.reading)
        except InputError as error:
            if self.where:
                raise InputError(f"{error} ({self.where})") from error
            raise

    def size(self) -> int | None:
        """Bytes of the file; None where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return None

    def fingerprint(self) -> str:
        """SHA-256 of the file.

        Raises:
          InputError: it cannot be read.
        """
        require_file(self.path, "a sound file")
        return sha256(self.path)

    def native(self) -> Native | None:
        """Sample rate and channels, as its head tells them."""
        import soundfile

        from panns_jax.ffmpeg import decoding
        from panns_jax.libsndfile import LibsndfileFrames

        try:
            with LibsndfileFrames(self.path) as sound:
                return Native(sound.sample_rate, sound.channels)
        except (soundfile.SoundFileError, OSError, RuntimeError):
            with contextlib.suppress(InputError, OSError), decoding(self.path) as sound:
                return Native(sound.sample_rate, sound.channels)
        return None
