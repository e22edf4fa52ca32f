"""Sound files to waveforms: float32 (samples,) in [-1, 1], mono, at the sample rate asked for, whole or by blocks."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.files import require_file
from panns_jax.libsndfile import LibsndfileFrames, reason_of

Resampling = Literal["soxr", "decimate"]

SOUND_EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".caf", ".w64", ".rf64", ".au"),
    *(".m4a", ".mp4", ".webm", ".mkv", ".mka", ".mov", ".aac", ".wma", ".oga", ".m4v", ".avi", ".flv", ".3gp", ".ts"),
    *(".mpg", ".mpeg", ".mp2", ".wmv", ".ac3", ".amr", ".ape", ".wv", ".tta"),
)
"""What names of sound files end in: first what libsndfile reads, then what takes ffmpeg."""

PUBLISHED_RATE = 32000
"""Samples per second of the published files of waveforms, of which the published 16 and 8 kHz models take a part."""

_BLOCK_SAMPLES = 1 << 18
_BLOCK_SECONDS = 4


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a sound of any rate and any number of channels becomes a waveform.

    Attributes:
      channel: the one to hear, counted from 1; None for the mean of all.
      resampling: "soxr" (very high quality), or "decimate", which is how the training data of the published 16 and
        8 kHz models came about: resampled to 32 kHz by soxr, of which every 2nd or 4th sample is taken, without a
        filter. What is above half the rate is then heard below it.
      start: where the part begins that is heard, in seconds.
      end: where it ends, or the sound if that is earlier; None for all that follows.

    Raises:
      InputError: there is no such channel, resampling or part.
    """

    channel: int | None = None
    resampling: Resampling = "soxr"
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.channel is not None and self.channel < 1:
            raise InputError(f"channels are counted from 1, and there is no channel {self.channel}")
        if self.resampling not in get_args(Resampling):
            raise InputError(f"the resampling must be soxr or decimate, not {self.resampling}")
        if not 0 <= self.start < (math.inf if self.end is None else self.end):
            raise InputError(f"a sound has no part {self.part}")

    @property
    def part(self) -> str:
        """The part that is heard, for messages."""
        return f"from {self.start:g} s on" if self.end is None else f"from {self.start:g} to {self.end:g} s"

    def require_rate(self, sample_rate: int) -> None:
        """Checks that waveforms of a rate can be made.

        Raises:
          InputError: the decimation would not take every k-th sample.
        """
        if self.resampling == "decimate" and PUBLISHED_RATE % sample_rate:
            raise InputError(
                f"decimation takes every k-th sample of {PUBLISHED_RATE} Hz, which gives 16000 or 8000 Hz but not"
                f" {sample_rate} Hz: choose the resampling soxr"
            )


@runtime_checkable
class Frames(Protocol):
    """Sound that is read from its beginning to its end.

    Attributes:
      sample_rate: samples per second.
      channels: how many there are; at least 1.
    """

    sample_rate: int
    channels: int

    def read(self, frames: int) -> Float[np.ndarray, "frames channels"]:
        """At most that many frames; none at the end.

        Raises:
          InputError: the rest cannot be read; the message is a part of a sentence.
        """
        ...


def read_waveform(
    path: str | os.PathLike[str], sample_rate: int, *, seconds: float | None = None, reading: Reading | None = None
) -> Float[np.ndarray, " samples"]:
    """Reads a sound file, mixes its channels to one by their mean, and resamples it (soxr, very high quality).

    Args:
      path: a file in any format that libsndfile reads (wav, flac, ogg, mp3, aiff, …), or else ffmpeg where it is
        installed (mp4, m4a, webm, mkv, wma, …, of which the first sound track is taken); any rate and channel count.
      sample_rate: samples per second of the result.
      seconds: where given, only the beginning of that length is read, however long the file.
      reading: another way to mix and resample.

    Returns:
      At least one sample, all finite, nominally in [-1, 1]: lossy formats and resampling can overshoot a little.

    Raises:
      InputError: the file is missing, unreadable, damaged, empty, or holds values that are no numbers.
    """
    wanted = None if seconds is None else max(1, round(seconds * sample_rate))
    parts = []
    samples = 0
    with contextlib.closing(waveform_blocks(path, sample_rate, reading)) as blocks:
        for block in blocks:
            parts.append(block)
            samples += len(block)
            if wanted is not None and samples >= wanted:
                break
    return np.concatenate(parts)[:wanted]


def waveform_blocks(
    path: str | os.PathLike[str], sample_rate: int, reading: Reading | None = None
) -> Generator[Float[np.ndarray, "_"]]:
    """The waveform of a sound file part by part, in memory that does not grow with its length.

    The parts together are what `read_waveform` gives. The file is open until the last one was taken, or the generator
    is closed (`contextlib.closing`).

    Args:
      path: as for `read_waveform`.
      sample_rate: samples per second of the result.
      reading: how it is mixed and resampled; by default the mean of the channels, by soxr.

    Yields:
      Blocks of at least one sample; of some seconds, but for the last one.

    Raises:
      InputError: as `read_waveform` does; also after some blocks, where the file is damaged.
    """
    import soundfile

    path = Path(path)
    reading = reading or Reading()
    reading.require_rate(sample_rate)
    require_file(path, "a sound file")
    if path.suffix.lower() == ".raw":
        raise InputError(f"{path}: raw samples do not tell their rate and format; convert them to wav")
    with contextlib.ExitStack() as stack:
        try:
            frames = stack.enter_context(LibsndfileFrames(path))
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            reason = reason_of(error)
        else:
            yield from converted(frames, sample_rate, reading, name=str(path))
            return
        if not path.stat().st_size:
            raise InputError(f"{path}: cannot be read as sound: the file is empty")
        from panns_jax.ffmpeg import decoding

        try:
            sound = stack.enter_context(decoding(path))
        except InputError as error:
            raise InputError(f"{path}: cannot be read as sound: {reason}; {error}") from error
        yield from converted(sound, sample_rate, reading, name=str(path))
        try:
            stack.close()
        except InputError as error:
            raise InputError(f"{path}: cannot be read as sound: {reason}; {error}") from error


def resample(waveform: Float[np.ndarray, " samples"], rate: int, sample_rate: int) -> Float[np.ndarray, " resampled"]:
    """Resamples a mono waveform from `rate` to `sample_rate`; unchanged where they agree; never fewer than 1 sample."""
    if rate == sample_rate:
        return waveform
    import soxr

    resampled = soxr.resample(waveform, rate, sample_rate, quality="VHQ")
    # A clip shorter than one output sample would vanish.
    return resampled if len(resampled) else waveform[:1].copy()


def converted(
    sound: Frames, sample_rate: int, reading: Reading, *, name: str, block_seconds: float = _BLOCK_SECONDS
) -> Iterator[Float[np.ndarray, "_"]]:
    """Mixes and resamples sound while it is read.

    Args:
      sound: read to its end.
      sample_rate: samples per second of the result.
      reading: how.
      name: of the sound, for messages.
      block_seconds: how much is read at a time, at most.

    Yields:
      Blocks of at least one sample.

    Raises:
      InputError: there are no samples, or some are no numbers, or the sound cannot be read (also in the middle), or has
        no such channel.
    """
    if reading.start or reading.end is not None:
        sound = _Part(sound, reading)
    mix = mixer(sound.channels, reading.channel, name)
    resampled = _resampler(sound.sample_rate, sample_rate, reading)
    # Bounded in time and in samples: a head that is damaged may tell of one sample per second, or of many channels.
    block_frames = max(1, min(_BLOCK_SAMPLES // sound.channels, round(block_seconds * sound.sample_rate)))
    first, is_given, at_end = np.zeros(0, np.float32), False, False
    frames_read = 0
    while not at_end:
        # By blocks, to the end: the length that a head tells may be a guess or a lie.
        try:
            frames = sound.read(block_frames)
        except InputError as error:
            seconds = reading.start + frames_read / sound.sample_rate
            raise InputError(f"{name}: breaks off after {seconds:.1f} s: {error}") from error
        at_end = not len(frames)
        frames_read += len(frames)
        mono = mix(frames)
        if not len(first):
            first = mono[:1].copy()
        block = resampled(mono, at_end)
        if not (np.isfinite(mono).all() and np.isfinite(block).all()):
            raise InputError(f"{name}: holds samples that are no finite numbers")
        if len(block):
            is_given = True
            yield block
    if not len(first):
        is_whole = reading == dataclasses.replace(reading, start=0.0, end=None)
        raise InputError(f"{name}: holds no samples" if is_whole else f"{name}: has no samples {reading.part}")
    if not is_given:  # shorter than one sample of the result
        yield first


class _Part:
    """A part of a sound, which is not read beyond its end.

    Attributes:
      sample_rate: samples per second.
      channels: how many there are.
    """

    def __init__(self, sound: Frames, reading: Reading) -> None:
        self.sample_rate = sound.sample_rate
        self.channels = sound.channels
        self._sound = sound
        self._before = round(reading.start * self.sample_rate)
        # A part that is shorter than a sample has one, too.
        end = math.inf if reading.end is None else max(round(reading.end * self.sample_rate), self._before + 1)
        self._left = end - self._before

    def read(self, frames: int) -> Float[np.ndarray, "frames channels"]:
        """See `Frames`."""
        if self._before and isinstance(self._sound, LibsndfileFrames):
            self._before -= self._sound.skip(self._before)
        while self._before:
            skipped = self._sound.read(min(frames, self._before))
            if not len(skipped):
                return skipped
            self._before -= len(skipped)
        if not self._left:
            return np.zeros((0, self.channels), np.float32)  # what follows may be damaged, and does not matter
        block = self._sound.read(int(min(frames, self._left)))
        self._left -= len(block)
        return block


def mixer(
    channels: int, channel: int | None, name: str
) -> Callable[[Float[np.ndarray, "frames channels"]], Float[np.ndarray, " frames"]]:
    """Makes one channel of all."""
    if channel is not None and channel > channels:
        has = "1 channel" if channels == 1 else f"{channels} channels"
        raise InputError(f"{name}: has {has}, and no channel {channel}")
    if channel is not None or channels == 1:
        return lambda frames: frames[:, (channel or 1) - 1]
    # The mean is taken in float64: many loud channels must not lose the quiet ones.
    return lambda frames: frames.mean(axis=1, dtype=np.float64).astype(np.float32)


_Resampler = Callable[[Float[np.ndarray, " frames"], bool], Float[np.ndarray, " samples"]]
"""Takes a sound block by block, the last one marked as such, and gives what is ready of its resampled form."""


def _resampler(rate: int, sample_rate: int, reading: Reading) -> _Resampler:
    reading.require_rate(sample_rate)
    if reading.resampling == "decimate":
        return _Decimation(_soxr(rate, PUBLISHED_RATE), PUBLISHED_RATE // sample_rate)
    return _soxr(rate, sample_rate)


def _soxr(rate: int, sample_rate: int) -> _Resampler:
    if rate == sample_rate:
        return lambda block, is_last: block
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="VHQ")
    return lambda block, is_last: stream.resample_chunk(np.ascontiguousarray(block), last=is_last)


class _Decimation:
    """Every k-th sample of a resampled sound, the first one included."""

    def __init__(self, resampled: _Resampler, factor: int) -> None:
        self._resampled = resampled
        self._factor = factor
        self._skipped = 0

    def __call__(self, block: Float[np.ndarray, " frames"], is_last: bool) -> Float[np.ndarray, " samples"]:
        resampled = self._resampled(block, is_last)
        taken = resampled[self._skipped :: self._factor]
        self._skipped = (self._skipped - len(resampled)) % self._factor
        return taken
