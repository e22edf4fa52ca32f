"""A part of any sound or video file, to the sample, by ffmpeg."""

import math
import subprocess
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from panns_jax.data.obstacles import Obstacle, Reason
from panns_jax.ffmpeg import complaint, opening, require_ffmpeg

# Decoding begins this much earlier than the cut: after a jump, lossy formats need some frames to be exact again.
_RUN_UP = 5.0  # seconds
_WITHIN = 3600.0  # seconds; what takes longer hangs
_NO_SOUND = (b"matches no streams", b"does not contain any stream", b"Invalid data found", b"moov atom not found")


def cut(path: Path, start: float, end: float, sample_rate: int) -> Int16[np.ndarray, " samples"]:
    """The sound from second `start` to `end`, mono: (end - start) · sample_rate samples, or fewer, to the file's end.

    Raises:
      Obstacle: the file holds no sound, or none there, or cannot be decoded.
      InputError: there is no ffmpeg.
    """
    jump = max(0, math.floor(start - _RUN_UP))  # a whole second is a whole number of samples at any rate
    first, samples = round((start - jump) * sample_rate), round((end - start) * sample_rate)
    # Gaps in the stream, and at its beginning, become silence, so that what follows stays at its time.
    steps = (
        f"aresample={sample_rate}:ochl=mono:async=1:first_pts=0",
        f"atrim=start_sample={first}:end_sample={first + samples}",
    )
    command = [
        *(require_ffmpeg(), "-nostdin", "-v", "error", "-ss", str(jump), *opening(path)),
        *("-map", "0:a:0", "-af", ",".join(steps), "-ac", "1", "-ar", str(sample_rate), "-f", "s16le", "-"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WITHIN)
    except subprocess.TimeoutExpired:
        raise Obstacle(Reason.OTHER, f"ffmpeg did not end within {_WITHIN:g} s") from None
    waveform = np.frombuffer(done.stdout[: len(done.stdout) // 2 * 2], "<i2").astype(np.int16)
    if done.returncode and len(waveform) < samples:
        reason = Reason.NO_AUDIO if any(words in done.stderr for words in _NO_SOUND) else Reason.OTHER
        raise Obstacle(reason, complaint(done.stderr) or f"ffmpeg ended with exit code {done.returncode}")
    if not len(waveform):
        raise Obstacle(Reason.NO_AUDIO, f"there is no sound at {start:g} s: it ends earlier")
    return waveform[:samples]
