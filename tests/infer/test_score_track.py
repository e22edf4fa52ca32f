"""Windows around time steps, and the scores of recordings over time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import SMALL

from panns_jax.errors import InputError
from panns_jax.infer.heard import Excerpt, Heard
from panns_jax.infer.score_track import CentredWindows, ScoreTrack, Stepping
from panns_jax.models.registry import model_config

RATE = 100


def in_blocks(samples: int, block: int) -> list[np.ndarray]:
    sound = np.arange(samples, dtype=np.float32)
    return [sound[first : first + block] for first in range(0, samples, block)]


@given(samples=st.integers(1, 2000), block=st.integers(1, 500), length=st.integers(1, 700), share=st.floats(0.02, 1))
def test_each_step_has_a_window_of_whole_length_around_it_or_at_the_end_that_is_near(
    samples: int, block: int, length: int, share: float
):
    windows = CentredWindows(length / RATE, max(1, round(length * share)) / RATE)
    hop = windows.hop * RATE
    parts = list(windows.cut(in_blocks(samples, block), RATE))
    assert len(parts) == np.ceil(round(samples / hop, 6))
    for number, (first, waveform) in enumerate(parts):
        assert waveform[0] == first and len(waveform) == min(length, samples)
        centred = number * hop - (length - hop) / 2
        nearest = min(max(centred, 0), max(0, samples - length))
        assert first == pytest.approx(nearest, abs=0.51)


def test_where_the_samples_lie_in_blocks_changes_nothing():
    windows = CentredWindows(1.5, 0.7)
    parts = [
        [(first, waveform.tolist()) for first, waveform in windows.cut(in_blocks(1234, block), RATE)]
        for block in (1, 7, 149, 5000)
    ]
    assert all(part == parts[0] for part in parts)


def test_a_hop_as_long_as_the_window_makes_consecutive_segments():
    starts = [first for first, _ in CentredWindows(2.0, 2.0).cut(in_blocks(700, 64), RATE)]
    assert starts == [0, 200, 400, 500]  # the last one is whole, too


def test_little_more_than_a_window_and_a_block_of_the_sound_is_held(monkeypatch: pytest.MonkeyPatch):
    longest = 0
    concatenate = np.concatenate

    def watched(parts):
        nonlocal longest
        joined = concatenate(parts)
        longest = max(longest, len(joined))
        return joined

    monkeypatch.setattr(np, "concatenate", watched)
    assert len(list(CentredWindows(2.0, 0.5).cut(in_blocks(100_000, 300), RATE))) == 2000
    assert longest <= 2 * (200 + 300)


def test_a_decision_level_model_has_its_own_steps():
    stepping = Stepping.of(model_config("Cnn14_DecisionLevelMax"), 10240)
    assert (stepping.step, stepping.windows, stepping.taps) == (0.32, None, ("stepwise",))
    with pytest.raises(InputError, match=r"time steps of 0\.32 s: --window and --hop are for clip-level models"):
        Stepping.of(model_config("Cnn14_DecisionLevelMax"), 10240, hop=1.0)


@pytest.mark.parametrize("name", ["Cnn14", "Cnn14_16k", "Cnn14_8k", "MobileNetV1", "Wavegram_Logmel_Cnn14"])
def test_a_clip_level_model_hears_consecutive_segments_of_two_seconds(name: str):
    stepping = Stepping.of(model_config(name), 1)
    assert (stepping.step, stepping.windows, stepping.taps) == (2.0, CentredWindows(2.0, 2.0), ())
    assert Stepping.of(model_config(name), 1, window=4.0).step == 4.0
    assert Stepping.of(model_config(name), 1, hop=0.5).windows == CentredWindows(2.0, 0.5)


def test_windows_that_a_model_cannot_hear_are_refused():
    with pytest.raises(InputError, match=r"a window of 0\.1 s is shorter than the 0\.31 s that Cnn14 needs"):
        Stepping.of(model_config("Cnn14"), 1, window=0.1)
    with pytest.raises(InputError, match="the hop must be above 0, and at most the window"):
        Stepping.of(model_config("Cnn14"), 1, window=2.0, hop=3.0)


def test_steps_of_the_padding_behind_a_short_recording_are_not_of_it():
    heard = Heard(np.zeros(5, np.float32), None, np.arange(15, dtype=np.float32).reshape(3, 5))
    stepping = Stepping(0.5, None)

    def steps(duration: float) -> int:
        return len(stepping.track([Excerpt(0, duration, heard)], duration).scores)

    assert [steps(duration) for duration in (0.01, 0.5, 0.51, 1.0, 1.5, 1.9)] == [1, 1, 2, 2, 3, 3]


def test_steps_follow_one_another_and_the_last_one_ends_with_the_recording():
    track = ScoreTrack(np.zeros((3, 2), np.float32), 0.32, 1.2)
    assert track.onsets == pytest.approx([0, 0.32, 0.64])
    assert track.offsets == pytest.approx([0.32, 0.64, 1.2])


def test_without_scores_there_is_no_track():
    with pytest.raises(InputError, match="no scores"):
        ScoreTrack(np.zeros((0, len(SMALL["cnn"].labels)), np.float32), 0.32, 1.2)
