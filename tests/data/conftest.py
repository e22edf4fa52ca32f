"""Small corpora and HDF5 files in the published layouts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from panns_jax.cli import main

CLASSES = 527


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_task(capsys) -> Callable[..., Done]:
    """Runs `panns-jax TASK …` in this process, which takes a moment; a new one takes seconds."""

    def run(task: str, *arguments: object) -> Done:
        with pytest.raises(SystemExit) as end:
            main([task, *map(str, arguments)])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capsys.readouterr())

    return run


def clip_row(number: int, samples: int) -> np.ndarray:
    """An int16 row that tells which clip it is."""
    return np.random.default_rng(number).integers(-32767, 32768, samples, dtype=np.int16)


@pytest.fixture
def read_hdf5() -> Callable[[Path], dict[str, Any]]:
    """Reads all data sets and attributes of an HDF5 file."""

    def read(path: Path) -> dict[str, Any]:
        with h5py.File(path) as file:
            everything: dict[str, Any] = {name: dataset[()] for name, dataset in file.items()}
            return everything | dict(file.attrs)

    return read


@pytest.fixture
def write_waveforms() -> Callable[..., Path]:
    """Writes a waveforms file as the published packer does: contiguous, with empty rows where a name is None."""

    def write(
        path: Path,
        names: Sequence[str | None],
        *,
        samples: int = 640,
        rate: int | None = 32000,
        dtype: type = np.int16,
        first: int = 0,
        labels: Sequence[Sequence[int]] | None = None,
        **options,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.stack(
            [clip_row(first + i, samples) if name else np.zeros(samples, np.int16) for i, name in enumerate(names)]
        )
        target = np.zeros((len(names), CLASSES), bool)
        for i, name in enumerate(names):
            if name:
                target[i, list(labels[i]) if labels else [(first + i) % CLASSES]] = True
        with h5py.File(path, "w") as file:
            file.create_dataset("audio_name", data=np.array([(name or "").encode() for name in names], "S20"))
            data = rows if dtype is np.int16 else (rows / 32767).astype(dtype)
            file.create_dataset("waveform", data=data, **options)
            file.create_dataset("target", data=target)
            if rate is not None:
                file.attrs.create("sample_rate", data=rate, dtype=np.int32)
        return path

    return write


@pytest.fixture
def write_published_index(read_hdf5) -> Callable[..., Path]:
    """Writes an index of waveforms files as the published scripts do, empty rows included."""

    def write(path: Path, waveforms: Sequence[Path], *, stored: Sequence[str] | None = None, old: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns: dict[str, list[np.ndarray]] = {"audio_name": [], "target": [], "file": [], "index_in_hdf5": []}
        for number, source in enumerate(waveforms):
            content = read_hdf5(source)
            names = content["audio_name"]
            columns["audio_name"].append(names)
            columns["target"].append(content["target"])
            told = source.name if old else stored[number] if stored else str(source)
            columns["file"].append(np.full(len(names), told.encode(), "S40" if old else "S200"))
            columns["index_in_hdf5"].append(np.arange(len(names), dtype=np.int32))
        with h5py.File(path, "w") as file:
            for name, parts in columns.items():
                name = ("hdf5_name" if old else "hdf5_path") if name == "file" else name
                file.create_dataset(name, data=np.concatenate(parts))
        return path

    return write
