"""The published way to load clips, as a peer: worker processes of PyTorch that open the HDF5 file for every clip.

For each clip it opens the file, reads the row, the name and the classes, makes int16 to float32, and closes it;
PyTorch's DataLoader stacks clips to batches and carries them to the process that trains.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from torch.utils.data import DataLoader, Dataset

from panns_jax.data.index import ClipIndex
from panns_jax.data.sampling import Sampler


class Clips(Dataset[dict[str, Any]]):
    """The clips of an index, each read from its file, which is opened for it."""

    def __init__(self, index: ClipIndex) -> None:
        self._paths = [str(path) for path in index.files]
        self._numbers, self._rows = index.file_number, index.index_in_hdf5

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, clip: int) -> dict[str, Any]:
        row = int(self._rows[clip])
        with h5py.File(self._paths[self._numbers[clip]], "r") as file:
            waveform: Any = file["waveform"]
            target: Any = file["target"]
            name: Any = file["audio_name"]
            return {
                "audio_name": name[row].decode(),
                "waveform": (waveform[row] / 32767.0).astype(np.float32),
                "target": target[row].astype(np.float32),
            }


class _BatchNumbers:
    """The clips of each batch, endlessly."""

    def __init__(self, sampler: Sampler, batch_rows: int) -> None:
        self._sampler, self._rows = sampler, batch_rows

    def __iter__(self) -> Iterator[list[int]]:
        first = 0
        while True:
            yield self._sampler.batch(np.arange(first, first + self._rows)).tolist()
            first += self._rows


def batches(index: ClipIndex, sampler: Sampler, *, batch_rows: int, workers: int) -> Iterator[dict[str, Any]]:
    """Endless batches of the same clips as `panns_jax.data.pipeline.training_batches` gives, waveforms in float32."""
    numbers: Any = _BatchNumbers(sampler, batch_rows)
    return iter(DataLoader(Clips(index), batch_sampler=numbers, num_workers=workers))
