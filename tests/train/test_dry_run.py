"""A dry run needs no data, tells what a run would take, and leaves nothing behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from panns_jax.cli import run_task

pytest.importorskip("grain")

SMALL = ("--dry-run", "--config=demo", "--batch_size=4", "--sample_rate=8000", "--fmax=4000", "--mel_bins=32")


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            run_task("train", [*SMALL, *options], prog="train")
        assert isinstance(end.value.code, int)
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


@pytest.mark.slow
def test_without_data_it_tells_what_would_be_needed(dry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = dry("--augmentation=none")
    assert (code, err) == (0, "")
    assert "model: DemoCnn, hop 640, window 1024, 32 mel bins, 527 classes" in out
    assert "batch: 4 clips of 10 s at 8000 Hz" in out
    assert re.search(r"parameters: \d{3},\d{3}\n", out)
    assert re.search(r"step: \d+\.\d+ s \(\d+\.\d clips/s\), after \d+\.\d s of compilation\n", out)
    assert re.search(r"memory: \d+\.\d\d GiB, of which \d+\.\d\d GiB", out)
    assert re.search(r"loss: 0\.\d{4}, norm of the gradient \d+\.\d{4}", out)
    assert "in workspace (no folder yet)" in out
    assert str(Path("hdf5s/indexes/balanced_train.h5")) in out and str(Path("hdf5s/indexes/eval.h5")) in out
    assert "full_train" not in out  # the demo needs none
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_with_data_it_has_the_shape_of_these_and_leaves_them_alone(dry, tmp_path: Path, make_workspace):
    make_workspace(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, out, _ = dry(f"--workspace={tmp_path}")
    assert code == 0
    assert "5 classes" in out
    assert "batch: 8 clips blended to 4 of 0.5 s at 8000 Hz" in out
    index = tmp_path / "hdf5s" / "indexes" / "eval.h5"
    assert f"data: {index}: 21 clips of 0.5 s" in out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    index.unlink()
    code, out, _ = dry(f"--workspace={tmp_path}")
    assert code == 0
    assert f"at present: {index}: there is no such index file; make it by panns-jax index" in out


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--batch-size=0", "--batch-size must be at least 1, got 0"),
        ("--batch-size=3", "--batch-size 3 cannot be split over 2 devices"),
        ("--model-type=Cnn15", "there is no model 'Cnn15'"),
        ("--coordinator=localhost:1", "--dry-run is of one process"),
        ("--mel-bins=8", "mel_bins must be at least 16"),
        ("--cuda", "--cuda: JAX finds no GPU"),
    ],
)
def test_options_that_cannot_be_are_told_as_ever(dry, option: str, sentence: str):
    code, out, err = dry(option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
