"""Windows of a sound that goes on and on, in fixed memory."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.infer.ring import LiveWindow, Ring
from panns_jax.infer.windows import Windows

RATE = 100


def brought(ring: Ring, sound: np.ndarray, sizes: list[int]) -> threading.Thread:
    """A thread that brings a sound in blocks of these sizes, again and again, and then ends it."""

    def bring() -> None:
        at = turn = 0
        while at < len(sound):
            size = sizes[turn % len(sizes)]
            assert ring.put(sound[at : at + size], float(at))
            at, turn = at + size, turn + 1
        ring.finish()

    thread = threading.Thread(target=bring, daemon=True)
    thread.start()
    return thread


def taken(ring: Ring) -> list[LiveWindow]:
    return list(iter(ring.next, None))


@given(
    st.integers(0, 900),
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.integers(1, 250),
    st.floats(0.004, 1, exclude_min=True),
)
def test_who_keeps_all_gets_a_window_every_hop_however_the_sound_comes(length, sizes, window, share):
    sound = np.arange(1, length + 1, dtype=np.float32)
    windows = Windows(window / RATE, max(share * window, 1) / RATE)
    ring = Ring(windows, RATE, keeps_all=True)
    thread = brought(ring, sound, sizes)
    given = taken(ring)
    thread.join()
    hop = windows.hop * RATE
    ends = [end for k in range(1, 1000) if (end := max(k, round(k * hop))) <= length]
    if length and (not ends or ends[-1] < length):
        ends.append(length)
    assert [w.end for w in given] == ends
    for w in given:
        np.testing.assert_array_equal(w.samples, sound[max(0, w.end - window) : w.end])
        assert (w.dropped, w.unheard, w.first) == (0, 0, max(0, w.end - window))


def test_who_takes_sound_as_it_comes_gets_the_newest_window_and_a_count_of_the_others():
    ring = Ring(Windows(2, 0.5), RATE, keeps_all=False)
    sound = np.arange(5000, dtype=np.float32)
    ring.put(sound[:50], 1.0)
    first = ring.next()
    ring.put(sound[50:1030], 2.0)  # 19 windows more, of which the last one ends at 1000
    newest = ring.next()
    ring.put(sound[1030:1040], 3.0)
    ring.finish()
    last = ring.next()
    assert first and newest and last
    assert (first.end, first.dropped, first.unheard, first.captured) == (50, 0, 0, 1.0)
    assert (newest.first, newest.end, newest.dropped, newest.unheard, newest.captured) == (800, 1000, 18, 750, 2.0)
    assert (last.first, last.end, last.dropped, last.unheard, last.captured) == (840, 1040, 0, 0, 3.0)
    np.testing.assert_array_equal(newest.samples, sound[800:1000])
    np.testing.assert_array_equal(last.samples, sound[840:1040])
    assert ring.next() is None


@given(st.lists(st.tuples(st.integers(1, 700), st.integers(0, 3)), min_size=1, max_size=20))
def test_no_window_is_lost_from_the_count(turns):
    ring = Ring(Windows(1, 0.3), RATE, keeps_all=False)
    sound = np.arange(sum(size for size, _ in turns), dtype=np.float32)
    at, windows, ready = 0, [], False
    for size, takes in turns:
        before = at // 30
        ring.put(sound[at : at + size], 0.0)
        at += size
        ready = ready or at // 30 > before
        if takes and ready:
            windows.append(ring.next())
            ready = False
    ring.finish()
    windows += taken(ring)
    assert sum(w.dropped + 1 for w in windows) == -(-len(sound) // 30)
    # Every sample is in a window, or counted as unheard.
    heard = np.zeros(len(sound), bool)
    for w in windows:
        heard[w.first : w.end] = True
        np.testing.assert_array_equal(w.samples, sound[w.first : w.end])
    assert len(sound) - heard.sum() == sum(w.unheard for w in windows)


def test_memory_stays_the_same_whatever_comes():
    kept, live = (Ring(Windows(0.5, 0.1), RATE, keeps_all=keeps_all) for keeps_all in (True, False))
    before = kept.nbytes, live.nbytes
    thread = brought(kept, np.zeros(100_000, np.float32), [7, 500])
    assert len(taken(kept)) == 10_000
    thread.join()
    live.put(np.zeros(1_000_000, np.float32), 0.0)
    live.finish()
    (newest,) = taken(live)
    assert newest.dropped == 99_999
    assert (kept.nbytes, live.nbytes) == before


def test_who_brings_sound_waits_for_who_hears_it_and_no_longer():
    ring = Ring(Windows(1, 0.5), RATE, keeps_all=True)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ring.put(np.zeros(100_000, np.float32), 0.0)), daemon=True)
    thread.start()
    assert ring.next() is not None
    assert thread.is_alive()
    ring.close()
    thread.join(10)
    assert answers == [False]


def test_a_sound_that_breaks_off_is_heard_to_that_point():
    ring = Ring(Windows(1, 0.5), RATE, keeps_all=True)
    ring.put(np.ones(70, np.float32), time.monotonic())
    ring.finish(ValueError("unplugged"))
    for end in (50, 70):
        window = ring.next()
        assert window is not None
        assert window.end == end
    with pytest.raises(ValueError, match="unplugged"):
        ring.next()
