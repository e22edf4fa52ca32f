"""The scores of a fine-tuning as a file for programs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from panns_jax.errors import InputError
from panns_jax.train.finetune.figures import read_figures


@pytest.mark.slow
@pytest.mark.parametrize("folds", [0, 2])
def test_scores_are_those_that_are_told(folds: int, tmp_path: Path, demo_checkpoint: Path):
    noise = np.random.default_rng(0)
    for name, pitch in (("low", 300), ("high", 2000)):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for number in range(8):
            tone = 0.3 * np.sin(2 * np.pi * (pitch + 9 * number) * np.arange(16000) / 16000)
            sound = tone + 0.02 * noise.standard_normal(16000)
            soundfile.write(tmp_path / "sounds" / name / f"{number}.wav", sound, 16000)
    out = tmp_path / "x.safetensors"
    given = ("--data", tmp_path / "sounds", "--out", out, "--checkpoint", demo_checkpoint, "--strategy", "freeze_L1")
    options = (*given, "--epochs", 3, "--folds", folds, "--test", 0.25)
    command = [sys.executable, "-m", "panns_jax", "finetune", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = read_figures(tmp_path / "x-report" / "report.json")
    printed = done.stdout
    accuracy = told["scores"]["accuracy"]
    assert 0 <= accuracy <= 1
    assert (told["model"], told["strategy"], told["clips"], told["folds"]) == (
        "Transfer_DemoCnn",
        "freeze_L1",
        16,
        folds,
    )
    if folds:
        assert told["test_clips"] == 16
        assert re.search(rf"mean ± std +{accuracy:.3f} ± ", printed)
    else:
        assert told["test_clips"] == 4
        assert f"accuracy {accuracy:.3f}" in printed


@pytest.mark.parametrize("content", ["", "[]", '{"scores": 3}', '{"strategy": "x", "scores": {"accuracy": "high"}}'])
def test_another_file_is_refused(content: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"is not the \.json that panns-jax finetune writes"):
        read_figures(path)
    with pytest.raises(InputError, match="no such file"):
        read_figures(tmp_path / "y.json")
