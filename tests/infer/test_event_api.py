"""Sound events from Python: the same as from the command line."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile
from small_models import SMALL
from weights import arbitrary

from panns_jax import EventDetector, InputError
from panns_jax.audio import read_waveform
from panns_jax.infer.api import Failure
from panns_jax.infer.event_api import Events
from panns_jax.pretrained.rules import filled_model

RATE = 8000


def detector(name: str, **options: Any) -> EventDetector:
    return EventDetector(filled_model(SMALL[name], arbitrary(SMALL[name])), **options)


def waveform(seconds: float = 5.0) -> np.ndarray:
    return recipe.waveform(1, round(seconds * RATE), RATE, 3)[0]


@pytest.mark.parametrize("name", ["decision-max", "decision-attention", "cnn"])
def test_events_are_runs_of_scores_above_the_threshold(name: str):
    options = {} if name.startswith("decision") else {"window": 0.5, "hop": 0.25}
    middle = float(np.median(detector(name, **options).scores(waveform()).scores[:, 0]))
    finding = detector(name, threshold=middle, classes=["class 0"], **options)
    track = finding.scores(waveform())
    above = track.scores[:, 0] > middle
    told = finding.detect(waveform())
    assert told.duration == pytest.approx(5.0)
    assert told.events and {event.label for event in told.events} == {"class 0"}
    heard = np.zeros(len(above), bool)
    for event in told.events:
        inside = (track.onsets >= event.onset - 1e-9) & (track.offsets <= event.offset + 1e-9)
        heard |= inside
        assert event.score == pytest.approx(track.scores[inside, 0].max())
    np.testing.assert_array_equal(heard, above)


def test_files_and_arrays_give_the_same_and_a_bad_file_stops_nothing(tmp_path: Path):
    file, bad = tmp_path / "a.wav", tmp_path / "b.wav"
    soundfile.write(file, waveform(), RATE, subtype="FLOAT")
    bad.write_text("no sound")
    finding = detector("decision-max", threshold=0.4)
    one, failure, other = finding.detect_all([file, bad, read_waveform(file, RATE)])
    assert isinstance(failure, Failure) and str(bad) in str(failure.error)
    assert isinstance(one, Events) and isinstance(other, Events)
    assert (one.name, other.name) == (str(file), "array")
    assert one.events == other.events == finding.detect(file).events
    with pytest.raises(InputError, match="cannot be read as sound"):
        finding.detect(bad)


def test_the_command_finds_the_same_events(main: Any, checkpoint: Path, sound: Path, tmp_path: Path):
    out = tmp_path / "events.csv"
    rules = ("--threshold", "0.2", "--window", "0.4", "--hop", "0.2", "--min-gap", "0.3")
    assert main("detect", sound, "--checkpoint", checkpoint, "--out", out, *rules).returncode == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = [(float(row["onset"]), float(row["offset"]), row["label"]) for row in csv.DictReader(file)]
    finding = EventDetector(checkpoint=checkpoint, threshold=0.2, window=0.4, hop=0.2, min_gap=0.3)
    events = finding.detect(sound).events
    assert [(event.onset, event.offset, event.label) for event in events] == [
        (pytest.approx(start, abs=1e-6), pytest.approx(end, abs=1e-6), label) for start, end, label in rows
    ]
    assert finding.step == pytest.approx(0.2)


def test_an_unknown_class_or_a_threshold_out_of_range_is_refused():
    with pytest.raises(InputError, match="class 9"):
        detector("cnn", classes=["class 9"])
    with pytest.raises(InputError, match="threshold"):
        detector("cnn", threshold=1.5)
