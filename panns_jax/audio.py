"""Sound files to waveforms: float32 (samples,) in [-1, 1], mono, at the sample rate asked for, whole or by blocks."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.files import require_file

if TYPE_CHECKING:
    import soundfile

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
# More than the head of a wav file takes.
_HEAD_BYTES = 1 << 12
# Tags stand behind the sound of an MP3 file; what is more than they take was meant to be heard.
_TAG_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a sound of any rate and any number of channels becomes a waveform.

    Attributes:
      channel: the one to hear, counted from 1; None for the mean of all.
      resampling: "soxr" (very high quality), or "decimate", which is how the training data of the published 16 and
        8 kHz models came about: resampled to 32 kHz by soxr, of which every 2nd or 4th sample is taken, without a
        filter. What is above half the rate is then heard below it.

    Raises:
      InputError: there is no such channel or resampling.
    """

    channel: int | None = None
    resampling: Resampling = "soxr"

    def __post_init__(self) -> None:
        if self.channel is not None and self.channel < 1:
            raise InputError(f"channels are counted from 1, and there is no channel {self.channel}")
        if self.resampling not in get_args(Resampling):
            raise InputError(f"the resampling must be soxr or decimate, not {self.resampling}")

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
            reason = _reason(error)
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
    mix = _mixer(sound.channels, reading.channel, name)
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
            raise InputError(f"{name}: breaks off after {frames_read / sound.sample_rate:.1f} s: {error}") from error
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
        raise InputError(f"{name}: holds no samples")
    if not is_given:  # shorter than one sample of the result
        yield first


class LibsndfileFrames:
    """A sound, or its stream, as libsndfile reads it.

    Attributes:
      sample_rate: samples per second.
      channels: how many there are.

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
            raise InputError(_reason(error)) from error
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


def _mixer(
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


def _reason(error: Exception) -> str:
    reason = getattr(error, "error_string", None) or str(error)
    return reason.removeprefix("Error : ").rstrip(".") or type(error).__name__
