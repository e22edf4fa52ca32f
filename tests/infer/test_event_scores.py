"""Lists of events, and their scores beside a reference."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from panns_jax.errors import InputError
from panns_jax.infer.event_lists import ListedEvent, read_event_list
from panns_jax.infer.event_scores import Matching, score_events

HEADER = "filename\tonset\toffset\tevent_label\n"
REFERENCE = (
    HEADER
    + "a.wav\t0\t1\tSpeech\na.wav\t2\t3\tDog\nb.wav\t5\t6\tDog\nb.wav\t0.5\t4\tSpeech\nc.wav\t\t\t\nd.wav\t1\t2\tCat\n"
)


@pytest.fixture
def sed_eval() -> Any:
    return pytest.importorskip("sed_eval", reason="sed_eval scores events: pip install sed_eval 'setuptools<82'")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read_with_tabs_or_commas_with_a_header_or_without_one(tmp_path: Path):
    expected = {"a.wav": [ListedEvent(0, 1.5, "Speech"), ListedEvent(2, 3, "Dog, barking")], "b.wav": []}
    row = "x/a.wav\t0\t1.5\tSpeech\na.wav\t2\t3\tDog, barking\nb.wav\tnan\tnan\tnan\n"
    table = (
        'file,onset,offset,label,id,score\nx/a.wav,0,1.5,Speech,/m/1,0.5\na.wav,2,3,"Dog, barking",/m/2,1\nb.wav,,,,,\n'
    )
    for text in (HEADER + row, row, "\ufeff" + HEADER + row, (HEADER + row).replace("\n", "\r\n"), table):
        assert read_event_list(write(tmp_path / "x.tsv", text)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("filename\tonset\toffset\na.wav\t1\t2\n", "has no column event_label"),
        (HEADER + "a.wav\tone\t2\tDog\n", r"line 2: onset and offset must be seconds, not 'one' and '2'"),
        (HEADER + "a.wav\t3\t2\tDog\n", "line 2: an event from 3 to 2 s cannot be"),
        (HEADER + "a.wav\t1\tinf\tDog\n", "must be seconds"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_in_a_sentence(tmp_path: Path, text: str, told: str):
    with pytest.raises(InputError, match=told):
        read_event_list(write(tmp_path / "x.tsv", text))


def test_a_list_that_is_not_there_or_no_text_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such file"):
        read_event_list(tmp_path / "x.tsv")
    (tmp_path / "x.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_event_list(tmp_path / "x.tsv")


def test_scores_are_those_counted_by_hand(sed_eval: Any, tmp_path: Path):
    detected = HEADER + "a.wav\t0.1\t1.05\tSpeech\na.wav\t2.5\t3\tDog\nb.wav\t5.1\t5.9\tDog\nc.wav\t1\t2\tDog\n"
    segments, events = score_events(
        read_event_list(write(tmp_path / "reference.tsv", REFERENCE)),
        read_event_list(write(tmp_path / "detected.tsv", detected)),
        ["Speech", "Dog", "Cat"],
        Matching(),
    )
    # Speech: of a, seconds 0 and, by mistake, 1; of b, none of seconds 0 to 3.
    speech = segments.classes["Speech"]
    assert (speech.reference, speech.detected) == (5, 2)
    assert (speech.precision, speech.recall) == pytest.approx((1 / 2, 1 / 5))
    assert speech.f_score == pytest.approx(2 * 1 / (5 + 2))
    dog = segments.classes["Dog"]
    assert (dog.reference, dog.detected, dog.precision, dog.recall) == (2, 3, pytest.approx(2 / 3), 1)
    cat = segments.classes["Cat"]
    assert (cat.reference, cat.detected, cat.recall) == (1, 0, 0) and math.isnan(cat.f_score)
    assert segments.micro.f_score == pytest.approx(2 * 3 / (8 + 5))
    assert segments.macro.f_score == pytest.approx((2 / 7 + 4 / 5) / 2)
    # The first onset of Dog is half a second late.
    assert events.classes["Speech"].f_score == pytest.approx(2 * 1 / (2 + 1))
    assert events.classes["Dog"].f_score == pytest.approx(2 * 1 / (2 + 3))
    assert (events.micro.reference, events.micro.detected) == (5, 4)
    assert events.micro.f_score == pytest.approx(2 * 2 / (5 + 4))


def test_what_counts_as_the_same_is_what_the_options_say(sed_eval: Any, tmp_path: Path):
    reference = read_event_list(write(tmp_path / "r.tsv", HEADER + "a.wav\t1\t11\tDog\n"))

    def f_scores(onset: float, offset: float, matching: Matching) -> tuple[float, float]:
        detected = {"a.wav": [ListedEvent(onset, offset, "Dog")]}
        return tuple(scores.micro.f_score for scores in score_events(reference, detected, ["Dog"], matching))  # type: ignore[return-value]

    assert f_scores(1.15, 12.5, Matching())[1] == 1
    assert f_scores(1.15, 12.5, Matching(offset_share=0.1))[1] == 0
    assert f_scores(1.15, 11, Matching(collar=0.1))[1] == 0
    assert f_scores(1, 6, Matching(segment_length=10))[0] == pytest.approx(2 * 1 / (2 + 1))
    assert f_scores(1, 6, Matching(segment_length=5))[0] == pytest.approx(2 * 2 / (3 + 2))


def test_the_command_prints_tables_and_json_that_say_the_same(sed_eval: Any, main: Any, tmp_path: Path):
    reference = write(tmp_path / "reference.tsv", REFERENCE)
    detected = write(
        tmp_path / "detected.tsv", HEADER + "x/a.wav\t0\t1\tSpeech\ny/b.wav\t1\t2\tMusic\ne.wav\t1\t2\tCat\n"
    )
    command = ("evaluate-events", detected, "--reference", reference)
    done = main(*command)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "left out, as they are not scored: events of Music",
        "not in the reference, so that all events in them are wrong: e.wav",
    ]
    assert main(*command, "--format", "json", "--out", tmp_path / "x.json").stdout == ""
    told = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert told["event_based"]["classes"]["Speech"]["precision"] == 1
    assert told["event_based"]["classes"]["Dog"]["precision"] is None
    assert told["segment_based"]["segment_length"] == 1
    tables = done.stdout.split("\n\n")
    lines = {line.split("  ")[0]: line.split() for line in done.stdout.split("event-based")[1].splitlines()}
    assert float(lines["Speech"][1]) == pytest.approx(told["event_based"]["classes"]["Speech"]["f_score"], abs=1e-3)
    assert lines["Dog"][1:4] == ["–", "–", "0.000"]
    assert float(lines["micro average"][2]) == pytest.approx(told["event_based"]["micro"]["f_score"], abs=1e-3)
    assert len(tables) == 4
    only = json.loads(main(*command, "--format", "json", "--classes", "Dog", "Cat").stdout)
    assert set(only["event_based"]["classes"]) == {"Dog", "Cat"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--segment-length", 0), "--segment-length must be above 0"),
        (("--collar", 0), "--collar must be above 0"),
        (("--offset-share", 1.5), "--offset-share must be in [0, 1]"),
        (("--reference", "absent.tsv"), "absent.tsv: there is no such file"),
    ],
)
def test_options_that_cannot_be_are_told(sed_eval: Any, main: Any, options: tuple, told: str, tmp_path: Path):
    file = write(tmp_path / "x.tsv", REFERENCE)
    done = main("evaluate-events", file, "--reference", file, *options)
    assert done.returncode == 2
    assert told in done.stderr
