"""The published pipeline's steps as scripts: from a folder as AudioSet's to a checkpoint, and again without work."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
STEPS = (
    *("0_inference.sh", "1_download_dataset.sh", "2_pack_waveforms_to_hdf5s.sh", "3_create_training_indexes.sh"),
    "4_train.sh",
)
# The last clip of each list could not be had.
LISTS = {"eval": 3, "balanced_train": 3, "unbalanced_train_part00": 2, "unbalanced_train_part01": 3}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


INSTALLED = sysconfig.get_path("scripts")


def run(step: str, folder: Path, *options: str, commands: str = INSTALLED) -> "subprocess.CompletedProcess[str]":
    programs = f"{commands}{os.pathsep}{os.environ['PATH']}"
    places = {"DATASET_DIR": str(folder / "audioset"), "WORKSPACE": str(folder / "workspace")}
    variables = {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT), **places, "DATA_TYPE": "balanced_train"}
    script = str(ROOT / "scripts" / step)
    return subprocess.run(["bash", script, *options], env=variables, capture_output=True, text=True, timeout=600)


def write_list(dataset: Path, name: str, clips: int) -> None:
    """A segments csv and the sound files of all its clips but the last, where AudioSet has them."""
    unbalanced = name.startswith("unbalanced")
    stem = name.replace("train", "train_segments") if unbalanced else f"{name}_segments"
    csv = dataset / "metadata" / ("unbalanced_partial_csvs" if unbalanced else "") / f"{stem}.csv"
    audios = dataset / "audios" / ("unbalanced_train_segments" if unbalanced else "") / stem
    for place in (csv.parent, audios):
        place.mkdir(parents=True, exist_ok=True)
    ids = [f"{name[-11:]:_<10}{number}" for number in range(clips)]
    rows = [f'{clip_id}, 0.000, 10.000, "/m/09x0r,/m/05zppz"' for clip_id in ids]
    csv.write_text("\n".join(["# one", "# two", "# three", *rows]) + "\n")
    for clip_id in ids[:-1]:
        soundfile.write(audios / f"Y{clip_id}.wav", 0.1 * np.sin(np.arange(8000)), 8000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    for name, clips in LISTS.items():
        write_list(folder / "audioset", name, clips)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Path:
    """The folder after packing and listing."""
    for step in ("2_pack_waveforms_to_hdf5s.sh", "3_create_training_indexes.sh"):
        done = run(step, folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("step", STEPS)
def test_the_steps_are_scripts_that_bash_reads_and_that_stop_at_the_first_error(step: str):
    script = ROOT / "scripts" / step
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_without_files_the_first_step_tells_how_it_is_called(tmp_path: Path):
    done = run("0_inference.sh", tmp_path)
    assert (done.returncode, done.stderr) == (2, "usage: scripts/0_inference.sh FILE...\n")


@pytest.mark.parametrize(("code", "asked"), [(0, ["tag", "embed"]), (1, ["tag", "embed"]), (2, ["tag"])])
def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_embedded(tmp_path: Path, code, asked):
    command = tmp_path / "panns-jax"
    command.write_text(f"#!/bin/sh\necho $1\nexit {code}\n")
    command.chmod(0o755)
    done = run("0_inference.sh", tmp_path, "a.wav", "b.wav", commands=str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (code, asked)


@pytest.mark.slow
def test_packing_and_listing_make_the_published_workspace(prepared: Path):
    hdf5s = prepared / "workspace" / "hdf5s"
    made = {str(path.relative_to(hdf5s)) for path in hdf5s.rglob("*.h5")}
    parts = {
        f"{kind}/unbalanced_train/unbalanced_train_part0{i}.h5" for kind in ("waveforms", "indexes") for i in (0, 1)
    }
    whole = {f"{kind}/{name}.h5" for kind in ("waveforms", "indexes") for name in ("eval", "balanced_train")}
    assert made == parts | whole | {"indexes/full_train.h5"}
    with h5py.File(hdf5s / "indexes" / "full_train.h5") as file:
        assert len(file["audio_name"]) == sum(LISTS.values()) - LISTS["eval"] - 3  # type: ignore[arg-type]


@pytest.mark.slow
def test_started_again_they_do_what_is_missing_and_no_more(prepared: Path):
    hdf5s = prepared / "workspace" / "hdf5s"
    missing = hdf5s / "waveforms" / "unbalanced_train" / "unbalanced_train_part01.h5"
    missing.unlink()
    before = {path: path.stat().st_mtime_ns for path in hdf5s.rglob("*.h5")}
    for step in ("2_pack_waveforms_to_hdf5s.sh", "3_create_training_indexes.sh"):
        done = run(step, prepared)
        assert done.returncode == 0, done.stderr
    renewed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert missing.exists()
    assert renewed == {"unbalanced_train_part01.h5", "full_train.h5"}


@pytest.mark.slow
def test_a_part_without_sounds_keeps_no_other_from_being_packed(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "audioset", tmp_path / "audioset")
    shutil.rmtree(next((tmp_path / "audioset").rglob("unbalanced_train_segments_part00/")))
    done = run("2_pack_waveforms_to_hdf5s.sh", tmp_path)
    assert done.returncode == 0 and "none of its 2 clips can be read" in done.stderr
    packed = tmp_path / "workspace" / "hdf5s" / "waveforms" / "unbalanced_train"
    assert [path.name for path in packed.glob("*.h5")] == ["unbalanced_train_part01.h5"]


@pytest.mark.slow
def test_options_are_not_passed_over_where_files_are_there(prepared: Path):
    done = run("2_pack_waveforms_to_hdf5s.sh", prepared, "--encoding", "flac")
    assert done.returncode == 2 and "exists already, packed as int16; --force replaces it" in done.stderr


def test_an_error_ends_a_step_with_the_commands_own_exit_code(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "audioset", tmp_path / "audioset")
    (tmp_path / "audioset" / "metadata" / "eval_segments.csv").write_text("no list\n")
    done = run("2_pack_waveforms_to_hdf5s.sh", tmp_path)
    assert done.returncode == 2
    assert "eval_segments.csv" in done.stderr
    assert not list((tmp_path / "workspace").rglob("*.h5"))


@pytest.mark.long
def test_the_last_step_trains_and_goes_on(prepared: Path):
    pytest.importorskip("grain")
    small = ("--model-type", "DemoCnn", "--batch-size", "2", "--black-list", "none")
    for last in ("1", "2"):
        done = run("4_train.sh", prepared, *small, "--early-stop", last)
        assert done.returncode == 0, done.stderr
    assert "goes on from iteration 1" in done.stdout
    assert list((prepared / "workspace" / "checkpoints").glob("DemoCnn-balanced_train-balanced-mixup-batch2/2"))
