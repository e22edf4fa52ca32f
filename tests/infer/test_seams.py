"""Events of long recordings are those of one pass over the whole, wherever they are cut on their way to the model."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from small_models import FRONTEND, SMALL
from weights import arbitrary

from panns_jax.infer import listener as listening
from panns_jax.infer.events import Event, EventRules, find_events
from panns_jax.infer.files import HeardSound, heard_sounds
from panns_jax.infer.listener import Listener
from panns_jax.infer.score_track import Stepping
from panns_jax.pretrained.rules import filled_model

RATE = FRONTEND.sample_rate
SECONDS = 150


class Told:
    """A sound in blocks of random lengths."""

    name = "told"

    def __init__(self, sound: np.ndarray, seed: int) -> None:
        self._sound = sound
        self._seed = seed

    def blocks(self, sample_rate: int) -> Iterator[np.ndarray]:
        assert sample_rate == RATE
        places = np.sort(np.random.default_rng(self._seed).integers(1, len(self._sound), 20))
        yield from (block for block in np.split(self._sound, places) if len(block))


def recording(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Bursts from a tenth of a second to some seconds of length, so that every cut lies in or beside one."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    parts, length = [], 0
    while length < samples:
        burst = round(rng.uniform(0.1, 4) * RATE)
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * np.arange(burst) / RATE)
        parts.append(10 ** rng.uniform(-3, 0) * (tone + rng.normal(0, 0.3, burst)))
        length += burst
    return (0.5 * np.concatenate(parts)[:samples]).astype(np.float32)


def clear_rules(scores: np.ndarray) -> EventRules:
    """Thresholds that cut the scores of each class about in half, with no score near them: rounding moves no event."""
    thresholds = []
    for column in scores.T:
        middle = np.sort(column)[int(0.2 * len(column)) : int(0.8 * len(column))]
        widest = np.argmax(np.diff(middle))
        assert middle[widest + 1] - middle[widest] > 4e-5
        thresholds.append((middle[widest] + middle[widest + 1]) / 2)
    return EventRules(np.array(thresholds), min_gap=0.05)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Small models in evaluation mode, which all tests here share."""
    return {name: filled_model(SMALL[name], arbitrary(SMALL[name])) for name in ("decision-max", "cnn")}


def heard_in_parts(listener: Listener, sounds: list[np.ndarray], stepping: Stepping) -> Iterator[HeardSound]:
    sources = [Told(sound, seed) for seed, sound in enumerate(sounds)]
    for heard in heard_sounds(sources, listener, windows=stepping.windows, taps=stepping.taps):
        assert isinstance(heard, HeardSound)
        yield heard


def assert_same_events(found: list[Event], expected: list[Event], step: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.index == other.index
        assert one.onset == pytest.approx(other.onset, abs=step)
        assert one.offset == pytest.approx(other.offset, abs=step)


@pytest.mark.slow
@pytest.mark.parametrize("part", [7.0, 23.0, 61.44])
def test_events_of_a_decision_level_model_are_those_of_one_pass(
    part: float, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    # How long the parts are that the listener hears at once.
    monkeypatch.setattr(listening, "_TAPE", part)
    model = models["decision-max"]
    listener = Listener(model)
    stepping = Stepping.of(model.config, listener.step)
    # A second one before it, of random length, puts every cut of the first at another place.
    seed = round(part)
    sounds = [recording(seed), recording(seed + 1, 3 + seed % 7), recording(seed + 2)]
    run = jax.jit(lambda waveform: jax.nn.sigmoid(model(waveform, taps=("logits",)).logits[0]))
    for sound, heard in zip(sounds, heard_in_parts(listener, sounds, stepping), strict=True):
        scores = np.asarray(run(sound[None]))
        track = stepping.track(heard.excerpts, heard.duration)
        np.testing.assert_allclose(track.scores, scores[: len(track.scores)], atol=1e-5)
        rules = clear_rules(track.scores)
        whole = type(track)(scores[: len(track.scores)], track.step, len(sound) / RATE)
        expected = find_events(whole, rules)
        assert len(expected) > 2 * len(sound) / RATE / 5
        assert_same_events(find_events(track, rules), expected, track.step)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "hop"), [(0.5, 0.25), (1.0, 0.3), (2.0, 2.0)])
def test_events_of_a_clip_level_model_are_those_of_its_windows_heard_one_by_one(
    window: float, hop: float, models: dict[str, Any]
):
    model = models["cnn"]
    listener = Listener(model)
    stepping = Stepping.of(model.config, listener.step, window, hop)
    sounds = [recording(1, 40), recording(2, 0.6), recording(3, 30.1)]
    run = jax.jit(lambda waveform: model(waveform).clipwise[0])
    for sound, heard in zip(sounds, heard_in_parts(listener, sounds, stepping), strict=True):
        track = stepping.track(heard.excerpts, heard.duration)
        length = min(round(window * RATE), len(sound))
        alone = []
        for number in range(len(track.scores)):
            centred = round((number * hop - (window - hop) / 2) * RATE)
            first = min(max(0, centred), len(sound) - length)
            alone.append(np.asarray(run(sound[None, first : first + length])))
        np.testing.assert_allclose(track.scores, np.stack(alone), atol=1e-5)
        if len(track.scores) > 10:
            rules = clear_rules(track.scores)
            expected = find_events(type(track)(np.stack(alone), track.step, track.duration), rules)
            assert expected
            assert_same_events(find_events(track, rules), expected, track.step)
