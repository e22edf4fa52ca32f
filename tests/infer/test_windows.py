"""Long sounds in parts of one length."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.infer.windows import Windows

RATE = 100


def in_blocks(samples: int, block: int) -> list[np.ndarray]:
    sound = np.arange(samples, dtype=np.float32)
    return [sound[first : first + block] for first in range(0, samples, block)]


@given(
    samples=st.integers(1, 2000),
    block=st.integers(1, 500),
    length=st.floats(0.01, 7),
    share=st.floats(0.05, 1),
)
def test_every_sample_is_in_a_window_and_the_last_one_ends_with_the_sound(
    samples: int, block: int, length: float, share: float
):
    windows = Windows(length, length * share)
    parts = list(windows.cut(in_blocks(samples, block), RATE))
    full = math.ceil(round(length * RATE, 6))
    for number, (first, waveform) in enumerate(parts):
        assert waveform[0] == first and len(waveform) == min(full, samples - first)
        assert first == pytest.approx(number * windows.hop * RATE, abs=max(1, number))
    assert parts[-1][0] + len(parts[-1][1]) == samples
    assert all(first + full < samples for first, _ in parts[:-1])  # none but the last one reaches the end
    assert all(0 < second - first <= full for (first, _), (second, _) in itertools.pairwise(parts))


def test_places_do_not_drift_where_the_hop_is_no_whole_number_of_samples():
    starts = [first for first, _ in Windows(1.0, 1 / 3).cut(in_blocks(10_000, 700), RATE)]
    assert starts == [round(number * RATE / 3) for number in range(len(starts))]


def test_where_the_samples_lie_in_blocks_changes_nothing():
    windows = Windows(1.5, 0.7)
    parts = [[waveform.tolist() for _, waveform in windows.cut(in_blocks(1234, block), RATE)] for block in (1, 7, 5000)]
    assert parts[0] == parts[1] == parts[2]


@pytest.mark.parametrize(("length", "hop"), [(0, 0), (1, 0), (1, -1), (1, 1.5), (float("nan"), 1), (float("inf"), 1)])
def test_windows_that_leave_gaps_or_never_move_on_are_refused(length: float, hop: float):
    with pytest.raises(InputError, match="the hop must be above 0, and at most the window"):
        Windows(length, hop)
