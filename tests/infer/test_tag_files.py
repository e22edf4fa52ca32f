"""`panns-jax tag` hears long recordings window by window, and its files are read by other programs' readers."""

import contextlib
import csv
import io
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile
from label_readers import read_label_track, read_selection_table

from panns_jax import cli
from panns_jax.infer import tagging
from panns_jax.labels import audioset

RATE = 8000
SECONDS = 5.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of recordings: `north/a.wav` of 5.5 s, `south/a.wav` and `south/a.flac` of 2 s."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds in (("north/a.wav", SECONDS), ("south/a.wav", 2), ("south/a.flac", 2)):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, recipe.waveform(1, int(seconds * RATE), RATE, len(name))[0], RATE)
    return folder


@pytest.fixture
def tag(main: Any, checkpoint: Path) -> Callable[..., Any]:
    """Runs `panns-jax tag` with the checkpoint, which is to end with a code (0 by default)."""

    def run(*arguments: object, code: int = 0) -> Any:
        done = main("tag", "--checkpoint", checkpoint, *arguments)
        assert done.returncode == code, done.stderr
        return done

    return run


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_window_gets_what_it_gets_as_a_file_of_its_own(tag: Any, folder: Path, tmp_path: Path):
    whole, rate = soundfile.read(folder / "north/a.wav")
    spans = [(0, 2), (1.5, 3.5), (3, 5), (4.5, SECONDS)]
    for number, (start, end) in enumerate(spans):
        soundfile.write(tmp_path / f"{number}.wav", whole[int(start * rate) : int(end * rate)], rate)
    options = ("--format", "json", "--top", "all")
    alone = json.loads(tag(*sorted(tmp_path.iterdir()), *options).stdout)
    windows = json.loads(tag(folder / "north/a.wav", *options, "--window", 2, "--hop", 1.5, "--only", "windows").stdout)
    assert [(window["start"], window["end"]) for window in windows] == spans
    assert {(window["duration"], window["summary"]) for window in windows} == {(SECONDS, None)}
    for window, part in zip(windows, alone, strict=True):
        by_label = {tag["label"]: tag["probability"] for tag in part["tags"]}
        assert len(window["tags"]) == len(by_label) == 527
        # Parts are resampled with their neighbours, files without.
        assert max(abs(tag["probability"] - by_label[tag["label"]]) for tag in window["tags"]) < 0.05


def test_windows_are_followed_by_summaries_of_each_file(tag: Any, folder: Path):
    options = ("--window", 2, "--top", "all", "--format", "csv")
    table = rows(tag(folder / "north/a.wav", folder / "south/a.flac", *options).stdout)
    assert list(table[0]) == ["file", "start", "end", "summary", "rank", "label", "id", "probability"]
    long = [row for row in table if row["file"] == str(folder / "north/a.wav")]
    places = list(dict.fromkeys((float(row["start"]), float(row["end"]), row["summary"]) for row in long))
    assert places == [(0, 2, ""), (2, 4, ""), (4, SECONDS, ""), (0, SECONDS, "max"), (0, SECONDS, "mean")]
    by_label = {
        row["label"]: [float(other["probability"]) for other in long if other["label"] == row["label"]]
        for row in long[:20]
    }
    for first, second, last, maximum, mean in by_label.values():
        assert maximum == max(first, second, last)
        assert mean == pytest.approx((2 * first + 2 * second + 1.5 * last) / SECONDS, abs=1e-6)
    short = [row for row in table if row["file"] == str(folder / "south/a.flac")]
    assert {row["probability"] for row in short if row["rank"] == "1"} == {short[0]["probability"]}  # one window


def test_a_window_alone_moves_on_by_its_length(tag: Any, folder: Path):
    lines = tag(folder / "north/a.wav", "--window", 2, "--top", 1).stdout.splitlines()
    headings = [line for line in lines if not line.startswith(" ")]
    windows = ["0 to 2 s", "2 to 4 s", "4 to 5.5 s"]
    assert headings == [*windows, "0 to 5.5 s, max of the windows", "0 to 5.5 s, mean of the windows"]
    assert len(lines) == 2 * len(headings)


def test_all_formats_of_windows_say_the_same(tag: Any, folder: Path, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arguments = (folder / "north/a.wav", folder / "south/a.wav", "--window", 2, "--hop", 1, "--top", 3)
    for ending in ("csv", "json", "jsonl", "parquet"):
        assert tag(*arguments, "--out", tmp_path / f"tags.{ending}").stdout == ""
    records = json.loads((tmp_path / "tags.json").read_text())
    assert [json.loads(line) for line in (tmp_path / "tags.jsonl").read_text().splitlines()] == records
    flat = [
        (record["file"], record["start"], record["end"], record["summary"], rank, *list(tag.values())[:2], score)
        for record in records
        for rank, tag in enumerate(record["tags"], start=1)
        for score in [tag["probability"]]
    ]
    table = parquet.read_table(tmp_path / "tags.parquet").to_pylist()
    assert [tuple(row.values())[:-1] for row in table] == [row[:-1] for row in flat]
    assert [np.float32(row["probability"]) for row in table] == [np.float32(row[-1]) for row in flat]
    read = rows((tmp_path / "tags.csv").read_text())
    assert [tuple(row.values()) for row in read] == [
        tuple("" if value is None else str(value) for value in row) for row in flat
    ]


def test_classes_are_asked_for_by_name_and_id_and_told_whatever_their_rank(tag: Any, folder: Path):
    wanted = ("speech", "/m/04rlf", "Dog")
    table = rows(tag(folder / "south/a.wav", "--format", "csv", "--classes", *wanted).stdout)
    assert {row["label"] for row in table} == {"Speech", "Music", "Dog"}
    again = tag(folder / "south/a.wav", "--format", "csv", "--classes", "Dog", "--classes", "Speech", "Music").stdout
    assert rows(again) == table
    best = rows(tag(folder / "south/a.wav", "--format", "csv", "--top", 1, "--classes", *wanted).stdout)
    assert best == table[:1]
    none = tag("--classes", "Speech", folder / "south/a.wav", code=2).stderr
    assert f"--classes takes all names after it, and {folder / 'south/a.wav'} is a file" in none
    assert tag("--classes", "Dog", "--", folder / "south/a.wav").stdout.startswith("Dog: ")
    assert "'Dgo' is no class of audioset; did you mean 'Dog'" in (
        tag(folder / "south/a.wav", "--classes", "Dgo", code=2).stderr
    )


def test_classes_below_a_confidence_are_left_out_and_all_others_told(tag: Any, folder: Path):
    every = rows(tag(folder / "south/a.wav", "--format", "csv", "--top", "all").stdout)
    assert len(every) == 527
    least = every[25]["probability"]
    told = rows(tag(folder / "south/a.wav", "--format", "csv", "--min-confidence", least).stdout)
    assert told == [row for row in every if float(row["probability"]) >= float(least)]
    assert len(told) >= 26
    nothing = tag(folder / "south/a.wav", "--format", "csv", "--min-confidence", 1).stdout
    assert nothing == "file,rank,label,id,probability\n"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_wide_table_has_a_column_for_each_class(ending: str, tag: Any, folder: Path, tmp_path: Path):
    out = tmp_path / f"wide.{ending}"
    tag(folder / "south/a.wav", folder / "south/a.flac", "--wide", "--out", out)
    if ending == "csv":
        table: list[Any] = rows(out.read_text())
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    assert list(table[0]) == ["file", *audioset().names]
    record = json.loads(tag(folder / "south/a.wav", "--format", "json", "--top", "all").stdout)[0]
    for of_class in record["tags"]:
        assert np.float32(table[0][of_class["label"]]) == np.float32(of_class["probability"])
    tag(folder / "north/a.wav", "--window", 2, "--wide", "--classes", "Dog", "Speech", "--out", out)
    if ending == "csv":
        assert out.read_text().splitlines()[0] == "file,start,end,summary,Dog,Speech"
        assert len(out.read_text().splitlines()) == 1 + 3 + 2


def test_a_label_track_and_a_selection_table_have_the_windows(tag: Any, folder: Path, tmp_path: Path):
    arguments = (folder / "north/a.wav", "--window", 2, "--top", 2)
    records = json.loads(tag(*arguments, "--format", "json", "--only", "windows").stdout)
    expected = [(record["start"], record["end"], tag["label"]) for record in records for tag in record["tags"]]
    tag(*arguments, "--out", tmp_path / "a.labels.txt")
    assert read_label_track(tmp_path / "a.labels.txt") == expected
    tag(*arguments, "--out", tmp_path / "a.selections.txt")
    table = read_selection_table(tmp_path / "a.selections.txt")
    assert [(float(row["Begin Time (s)"]), float(row["End Time (s)"]), row["Class"]) for row in table] == expected
    assert {row["Begin Path"] for row in table} == {str(folder / "north/a.wav")}
    scores = [tag["probability"] for record in records for tag in record["tags"]]
    assert [float(row["Score"]) for row in table] == scores
    assert {(float(row["Low Freq (Hz)"]), float(row["High Freq (Hz)"])) for row in table} == {(50.0, 14000.0)}


def test_a_selection_table_of_several_recordings_counts_on(tag: Any, folder: Path, tmp_path: Path):
    files = (folder / "north/a.wav", folder / "south/a.wav")
    tag(*files, "--classes", "Dog", "--format", "raven", "--out", tmp_path / "all.txt")
    table = read_selection_table(tmp_path / "all.txt")
    assert [(float(row["Begin Time (s)"]), float(row["File Offset (s)"])) for row in table] == [(0, 0), (SECONDS, 0)]
    assert [row["Begin Path"] for row in table] == [str(file) for file in files]


@pytest.mark.parametrize("format", ["audacity", "raven", "csv", "jsonl"])
def test_windows_in_a_row_with_the_same_class_are_merged(format: str, tag: Any, folder: Path, tmp_path: Path):
    arguments = ("--window", 1, "--hop", 0.5, "--classes", "Dog", "Speech", "--merge", "--format", format)
    tag(folder / "north/a.wav", *arguments, "--out", tmp_path / "merged")
    expected = {(0, SECONDS, "Dog"), (0, SECONDS, "Speech")}
    if format == "audacity":
        read = set(read_label_track(tmp_path / "merged"))
    elif format == "raven":
        table = read_selection_table(tmp_path / "merged")
        read = {(float(row["Begin Time (s)"]), float(row["End Time (s)"]), row["Class"]) for row in table}
    else:
        text = (tmp_path / "merged").read_text()
        table = rows(text) if format == "csv" else [json.loads(line) for line in text.splitlines()]
        assert list(table[0]) == ["file", "start", "end", "label", "id", "score"]
        read = {(float(row["start"]), float(row["end"]), row["label"]) for row in table}
    assert read == expected


def test_a_folder_gets_a_file_for_each_recording_in_their_tree(tag: Any, folder: Path, tmp_path: Path):
    files = sorted(folder.rglob("a.*"))
    tag(*files, "--format", "audacity", "--window", 2, "--top", 1, "--out", f"{tmp_path / 'labels'}/")
    written = {path.relative_to(tmp_path / "labels").as_posix() for path in tmp_path.rglob("*.*")}
    assert written == {"north/a.wav.labels.txt", "south/a.wav.labels.txt", "south/a.flac.labels.txt"}
    assert len(read_label_track(tmp_path / "labels/north/a.wav.labels.txt")) == 3
    tag(*files, "--top", 1, "--out", tmp_path / "labels")
    (row,) = rows((tmp_path / "labels/south/a.flac.csv").read_text())
    assert row["file"] == str(folder / "south/a.flac")


def test_a_recording_that_fails_has_no_file_and_stops_nothing(tag: Any, folder: Path, tmp_path: Path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    good = folder / "south/a.wav"
    done = tag(bad, good, "--out", tmp_path / "one.csv", code=1)
    assert f"  {bad}: cannot be read as sound" in done.stderr
    assert {row["file"] for row in rows((tmp_path / "one.csv").read_text())} == {str(good)}
    tag(bad, good, "--out", f"{tmp_path / 'each'}/", code=1)
    assert [path.name for path in (tmp_path / "each").rglob("*.csv")] == ["a.wav.csv"]
    tag(bad, "--out", tmp_path / "none.csv", code=2)
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize("out", ["tags.csv", "tags.json", "tags.parquet", "tags.selections.txt", "each/"])
def test_an_interrupted_run_leaves_nothing_half_written(
    out: str, tag: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if out.endswith("parquet"):
        pytest.importorskip("pyarrow")
    writing_tags = tagging.writing_tags
    told = []

    @contextlib.contextmanager
    def broken_off(path: Path | None, layout: Any) -> Iterator[Any]:
        with writing_tags(path, layout) as writer:

            def add(sound: Any) -> None:
                writer.add(sound)
                told.append(sound)
                if len(told) == 2:
                    raise KeyboardInterrupt

            yield types.SimpleNamespace(add=add)

    monkeypatch.setattr(tagging, "writing_tags", broken_off)
    monkeypatch.setattr(cli, "leave_at_once", sys.exit)  # not so at once that this process ends
    tag(folder / "south/a.wav", folder / "north/a.wav", "--out", f"{tmp_path}/{out}", code=130)
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert left == (["each/south/a.wav.csv"] if out == "each/" else [])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--hop", "5"), "--hop (from one window to the next) needs --window, the length of the windows in seconds"),
        (("--only", "max"), "--only (which of windows, max and mean) needs --window"),
        (("--merge",), "--merge (windows in a row with the same class) needs --window"),
        (("--window", "1", "--hop", "2"), "the hop must be above 0, and at most the window"),
        (("--window", "0"), "the hop must be above 0, and at most the window"),
        (("--window", "nan"), "the hop must be above 0, and at most the window"),
        (("--min-confidence", "1.5"), "--min-confidence must be between 0 and 1, not 1.5"),
        (("--min-confidence", "nan"), "--min-confidence must be between 0 and 1, not nan"),
        (("--window", "1", "--merge"), "--merge is for labels and tables: name one with --format"),
        (
            ("--window", "1", "--merge", "--only", "max", "--format", "raven"),
            "--merge joins windows, of which --only max leaves none",
        ),
        (("--wide",), "--wide is for tables: name one with --format csv or parquet, not text"),
        (("--wide", "--format", "csv", "--top", "3"), "--wide has a column for each class"),
        (("--format", "parquet"), "name a file with --out, such as tags.parquet"),
        (("--out", "tags.xls"), "--out tags.xls: its ending tells no format"),
        (("--out", "nowhere/tags.csv"), "cannot write nowhere/tags.csv: the folder nowhere does not exist"),
        (("--out", "/dev/null", "--format", "csv"), "/dev/null is a pipe or device"),
        (("other.wav", "--format", "audacity"), "name a folder with --out, for a label track for each"),
        (("--classes",), "--classes needs a value"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_a_sentence(
    options: tuple[str, ...], sentence: str, tag: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.wav").write_bytes((folder / "south/a.wav").read_bytes())
    done = tag(folder / "south/a.wav", *options, code=2)
    assert sentence in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other.wav"]


def test_real_recordings_are_heard_window_by_window(tag: Any, tmp_path: Path):
    files = sorted(Path("/usr/share/sounds").rglob("*.og[ag]"))[::20]
    if not files:
        pytest.skip("no sounds installed (Debian: sound-theme-freedesktop)")
    tag(*files, "--window", 1, "--only", "windows", "--top", 1, "--out", tmp_path / "all.selections.txt")
    table = read_selection_table(tmp_path / "all.selections.txt")
    assert list(dict.fromkeys(row["Begin Path"] for row in table)) == [str(file) for file in files]
    begins = [float(row["Begin Time (s)"]) for row in table]
    assert begins == sorted(begins)
