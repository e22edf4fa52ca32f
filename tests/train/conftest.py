"""Small models and workspaces to train on, and the command that does it, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from panns_jax.cli import main
from panns_jax.frontend import FrontendConfig
from panns_jax.labels import numbered
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import ClipHead

CLASSES = 5
CLIPS = 21  # no multiple of the batch size: the last batch of an evaluation is short
RATE = 8000
SAMPLES = RATE // 2
SMALL = (
    *("--model_type", "DemoCnn", "--data_type", "balanced_train", "--batch_size", "8", "--sample_rate", "8000"),
    *("--window_size=256", "--hop_size=80", "--mel_bins=32", "--fmin=50", "--fmax=4000"),
)


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A model that compiles fast: one block, 16 mel bands, 5 classes."""
    return ModelConfig(
        name="Tiny",
        frontend=FrontendConfig(sample_rate=8000, window_size=256, hop_size=80, mel_bins=16, fmin=50, fmax=4000),
        body=Cnn(channels=(4,), pooled_blocks=1, dropout=0.1),
        head=ClipHead(embedding_dim=8),
        labels=numbered(CLASSES),
    )


@pytest.fixture(scope="session")
def make_workspace() -> Callable[[Path], Path]:
    """Fills a folder with half-second clips of tones, whose pitch tells the class, in the published layout."""

    def make(workspace: Path) -> Path:
        for seed, name in enumerate(("balanced_train", "eval")):
            _write_part(workspace, name, np.random.default_rng(seed))
        return workspace

    return make


def _write_part(workspace: Path, name: str, rng: np.random.Generator) -> None:
    waveforms = workspace / "hdf5s" / "waveforms" / f"{name}.h5"
    index = workspace / "hdf5s" / "indexes" / f"{name}.h5"
    for path in (waveforms, index):
        path.parent.mkdir(parents=True, exist_ok=True)
    classes = np.arange(CLIPS) % CLASSES
    tones = np.sin(2 * np.pi * 300 * (1 + classes[:, None]) * np.arange(SAMPLES) / RATE)
    sound = 0.3 * tones + 0.05 * rng.standard_normal((CLIPS, SAMPLES))
    common = {
        "audio_name": np.array([f"Y{name}{i}.wav".encode() for i in range(CLIPS)], "S24"),
        "target": np.eye(CLASSES, dtype=bool)[classes],
    }
    with h5py.File(waveforms, "w") as file:
        file.attrs["sample_rate"] = RATE
        for column, values in {**common, "waveform": (sound * 32767).astype(np.int16)}.items():
            file[column] = values
    with h5py.File(index, "w") as file:
        paths = np.full(CLIPS, str(waveforms).encode(), "S200")
        for column, values in {**common, "hdf5_path": paths, "index_in_hdf5": np.arange(CLIPS, dtype=np.int32)}.items():
            file[column] = values


@pytest.fixture(scope="session")
def start_training() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m panns_jax.train` on a small model; what runs at the end of all tests is ended then."""
    started: list[subprocess.Popen[str]] = []

    def start(workspace: Path, *options: str, devices: int = 1, within: Sequence[str] = ()) -> subprocess.Popen[str]:
        """`within` is a command that runs another one."""
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "panns_jax.train", "--workspace", str(workspace), *SMALL, *options],
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def start_hosts(start_training) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts a run of several processes; those that are still there in the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(workspace: Path, *options: str, count: int, devices: int = 1) -> list[subprocess.Popen[str]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        common = ("--coordinator", coordinator, "--processes", str(count), *options)
        processes = [
            start_training(workspace, *common, "--process", str(number), devices=devices) for number in range(count)
        ]
        started.extend(processes)
        return processes

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def run_hosts(start_hosts) -> Callable[..., list[str]]:
    """Runs them to a good end; returns what each printed."""

    def run(workspace: Path, *options: str, count: int, devices: int = 1) -> list[str]:
        ended = [
            (*process.communicate(timeout=300), process.returncode)
            for process in start_hosts(workspace, *options, count=count, devices=devices)
        ]
        assert [code for _, _, code in ended] == [0] * count, ended
        return [out for out, _, _ in ended]

    return run


@pytest.fixture
def train_here(capsys) -> Callable[..., str]:
    """The same command in this process, on its two devices, where weights need not be those of another run."""

    def run(workspace: Path, *options: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["train", "--workspace", str(workspace), *SMALL, *options])
        out, err = capsys.readouterr()
        assert end.value.code == 0, err
        return out

    return run


@pytest.fixture
def refused_here(capsys) -> Callable[..., str]:
    """The same, for a run that is to end with code 2; returns what it told on standard error."""

    def run(workspace: Path, *options: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["train", "--workspace", str(workspace), *SMALL, *options])
        err = capsys.readouterr().err
        assert end.value.code == 2, err
        return err

    return run


@pytest.fixture(scope="session")
def run_training(start_training) -> Callable[..., str]:
    """Runs it to its end, which must be a good one; returns what it printed."""

    def run(workspace: Path, *options: str, devices: int = 1) -> str:
        process = start_training(workspace, *options, devices=devices)
        try:
            out, err = process.communicate(timeout=1200)
        finally:
            process.kill()
        assert process.returncode == 0, err
        return out

    return run
