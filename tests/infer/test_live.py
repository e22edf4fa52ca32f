"""What a model hears while a sound goes on, and how it is shown."""

import functools
import gc
import io
import json
import threading
import time
from typing import Any

import numpy as np
import pytest
import recipe
from rich.console import Console
from small_models import CLASSES, SMALL
from weights import arbitrary

from panns_jax import InputError
from panns_jax.infer.listener import Listener
from panns_jax.infer.live import Answer, LiveListener, answers
from panns_jax.infer.ring import Ring
from panns_jax.infer.screen import JsonLines, Lines, Screen, Tally
from panns_jax.infer.tags import top_tags
from panns_jax.infer.windows import Windows
from panns_jax.labels import numbered
from panns_jax.models.model import Model
from panns_jax.pretrained.rules import filled_model

WINDOWS = Windows(1.0, 0.25)


@functools.cache
def small(name: str) -> Model:
    """A model of `SMALL` with weights that answer differently to different sounds."""
    return filled_model(SMALL[name], arbitrary(SMALL[name]))


def noise(samples: int) -> np.ndarray:
    return recipe.waveform(1, samples, 8000, 1)[0]


@pytest.mark.parametrize("name", ["cnn", "decision-attention"])
def test_a_window_of_any_length_gets_what_it_gets_alone(name: str):
    model = small(name)
    live, alone = LiveListener(model, WINDOWS), Listener(model)
    live.prepare()
    for length in (8000, 9, 4001):
        (expected,) = alone.hear([noise(length)])
        assert not isinstance(expected, InputError)
        np.testing.assert_allclose(live.hear(noise(length)), expected.clipwise, atol=1e-5)


def test_what_was_heard_before_leaves_no_trace():
    live = LiveListener(small("cnn"), WINDOWS)
    first = live.hear(noise(3000))
    live.hear(np.ones(8000, np.float32))
    np.testing.assert_array_equal(live.hear(noise(3000)), first)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "no finite numbers"), (1e12, "where 1 is full scale")])
def test_samples_that_cannot_be_heard_end_it_in_a_sentence(value: float, words: str):
    live = LiveListener(small("cnn"), WINDOWS)
    with pytest.raises(InputError, match=words):
        live.hear(np.full(100, value, np.float32))


def test_answers_tell_where_their_window_is():
    live = LiveListener(small("cnn"), WINDOWS)
    ring = Ring(WINDOWS, 8000, keeps_all=False)
    ring.put(noise(9000), 12.0)
    ring.finish()
    whole, rest = answers(live, ring)
    assert (whole.start, whole.end, whole.captured, whole.dropped, whole.unheard) == (0.0, 1.0, 12.0, 3, 0.0)
    assert (rest.start, rest.end) == (0.125, 1.125)
    assert whole.peak == pytest.approx(np.abs(noise(9000)[:8000]).max())
    assert whole.real_time_factor > 0
    np.testing.assert_array_equal(whole.clipwise, live.hear(noise(9000)[:8000]))


def test_a_sound_without_samples_is_told():
    ring = Ring(WINDOWS, 8000, keeps_all=True)
    ring.finish()
    with pytest.raises(InputError, match="before the first sample"):
        list(answers(LiveListener(small("cnn"), WINDOWS), ring))


@pytest.mark.slow
def test_many_windows_leave_nothing_behind(capsys: pytest.CaptureFixture[str]):
    live = LiveListener(small("cnn"), Windows(0.5, 0.1))
    ring = Ring(live.windows, 8000, keeps_all=True)
    thread = threading.Thread(target=lambda: (ring.put(noise(8000 * 150), 0.0), ring.finish()), daemon=True)
    thread.start()
    tally, shown, counts = Tally(), JsonLines(), []
    for answer in answers(live, ring):
        tally.add(answer)
        shown.show(answer, top_tags(answer.clipwise, live.config.labels, 3), tally)
        if tally.windows in (300, 1500):
            capsys.readouterr()
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert tally.windows == 1500
    assert abs(counts[1] - counts[0]) < 100


def answer(**changes: Any) -> Answer:
    told: dict[str, Any] = {
        "clipwise": np.array([0.25, 0.75, 0.5], np.float32),
        "start": 1.0,
        "end": 3.0,
        "captured": time.monotonic() - 0.25,
        "real_time_factor": 0.125,
        "peak": 0.1,
        "dropped": 2,
        "unheard": 0.5,
    }
    return Answer(**{**told, **changes})


def test_the_tally_counts_what_was_dropped_and_how_late_it_was():
    tally = Tally()
    assert tally.told(0) == "heard nothing"
    tally.add(answer())
    tally.add(answer(end=9.5, captured=time.monotonic() - 0.75, dropped=1, real_time_factor=0.375))
    assert (tally.windows, tally.dropped, tally.unheard, tally.seconds) == (2, 3, 1.0, 9.5)
    assert 0.75 <= tally.latency == tally.longest
    told = tally.told(4)
    assert told.startswith("heard 9.5 s in 2 windows; latency 0.5")
    assert "real-time factor 0.25; 3 windows dropped, 1.0 s unheard; the system lost sound 4 times" in told
    assert "unheard" not in Tally(windows=1).told(0)


def test_json_lines_tell_time_latency_factor_and_tags(capsys: pytest.CaptureFixture[str]):
    tally = Tally()
    tally.add(answer())
    with JsonLines() as shown:
        shown.show(answer(), top_tags(answer().clipwise, numbered(3), 2), tally)
    record = json.loads(capsys.readouterr().out)
    assert record.pop("clock").startswith("20")
    assert record.pop("latency") >= 0.25
    assert record == {
        "time": 3.0,
        "start": 1.0,
        "rtf": 0.125,
        "peak": 0.1,
        "dropped": 2,
        "unheard": 0.5,
        "tags": [
            {"label": "class 1", "id": "class 1", "index": 1, "probability": 0.75},
            {"label": "class 2", "id": "class 2", "index": 2, "probability": 0.5},
        ],
    }


def test_lines_tell_the_tags_in_words(capsys: pytest.CaptureFixture[str]):
    tally = Tally()
    tally.add(answer())
    with Lines() as shown:
        shown.show(answer(), top_tags(answer().clipwise, numbered(3), 1), tally)
        shown.show(answer(), [], tally)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("3.00 s: class 1 0.750 (latency 0.2")
    assert first.endswith("2 dropped)")
    assert second.startswith("3.00 s: nothing above --min-confidence (")


def test_the_screen_keeps_its_height_and_leaves_the_terminal_as_it_was():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, height=20, color_system=None)
    tally = Tally()
    tally.add(answer())
    with Screen(console, "microphone", CLASSES) as screen:
        screen.show(answer(), top_tags(answer().clipwise, numbered(3), 3), tally)
        full = file.getvalue()
        screen.show(answer(peak=0.0), [], tally)
    shown = file.getvalue()
    bars = [line for line in full.splitlines() if "class" in line]
    assert [line.split()[1] for line in bars] == ["1", "2", "0"]
    assert [line.count("━") for line in bars] == sorted((line.count("━") for line in bars), reverse=True)
    assert "level -20 dB   latency 2" in full
    assert "2 dropped" in full
    assert "level silence" in shown
    assert shown.count("\n") == shown.count("\x1b[1A")  # the cursor is back where it was
    assert {frame.count("\n") for frame in shown.split("microphone")[1:-1]} == {CLASSES + 2}
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "microphone" not in shown[shown.rindex("\x1b[?25h") :]
    assert shown.endswith("\x1b[2K")


def test_a_narrow_terminal_cuts_names_and_breaks_no_line():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=24, height=9, color_system=None)
    tally = Tally()
    tally.add(answer())
    with Screen(console, "a microphone of a long name", 2) as screen:
        screen.show(answer(), top_tags(answer().clipwise, numbered(3), 2), tally)
    assert "…" in file.getvalue()
