"""Spectrograms of recordings of any length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.plots.spectrogram import SpectrogramBuilder, WatchedSource

RATE = 1000  # a frame is 32 samples every 10


def built(sound: np.ndarray, block: int, columns: int) -> SpectrogramBuilder:
    builder = SpectrogramBuilder(RATE, columns)
    for first in range(0, len(sound), block):
        builder.add(sound[first : first + block])
    return builder


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


@given(samples=st.integers(1, 3000), block=st.integers(1, 700), columns=st.integers(2, 40))
def test_columns_are_the_maxima_of_the_frames_that_they_stand_for(samples: int, block: int, columns: int):
    sound = noise(samples)
    every_frame = built(sound, samples, 10_000).result()
    pooled = built(sound, block, columns).result()
    frames = round(pooled.column / every_frame.column)
    assert pooled.decibels.shape[1] <= columns + 1
    firsts = range(0, every_frame.decibels.shape[1], frames)
    expected = np.stack([every_frame.decibels[:, first : first + frames].max(axis=1) for first in firsts], axis=1)
    np.testing.assert_allclose(pooled.decibels, expected, atol=1e-3)


def test_a_tone_and_a_click_are_where_they_sound():
    time = np.arange(20 * RATE) / RATE
    sound = np.where((time >= 5) & (time < 15), 0.1 * np.sin(2 * np.pi * 125 * time), 0).astype(np.float32)
    sound[17 * RATE] = 0.3
    spectrogram = built(sound, 333, 200).result()
    bins, columns = spectrogram.decibels.shape
    assert columns * spectrogram.column == pytest.approx(20, abs=2 * spectrogram.column)
    loudest, column = np.unravel_index(np.argmax(spectrogram.decibels), spectrogram.decibels.shape)
    assert loudest / (bins - 1) * spectrogram.highest == pytest.approx(125, abs=20)
    assert 4.8 <= column * spectrogram.column < 15
    clicks = np.flatnonzero(spectrogram.decibels[-1] > -40) * spectrogram.column
    assert len(clicks) and abs(clicks - 17).min() < 2 * spectrogram.column


def test_silence_has_a_spectrogram_too():
    spectrogram = built(np.zeros(500, np.float32), 100, 50).result()
    assert np.isfinite(spectrogram.decibels).all()


class Told:
    name = "told"

    def blocks(self, sample_rate: int):
        assert sample_rate == RATE
        yield from np.split(noise(1000), 10)


def test_a_watched_sound_is_the_sound_and_its_spectrogram_is_taken_once():
    watched = WatchedSource(Told())
    assert watched.name == "told"
    assert np.concatenate(list(watched.blocks(RATE))).tolist() == noise(1000).tolist()
    taken = watched.take_spectrogram()
    np.testing.assert_allclose(taken.decibels, built(noise(1000), 1000, 2048).result().decibels, atol=1e-3)
    with pytest.raises(AssertionError):
        watched.take_spectrogram()
