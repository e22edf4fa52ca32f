"""Sound files to waveforms: float32 (samples,) in [-1, 1], mono, at the sample rate asked for."""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.files import require_file

_BLOCK_SAMPLES = 1 << 18


def read_waveform(
    path: str | os.PathLike[str], sample_rate: int, *, seconds: float | None = None
) -> Float[np.ndarray, " samples"]:
    """Reads a sound file, mixes its channels to one by their mean, and resamples it (soxr, very high quality).

    Args:
      path: a file in any format that libsndfile reads (wav, flac, ogg, mp3, aiff, …), or else ffmpeg where it is
        installed (mp4, m4a, webm, mkv, wma, …, of which the first sound track is taken); any rate and channel count.
      sample_rate: samples per second of the result.
      seconds: where given, only the beginning of that length is read, however long the file.

    Returns:
      At least one sample, all finite, nominally in [-1, 1]: lossy formats and resampling can overshoot a little.

    Raises:
      InputError: the file is missing, unreadable, empty, or holds values that are no numbers.
    """
    path = Path(path)
    require_file(path, "a sound file")
    if path.suffix.lower() == ".raw":
        raise InputError(f"{path}: raw samples do not tell their rate and format; convert them to wav")
    # A second more than asked for: the resampler looks ahead.
    mono, rate = _read_mono(path, None if seconds is None else seconds + 1)
    if not len(mono):
        raise InputError(f"{path}: holds no samples")
    waveform = resample(mono, rate, sample_rate)
    if not (np.isfinite(mono).all() and np.isfinite(waveform).all()):
        raise InputError(f"{path}: holds samples that are no finite numbers")
    return waveform if seconds is None else waveform[: max(1, round(seconds * sample_rate))]


def resample(waveform: Float[np.ndarray, " samples"], rate: int, sample_rate: int) -> Float[np.ndarray, " resampled"]:
    """Resamples a mono waveform from `rate` to `sample_rate`; unchanged where they agree; never fewer than 1 sample."""
    if rate == sample_rate:
        return waveform
    import soxr

    resampled = soxr.resample(waveform, rate, sample_rate, quality="VHQ")
    # A clip shorter than one output sample would vanish.
    return resampled if len(resampled) else waveform[:1].copy()


def _read_mono(path: Path, seconds: float | None) -> tuple[Float[np.ndarray, " frames"], int]:
    """The mean of the channels, at most as long as asked for, and the sample rate."""
    import soundfile

    # As bytes on POSIX, where a name need not be text.
    name: Any = os.fsencode(path) if os.name == "posix" else path
    try:
        with soundfile.SoundFile(name) as file:
            read = functools.partial(file.read, dtype="float32", always_2d=True)
            return _mean_of_channels(read, file.channels, _frames(seconds, file.samplerate)), file.samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = _reason(error)
    if not path.stat().st_size:
        raise InputError(f"{path}: cannot be read as sound: the file is empty")
    from panns_jax.ffmpeg import decoding

    try:
        with decoding(path, seconds=seconds) as sound:
            rate = sound.sample_rate
            return _mean_of_channels(sound.read, sound.channels, _frames(seconds, rate)), rate
    except InputError as error:
        raise InputError(f"{path}: cannot be read as sound: {reason}; {error}") from error


def _frames(seconds: float | None, rate: int) -> int | None:
    return None if seconds is None else math.ceil(seconds * rate)


def _mean_of_channels(
    read: Callable[[int], Float[np.ndarray, "frames channels"]], channels: int, limit: int | None
) -> Float[np.ndarray, " frames"]:
    """The mean of the channels, at most `limit` frames."""
    blocks = []
    frames = 0
    block_frames = max(1, _BLOCK_SAMPLES // channels)
    # By blocks, to the end: the length that a header declares may be a guess or a lie.
    while limit is None or frames < limit:
        block = read(block_frames if limit is None else min(block_frames, limit - frames))
        if not len(block):
            break
        # The mean is taken in float64: many loud channels must not lose the quiet ones.
        mono = block[:, 0] if channels == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
        blocks.append(mono)
        frames += len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _reason(error: Exception) -> str:
    reason = getattr(error, "error_string", None) or str(error)
    return reason.removeprefix("Error : ").rstrip(".") or type(error).__name__
