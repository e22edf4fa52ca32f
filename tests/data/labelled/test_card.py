"""What `panns-jax describe` tells of labelled data."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from panns_jax.cli import main
from panns_jax.data.labelled.card import data_card
from panns_jax.data.labelled.decoded import Decoded
from panns_jax.data.labelled.read import read_labelled


def sine(hertz: float, level: float, rate: int = 16000) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(rate // 2) / rate)


@pytest.fixture
def own(tmp_path, write_sounds) -> Path:
    """A folder with all that can be wrong with sounds."""
    write_sounds("good/a.wav", "good/b.wav", "bad/c.wav")
    shutil.copy(tmp_path / "good" / "a.wav", tmp_path / "good" / "copy.wav")
    shutil.copy(tmp_path / "good" / "b.wav", tmp_path / "bad" / "other.wav")
    soundfile.write(tmp_path / "bad" / "silent.wav", np.zeros(4000), 8000)
    soundfile.write(tmp_path / "bad" / "clipped.wav", np.clip(sine(440, 2.0), -1, 1), 16000)
    soundfile.write(tmp_path / "good" / "loud.wav", np.stack([sine(440, 0.999)] * 2, axis=1), 16000)
    (tmp_path / "bad" / "broken.wav").write_bytes(b"nonsense")
    (tmp_path / "bad" / "empty.flac").write_bytes(b"")
    return tmp_path


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def test_a_card_tells_what_is_suspicious_and_what_is_usable(own):
    labelled = read_labelled(str(own))
    card = data_card(labelled, sample_rate=8000, workers=3)
    assert names(card.silent) == ["silent.wav"] and names(card.clipped) == ["clipped.wav"]
    assert [names(same) for same in card.duplicates] == [["other.wav", "b.wav"], ["a.wav", "copy.wav"]]
    assert [names(same) for same in card.contradictory] == [["other.wav", "b.wav"]]
    assert names(card.unreadable) == ["broken.wav", "empty.flac"]
    assert sorted({*range(len(labelled))} - {*card.usable.tolist()}) == [0, 3]
    assert card.sample_rates == {8000: 6, 16000: 2} and card.channels == {1: 7, 2: 1}
    assert [(facts.name, facts.clips) for facts in card.classes] == [("bad", 4), ("good", 4)]
    assert card.classes[1].seconds == pytest.approx(0.3 + 0.5)
    assert sorted(card.seconds.round(3).tolist()) == [0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5]


def test_the_same_samples_in_another_format_are_duplicates(tmp_path, write_sounds):
    (wav,) = write_sounds("x/a.wav")
    samples, rate = soundfile.read(wav)
    soundfile.write(tmp_path / "x" / "a.flac", samples, rate)
    card = data_card(read_labelled(str(tmp_path)), sample_rate=8000)
    assert [names(same) for same in card.duplicates] == [["a.flac", "a.wav"]]


def test_a_part_whose_file_ends_before_it_is_told(tmp_path, write_sounds, capsys):
    write_sounds("a.wav", "b.wav", "c.wav")  # of 0.1 s
    clips = tmp_path / "clips.csv"
    clips.write_text("path,label,start,end\na.wav,x,0.05,0.5\nb.wav,x,0,0.15\nc.wav,x,0,\n")
    card = data_card(read_labelled(str(clips)), sample_rate=8000)
    assert names(card.cut_off) == ["a.wav from 0.05 to 0.5 s"] and card.usable.tolist() == [0, 1, 2]
    assert "end before the table says: 1\n" in card.text()
    with pytest.raises(SystemExit) as exited:
        main(["describe", str(clips), "--format", "json"])
    assert exited.value.code == 0 and len(json.loads(capsys.readouterr().out)["cut_off"]) == 1


def test_what_a_card_reads_may_be_kept_for_training(own):
    labelled = read_labelled(str(own))
    decoded = Decoded(labelled, 8000)
    card = data_card(labelled, sample_rate=8000, decoded=decoded)
    shutil.rmtree(own)
    kept = [len(decoded.waveform(int(row))) for row in card.usable]
    assert kept == np.round(card.seconds * 8000).astype(int).tolist()


def describe(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["describe", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code, *capsys.readouterr()


def test_the_command_prints_the_card_and_tells_that_files_cannot_be_read(own, capsys):
    code, out, _ = describe(capsys, own)
    assert code == 1
    assert f"{own}: 10 clips, 2 classes, one class to a clip" in out
    assert "cannot be read, and left out: 2" in out and "broken.wav: cannot be read as sound" in out
    code, out, _ = describe(capsys, own, "--format", "json")
    told = json.loads(out)
    assert code == 1 and told["sample_rates"] == {"8000": 6, "16000": 2} and len(told["unreadable"]) == 2
    code, out, _ = describe(capsys, own, "--out", own / "card.txt")
    assert (code, out) == (1, "") and "clipped: 1" in (own / "card.txt").read_text()


def test_the_command_is_content_where_all_is_well(tmp_path, write_sounds, capsys):
    write_sounds("train/x/a.wav", "train/y/b.wav", "test/x/c.wav")
    code, out, _ = describe(capsys, tmp_path)
    assert code == 0 and "nothing suspicious" in out
    assert [line.split() for line in out.splitlines() if line.startswith(("class ", "x", "y"))] == [
        ["class", "clips", "seconds", "train", "test"],
        ["x", "2", "0.2", "1", "1"],
        ["y", "1", "0.1", "1", "0"],
    ]


def test_the_command_refuses_wrong_data_in_a_sentence(tmp_path, write_sounds, capsys):
    write_sounds("x/a.wav")
    for arguments in ((tmp_path / "no",), (tmp_path, "--workers", 0), (tmp_path, "--out", tmp_path)):
        code, out, err = describe(capsys, *arguments)
        assert code == 2 and out == "" and err.count("\n") == 1, err


def test_sets_of_many_classes_are_told_in_short(tmp_path, write_sounds, capsys):
    write_sounds(*(f"class{number:03}/a.wav" for number in range(70)))
    _, out, _ = describe(capsys, tmp_path)
    assert "… 10 more classes" in out and sum(line.startswith("class0") for line in out.splitlines()) == 60


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_synthesised_speech_is_described(tmp_path, capsys):
    for language in ("en", "de"):
        (tmp_path / language).mkdir()
        for number, words in enumerate(("one", "two")):
            command = ["espeak-ng", "-v", language, "-w", tmp_path / language / f"{number}.wav", words]
            subprocess.run(command, check=True)
    code, out, _ = describe(capsys, tmp_path)
    assert code == 0 and "sample rate: 22050 Hz (4)" in out
