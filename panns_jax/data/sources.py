"""The waveforms of an index's clips, read from HDF5 files by any thread of any process."""

import dataclasses
import os
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int, Shaped

from panns_jax.data.flac import DamagedRow
from panns_jax.data.hdf5 import column, reading
from panns_jax.data.index import ClipIndex
from panns_jax.data.storage import OpenFiles, Rows, find_rows
from panns_jax.errors import InputError


class ClipSource:
    """The clips of an index with their waveforms, at a sample rate: a sequence that many threads may read at once.

    Where a file's rate is a multiple of the sample rate asked for, every second, fourth … sample is taken, as the
    published 16 kHz and 8 kHz models were trained. Rows that lie plainly in their file, and FLAC, are read at their
    offset, without the HDF5 library, whose one lock would make threads wait for each other. FLAC is decoded on the
    fly, by threads at once, to the very samples that a file of int16 holds.

    Pickled, it carries no open file; each process opens the files that it reads when it needs them.

    Attributes:
      index: the clips.
      sample_rate: samples per second of the waveforms.
      samples: length of every waveform.
      dtype: of the waveforms: int16 where all files hold int16 (full scale is 32767), otherwise float32.
    """

    def __init__(self, index: ClipIndex, sample_rate: int) -> None:
        """Opens every file of the index once, to see that each clip is where the index says.

        Raises:
          InputError: a waveforms file is missing, damaged, of an unsuitable rate or length, or holds other clips than
            the index says.
        """
        self.index = index
        self.sample_rate = sample_rate
        self._files = tuple(_inspect(index, number, sample_rate) for number in range(len(index.files)))
        lengths = {file.samples: file.rows.path for file in self._files}
        if len(lengths) > 1:
            told = " and ".join(f"{path} of {samples} samples" for samples, path in list(lengths.items())[:2])
            raise InputError(f"{index.path}: lists clips of different lengths: {told} at {sample_rate} Hz")
        self.samples = next(iter(lengths), 0)
        self.dtype = np.dtype(np.int16 if all(file.rows.dtype.kind == "i" for file in self._files) else np.float32)
        self._open = OpenFiles()

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ClipSource({self.index!r}, {self.samples} samples at {self.sample_rate} Hz, {self.dtype})"

    def __getitem__(self, clip: SupportsIndex) -> dict[str, Any]:
        """One clip: "audio_name" str, "waveform" (samples,) int16 or float32, "target" (classes,) bool."""
        number = range(len(self))[clip]  # negative numbers and the end of iteration, as for any sequence
        return {name: values[0] for name, values in self.batch(np.array([number])).items()}

    def batch(
        self, clips: Int[np.ndarray, " rows"], *, out: Shaped[np.ndarray, "rows samples"] | None = None
    ) -> dict[str, np.ndarray]:
        """Several clips: "audio_name" (rows,) str, "waveform" (rows, samples), "target" (rows, classes) bool.

        The waveforms are in `out` where it is given.
        """
        return {**self.labels(clips), "waveform": self.waveforms(clips, out=out)}

    def labels(self, clips: Int[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
        """What the index tells of several clips: "audio_name" and "target", as in `batch`."""
        return {
            "audio_name": np.array([os.fsdecode(name) for name in self.index.audio_name[clips]], dtype=np.str_),
            "target": self.index.targets.dense(clips),
        }

    def waveforms(
        self, clips: Int[np.ndarray, " rows"], *, out: Shaped[np.ndarray, "rows samples"] | None = None
    ) -> Shaped[np.ndarray, "rows samples"]:
        """The waveforms of some clips, int16 or float32 (`dtype`), in `out` where it is given.

        Raises:
          InputError: a file has vanished or cannot be read any more, or a row is damaged; the message names file, row
            and clip.
        """
        rows = np.empty((len(clips), self.samples), self.dtype) if out is None else out
        for place, clip in enumerate(clips):
            file = self._files[self.index.file_number[clip]]
            if file.stride == 1 and file.rows.dtype == self.dtype:
                self._read_into(file.rows, clip, rows[place])
                continue
            whole = np.empty(file.rows.samples, file.rows.dtype)
            self._read_into(file.rows, clip, whole)
            decimated = whole[:: file.stride]
            rows[place] = decimated if decimated.dtype == self.dtype else decimated.astype(np.float32) / 32767
        return rows

    def _read_into(self, rows: Rows, clip: int | np.integer, out: Shaped[np.ndarray, " samples"]) -> None:
        row = int(self.index.index_in_hdf5[clip])
        try:
            rows.read_into(row, out, self._open)
        except DamagedRow as error:
            name = os.fsdecode(bytes(self.index.audio_name[clip]))
            damaged = f"row {row} ({name}) cannot be decoded as FLAC: {error}"
            raise InputError(f"{rows.path}: {damaged}; pack the file anew") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = OpenFiles()


@dataclasses.dataclass(frozen=True, eq=False)
class _File:
    """A waveforms file of the index.

    Attributes:
      rows: how to read it.
      stride: every how many-th sample is taken.
      samples: length of a row after that.
    """

    rows: Rows
    stride: int
    samples: int


def _inspect(index: ClipIndex, number: int, sample_rate: int) -> _File:
    path = index.files[number]
    rows = find_rows(path)
    with reading(path) as file:
        names = column(file, "audio_name", "S", 1)[:]
    if rows.sample_rate % sample_rate:
        told = f"holds {rows.sample_rate} Hz, which is no multiple of the model's {sample_rate} Hz"
        raise InputError(f"{path}: {told}; pack it anew")
    _check_rows(index, number, names, rows.count)
    stride = rows.sample_rate // sample_rate
    return _File(rows, stride, -(-rows.samples // stride))


def _check_rows(index: ClipIndex, number: int, names: np.ndarray, rows: int) -> None:
    """Sees to it that each clip of the file is in the row that the index tells: else labels would be mixed up."""
    clips = np.flatnonzero(index.file_number == number)
    places = index.index_in_hdf5[clips]
    path = index.files[number]
    anew = "make the index anew with panns-jax index"
    if len(names) != rows or (len(places) and not 0 <= places.min() <= places.max() < rows):
        raise InputError(f"{index.path}: lists rows that {path} does not have; {anew}")
    differ = np.flatnonzero(names[places] != index.audio_name[clips])
    if len(differ):
        row, clip = places[differ[0]], clips[differ[0]]
        expected, found = (os.fsdecode(bytes(name)) for name in (index.audio_name[clip], names[row]))
        told = f"{expected} in row {row}, which holds {found or 'no clip'}"
        raise InputError(f"{index.path}: looks in {path} for {told}; {anew}")
