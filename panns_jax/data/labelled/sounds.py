"""Labelled sounds that are files, or parts of files."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.audio import Reading, read_waveform, waveform_blocks
from panns_jax.errors import InputError
from panns_jax.files import require_file, sha256
from panns_jax.libsndfile import LibsndfileFrames

# Of what is read of every file to find copies: few sounds of one length begin with the same.
_HEAD_SECONDS = 0.5


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

    def likeness(self) -> Hashable:
        """What copies of the recording have in common, and most others have not; found out without reading it all."""
        ...

    def content(self) -> str:
        """Hash of the recording's samples, mixed to one channel: the same for copies of it in any lossless format.

        Raises:
          InputError: it cannot be read.
        """
        ...

    def fingerprint(self) -> str:
        """Of the recording's bytes: the same for copies of its file.

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

    def likeness(self) -> Hashable:
        """Sample rate, length and the first samples, of formats that libsndfile reads; else the size of the file."""
        import soundfile

        try:
            with LibsndfileFrames(self.path) as sound:
                rate, length = sound.sample_rate, sound.frames
        except (soundfile.SoundFileError, OSError, RuntimeError):
            return _size(self.path)
        try:
            head = self._digest(rate, dataclasses.replace(self.reading, start=0.0, end=_HEAD_SECONDS))
        except InputError:
            return _size(self.path)
        return rate, length, head

    def content(self) -> str:
        """SHA-256 of the whole file's samples at its own rate; of its bytes, where libsndfile does not read it.

        Raises:
          InputError: it cannot be read.
        """
        import soundfile

        try:
            with LibsndfileFrames(self.path) as sound:
                rate = sound.sample_rate
        except (soundfile.SoundFileError, OSError, RuntimeError):
            return self.fingerprint()
        return self._digest(rate, dataclasses.replace(self.reading, start=0.0, end=None))

    def _digest(self, rate: int, reading: Reading) -> str:
        digest = hashlib.sha256(f"{rate} ".encode())
        with contextlib.closing(waveform_blocks(self.path, rate, reading)) as blocks:
            for block in blocks:
                digest.update(np.ascontiguousarray(block).tobytes())
        return digest.hexdigest()

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

        try:
            with LibsndfileFrames(self.path) as sound:
                return Native(sound.sample_rate, sound.channels)
        except (soundfile.SoundFileError, OSError, RuntimeError):
            with contextlib.suppress(InputError, OSError), decoding(self.path) as sound:
                return Native(sound.sample_rate, sound.channels)
        return None


def _size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None
