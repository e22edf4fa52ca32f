"""Sound as libsndfile reads it: files of its formats, and streams of them."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError

if TYPE_CHECKING:
    import soundfile

# More than the head of a wav file takes.
_HEAD_BYTES = 1 << 12
# Tags stand behind the sound of an MP3 file; what is more than they take was meant to be heard.
_TAG_BYTES = 1 << 16
# What libsndfile finds the place of a sample in exactly.
_SEEKABLE = ("WAV", "WAVEX", "W64", "RF64", "AIFF", "AU", "CAF", "FLAC")
_IMMENSE = 1 << 48


class LibsndfileFrames:
    """A sound, or its stream, as libsndfile reads it.

    Attributes:
      sample_rate: samples per second.
      channels: how many there are.
      frames: how many samples of each channel there are, as its head tells, which need not be so.

    Raises:
      soundfile.SoundFileError, OSError, RuntimeError: libsndfile cannot read it, or not even its first frame.
    """

    def __init__(self, source: Path | int) -> None:
        self._stack = contextlib.ExitStack()
        self._mp3 = None
        with self._stack:
            self._file = self._stack.enter_context(_forwards(_name(source) if isinstance(source, Path) else source))
            if self._file.format == "MP3" and isinstance(source, Path):
                # Opened by Python, which can tell where the decoder stopped.
                self._mp3 = self._stack.enter_context(source.open("rb"))
                self._file = self._stack.enter_context(_forwards(self._mp3))
            self.sample_rate: int = self._file.samplerate
            self.channels: int = self._file.channels
            self.frames: int = self._file.frames
            self._ahead = self._file.read(1, dtype="float32", always_2d=True)
            is_wav = self._file.format in ("WAV", "WAVEX")
            if is_wav and not len(self._ahead) and isinstance(source, Path) and source.stat().st_size > _HEAD_BYTES:
                # As recorders leave it that were cut off; ffmpeg reads such files.
                raise RuntimeError("its head tells of no samples")
            self._stack = self._stack.pop_all()

    def __enter__(self) -> "LibsndfileFrames":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def skip(self, frames: int) -> int:
        """Passes over the first frames, where the format lets that be done without reading them; tells how many."""
        # A length that a stream does not tell is an immense number, and a seek in such a stream fails.
        if self._file.format not in _SEEKABLE or not 0 < frames < self._file.frames < _IMMENSE:
            return 0
        self._ahead = self._ahead[:0]
        return self._file.seek(frames)

    def read(self, frames: int) -> Float[np.ndarray, "frames channels"]:
        """At most that many frames; none at the end.

        Raises:
          InputError: the rest is damaged.
        """
        import soundfile

        if len(self._ahead):
            ahead, self._ahead = self._ahead, self._ahead[:0]
            return ahead
        try:
            block = self._file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            raise InputError(reason_of(error)) from error
        if not len(block) and self._mp3 is not None:
            # Where an MP3 file is damaged, its decoder stops as if the sound ended.
            unread = os.fstat(self._mp3.fileno()).st_size - self._mp3.tell()
            if unread > _TAG_BYTES:
                raise InputError(f"{unread} bytes that follow are not read as the same sound")
        return block


def told_duration(path: Path) -> float | None:
    """How long a sound is by what its file's head tells, which need not be so, in seconds; None if it tells nothing."""
    import soundfile

    try:
        return soundfile.info(_name(path)).duration
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError):
        return None


def _name(path: Path) -> Any:
    """A path as libsndfile takes it: as bytes on POSIX, where a name need not be text."""
    return os.fsencode(path) if os.name == "posix" else path


def _forwards(source: Any) -> "soundfile.SoundFile":
    """Opens a sound that is read from its beginning to its end alone."""
    import soundfile

    class Forwards(soundfile.SoundFile):
        def seekable(self) -> bool:
            # Else every block is followed by a seek to its end, which misses it in MP3 files, fails in FLAC streams of
            # unknown length, and the length that a head tells is believed.
            return False

    return Forwards(source, closefd=False)


def reason_of(error: Exception) -> str:
    """What libsndfile says is wrong, as a part of a sentence."""
    reason = getattr(error, "error_string", None) or str(error)
    return reason.removeprefix("Error : ").rstrip(".") or type(error).__name__
