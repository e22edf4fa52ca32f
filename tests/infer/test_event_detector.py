"""EventDetector: arrays and files in, sound events out."""

from pathlib import Path

import numpy as np
import pytest
import recipe
import soundfile
from small_models import SMALL
from weights import arbitrary

from panns_jax import EventDetector, InputError
from panns_jax.infer.ears import Failure
from panns_jax.infer.event_detector import Detected
from panns_jax.infer.events import EventRules, find_events
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener
from panns_jax.pretrained.rules import filled_model

RATE = 8000


def listener(name: str) -> Listener:
    return Listener(filled_model(SMALL[name], arbitrary(SMALL[name])))


@pytest.fixture(scope="module")
def steps() -> Listener:
    return listener("decision-max")


@pytest.fixture
def waveform() -> np.ndarray:
    loud = np.repeat([0.0, 1, 0, 1, 0], RATE).astype(np.float32)
    return recipe.waveform(1, 5 * RATE, RATE, 3)[0] * loud


def middle(scores: np.ndarray) -> float:
    """A threshold that some steps of the class that changes most are above."""
    changing = np.ptp(scores, axis=0).argmax()
    return float((scores[:, changing].max() + scores[:, changing].min()) / 2)


def test_a_decision_level_model_scores_its_own_steps(steps: Listener, waveform: np.ndarray):
    track = EventDetector(steps).scores(waveform)
    (heard,) = steps.hear([waveform], taps=("stepwise",))
    assert isinstance(heard, Heard) and heard.stepwise is not None
    np.testing.assert_allclose(track.scores, heard.stepwise[: len(track.scores)], atol=1e-6)
    assert track.step == EventDetector(steps).step == steps.step / RATE
    assert len(track.onsets) == len(track.offsets) == len(track.scores) and track.offsets[-1] == 5


def test_events_are_those_of_the_scores_by_the_rules(steps: Listener, waveform: np.ndarray, tmp_path: Path):
    track = EventDetector(steps).scores(waveform)
    high = middle(track.scores)
    detector = EventDetector(steps, threshold=high, min_gap=0.3, min_duration=0.2)
    events = detector.detect(waveform)
    wanted = find_events(track, EventRules(high, min_gap=0.3, min_duration=0.2))
    assert events and [(e.onset, e.offset, e.score) for e in events] == [(w.onset, w.offset, w.score) for w in wanted]
    assert [(e.label, e.id) for e in events] == [(detector.labels.names[w.index],) * 2 for w in wanted]

    file, bad = tmp_path / "sound.wav", tmp_path / "bad.wav"
    soundfile.write(file, waveform, RATE, subtype="FLOAT")
    bad.write_bytes(b"RIFF")
    first, second, third = detector.detect_all([file, bad, waveform])
    assert first == Detected(str(file), 5.0, tuple(events))
    assert isinstance(second, Failure) and "bad.wav" in str(second.error)
    assert third == Detected("array", 5.0, tuple(events))


def test_classes_have_thresholds_of_their_own_and_can_be_chosen(steps: Listener, waveform: np.ndarray):
    track = EventDetector(steps).scores(waveform)
    events = EventDetector(steps, threshold={"class 1": 0.0, "class 2": 1.0}, low=0.5).detect(waveform)
    # Above 0 all along, with nothing between; above 1 never; the others as 0.5 has it.
    assert [(e.onset, e.offset) for e in events if e.label == "class 1"] == [(0.0, 5.0)]
    assert not [e for e in events if e.label == "class 2"]
    others = find_events(track, EventRules(0.5), [0, 3, 4])
    assert len([e for e in events if e.label not in ("class 1", "class 2")]) == len(others)
    only = EventDetector(steps, threshold=0.0, classes=["class 3"]).detect(waveform)
    assert [e.label for e in only] == ["class 3"]


def test_a_clip_level_model_scores_windows(waveform: np.ndarray):
    clips = listener("cnn")
    assert EventDetector(clips).step == 2.0
    track = EventDetector(clips, window=1.0, hop=0.5).scores(waveform)
    assert track.scores.shape == (10, 5) and track.step == 0.5
    (heard,) = clips.hear([waveform[:RATE]])
    assert isinstance(heard, Heard)
    np.testing.assert_allclose(track.scores[0], heard.clipwise, atol=1e-5)


def test_a_sound_of_another_rate_is_resampled(steps: Listener, waveform: np.ndarray):
    doubled = np.repeat(waveform, 2)
    track = EventDetector(steps).scores(doubled, sample_rate=2 * RATE)
    assert track.duration == pytest.approx(5) and len(track.scores) == len(EventDetector(steps).scores(waveform).scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold must be in"),
        ({"threshold": {"class 99": 0.5}}, "'class 99' is no class"),
        ({"low": 0.7}, "low threshold must not be above"),
        ({"median": "2steps"}, "odd number of steps"),
        ({"min_gap": -1.0}, "gap must be at least 0"),
        ({"window": 1.0}, "decision-level model with time steps"),
    ],
)
def test_a_rule_that_cannot_be_used_is_told_at_once(steps: Listener, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        EventDetector(steps, **options)
