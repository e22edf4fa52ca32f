"""Spectrograms of recordings of any length, as wide as a figure is."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from panns_jax.infer.sources import Source

_WINDOW = 0.032
_HOP = 0.010
"""Seconds, those of the published front ends."""
_COLUMNS = 2048
_SAMPLES_AT_ONCE = 1 << 18


@dataclasses.dataclass(frozen=True)
class Spectrogram:
    """Magnitudes over time and frequency.

    Attributes:
      decibels: 20 log10 of the magnitude, against the loudest; evenly spaced from 0 Hz to `highest`.
      column: seconds that a column stands for, the first from the beginning of the recording.
      highest: Hz.
    """

    decibels: Float[np.ndarray, "bins columns"]
    column: float
    highest: float


class SpectrogramBuilder:
    """Computes a spectrogram from a sound that comes in blocks, in memory that doesn't grow with its length.

    The magnitudes of the frames that make a column are its maximum, so that short sounds stay to be seen.

    Args:
      sample_rate: of the sound.
      columns: at most; at least half as many where the sound is long enough.
    """

    def __init__(self, sample_rate: int, columns: int = _COLUMNS) -> None:
        self._rate = sample_rate
        self._window = 2 * max(1, round(_WINDOW * sample_rate / 2))
        self._hop = max(1, round(_HOP * sample_rate))
        self._limit = columns
        self._frames_in_a_column = 1
        self._columns = np.zeros((0, self._window // 2 + 1), np.float32)
        self._frames = self._columns
        """Frames of a column that isn't complete."""
        self._held = np.zeros(self._window // 2, np.float32)  # so that frames are centred

    def add(self, block: Float[np.ndarray, "_"]) -> None:
        """Takes what comes next of the sound."""
        # In parts, as a block may be a whole recording, whose spectra would take many times its memory.
        for first in range(0, len(block), _SAMPLES_AT_ONCE):
            self._held = np.concatenate([self._held, block[first : first + _SAMPLES_AT_ONCE]])
            if len(self._held) < self._window:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(self._held, self._window)[:: self._hop]
            spectra = np.abs(np.fft.rfft(windows * np.hanning(self._window))).astype(np.float32)
            self._held = self._held[len(windows) * self._hop :]
            self._pool(np.concatenate([self._frames, spectra]))

    def _pool(self, frames: Float[np.ndarray, "frames bins"]) -> None:
        size = self._frames_in_a_column
        whole = len(frames) // size * size
        self._columns = np.concatenate([self._columns, _maxima(frames[:whole], size)])
        self._frames = frames[whole:]
        while len(self._columns) > self._limit:
            if len(self._columns) % 2:  # the last one has no partner yet, and waits as the frames that it was made of
                last = np.repeat(self._columns[-1:], self._frames_in_a_column, axis=0)
                self._columns, self._frames = self._columns[:-1], np.concatenate([last, self._frames])
            self._columns = _maxima(self._columns, 2)
            self._frames_in_a_column *= 2

    def result(self) -> Spectrogram:
        """The spectrogram of what has come; a column at least."""
        self.add(np.zeros(self._window // 2, np.float32))
        if len(self._frames) or not len(self._columns):
            rest = self._frames if len(self._frames) else np.zeros((1, self._columns.shape[1]), np.float32)
            self._columns = np.concatenate([self._columns, rest.max(axis=0)[None]])
            self._frames = self._frames[:0]
        loudest = max(float(self._columns.max()), 1e-10)
        decibels = 20 * np.log10(np.maximum(self._columns.T / loudest, 1e-10))
        return Spectrogram(decibels, self._frames_in_a_column * self._hop / self._rate, self._rate / 2)


def _maxima(frames: Float[np.ndarray, "frames bins"], size: int) -> Float[np.ndarray, "columns bins"]:
    return frames.reshape(-1, size, frames.shape[1]).max(axis=1)


class WatchedSource(Source):
    """A sound whose spectrogram is computed while it is read, so that it is read once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._builder: SpectrogramBuilder | None = None

    @property
    def name(self) -> str:
        return self._source.name

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        self._builder = SpectrogramBuilder(sample_rate)
        for block in self._source.blocks(sample_rate):
            self._builder.add(block)
            yield block

    def take_spectrogram(self) -> Spectrogram:
        """The spectrogram of a sound that has been read, which is then forgotten."""
        assert self._builder is not None
        builder, self._builder = self._builder, None
        return builder.result()
