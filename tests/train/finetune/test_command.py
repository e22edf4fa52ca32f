"""`panns-jax finetune` and `evaluate --data`, from files to files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from panns_jax import cli, load_model
from panns_jax.pretrained.native import read_provenance

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `panns-jax` in this process, and gives its exit code."""

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as exit:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(exit.value.code, int)
        return exit.value.code

    return run


@pytest.fixture
def tuning(run: Run, sound_folder: Path, demo_checkpoint: Path, tmp_path: Path) -> Run:
    """Runs it on the sounds, in a few epochs."""

    def tuning(*arguments: object, data: Path = sound_folder) -> int:
        given = ["--data", data, "--checkpoint", demo_checkpoint, "--strategy", "freeze_L1", "--epochs", 5]
        return run("finetune", *given, "--out", tmp_path / "own.safetensors", "--cache", tmp_path / "kept", *arguments)

    return tuning


def test_the_result_is_a_file_that_other_commands_take_with_its_own_classes(
    tuning: Run, run: Run, sound_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tuning() == 0
    out = tmp_path / "own.safetensors"
    told = capsys.readouterr().out
    assert "30 clips, 3 classes" in told and "accuracy" in told  # the data card, and the scores
    assert not (tmp_path / "own.safetensors.part").exists()
    assert list(load_model(checkpoint=out).config.labels) == ["noise", "rising", "steady"]
    assert "freeze_L1 on kinds" in read_provenance(out).file
    assert run("tag", "--checkpoint", out, sound_folder / "noise" / "0.wav", "--format", "json") == 0
    (tagged,) = json.loads(capsys.readouterr().out)
    assert {tag["label"] for tag in tagged["tags"]} == {"noise", "rising", "steady"}
    assert sum(tag["probability"] for tag in tagged["tags"]) == pytest.approx(1, abs=1e-5)
    assert run("evaluate", "--data", sound_folder, "--checkpoint", out, "--format", "json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["clips"] == 30 and np.sum(scores["confusion"]) == 30 and scores["labels"][0] == "noise"


def test_the_report_tells_options_scores_data_and_figures(tuning: Run, tmp_path: Path):
    assert tuning() == 0
    folder = tmp_path / "own-report"
    text = (folder / "report.md").read_text(encoding="utf-8")
    for told in (
        "balanced_accuracy",
        "| rising |",
        "--strategy | freeze_L1",
        "| embedding-mixup |",
        "30 clips, 3 classes",
        "mAP@3",
    ):
        assert told in text
    for figure in ("report-curves.png", "report-confusion.png"):
        assert figure in text and (folder / figure).read_bytes().startswith(b"\x89PNG")
    assert tuning("--report", tmp_path / "one.html") == 0
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 2 and "<td>rising</td>" in page


def test_without_matplotlib_the_report_has_tables_in_place_of_figures(
    tuning: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from panns_jax.train.finetune import report

    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    assert tuning() == 0
    text = (tmp_path / "own-report" / "report.md").read_text(encoding="utf-8")
    assert "![" not in text and "| class | taken for | clips |" in text and "| epoch | loss |" in text


def test_folds_end_in_mean_and_deviation_and_a_model_of_all_clips(
    tuning: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tuning("--folds", 3) == 0
    told = capsys.readouterr().out.splitlines()
    scores = [float(line.split()[2]) for line in told if line.startswith("fold ")]
    mean = next(line for line in told if line.startswith("mean ± std"))
    report = (tmp_path / "own-report" / "report.md").read_text(encoding="utf-8")
    assert "trained on all clips, for as many" in report and "taken for which, all folds together" in report
    assert len(scores) == 3 and f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}" in mean
    assert load_model(checkpoint=tmp_path / "own.safetensors").config.num_classes == 3


def test_clips_that_cannot_be_read_are_named_and_left_out(
    tuning: Run, sound_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = shutil.copytree(sound_folder, tmp_path / "some")
    (data / "steady" / "broken.wav").write_bytes(b"RIFF and no more")
    assert tuning(data=data) == 1
    assert "left out 1 of 31 clips" in (err := capsys.readouterr().err) and "broken.wav" in err
    assert (tmp_path / "own.safetensors").exists()


def test_clips_of_several_classes_are_scored_by_map(
    tuning: Run, run: Run, sound_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [f"{path},{path.parent.name};{'x' if n % 2 else 'y'}" for n, path in enumerate(sound_folder.rglob("*.wav"))]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,labels", *sorted(rows)]) + "\n", encoding="utf-8")
    assert tuning("--multi-label", data=table) == 0
    assert "mAUC" in capsys.readouterr().out
    model = load_model(checkpoint=tmp_path / "own.safetensors")
    clipwise = np.asarray(model(np.zeros((1, 16000), np.float32)).clipwise)
    assert clipwise.shape == (1, 5) and abs(clipwise.sum() - 1) > 1e-3  # no softmax
    # The file tells that its classes do not exclude each other.
    assert run("evaluate", "--data", table, "--checkpoint", tmp_path / "own.safetensors", "--format", "json") == 0
    assert {"mAP", "mAUC"} <= json.loads(capsys.readouterr().out).keys()


def test_the_file_tells_how_long_clips_are_heard(
    tuning: Run, run: Run, sound_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tuning("--clip-seconds", 0.32) == 0
    out, sound = tmp_path / "own.safetensors", sound_folder / "noise" / "9.wav"  # of 0.58 s
    capsys.readouterr()
    assert run("info", out) == 0
    assert "clips of 0.32 s with one class each" in capsys.readouterr().out
    assert run("tag", sound, "--checkpoint", out, "--window", "trained", "--only", "windows", "--format", "json") == 0
    (first, second) = json.loads(capsys.readouterr().out)
    assert (first["start"], first["end"]) == (0, 0.32) and second["start"] == 0.32

    def scores(*arguments: object) -> str:
        assert run("evaluate", "--data", sound_folder, "--checkpoint", out, "--format", "json", *arguments) == 0
        return capsys.readouterr().out

    assert scores() == scores("--clip-seconds", 0.32)


def test_a_file_that_tells_no_length_of_clips_gives_no_windows(
    run: Run, sound_folder: Path, demo_checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    sound = sound_folder / "noise" / "9.wav"
    assert run("tag", sound, "--checkpoint", demo_checkpoint, "--window", "trained") == 2
    assert "--window trained is for files that panns-jax finetune made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "own.h5"], "must be named *.safetensors"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--freeze-depth", "1"], "--freeze-depth is for --strategy fine_tune, not freeze_L1"),
        (["--strategy", "fine_tune", "--freeze-depth", "9"], "--freeze-depth 9: Transfer_DemoCnn has 4 blocks"),
        (["--strategy", "fine_tune", "--augment", "embedding-mixup"], "--augment embedding-mixup is for freeze_L1"),
        (["--augment", "embedding-mixup", "mixup"], "take either"),
        (["--strategy", "scratch"], "leave out --checkpoint"),
        (["--folds", "1"], "--folds must be at least 2"),
        (["--lr-decay-by-depth", "2"], "--lr-decay-by-depth must be above 0 and at most 1"),
        (["--report", "report.pdf"], "must be named *.md or *.html"),
        (["--clip-seconds", "1e9"], "--clip-seconds must be above 0 and at most 3600"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (["--data", "nowhere"], "there is no such folder"),
    ],
)
def test_wrong_options_get_a_sentence(
    arguments: list[str], told: str, tuning: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tuning(*arguments) == 2
    assert told in (err := capsys.readouterr().err) and "Traceback" not in err
    assert not (tmp_path / "own.safetensors").exists()


def test_a_run_that_failed_before_it_kept_anything_is_no_obstacle_to_other_options(
    tuning: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tuning("--validation", 0.9, "--test", 0.5) == 2
    assert "leave nothing to train on" in capsys.readouterr().err
    assert not (tmp_path / "own.safetensors.part").exists()
    (tmp_path / "own.safetensors.part").mkdir()
    (tmp_path / "own.safetensors.part" / "options.json").write_text("{}", encoding="utf-8")  # as after kill -9
    assert tuning() == 0
    assert "going on" not in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_was_cut_off_goes_on_and_gives_the_same_file(
    by: signal.Signals, sound_folder: Path, demo_checkpoint: Path, tmp_path: Path
):
    def start(out: Path) -> "subprocess.Popen[bytes]":
        options = ["--data", sound_folder, "--checkpoint", demo_checkpoint, "--strategy", "freeze_L1", "--folds", 5]
        more = ["--epochs", 3000, "--patience", 0, "--cache", tmp_path / "kept", "--out", out]
        command = [sys.executable, "-m", "panns_jax", "finetune", *options, *more]
        return subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole.safetensors").wait(300) == 0
    out = tmp_path / "broken.safetensors"
    process = start(out)
    until = time.monotonic() + 200
    while not (tmp_path / "broken.safetensors.part" / "fold 1.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, by)
    assert process.wait(60) == (130 if by == signal.SIGINT else -signal.SIGKILL)
    assert not out.exists()
    assert start(out).wait(300) == 0
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
