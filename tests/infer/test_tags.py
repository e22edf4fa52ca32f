"""Which classes are told of a sound, and what its windows come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.infer.heard import Excerpt, Heard
from panns_jax.infer.tags import Choice, Part, parts, spans
from panns_jax.labels import numbered

LABELS = numbered(3)


def excerpt(start: float, end: float, *clipwise: float) -> Excerpt:
    return Excerpt(start, end, Heard(np.array(clipwise, np.float32), None))


def part(start: float, end: float, *clipwise: float) -> Part:
    return Part(start, end, np.array(clipwise, np.float32))


@given(
    clipwise=st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5),
    classes=st.none() | st.permutations(range(5)).map(lambda order: order[:3]),
    top=st.none() | st.integers(1, 6),
    least=st.floats(0, 1, width=32),
)
def test_told_are_the_most_probable_of_the_classes_asked_for(
    clipwise: list[float], classes: list[int] | None, top: int | None, least: float
):
    tags = Choice(numbered(5), classes, top, least).tags(np.array(clipwise, np.float32))
    wanted = [i for i in (range(5) if classes is None else classes) if clipwise[i] >= least]
    assert [tag.index for tag in tags] == sorted(wanted, key=lambda i: (-clipwise[i], i))[:top]


def test_a_class_is_told_that_is_as_probable_as_the_least_is_written():
    tags = Choice(LABELS, min_confidence=0.3).tags(np.array([0.3, 0.29, 0.31], np.float32))
    assert [(tag.index, tag.probability) for tag in tags] == [(2, 0.31), (0, 0.3)]


def test_windows_are_followed_by_their_maximum_and_their_mean_by_length():
    windows = [excerpt(0, 10, 0.5, 0.1, 0), excerpt(10, 20, 0.25, 0.2, 0), excerpt(20, 25, 1, 0.2, 0)]
    told = parts(windows, None)
    assert [(part.start, part.end, part.summary) for part in told] == [
        (0, 10, None),
        (10, 20, None),
        (20, 25, None),
        (0, 25, "max"),
        (0, 25, "mean"),
    ]
    assert told[3].clipwise.tolist() == np.array([1, 0.2, 0], np.float32).tolist()
    assert told[4].clipwise == pytest.approx([(5 + 2.5 + 5) / 25, (1 + 2 + 1) / 25, 0])
    assert all(part.clipwise.dtype == np.float32 for part in told)


def test_one_of_windows_maximum_and_mean_can_be_had_alone():
    windows = [excerpt(0, 10, 0.5), excerpt(10, 12, 0.25)]
    assert [part.summary for part in parts(windows, "windows")] == [None, None]
    assert [part.summary for part in parts(windows, "max")] == ["max"]
    assert [part.summary for part in parts(windows, "mean")] == ["mean"]


def told(windows: list[Part], *, merge: bool) -> list[tuple[float, float, str, float]]:
    choice = Choice(LABELS, min_confidence=0.5)
    found = spans([(window, choice.tags(window.clipwise)) for window in windows], merge=merge)
    return [(span.start, span.end, span.label, span.score) for span in found]


WINDOWS = [
    part(0, 10, 0.5, 0.75, 0),
    part(5, 15, 1, 0, 0),
    part(10, 20, 0, 0.5, 0),
    part(15, 18, 0.5, 0.625, 0.5),
]


def test_each_class_of_each_window_is_a_span():
    assert told(WINDOWS, merge=False) == [
        (0, 10, "class 1", 0.75),
        (0, 10, "class 0", 0.5),
        (5, 15, "class 0", 1),
        (10, 20, "class 1", 0.5),
        (15, 18, "class 1", 0.625),
        (15, 18, "class 0", 0.5),
        (15, 18, "class 2", 0.5),
    ]


def test_windows_in_a_row_with_the_same_class_are_one_span_with_their_highest_score():
    assert told(WINDOWS, merge=True) == [
        (0, 15, "class 0", 1),
        (0, 10, "class 1", 0.75),
        (10, 18, "class 1", 0.625),
        (15, 18, "class 0", 0.5),
        (15, 18, "class 2", 0.5),
    ]


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=12), st.sampled_from([5, 10]))
def test_merging_changes_no_moment_at_which_a_class_is_heard(heard: list[list[bool]], hop: int):
    windows = [part(hop * i, hop * i + 10, *map(float, classes)) for i, classes in enumerate(heard)]

    def runs(label: int) -> int:
        return sum(now[label] and not before[label] for before, now in zip([[False] * 3, *heard], heard, strict=False))

    merged = told(windows, merge=True)
    for label in range(3):
        alone = [(start, end) for start, end, name, _ in told(windows, merge=False) if name == f"class {label}"]
        joined = [(start, end) for start, end, name, _ in merged if name == f"class {label}"]
        seconds = np.arange(0, 200) + 0.5
        covered = [[any(start < second < end for start, end in of) for second in seconds] for of in (alone, joined)]
        assert covered[0] == covered[1]
        assert len(joined) == runs(label)
