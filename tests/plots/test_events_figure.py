"""The figure of sound event detection, at every length that a recording may have."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panns_jax.infer.events import EventRules, find_events
from panns_jax.infer.score_track import ScoreTrack
from panns_jax.labels import audioset, numbered
from panns_jax.plots.spectrogram import Spectrogram

pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
import matplotlib.figure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from panns_jax.plots import events as figures

LONGEST = np.argsort([-len(name) for name in audioset()])[:10]


def track_of(duration: float, classes: int = 527) -> ScoreTrack:
    steps = max(1, int(duration / 0.32))
    scores = np.random.default_rng(0).uniform(0, 0.2, (steps, classes)).astype(np.float32)
    scores[:, LONGEST[classes > LONGEST]] += 0.5
    scores[steps // 2 :: 7] += 0.25
    return ScoreTrack(scores, 0.32, duration)


def spectrogram_of(duration: float) -> Spectrogram:
    columns = max(1, min(1500, int(duration * 100)))
    decibels = np.random.default_rng(1).uniform(-100, 0, (257, columns)).astype(np.float32)
    return Spectrogram(decibels, duration / columns, 16000)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    saved: list[Any] = []
    save = matplotlib.figure.Figure.savefig

    def watched(figure: Any, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        saved.append(figure)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", watched)
    return saved


def draw(path: Path, track: ScoreTrack, name: str = "a.wav", labels: Any = None) -> None:
    labels = labels or audioset()
    events = find_events(track, EventRules(0.8))
    figures.plot_events(path, name, spectrogram_of(track.duration), track, events, labels, range(len(labels)))


@pytest.mark.parametrize("duration", [0.05, 7, 119, 600, 3599, 10800])
def test_no_label_lies_on_another_or_outside_the_figure(duration: float, drawn: list[Any], tmp_path: Path):
    draw(tmp_path / "x.png", track_of(duration))
    (figure,) = drawn
    above, below, *_ = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    times = [label.get_window_extent(renderer) for label in below.get_xticklabels()]
    assert 2 <= len(times) <= 13
    for one, next_one in itertools.pairwise(times):
        assert one.x1 < next_one.x0
    names = [label.get_window_extent(renderer) for label in below.get_yticklabels()]
    assert len(names) == 10
    for one, next_one in itertools.pairwise(names):
        assert next_one.y1 <= one.y0 + 1
    for box in (*times, *names, above.title.get_window_extent(renderer)):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height
    assert above.get_xlim() == below.get_xlim() == (0, duration)


@pytest.mark.parametrize(
    ("duration", "unit", "first", "last"),
    [
        (10, "seconds", "0", "10"),
        (600, "minutes and seconds", "0:00", "10:00"),
        (7200, "hours and minutes", "0:00", "2:00"),
    ],
)
def test_time_is_told_in_round_numbers_of_what_suits(
    duration: float, unit: str, first: str, last: str, drawn: list[Any], tmp_path: Path
):
    draw(tmp_path / "x.png", track_of(duration))
    below = drawn[0].axes[1]
    told = [label.get_text() for label in below.get_xticklabels()]
    assert (below.get_xlabel(), told[0], told[-1]) == (unit, first, last)


def test_the_classes_with_the_highest_scores_are_shown_the_highest_above(drawn: list[Any], tmp_path: Path):
    scores = np.zeros((20, 5), np.float32)
    scores[3, 4], scores[9, 0], scores[7, 2], scores[1, 3] = 0.9, 0.5, 0.7, 1.0
    track = ScoreTrack(scores, 0.32, 6.5)
    figures.plot_events(tmp_path / "x.png", "a.wav", spectrogram_of(6.5), track, [], numbered(5), [0, 1, 2, 4], top=3)
    below = drawn[0].axes[1]
    assert [label.get_text() for label in below.get_yticklabels()] == ["class 4", "class 2", "class 0"]
    (image,) = [part for part in below.collections if part.get_array() is not None]
    assert np.asarray(image.get_array()).reshape(3, 20).tolist() == scores.T[[4, 2, 0]].tolist()
    assert below.yaxis_inverted()


def test_a_single_high_score_in_hours_is_still_seen(drawn: list[Any], tmp_path: Path):
    scores = np.zeros((30_000, 3), np.float32)
    scores[12_345, 1] = 1
    track = ScoreTrack(scores, 0.32, 30_000 * 0.32)
    figures.plot_events(tmp_path / "x.png", "a.wav", spectrogram_of(9600), track, [], numbered(3), range(3))
    below = drawn[0].axes[1]
    (image,) = [part for part in below.collections if part.get_array() is not None]
    shown = np.asarray(image.get_array()).reshape(3, -1)
    assert shown.shape[1] <= 1500 and shown.max() == 1


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_every_format_is_written_the_same_each_time(ending: str, tmp_path: Path):
    track = track_of(10)
    draw(tmp_path / f"x.{ending}", track)
    first = (tmp_path / f"x.{ending}").read_bytes()
    assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])
    draw(tmp_path / f"x.{ending}", track)
    assert (tmp_path / f"x.{ending}").read_bytes() == first


def test_names_of_any_letters_are_drawn_without_a_complaint(tmp_path: Path):
    long = "a label of a model of one's own that is far too long for the margin of any figure"
    labels = ["$x^$", "Vögel 鳥", long, "_", "a\\b"]
    draw(tmp_path / "x.png", track_of(10, 5), "street $1 鳥.wav", labels)
    assert (tmp_path / "x.png").stat().st_size > 10_000
