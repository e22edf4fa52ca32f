"""In bfloat16 training goes as it does in float32: on the demonstration's corpus, by its preset."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grain")

CLIPS = 400
STEPS = 200
LAST = 20  # whose mean is compared: a single batch's loss says little


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    from demo_corpus import write_split

    workspace = tmp_path / "workspace"
    for kind in ("waveforms", "indexes"):
        (workspace / "hdf5s" / kind).mkdir(parents=True)
    for split, clips in (("balanced_train", CLIPS), ("eval", CLIPS // 4)):
        write_split(tmp_path, split, clips, 0)
        waveforms, index = (workspace / "hdf5s" / kind / f"{split}.h5" for kind in ("waveforms", "indexes"))
        csv, audios = tmp_path / "metadata" / f"{split}_segments.csv", tmp_path / "audios" / f"{split}_segments"
        tool = (sys.executable, "-m", "panns_jax")
        run(*tool, "pack", "--csv", csv, "--audios", audios, "--out", waveforms, "--clip-seconds", 2)
        run(*tool, "index", waveforms, "--out", index)
    return workspace


def losses(workspace: Path, precision: str) -> np.ndarray:
    """Of the last steps of a run."""
    options = ("--config", "demo", "--early-stop", STEPS, "--evaluate-every", 10 * STEPS, "--precision", precision)
    run(sys.executable, "-m", "panns_jax.train", "--workspace", workspace, "--fresh", *options)
    log = max(workspace.glob("logs/*/log.jsonl"), key=lambda path: path.stat().st_mtime)
    told = [json.loads(line) for line in log.read_text().splitlines()]
    return np.array([line["loss"] for line in told if "loss" in line])[-LAST:]


@pytest.mark.long
def test_after_200_steps_of_the_demo_the_loss_is_within_one_percent_of_float32s(workspace: Path):
    whole, halves = (losses(workspace, precision) for precision in ("float32", "bf16"))
    print(f"float32 {whole.mean()}, bf16 {halves.mean()}")
    assert not np.array_equal(halves, whole)
    assert halves.mean() == pytest.approx(whole.mean(), rel=0.01)
