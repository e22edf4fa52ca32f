"""The wheel, built from the checkout, installed outside of it and used there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pth_writer import write_checkpoint

from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.rules import entries

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs Python far from the checkout, with the wheel installed."""
    site, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    command = [*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel]
    done = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere)
    assert done.returncode == 0, done.stderr

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=variables)

    where = run("-c", "import panns_jax, convert; print(panns_jax.__file__, convert.__file__)")
    assert where.stdout.count(str(site)) == 2, where.stdout + where.stderr
    return run


def test_the_wheel_holds_code_presets_and_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {"cli.py", "labels/audioset.csv", "data/dcase2017task4_blacklist.txt", "configs/cnn14.py", "train/loop.py"}
    assert {f"panns_jax/{name}" for name in wanted} | {"convert/__main__.py", "convert/figures.npz"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"panns_jax", "convert"}
    checkout = {path.relative_to(ROOT).as_posix() for path in (ROOT / "panns_jax").rglob("*.py")}
    assert checkout <= names


def test_the_installed_package_lists_its_models_labels_and_black_list(run):
    code = (
        "import panns_jax, panns_jax.labels, panns_jax.data.metadata as m;"
        "print(panns_jax.list_models()[0], len(panns_jax.labels.audioset()), len(m.read_black_list()))"
    )
    assert run("-c", code).stdout == "Cnn6 527 1591\n"


def test_the_installed_trainer_knows_its_presets(run):
    done = run("-m", "panns_jax.train", "--config", "nope")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(preset in done.stderr for preset in ("cnn6", "cnn10", "cnn14", "demo")), done.stderr
    help_text = run("-m", "panns_jax.train", "--config", "cnn10", "--help").stdout
    assert "--model-type" in help_text and "Cnn10" in help_text


def test_the_installed_commands_convert_a_checkpoint_and_tag_with_it(run, tmp_path):
    config = model_config("DemoCnn")
    rng = np.random.default_rng(0)
    weights = {e.published: rng.uniform(0.1, 0.2, e.shape).astype(np.float32) for e in entries(config)}
    source = write_checkpoint(tmp_path / "x.pth", {**frontend_constants(config), **weights})
    converted = tmp_path / "x.safetensors"
    done = run("-m", "convert", "file", source, converted)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    soundfile.write(tmp_path / "clip.wav", rng.uniform(-0.1, 0.1, 16000), 16000)
    done = run("-m", "panns_jax", "tag", tmp_path / "clip.wav", "--checkpoint", converted, "--top", 2)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[-1] == "embedding: (128,)"
