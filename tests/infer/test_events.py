"""From scores over time to events."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from panns_jax.errors import InputError
from panns_jax.infer.events import Event, EventRules, find_events, median_filtered
from panns_jax.infer.score_track import ScoreTrack

STEP = 0.32


def track_of(*classes: list[float], step: float = STEP, duration: float | None = None) -> ScoreTrack:
    scores = np.array(classes, np.float32).T
    return ScoreTrack(scores, step, len(scores) * step if duration is None else duration)


def times(events: list[Event]) -> list[tuple[float, float]]:
    return [(event.onset, event.offset) for event in events]


def places(event: Event) -> tuple[float, float, int]:
    return event.onset, event.offset, event.index


tenths = st.integers(0, 10).map(lambda tenth: np.float32(tenth / 10))
tracks = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 60), st.integers(1, 4)), elements=tenths, fill=st.just(np.float32(0))
).map(lambda scores: ScoreTrack(scores, STEP, len(scores) * STEP + 0.1))
rules = st.builds(
    lambda high, share, median, duration, gap: EventRules(high, high * share, 2 * median + 1, duration, gap),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 5),
    st.floats(0, 3),
    st.floats(0, 3),
)


@given(track=tracks, rules=rules)
def test_events_are_sorted_lie_in_the_recording_and_those_of_a_class_are_apart(track: ScoreTrack, rules: EventRules):
    events = find_events(track, rules)
    assert events == sorted(events)
    for event in events:
        assert 0 <= event.onset < event.offset <= track.duration + 1e-6
        assert event.offset - event.onset >= float(rules.min_duration) - 2e-6
        assert 0 <= event.score <= 1
    for index in range(track.scores.shape[1]):
        of_class = [event for event in events if event.index == index]
        for one, next_one in itertools.pairwise(of_class):
            assert next_one.onset - one.offset >= max(float(rules.min_gap), STEP) - 3e-6


@given(track=tracks, rules=rules)
def test_events_begin_and_end_with_steps_and_the_last_step_with_the_recording(track: ScoreTrack, rules: EventRules):
    for event in find_events(track, rules):
        assert event.onset == pytest.approx(round(event.onset / STEP) * STEP, abs=1e-6)
        on_a_step = event.offset == pytest.approx(round(event.offset / STEP) * STEP, abs=1e-6)
        assert on_a_step or event.offset == pytest.approx(track.duration, abs=1e-6)


@given(track=tracks, rules=rules)
def test_the_events_found_again_in_themselves_are_the_same(track: ScoreTrack, rules: EventRules):
    events = find_events(track, rules)
    scores = np.zeros_like(track.scores)
    for event in events:
        scores[
            round(event.onset / STEP) : max(round(event.onset / STEP) + 1, round(event.offset / STEP)), event.index
        ] = 1
    again = find_events(
        ScoreTrack(scores, STEP, track.duration),
        EventRules(0.5, min_duration=rules.min_duration, min_gap=rules.min_gap),
    )
    assert [places(event) for event in again] == [places(event) for event in events]


@given(track=tracks, rules=rules, higher=st.floats(0, 1), higher_low=st.floats(0, 1))
def test_what_higher_thresholds_find_lies_within_what_lower_ones_find(
    track: ScoreTrack, rules: EventRules, higher: float, higher_low: float
):
    strict = EventRules(
        high := rules.high + (1 - rules.high) * higher,
        min(high, rules.lowest + (1 - rules.lowest) * higher_low),
        rules.median,
        rules.min_duration,
        rules.min_gap,
    )
    loose = find_events(track, rules)
    for event in find_events(track, strict):
        assert any(
            other.index == event.index and other.onset <= event.onset and event.offset <= other.offset
            for other in loose
        )


@given(track=tracks, rules=rules, data=st.data())
def test_a_class_gets_what_it_gets_alone(track: ScoreTrack, rules: EventRules, data: st.DataObject):
    index = data.draw(st.integers(0, track.scores.shape[1] - 1))
    alone = ScoreTrack(track.scores[:, [index]], track.step, track.duration)
    expected = [dataclasses.replace(event, index=index) for event in find_events(alone, rules)]
    assert [event for event in find_events(track, rules) if event.index == index] == expected
    assert find_events(track, rules, [index]) == expected


@given(track=tracks, rules=rules)
def test_rules_for_all_classes_are_rules_for_each(track: ScoreTrack, rules: EventRules):
    count = track.scores.shape[1]
    each = EventRules(
        np.full(count, rules.high),
        np.full(count, rules.lowest),
        np.full(count, rules.median),
        np.full(count, rules.min_duration),
        np.full(count, rules.min_gap),
    )
    assert find_events(track, each) == find_events(track, rules)


def test_an_event_is_where_scores_are_above_the_threshold():
    track = track_of([0.5, 0.6, 0.7, 0.5, 0.9], [0, 0, 0, 0, 0])
    assert find_events(track, EventRules(0.5)) == [Event(0.32, 0.96, 0, 0.7), Event(1.28, 1.6, 0, 0.9)]


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.7, 0.9])
def test_a_score_that_reads_as_the_threshold_is_not_above_it(threshold: float):
    track = track_of([threshold])
    assert find_events(track, EventRules(threshold)) == find_events(track, EventRules(np.array([threshold]))) == []


def test_the_last_step_ends_with_the_recording():
    assert times(find_events(track_of([0, 0, 1], duration=1.2), EventRules())) == [(0.64, 1.2)]
    assert times(find_events(track_of([0, 0, 1], duration=0.7), EventRules())) == [(0.64, 0.7)]


def test_an_event_goes_on_above_the_low_threshold_and_needs_the_high_one():
    track = track_of([0.4, 0.4, 0.8, 0.4, 0.1, 0.4, 0.4])
    assert times(find_events(track, EventRules(0.7, 0.3))) == [(0, 1.28)]
    assert times(find_events(track, EventRules(0.3))) == [(0, 1.28), (1.6, 2.24)]
    assert times(find_events(track, EventRules(0.7))) == [(0.64, 0.96)]


def test_a_median_filter_drops_single_steps_and_fills_them_and_the_score_is_of_before():
    track = track_of([0, 1, 0, 0, 0, 0.9, 0.8, 0, 0.7, 0.6, 0, 0])
    assert find_events(track, EventRules(median=3)) == [Event(5 * STEP, 10 * STEP, 0, 0.9)]


def test_the_median_filter_may_be_longer_than_the_recording():
    scores = np.array([[0.1], [0.9], [0.2]], np.float32)
    assert median_filtered(scores, np.array([7])).tolist() == median_filtered(scores, np.array([1001])).tolist()


def test_close_events_become_one_before_short_ones_are_dropped():
    track = track_of([0, 1, 0, 1, 0, 0, 0, 1, 0])
    assert times(find_events(track, EventRules(min_gap=0.5))) == [(0.32, 1.28), (2.24, 2.56)]
    assert times(find_events(track, EventRules(min_gap=0.32))) == [(0.32, 0.64), (0.96, 1.28), (2.24, 2.56)]
    assert times(find_events(track, EventRules(min_gap=0.5, min_duration=0.9))) == [(0.32, 1.28)]
    assert times(find_events(track, EventRules(min_duration=0.32))) == [(0.32, 0.64), (0.96, 1.28), (2.24, 2.56)]


def test_events_as_long_as_the_shortest_are_kept_however_times_round():
    for first in range(200):
        scores = [0.0] * first + [1.0] * 3 + [0.0]
        assert len(find_events(track_of(scores), EventRules(min_duration=0.96))) == 1


def test_rules_of_one_class_do_not_touch_another():
    both = [0, 0.4, 0, 0.4, 0]
    each = EventRules(np.array([0.3, 0.5]), median=np.array([1, 1]), min_gap=np.array([1.0, 0.0]))
    assert find_events(track_of(both, both), each) == [Event(0.32, 1.28, 0, 0.4)]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"high": 1.5}, "a threshold must be in"),
        ({"high": float("nan")}, "a threshold must be in"),
        ({"low": -0.1}, "a low threshold must be in"),
        ({"high": 0.4, "low": 0.5}, "must not be above the threshold"),
        ({"median": 4}, "odd number of steps"),
        ({"median": 0}, "odd number of steps"),
        ({"min_duration": -1.0}, "shortest duration must be at least 0"),
        ({"min_gap": float("inf")}, "smallest gap must be at least 0"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: dict, told: str):
    with pytest.raises(InputError, match=told):
        EventRules(**rules)
