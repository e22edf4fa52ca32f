"""Sound that comes byte by byte, as from another program: wav and the like, or raw samples."""

import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.audio import Reading, converted, waveform_blocks
from panns_jax.errors import InputError
from panns_jax.libsndfile import LibsndfileFrames


@runtime_checkable
class ByteStream(Protocol):
    """What bytes are read from, as a file or pipe that was opened for reading."""

    def read(self, size: int, /) -> bytes | None:
        """At most that many bytes; none at the end."""
        ...


RawEncoding = Literal["s16le", "s24le", "s32le", "f32le"]

_HEAD_BYTES = 12
_COPIED_BYTES = 1 << 16
# What begins so libsndfile reads without going back: wav in its kinds, au, aiff.
_STREAMABLE = (b"RIFF", b"RIFX", b"RF64", b".snd", b"FORM")


@dataclasses.dataclass(frozen=True)
class RawFormat:
    """What raw samples do not tell of themselves.

    Attributes:
      sample_rate: samples per second.
      encoding: of a sample: signed integers of 16, 24 or 32 bits, or floats of 32 bits, with the lowest byte first.
      channels: how many, whose samples take turns.

    Raises:
      InputError: there is no such rate, encoding or number of channels.
    """

    sample_rate: int
    encoding: RawEncoding = "s16le"
    channels: int = 1

    def __post_init__(self) -> None:
        for what, value in (("sample rate", self.sample_rate), ("number of channels", self.channels)):
            if value < 1:
                raise InputError(f"the {what} of raw samples must be at least 1, not {value}")
        if self.encoding not in get_args(RawEncoding):
            raise InputError(f"raw samples are {', '.join(get_args(RawEncoding))}, not {self.encoding}")


class RawFrames:
    """Sound that a stream of raw samples holds; a frame that the end cuts off is left out.

    Attributes:
      sample_rate: samples per second.
      channels: how many there are.
    """

    def __init__(self, stream: ByteStream, format: RawFormat) -> None:
        self.sample_rate = format.sample_rate
        self.channels = format.channels
        self._encoding = format.encoding
        self._sample_bytes = int(format.encoding[1:3]) // 8
        self._stream = stream

    def read(self, frames: int) -> Float[np.ndarray, "frames channels"]:
        """At most that many frames, waiting for them; none at the end.

        Raises:
          InputError: the stream cannot be read any further.
        """
        frame_bytes = self._sample_bytes * self.channels
        content = _read_fully(self._stream, frames * frame_bytes)
        whole = content[: len(content) // frame_bytes * frame_bytes]
        return self._samples(whole).reshape(-1, self.channels)

    def _samples(self, content: bytes) -> Float[np.ndarray, " samples"]:
        if self._encoding == "f32le":
            return np.frombuffer(content, "<f4").astype(np.float32)
        if self._encoding == "s24le":
            # As the upper three bytes of 32 bits.
            wide = np.zeros((len(content) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
        integers = np.frombuffer(content, f"<i{self._sample_bytes}")
        return (integers / 2.0 ** (8 * self._sample_bytes - 1)).astype(np.float32)


def stream_blocks(
    stream: ByteStream, sample_rate: int, reading: Reading | None = None, *, raw: RawFormat | None = None, name: str
) -> Generator[Float[np.ndarray, "_"]]:
    """The waveform of a sound that comes from a stream, part by part, at the pace of whoever takes them.

    Wav, au and aiff are heard while they come, in memory that does not grow (Windows aside); the length that their head
    tells does not matter. Other formats are first copied to a temporary file, to their end.

    Args:
      stream: unbuffered, from which nothing was read; read to its end, from another thread where it is neither raw nor
        copied.
      sample_rate: samples per second of the result.
      reading: how it is mixed and resampled; by default the mean of the channels, by soxr.
      raw: what the samples are, where the stream holds nothing else.
      name: of the sound, for messages.

    Yields:
      Blocks of at least one sample, of some seconds, but for the last one.

    Raises:
      InputError: as `panns_jax.audio.waveform_blocks` does.
    """
    reading = reading or Reading()
    if raw is not None:
        yield from converted(RawFrames(stream, raw), sample_rate, reading, name=name)
        return
    try:
        head = _read_fully(stream, _HEAD_BYTES)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if not head:
        raise InputError(f"{name}: holds no samples, as nothing came")
    tells_nothing = head[4:8] == bytes(4)  # of its length, where libsndfile believes that there is none
    if head.startswith(_STREAMABLE) and not tells_nothing and os.name == "posix":
        with _piped(head, stream) as handle:
            yield from converted(_streamed(handle, name), sample_rate, reading, name=name)
        return
    with tempfile.TemporaryDirectory(prefix="panns_jax-") as folder:
        copy = Path(folder) / "sound"
        try:
            with copy.open("wb") as file:
                file.write(head)
                while content := stream.read(_COPIED_BYTES):
                    file.write(content)
        except OSError as error:
            raise InputError(f"{name}: cannot be copied to {folder}: {error.strerror}") from error
        try:
            yield from waveform_blocks(copy, sample_rate, reading)
        except InputError as error:
            raise InputError(f"{name}{str(error).removeprefix(str(copy))}") from error


def _streamed(handle: int, name: str) -> LibsndfileFrames:
    import soundfile

    try:
        return LibsndfileFrames(handle)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise InputError(f"{name}: cannot be read as sound: {reason}") from error


@contextlib.contextmanager
def _piped(head: bytes, stream: ByteStream) -> Iterator[int]:
    """The handle of a pipe through which a stream comes once more from its beginning, of which `head` was read."""
    outlet, inlet = os.pipe()

    def copy() -> None:
        # Whoever reads may leave early, and close both ends.
        with contextlib.suppress(OSError, ValueError), os.fdopen(inlet, "wb", buffering=0) as pipe:
            content = head
            while content:
                content = content[pipe.write(content) :] or stream.read(_COPIED_BYTES)

    # Nobody waits for it: it may be held up in reading what never comes.
    threading.Thread(target=copy, name="standard input", daemon=True).start()
    try:
        yield outlet
    finally:
        os.close(outlet)


def _read_fully(stream: ByteStream, size: int) -> bytes:
    """That many bytes, fewer at the end alone."""
    parts = []
    while size:
        try:
            part = stream.read(size)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
