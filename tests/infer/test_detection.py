"""`panns-jax detect` on real files, through the real command."""

import csv
import io
import itertools
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile
from label_readers import read_label_track, read_selection_table
from small_models import SMALL
from weights import arbitrary

from panns_jax import load_model
from panns_jax.audio import read_waveform
from panns_jax.infer.event_lists import read_event_list
from panns_jax.models.registry import REGISTRY
from panns_jax.pretrained.native import Provenance, write_native

RATE = 8000
STEP = 160
"""Samples of a step of the decision-level models of the tests."""


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small decision-level model, which is known by its name as the published ones are."""
    file = tmp_path_factory.mktemp("decisions") / "decisions.safetensors"
    config = SMALL["decision-max"]
    write_native(file, config, arbitrary(config), Provenance(file="x.pth", sha256="0" * 64, licence="MIT"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, config.name, config)
        yield file


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two sounds of 3 and 1.25 s, loud and quiet in turn."""
    folder = tmp_path_factory.mktemp("sounds")
    files = []
    for number, samples in enumerate((3 * RATE, RATE + RATE // 4)):
        loudness = 10.0 ** -(np.arange(samples) // 3000 % 3)
        files.append(folder / f"sound {number}.wav")
        soundfile.write(files[-1], recipe.waveform(1, samples, RATE, number + 1)[0] * loudness, RATE)
    return files


def framewise(checkpoint: Path, sound: Path) -> np.ndarray:
    """What the model makes of each of its steps, from its published, repeated form."""
    model: Any = load_model(checkpoint=checkpoint)
    output = model(read_waveform(sound, model.config.sample_rate)[None])
    return np.asarray(output.framewise[0])[:: STEP // model.config.frontend.hop_size]


def runs(active: np.ndarray, duration: float) -> list[tuple[float, float]]:
    """Where a row of steps is active, one after another."""
    found = []
    for value, steps in itertools.groupby(range(len(active)), key=lambda step: bool(active[step])):
        *_, last = first, *_ = list(steps)
        if value:
            found.append((first * STEP / RATE, duration if last == len(active) - 1 else (last + 1) * STEP / RATE))
    return found


def test_events_are_where_the_steps_of_a_decision_level_model_are_above_the_threshold(
    main: Any, decisions: Path, sounds: list[Path]
):
    threshold = float(np.median(framewise(decisions, sounds[0])))
    done = main("detect", *sounds, "--checkpoint", decisions, "--threshold", threshold, "--format", "json")
    assert done.returncode == 0
    assert done.stderr.startswith("decision-max: time step 0.02 s\n")
    records = json.loads(done.stdout)
    assert [record["file"] for record in records] == [str(file) for file in sounds]
    assert [record["duration"] for record in records] == [3.0, 1.25]
    for record, sound in zip(records, sounds, strict=True):
        assert record["step"] == 0.02
        scores = framewise(decisions, sound)[: math.ceil(record["duration"] * RATE / STEP)]
        for index, label in enumerate(SMALL["decision-max"].labels):
            expected = runs(scores[:, index] > threshold, record["duration"])
            found = [event for event in record["events"] if event["label"] == label]
            assert [(event["onset"], event["offset"]) for event in found] == [pytest.approx(run) for run in expected]
            for event in found:
                steps = slice(round(event["onset"] * RATE / STEP), math.ceil(event["offset"] * RATE / STEP - 1e-6))
                assert event["score"] == pytest.approx(scores[steps, index].max(), abs=1e-5)
    assert sum(len(record["events"]) for record in records) > 10


def test_a_clip_level_model_hears_a_window_for_each_step(main: Any, by_hand: Any, checkpoint: Path, tmp_path: Path):
    long = tmp_path / "long.wav"
    sound = recipe.waveform(1, 32000 * 7, 32000, 3)[0] * (10.0 ** -(np.arange(32000 * 7) // 50_000 % 3))
    soundfile.write(long, sound, 32000, subtype="FLOAT")

    def scores(*options: object) -> list[list[float]]:
        folder = tmp_path / "scores"
        done = main("detect", long, "--checkpoint", checkpoint, "--scores", folder, *options)
        assert done.returncode == 0, done.stderr
        return [[float(cell) for cell in row.split("\t")] for row in (folder / "long.tsv").read_text().splitlines()[1:]]

    def heard(first: float, last: float) -> np.ndarray:
        part = tmp_path / "part.wav"
        soundfile.write(part, sound[round(first * 32000) : round(last * 32000)], 32000, subtype="FLOAT")
        return by_hand(part).clipwise

    rows = scores()
    assert [row[:2] for row in rows] == [[0, 2], [2, 4], [4, 6], [6, 7]]
    for row, window in zip(rows, [(0, 2), (2, 4), (4, 6), (5, 7)], strict=True):
        np.testing.assert_allclose(row[2:], heard(*window), atol=1e-5)
    rows = scores("--hop", 1)
    assert [row[:2] for row in rows] == [[second, second + 1] for second in range(7)]
    windows = [(0, 2), (0.5, 2.5), (1.5, 3.5), (2.5, 4.5), (3.5, 5.5), (4.5, 6.5), (5, 7)]
    for row, window in zip(rows, windows, strict=True):
        np.testing.assert_allclose(row[2:], heard(*window), atol=1e-5)


def test_the_time_step_of_windows_is_told(main: Any, checkpoint: Path, sounds: list[Path]):
    done = main("detect", sounds[0], "--checkpoint", checkpoint, "--hop", "0.5")
    assert done.stderr == "DemoCnn: time step 0.5 s, from windows of 2 s\n"


def test_all_formats_say_the_same(main: Any, decisions: Path, sounds: list[Path], tmp_path: Path):
    threshold = float(np.median(framewise(decisions, sounds[0])))

    def written(name: str, *options: object, files: list[Path] = sounds) -> Path:
        command = ("detect", *files, "--checkpoint", decisions, "--threshold", threshold, "--out", tmp_path / name)
        done = main(*command, *options)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return tmp_path / name

    records = json.loads(written("x.json").read_text())
    expected = [
        (Path(record["file"]).name, event["onset"], event["offset"], event["label"])
        for record in records
        for event in record["events"]
    ]
    assert [json.loads(line) for line in written("x.jsonl").read_text().splitlines()] == records
    rows = list(csv.DictReader(io.StringIO(written("x.csv").read_text())))
    assert list(rows[0]) == ["file", "onset", "offset", "label", "id", "score"]
    told = [(Path(row["file"]).name, float(row["onset"]), float(row["offset"]), row["label"]) for row in rows]
    assert told == expected

    dcase = read_event_list(written("x.tsv"))
    told = [(name, event.onset, event.offset, event.label) for name, events in dcase.items() for event in events]
    assert told == [
        (name, pytest.approx(onset), pytest.approx(offset), label) for name, onset, offset, label in expected
    ]
    assert written("y.txt", "--format", "dcase").read_bytes() == (tmp_path / "x.tsv").read_bytes()

    rttm = [line.split() for line in written("x.rttm").read_text().splitlines()]
    told = [(line[1], float(line[3]), float(line[3]) + float(line[4]), line[7]) for line in rttm]
    assert told == [
        (Path(name).stem.replace(" ", "_"), pytest.approx(onset), pytest.approx(offset), label.replace(" ", "_"))
        for name, onset, offset, label in expected
    ]

    selections = read_selection_table(written("x.selections.txt"))
    assert [(float(row["File Offset (s)"]), row["Class"]) for row in selections] == [
        (onset, label) for _, onset, _, label in expected
    ]
    labels = read_label_track(written("x.labels.txt", files=sounds[:1]))
    assert labels == [tuple(event[1:]) for event in expected if event[0] == sounds[0].name]

    pytest.importorskip("pyarrow", reason="pyarrow writes Parquet: pip install pyarrow")
    import pyarrow.parquet

    told = pyarrow.parquet.read_table(written("x.parquet")).to_pylist()
    assert [(Path(row["file"]).name, row["onset"], row["offset"], row["label"]) for row in told] == expected


def test_text_is_for_people(main: Any, decisions: Path, sounds: list[Path]):
    command = ("detect", *sounds, "--checkpoint", decisions, "--threshold")
    records = json.loads(main(*command, 0, "--format", "json").stdout)
    lines = main(*command, 0).stdout.splitlines()
    event = records[0]["events"][0]
    assert lines[0] == str(sounds[0])
    assert lines[1].split() == [
        f"{event['onset']:.3f}",
        f"{event['offset']:.3f}",
        f"{event['score']:.3f}",
        *event["label"].split(),
    ]
    assert main(*command, 1).stdout == f"{sounds[0]}\n    no events\n\n{sounds[1]}\n    no events\n"


def test_a_file_for_each_recording_in_a_folder(main: Any, decisions: Path, sounds: list[Path], tmp_path: Path):
    command = ("detect", *sounds, "--checkpoint", decisions, "--threshold", 0)
    assert main(*command, "--out", f"{tmp_path / 'lists'}/").returncode == 0
    for sound in sounds:
        (name,) = read_event_list(tmp_path / "lists" / f"{sound.name}.tsv")
        assert name == sound.name
    assert main(*command, "--out", f"{tmp_path / 'tracks'}/", "--format", "audacity").returncode == 0
    assert read_label_track(tmp_path / "tracks" / f"{sounds[1].name}.labels.txt")


def test_only_the_classes_that_are_wanted_are_found_and_scored(
    main: Any, decisions: Path, sounds: list[Path], tmp_path: Path
):
    command = ("detect", sounds[0], "--checkpoint", decisions, "--threshold", 0, "--scores", tmp_path / "scores")
    done = main(*command, "--format", "jsonl", "--classes", "class 3", "Class 1")
    assert {event["label"] for event in json.loads(done.stdout)["events"]} == {"class 1", "class 3"}
    header = (tmp_path / "scores" / "sound 0.tsv").read_text().splitlines()[0]
    assert header == "onset\toffset\tclass 3\tclass 1"


def test_rules_of_single_classes_come_from_a_file(main: Any, decisions: Path, sounds: list[Path], tmp_path: Path):
    (tmp_path / "rules.json").write_text('{"class 2": {"threshold": 0}}')
    command = ("detect", sounds[0], "--checkpoint", decisions, "--threshold", 1, "--format", "jsonl")
    (event,) = json.loads(main(*command, "--thresholds", tmp_path / "rules.json").stdout)["events"]
    assert (event["onset"], event["offset"], event["label"]) == (0, 3, "class 2")


def test_the_options_make_the_events(main: Any, decisions: Path, sounds: list[Path]):
    threshold = float(np.median(framewise(decisions, sounds[0])))

    def events(*options: object) -> list[dict[str, Any]]:
        command = ("detect", sounds[0], "--checkpoint", decisions, "--threshold", threshold, "--format", "jsonl")
        return json.loads(main(*command, *options).stdout)["events"]

    plain = events()
    assert all(event["offset"] - event["onset"] >= 0.1 - 1e-9 for event in events("--min-duration", 0.1))
    assert 0 < len(events("--min-duration", 0.1)) < len(plain)
    assert 0 < len(events("--min-gap", 0.2)) < len(plain)
    assert 0 < len(events("--median", 0.2)) < len(plain)
    assert events("--median", "11steps") == events("--median", 0.22)
    lasting = sum(event["offset"] - event["onset"] for event in plain)
    assert sum(event["offset"] - event["onset"] for event in events("--low", threshold / 2)) > lasting


def test_figures_are_drawn_one_or_one_for_each(main: Any, decisions: Path, sounds: list[Path], tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures: pip install matplotlib")
    command = ("--checkpoint", decisions, "--plot-classes", 3)
    assert main("detect", sounds[0], *command, "--plot", tmp_path / "x.svg").returncode == 0
    assert "</svg>" in (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert main("detect", *sounds, *command, "--plot", f"{tmp_path / 'figures'}/").returncode == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["sound 0.wav.png", "sound 1.wav.png"]


def test_files_that_fail_are_named_and_the_others_done(main: Any, decisions: Path, sounds: list[Path], tmp_path: Path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    done = main("detect", tmp_path / "broken.wav", sounds[1], "--checkpoint", decisions, "--out", tmp_path / "x.tsv")
    assert done.returncode == 1
    assert "left out 1 of 2 files" in done.stderr and "broken.wav" in done.stderr
    assert (tmp_path / "x.tsv").exists()
    done = main("detect", tmp_path / "broken.wav", "--checkpoint", decisions, "--out", tmp_path / "y.tsv")
    assert done.returncode == 2
    assert not (tmp_path / "y.tsv").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--threshold", 2), "the options: a threshold must be in [0, 1]"),
        (("--threshold", 0.3, "--low", 0.4), "a low threshold must not be above"),
        (("--median", "2steps"), "a median filter spans an odd number of steps"),
        (("--min-gap", -1), "a smallest gap must be at least 0 seconds"),
        (("--window", 2), "--window and --hop are for clip-level models"),
        (("--classes", "class 9"), "'class 9' is no class of"),
        (("--classes",), "--classes needs a value"),
        (("--out", "x.xyz"), "its ending tells no format"),
        (("--format", "parquet"), "parquet is no text and cannot be printed"),
        (("--format", "audacity"), "an Audacity label track belongs to one recording, and there are 2"),
        (("--plot", "x.gif"), "a figure ends in .png, .pdf, .svg"),
        (("--plot", "x.png"), "--plot x.png is one figure, and there are 2 files: name a folder"),
        (("--plot", "figures/", "--plot-classes", 0), "--plot-classes must be at least 1"),
        (("--thresholds", "absent.csv"), "absent.csv: there is no such file"),
    ],
)
def test_options_that_cannot_be_are_told_in_a_sentence(
    main: Any, decisions: Path, sounds: list[Path], options: tuple, told: str, tmp_path: Path, monkeypatch: Any
):
    monkeypatch.chdir(tmp_path)
    done: subprocess.CompletedProcess[str] = main("detect", *sounds, "--checkpoint", decisions, *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""
