"""`panns-jax tag` on real files, through the real command."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import recipe
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax import load_model
from panns_jax.infer import programs
from panns_jax.infer.rows import Rows
from panns_jax.infer.tagging import top_tags
from panns_jax.labels import audioset, numbered

SUBTYPES = {
    "wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"),
    "flac": ("PCM_S8", "PCM_16", "PCM_24"),
    "ogg": ("VORBIS",),
    "mp3": ("MPEG_LAYER_III",),
    "aiff": ("PCM_16",),
    "caf": ("ALAC_16",),
}


def test_text_is_the_top_ten_and_the_shape_of_the_embedding(command: Any, by_hand: Any, checkpoint: Path, sound: Path):
    done = command("tag", sound, "--checkpoint", checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    clipwise = by_hand(sound).clipwise
    top = np.argsort(-clipwise)[:10]
    expected = [f"{audioset()[i]}: {clipwise[i]:.3f}" for i in top]
    assert done.stdout.splitlines() == [*expected, "embedding: (128,)"]


def test_a_body_in_bfloat16_answers_nearly_the_same(main: Any, by_hand: Any, checkpoint: Path, sound: Path):
    options = ("tag", sound, "--checkpoint", checkpoint, "--format", "json")
    done = main(*options, "--precision", "bfloat16")
    assert done.returncode == 0
    (record,) = json.loads(done.stdout)
    whole = by_hand(sound).clipwise
    differences = [abs(tag["probability"] - whole[tag["index"]]) for tag in record["tags"]]
    assert 1e-6 < max(differences) < 1e-2
    assert main(*options, "--precision", "bf16").stdout == done.stdout
    refused = main(*options, "--precision", "float16")
    assert refused.returncode == 2
    assert "--precision must be one of 'float32', 'tf32', 'bfloat16', 'bf16'" in refused.stderr


def test_json_tells_everything_about_every_file(main: Any, by_hand: Any, checkpoint: Path, sound: Path, tmp_path: Path):
    other = tmp_path / "Vögel 鳥.wav"
    soundfile.write(other, recipe.waveform(1, 16000, 8000, 5)[0], 8000)
    done = main("tag", sound, other, "--checkpoint", checkpoint, "--format", "json", "--top", 3)
    assert done.returncode == 0
    records = json.loads(done.stdout)
    assert [record["file"] for record in records] == [str(sound), str(other)]
    assert [record["duration"] for record in records] == [1.0, 2.0]
    for record, path in zip(records, (sound, other), strict=True):
        assert set(record) == {"file", "duration", "tags", "embedding_dim"}
        assert record["embedding_dim"] == 128
        clipwise = by_hand(path).clipwise
        assert [tag["index"] for tag in record["tags"]] == list(np.argsort(-clipwise)[:3])
        for tag in record["tags"]:
            assert tag["label"] == audioset().names[tag["index"]]
            assert tag["id"] == audioset().ids[tag["index"]]
            assert tag["probability"] == pytest.approx(clipwise[tag["index"]], abs=1e-5)


def test_all_formats_say_the_same(main: Any, checkpoint: Path, sound: Path, tmp_path: Path):
    other = tmp_path / "with, comma.wav"
    soundfile.write(other, recipe.waveform(1, 32000, 32000, 5)[0], 32000)

    def printed(format: str) -> str:
        arguments = ("tag", sound, other, "--checkpoint", checkpoint, "--format", format, "--top", "4")
        return main(*arguments).stdout

    records = json.loads(printed("json"))
    assert [json.loads(line) for line in printed("jsonl").splitlines()] == records

    rows = list(csv.DictReader(io.StringIO(printed("csv"))))
    assert list(rows[0]) == ["file", "rank", "label", "id", "probability"]
    expected = [(record["file"], rank, tag) for record in records for rank, tag in enumerate(record["tags"], start=1)]
    assert len(rows) == len(expected) == 8
    for row, (file, rank, tag) in zip(rows, expected, strict=True):
        assert row["file"] == file
        assert int(row["rank"]) == rank
        assert (row["label"], row["id"], float(row["probability"])) == (tag["label"], tag["id"], tag["probability"])

    lines: list[str] = []
    for record in records:
        tags = [f"{tag['label']}: {tag['probability']:.3f}" for tag in record["tags"]]
        lines += [record["file"], *tags, "embedding: (128,)", ""]
    assert printed("text").splitlines() == lines[:-1]


@pytest.mark.parametrize("kind", list(SUBTYPES))
def test_any_format_rate_and_channel_count_is_heard(kind: str, main: Any, checkpoint: Path, tmp_path: Path):
    rates = (8000, 16000, 44100) if kind == "mp3" else (8000, 11025, 22050, 32000, 44100, 48000, 96000)
    files = []
    for i, subtype in enumerate(SUBTYPES[kind]):
        for j, channels in enumerate((1, 2) if kind in ("mp3", "caf") else (1, 2, 6)):
            rate = rates[(2 * i + j) % len(rates)]
            sound = recipe.waveform(1, rate, rate, 1).T.repeat(channels, axis=1)
            files.append(tmp_path / f"{subtype}_{channels}_{rate}.{kind}")
            soundfile.write(files[-1], sound, rate, subtype=subtype)
    done = main("tag", *files, "--checkpoint", checkpoint, "--format", "json", "--top", 527)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [record["file"] for record in records] == [str(file) for file in files]
    for record in records:
        assert record["duration"] == pytest.approx(1, abs=0.2)
        assert len({tag["label"] for tag in record["tags"]}) == 527
        probabilities = [tag["probability"] for tag in record["tags"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < probabilities[-1] < probabilities[0] < 1


def test_channels_are_heard_as_their_mean(main: Any, checkpoint: Path, tmp_path: Path):
    left, right = recipe.waveform(2, 32000, 32000, 1)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 32000, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", (left + right) / 2, 32000, subtype="FLOAT")
    arguments = ("--checkpoint", checkpoint, "--format", "json")
    done = main("tag", tmp_path / "stereo.wav", tmp_path / "mono.wav", *arguments)
    stereo, mono = json.loads(done.stdout)
    assert [tag["label"] for tag in stereo["tags"]] == [tag["label"] for tag in mono["tags"]]
    assert [tag["probability"] for tag in stereo["tags"]] == pytest.approx([tag["probability"] for tag in mono["tags"]])


def test_a_clip_may_be_as_short_as_one_sample(main: Any, by_hand: Any, checkpoint: Path, tmp_path: Path):
    files = []
    for samples in (1, 2, 100):
        for rate in (8000, 96000):
            files.append(tmp_path / f"{samples}_{rate}.wav")
            soundfile.write(files[-1], np.full(samples, 0.5), rate)
    done = main("tag", *files, "--checkpoint", checkpoint, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    for file, line in zip(files, done.stdout.splitlines(), strict=True):
        record = json.loads(line)
        assert 0 < record["duration"] <= 0.02
        expected = sorted(by_hand(file).clipwise, reverse=True)[:10]
        assert [tag["probability"] for tag in record["tags"]] == pytest.approx(expected, abs=1e-5)


def test_files_that_fail_are_named_at_the_end_and_the_others_done(
    main: Any, checkpoint: Path, sound: Path, tmp_path: Path
):
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"this is no sound" * 100)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), 8000)
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(8000, 1e30), 32000, subtype="DOUBLE")
    missing = tmp_path / "missing.wav"
    overlong = tmp_path / ("x" * 300)
    folder = tmp_path / "folder"
    folder.mkdir()
    done = main("tag", missing, sound, noise, folder, sound, empty, loud, overlong, "--checkpoint", checkpoint)
    assert done.returncode == 1
    assert done.stdout.count("embedding: (128,)") == 2
    assert "Traceback" not in done.stderr
    bar, told = done.stderr.split("left out 6 of 8 files:\n")
    assert "8/8" in bar and "6 failed" in bar
    reasons = (
        "there is no such file",
        "cannot be read as sound",
        "no sound file is in the folder",
        "holds no samples",
        "reach 1e+30",
    )
    named = {**dict(zip((missing, noise, folder, empty, loud), reasons, strict=True)), overlong: "name too long"}
    for line, (path, reason) in zip(told.splitlines(), named.items(), strict=True):
        assert line.startswith(f"  {path}: ")
        assert reason in line


def test_a_clip_too_long_for_the_memory_is_left_out(
    main: Any, checkpoint: Path, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    long = tmp_path / "long.wav"
    soundfile.write(long, recipe.waveform(1, 48000, 32000, 1)[0], 32000)
    run = programs._steps

    def run_in_little_memory(graph: Any, state: Any, rows: Rows, names: tuple[str, ...]) -> Any:
        if rows.waveform.shape[1] > 40000:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore of it.")
        return run(graph, state, rows, names)

    monkeypatch.setattr(programs, "_steps", run_in_little_memory)
    done = main("tag", long, sound, "--checkpoint", checkpoint)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == str(sound)
    told = "1.5 s of sound could not be heard, as where memory is short (RESOURCE_EXHAUSTED: Out of memory"
    assert f"  {long}: {told}" in done.stderr and "More of it" not in done.stderr


@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv"])
def test_nothing_is_printed_where_every_file_fails(format: str, main: Any, checkpoint: Path, tmp_path: Path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    one = main("tag", bad, "--checkpoint", checkpoint, "--format", format)
    assert (one.returncode, one.stdout) == (2, "")
    assert one.stderr.count("\n") == 1
    assert f"{bad}: cannot be read as sound" in one.stderr
    two = main("tag", bad, tmp_path / "missing.wav", "--checkpoint", checkpoint, "--format", format)
    assert (two.returncode, two.stdout) == (2, "")
    assert "none of the 2 files could be used:" in two.stderr
    assert "Traceback" not in two.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top", "0"), "--top must be at least 1, not 0"),
        (("--top", "-3"), "--top must be at least 1, not -3"),
        (("--checkpoint", "nowhere.pth"), "nowhere.pth: there is no such file"),
        (("--checkpoint", "x" * 300), "xxx: cannot be read: File name too long"),
        (("--model", "Cnn41"), "there is no model 'Cnn41'; did you mean Cnn14"),
        (
            ("--model", "Cnn14_mel32"),
            "Cnn14_mel32 needs a checkpoint, as none was released; released are those of Cnn6",
        ),
        (("--mirror", "nowhere"), "the mirror must be the URL of a folder"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_in_a_sentence(
    options: tuple[str, ...], message: str, main: Any, sound: Path
):
    done = main("tag", sound, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_no_model_is_named_the_released_cnn14_is_asked_for(
    main: Any, sound: Path, tmp_path: Path, monkeypatch: Any
):
    from panns_jax.pretrained import download

    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "UNREACHABLE_WAITS", ())
    done = main("tag", sound, "--mirror", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "http://127.0.0.1:9/Cnn14_mAP%3D0.431.pth: the server cannot be reached" in done.stderr


def test_a_checkpoint_of_another_model_than_the_one_named_is_refused(main: Any, checkpoint: Path, sound: Path):
    done = main("tag", sound, "--model", "Cnn14", "--checkpoint", checkpoint)
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds a DemoCnn, not a Cnn14" in done.stderr


def test_a_published_checkpoint_is_taken_as_it_is(main: Any, checkpoint: Path, sound: Path, tmp_path: Path):
    torch = pytest.importorskip("torch")
    from panns_jax.pretrained.rules import to_published

    weights = {key: torch.tensor(value) for key, value in to_published(load_model(checkpoint=checkpoint)).items()}
    torch.save({"iteration": 1, "model": weights}, tmp_path / "demo.pth")
    of_pth = main("tag", sound, "--model", "DemoCnn", "--checkpoint", tmp_path / "demo.pth")
    assert of_pth.returncode == 0, of_pth.stderr
    assert of_pth.stdout == main("tag", sound, "--checkpoint", checkpoint).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="file systems where names are text")
def test_a_file_may_have_a_name_that_is_no_text(main: Any, checkpoint: Path, sound: Path, tmp_path: Path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    shutil.copy(sound, os.fsdecode(name))
    tagged = main("tag", os.fsdecode(name), sound, "--checkpoint", checkpoint)
    assert tagged.returncode == 0, tagged.stderr
    assert tagged.stdout.splitlines()[0] == f"{tmp_path}/caf\\udce9.wav"
    done = main("embed", os.fsdecode(name), "--out", tmp_path / "x.h5", "--checkpoint", checkpoint)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "x.h5") as file:
        names: Any = file["name"]
        assert names[0] == name


def test_top_is_cut_to_the_number_of_classes(main: Any, checkpoint: Path, sound: Path):
    done = main("tag", sound, "--checkpoint", checkpoint, "--top", 10_000)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 527 + 1


def test_one_file_has_no_heading_and_no_progress_bar_and_several_have_both(main: Any, checkpoint: Path, sound: Path):
    one = main("tag", sound, "--checkpoint", checkpoint)
    several = main("tag", sound, sound, "--checkpoint", checkpoint)
    assert str(sound) not in one.stdout
    assert several.stdout == f"{sound}\n{one.stdout}\n{sound}\n{one.stdout}"
    assert one.stderr == ""
    assert "2/2" in several.stderr


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    clipwise=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    top=st.integers(1, 30),
)
def test_top_tags_are_the_most_probable_in_order(clipwise: list[float], top: int):
    probabilities = np.array(clipwise, np.float32)
    tags = top_tags(probabilities, numbered(len(clipwise)), top)
    assert len(tags) == min(top, len(clipwise))
    left = sorted(range(len(clipwise)), key=lambda i: (-clipwise[i], i))
    assert [tag.index for tag in tags] == left[:top]
    for tag in tags:
        assert tag.label == tag.id == f"class {tag.index}"
        assert np.float32(tag.probability) == probabilities[tag.index]


def test_real_recordings_are_heard(main: Any, checkpoint: Path):
    files = sorted(Path("/usr/share/sounds").rglob("*.og[ag]"))[::20]
    if not files:
        pytest.skip("no sounds installed (Debian: sound-theme-freedesktop)")
    done = main("tag", *files, "--checkpoint", checkpoint, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(files)


def test_synthesised_speech_is_heard(main: Any, checkpoint: Path, tmp_path: Path):
    espeak = shutil.which("espeak-ng") or shutil.which("espeak")
    if espeak is None:
        pytest.skip("espeak-ng is not installed")
    subprocess.run([espeak, "-w", str(tmp_path / "speech.wav"), "a test of speech"], check=True)
    done = main("tag", tmp_path / "speech.wav", "--checkpoint", checkpoint)
    assert done.returncode == 0, done.stderr


ONTOLOGY = [
    {"id": "/m/0jbk", "name": "Animal", "child_ids": ["/m/068hy"], "restrictions": []},
    {"id": "/m/068hy", "name": "Domestic animals, pets", "child_ids": ["/m/0bt9lr", "/m/01yrx"], "restrictions": []},
    {"id": "/m/0bt9lr", "name": "Dog", "child_ids": [], "restrictions": []},
    {"id": "/m/01yrx", "name": "Cat", "child_ids": [], "restrictions": []},
    {"id": "/t/1", "name": "Things at home", "child_ids": ["/m/0jbk", "/m/09x0r"], "restrictions": ["abstract"]},
    {"id": "/m/09x0r", "name": "Speech", "child_ids": [], "restrictions": []},
]


def test_an_ontology_tells_what_is_below_a_class_and_rolls_up_to_parents(
    main: Any, by_hand: Any, checkpoint: Path, sound: Path, tmp_path: Path
):
    (tmp_path / "ontology.json").write_text(json.dumps(ONTOLOGY))
    clipwise = {name: float(value) for name, value in zip(audioset(), by_hand(sound).clipwise, strict=True)}
    options = ("--checkpoint", checkpoint, "--format", "json", "--ontology", tmp_path / "ontology.json")

    def told(*more: str) -> dict[str, float]:
        done = main("tag", sound, *options, *more)
        assert done.returncode == 0, done.stderr
        (record,) = json.loads(done.stdout)
        return {tag["label"]: tag["probability"] for tag in record["tags"]}

    animals = ["Animal", "Domestic animals, pets", "Dog", "Cat"]
    below = told("--classes", "domestic animals")
    assert below == pytest.approx({name: clipwise[name] for name in animals[1:]}, abs=1e-5)
    parents = told("--roll-up", "--classes", "animal, things at home; Music")
    assert parents == pytest.approx(
        {
            "Animal": max(clipwise[name] for name in animals),
            "Things at home": max(clipwise[name] for name in [*animals, "Speech"]),
            "Music": clipwise["Music"],
        },
        abs=1e-5,
    )
    assert len(told("--roll-up", "--top", "all")) == 528


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--roll-up",), "--roll-up needs --ontology"),
        (("--ontology", "o.json"), "--ontology is for --classes, whose parents it tells, or for --roll-up"),
        (("--ontology", "gone.json", "--roll-up"), "gone.json: cannot be read: No such file"),
    ],
)
def test_options_of_ontologies_that_cannot_be_used_are_refused(
    options: tuple[str, ...], message: str, main: Any, sound: Path
):
    done = main("tag", sound, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
