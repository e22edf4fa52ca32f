"""Sounds that come in while they are heard: standard input."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.audio import mixer
from panns_jax.errors import InputError
from panns_jax.infer.ring import Ring

# Seconds of sound that are read at a time: what a sample may wait for those that come after it.
_BLOCK = 0.02

# Seconds of sound that standard input may be ahead of the clock where it stands for a microphone, so that what waits in
# the pipe when listening begins is not heard late ever after.
_AHEAD = 2.0

# How much faster than this machine's clock that of a sound card may run.
_FAST = 1.001


@runtime_checkable
class Stream(Protocol):
    """A sound that comes in by itself."""

    @property
    def name(self) -> str:
        """What it is called on the screen and in messages."""
        ...

    @property
    def lost(self) -> int:
        """How often samples were lost on their way here, as far as the system told."""
        ...

    def into(self, ring: Ring) -> contextlib.AbstractContextManager[None]:
        """Inside, the sound comes into the ring, mono and at its sample rate, from another thread."""
        ...


class Resampler:
    """Resamples a sound that comes in blocks, with the same result as in one piece (soxr, very high quality)."""

    def __init__(self, rate: int, sample_rate: int) -> None:
        self._rates = rate, sample_rate
        self._taken = self._given = 0
        if rate == sample_rate:
            self._stream = None
        else:
            import soxr

            self._stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="VHQ")

    @property
    def behind(self) -> float:
        """Seconds of sound that were taken and not yet given: the resampler looks ahead."""
        return self._taken / self._rates[0] - self._given / self._rates[1]

    def __call__(self, block: Float[np.ndarray, "_"], *, last: bool = False) -> Float[np.ndarray, "_"]:
        if self._stream is not None:
            taken, block = len(block), self._stream.resample_chunk(block, last=last)
        else:
            taken = len(block)
        self._taken += taken
        self._given += len(block)
        return block


class StandardInput:
    """Sound from a pipe: a wav file, or whatever else libsndfile reads as it comes, or raw samples.

    Args:
      raw: the arguments `samplerate`, `channels` and `subtype` of `soundfile.SoundFile` for raw samples; None for
        sounds that tell them.
      channel: the one to hear, counted from 1; None for the mean of all.
      realtime: whether it stands for a microphone: it is read whether or not the model is ready, though no faster than
        the clock. Otherwise it is read at the pace of the model.
    """

    name = "standard input"
    lost = 0

    def __init__(
        self, *, raw: dict[str, Any] | None = None, channel: int | None = None, realtime: bool = False
    ) -> None:
        self._raw = raw
        self._channel = channel
        self._realtime = realtime

    @contextlib.contextmanager
    def into(self, ring: Ring) -> Iterator[None]:
        # A thread, so that Ctrl-C ends the command also while nothing comes.
        reader = threading.Thread(target=self._read, args=(ring,), name="standard input", daemon=True)
        reader.start()
        try:
            yield
        finally:
            ring.close()

    def _read(self, ring: Ring) -> None:
        import soundfile

        try:
            with self._opened() as file:
                self._pump(file, ring)
            ring.finish()
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            reason = (getattr(error, "error_string", None) or str(error)).rstrip(".")
            hint = "" if self._raw else "; it is to be a wav file, or --raw-rate tells of raw samples"
            ring.finish(InputError(f"standard input: cannot be read as sound: {reason}{hint}"))
        except BaseException as error:  # told by the thread that listens
            ring.finish(error)

    def _opened(self) -> Any:
        import soundfile

        handle = sys.stdin.fileno()
        if self._raw is None:
            return soundfile.SoundFile(handle, closefd=False)
        return soundfile.SoundFile(handle, closefd=False, format="RAW", **self._raw)

    def _pump(self, file: Any, ring: Ring) -> None:
        resampler = Resampler(file.samplerate, ring.sample_rate)
        mix = mixer(file.channels, self._channel, self.name)
        frames = max(1, round(_BLOCK * file.samplerate))
        began, read = time.monotonic(), 0
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            captured = time.monotonic()
            if not np.isfinite(block).all():
                raise InputError("standard input: holds samples that are no finite numbers")
            mono = resampler(np.ascontiguousarray(mix(block)))
            if not ring.put(mono, captured - resampler.behind):
                return
            read += len(block)
            if self._realtime:
                ahead = read / file.samplerate / _FAST - (captured - began) - _AHEAD
                time.sleep(max(0.0, ahead))
        ring.put(resampler(np.zeros(0, np.float32), last=True), time.monotonic())
