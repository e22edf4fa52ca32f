"""What befalls a run: samples that are no numbers, disks that are full, files that are cut short."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from flax import nnx

from panns_jax.pretrained.training import checkpoint_steps, read_training_checkpoint
from panns_jax.train.log import read_log

pytest.importorskip("grain")
posix = pytest.mark.skipif(os.name == "nt", reason="needs what POSIX has")

NAME = "DemoCnn-hop80-{}-balanced-mixup-batch8"
RARELY = ("--evaluate-every", "1000000")


def folder_of(workspace: Path, data: str = "balanced_train") -> Path:
    return workspace / "checkpoints" / NAME.format(data)


def log_of(workspace: Path, data: str = "balanced_train") -> list[dict]:
    return read_log(workspace / "logs" / NAME.format(data) / "log.jsonl")


def assert_sound(run: Path, iterations: list[int]) -> None:
    """These checkpoints are there, nothing that is half-written is, and the newest can be read and is finite."""
    assert checkpoint_steps(run) == iterations
    assert not list(run.glob("*tmp*"))
    model = read_training_checkpoint(run)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nnx.state(model)) if leaf.dtype == np.float32)


@pytest.fixture(scope="module")
def begun(tmp_path_factory, make_workspace, run_training) -> Path:
    """A workspace whose run has a checkpoint of iteration 2."""
    workspace = make_workspace(tmp_path_factory.mktemp("begun"))
    run_training(workspace, *RARELY, "--early-stop", "2")
    return workspace


@pytest.fixture
def workspace(begun, tmp_path) -> Path:
    """A copy of it, with an index of its own, as indexes name files by their paths."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    for name in ("balanced_train", "eval"):
        with h5py.File(tmp_path / "hdf5s" / "indexes" / f"{name}.h5", "r+") as file:
            path = str(tmp_path / "hdf5s" / "waveforms" / f"{name}.h5").encode()
            file["hdf5_path"][...] = np.full(len(file["audio_name"]), path, "S200")  # pyright: ignore
    return tmp_path


@pytest.fixture
def full_train(tmp_path, make_workspace) -> Path:
    """A workspace that also has the training clips as float32, of which one can be spoilt without the scored ones."""
    hdf5s = make_workspace(tmp_path) / "hdf5s"
    parts = hdf5s / "waveforms" / "part00.h5"
    for kind, target in (("waveforms", parts), ("indexes", hdf5s / "indexes" / "full_train.h5")):
        shutil.copy(hdf5s / kind / "balanced_train.h5", target)
    with h5py.File(parts, "r+") as file:
        waveform = file["waveform"][:] / np.float32(32767)  # pyright: ignore
        del file["waveform"]
        file["waveform"] = waveform
    with h5py.File(hdf5s / "indexes" / "full_train.h5", "r+") as file:
        file["hdf5_path"][...] = np.full(len(file["audio_name"]), str(parts).encode(), "S200")  # pyright: ignore
    return tmp_path


@pytest.mark.slow
def test_a_clip_with_samples_that_are_no_numbers_stops_the_run_or_is_skipped(full_train, train_here, refused_here):
    options = ("--data_type=full_train", *RARELY, "--checkpoint-every", "2")
    train_here(full_train, *options, "--early-stop", "4")
    run = folder_of(full_train, "full_train")
    with h5py.File(full_train / "hdf5s" / "waveforms" / "part00.h5", "r+") as file:
        file["waveform"][5, 77] = np.nan  # pyright: ignore
    said = refused_here(full_train, *options, "--early-stop", "30")
    assert "training has diverged: at iteration" in said
    assert "samples that are not finite: Ybalanced_train5.wav\n" in said
    assert "norms of the gradients: " in said and "fc_audioset nan" in said
    weights = said.split("norms of the weights: ")[1].splitlines()[0]
    assert "nan" not in weights  # the update was not made
    at = log_of(full_train, "full_train")[-1]["iteration"]
    good = list(range(2, at, 2))
    assert_sound(run, good)

    train_here(full_train, *options, "--early-stop", "30", "--on-nan", "skip")
    steps = {line["iteration"]: line for line in log_of(full_train, "full_train") if line["kind"] == "step"}
    skipped = [line for line in log_of(full_train, "full_train") if line["kind"] == "not_finite"]
    assert sorted(steps) == list(range(1, 31))
    assert [line["iteration"] for line in skipped] == [i for i, line in steps.items() if line["loss"] is None]
    assert all("Ybalanced_train5.wav" in line["broken_clips"] for line in skipped)
    assert 0 < len(skipped) < 26
    assert_sound(run, list(range(2, 31, 2)))


@posix
@pytest.mark.slow
def test_a_file_that_cannot_grow_ends_in_a_sentence_and_leaves_what_was_saved(workspace, start_training):
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash"]  # 300 KiB: more than log lines take, less than weights
    process = start_training(workspace, *RARELY, "--early-stop", "4", within=limited)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert "the checkpoint cannot be written: File too large" in err
    assert "Traceback" not in err
    assert_sound(folder_of(workspace), [2])


def small_disk(folder: Path, size: str) -> list[str]:
    """Runs a command while a disk of its own, of this size, lies over a folder; then tells what is there.

    Skips the test where users may not mount anything.
    """
    script = f"""
        mount -t tmpfs -o size={size} tmpfs {folder} || exit 77
        "$@"
        code=$?
        ls {folder}/* | sed 's/^/there: /'
        exit $code
    """
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    try:
        tried = subprocess.run([*within, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare (util-linux)")
    if "there: " not in tried.stdout and tried.returncode:
        pytest.skip(f"no disk of one's own can be mounted: {tried.stderr.strip()}")
    return within


@posix
@pytest.mark.slow
def test_a_full_disk_ends_in_a_sentence_and_leaves_what_was_saved(tmp_path, make_workspace, start_training):
    workspace = make_workspace(tmp_path)
    (workspace / "checkpoints").mkdir()
    within = small_disk(workspace / "checkpoints", "14m")  # a checkpoint takes 6 MB
    process = start_training(workspace, *RARELY, "--early-stop", "8", "--checkpoint-every", "2", within=within)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert "the checkpoint cannot be written: No space left on device" in err
    assert "Traceback" not in err
    there = [line.removeprefix("there: ") for line in out.splitlines() if line.startswith("there: ")]
    kept = [name for name in there if name.isdecimal()]
    assert kept[0] == "2" and "8" not in kept
    assert not [name for name in there if "tmp" in name]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_data_file_that_is_cut_short_ends_in_a_sentence_and_leaves_what_was_saved(
    workspace, start_training: Callable[..., subprocess.Popen[str]], workers
):
    process = start_training(
        workspace, *RARELY, "--early-stop=1000000", "--checkpoint-every=1000000", "--workers", workers
    )
    while max([line["iteration"] for line in log_of(workspace) if line["kind"] == "step"], default=0) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    waveforms = workspace / "hdf5s" / "waveforms" / "balanced_train.h5"
    os.truncate(waveforms, waveforms.stat().st_size // 4)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert f"{waveforms}: has become shorter than it was" in err
    assert "Traceback" not in err
    assert_sound(folder_of(workspace), [2])


@pytest.mark.slow
def test_a_data_file_that_has_vanished_is_named_and_what_was_saved_stays(workspace, refused_here):
    waveforms = workspace / "hdf5s" / "waveforms" / "balanced_train.h5"
    waveforms.unlink()
    assert f"{waveforms}: " in refused_here(workspace, *RARELY, "--early-stop", "4")
    assert_sound(folder_of(workspace), [2])


@pytest.mark.slow
def test_weights_that_predict_no_numbers_are_told_as_divergence(workspace, refused_here):
    options = ("--fresh", "--evaluate-every", "1", "--early-stop", "3", "--learning-rate", "1e30")
    assert "training has diverged: at iteration 1 the model's predictions are not finite" in refused_here(
        workspace, *options
    )
    assert_sound(folder_of(workspace), [2])
