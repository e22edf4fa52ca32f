"""Label tracks and selection tables are what Audacity and Raven expect."""

import csv
import os
from pathlib import Path

import pytest
from label_readers import read_label_track, read_selection_table

from panns_jax.errors import InputError
from panns_jax.infer.writers.audacity import writing_audacity
from panns_jax.infer.writers.raven import writing_raven
from panns_jax.infer.writers.spans import LabelledSound, Span, writing_span_table

SPEECH = Span(10.0, 20.0, "Male speech, man speaking", "/m/05zppz", 0.875)
DOG = Span(0.0, 12.3456789, "Dog", "/m/0bt9lr", 0.5)
FIRST = LabelledSound("first.wav", 30.5, (SPEECH, DOG))
SILENT = LabelledSound("silent.wav", 2.25, ())
LAST = LabelledSound("last.flac", 20.0, (SPEECH,))


def test_a_label_track_has_a_line_per_span_by_time(tmp_path: Path):
    with writing_audacity(tmp_path / "x.labels.txt") as writer:
        writer.add(FIRST)
    expected = [(0.0, 12.345679, "Dog"), (10.0, 20.0, "Male speech, man speaking")]
    assert read_label_track(tmp_path / "x.labels.txt") == expected


def test_a_label_track_of_a_recording_where_nothing_is_heard_is_empty(tmp_path: Path):
    with writing_audacity(tmp_path / "x.txt") as writer:
        writer.add(SILENT)
    assert read_label_track(tmp_path / "x.txt") == []


def test_a_second_recording_has_no_place_in_a_label_track(tmp_path: Path):
    told = r"belongs to one recording, and last\.flac comes after first\.wav: name a folder"
    with pytest.raises(InputError, match=told), writing_audacity(tmp_path / "x.txt") as writer:
        writer.add(FIRST)
        writer.add(LAST)
    assert list(tmp_path.iterdir()) == []


def test_a_selection_table_counts_on_over_recordings_and_tells_the_time_in_each(tmp_path: Path):
    with writing_raven(tmp_path / "x.txt", (50, 14000)) as writer:
        for sound in (FIRST, SILENT, LAST):
            writer.add(sound)
    rows = read_selection_table(tmp_path / "x.txt")
    assert [float(row["Begin Time (s)"]) for row in rows] == [0, 10, 30.5 + 2.25 + 10]
    assert [float(row["End Time (s)"]) for row in rows] == [12.345679, 20, 30.5 + 2.25 + 20]
    assert [float(row["File Offset (s)"]) for row in rows] == [0, 10, 10]
    assert [row["Begin Path"] for row in rows] == ["first.wav", "first.wav", "last.flac"]
    assert [(row["Class"], row["ID"], float(row["Score"])) for row in rows] == [
        ("Dog", "/m/0bt9lr", 0.5),
        ("Male speech, man speaking", "/m/05zppz", 0.875),
        ("Male speech, man speaking", "/m/05zppz", 0.875),
    ]
    assert {(row["Low Freq (Hz)"], row["High Freq (Hz)"]) for row in rows} == {("50.0", "14000.0")}


def test_recordings_are_found_from_wherever_a_selection_table_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two  blanks.wav").touch()
    with writing_raven(Path("x.txt"), (0, 16000)) as writer:
        writer.add(LabelledSound("two  blanks.wav", 20.0, (SPEECH,)))
    (row,) = read_selection_table(tmp_path / "x.txt")
    assert row["Begin Path"] == str(tmp_path / "two  blanks.wav")


@pytest.mark.skipif(os.name == "nt", reason="no such file names")
def test_names_with_tabs_and_line_breaks_begin_no_cells_and_lines(tmp_path: Path):
    span = Span(0.0, 1.0, "a\tlabel\nof two lines", "a\tb", 1.0)
    sound = LabelledSound("a\tb\nc\r.wav", 1.0, (span,))
    with writing_raven(tmp_path / "raven.txt", (0, 16000)) as writer:
        writer.add(sound)
    (row,) = read_selection_table(tmp_path / "raven.txt")
    assert (row["Class"], row["ID"], row["Begin Path"]) == ("a label of two lines", "a b", "a b c .wav")
    with writing_audacity(tmp_path / "audacity.txt") as writer:
        writer.add(sound)
    assert read_label_track(tmp_path / "audacity.txt") == [(0, 1, "a label of two lines")]


def test_a_selection_table_of_nothing_has_its_header(tmp_path: Path):
    with writing_raven(tmp_path / "x.txt", (0, 16000)) as writer:
        writer.add(SILENT)
    assert read_selection_table(tmp_path / "x.txt") == []


def test_spans_are_a_table(tmp_path: Path):
    with writing_span_table(tmp_path / "x.csv", "csv") as writer:
        for sound in (FIRST, SILENT, LAST):
            writer.add(sound)
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "start", "end", "label", "id", "score"],
        ["first.wav", "10.0", "20.0", "Male speech, man speaking", "/m/05zppz", "0.875"],
        ["first.wav", "0.0", "12.345679", "Dog", "/m/0bt9lr", "0.5"],
        ["last.flac", "10.0", "20.0", "Male speech, man speaking", "/m/05zppz", "0.875"],
    ]
