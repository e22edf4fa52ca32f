"""The waveforms of an index's clips, read from HDF5 files by any thread of any process."""

import dataclasses
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from jaxtyping import Int, Shaped

from panns_jax.data.hdf5 import column, reading
from panns_jax.data.index import ClipIndex
from panns_jax.errors import InputError

if TYPE_CHECKING:
    import h5py

_PUBLISHED_RATE = 32000  # of files that do not tell
_SHORTS = np.dtype("<i2")
_FLOATS = np.dtype("<f4")


class ClipSource:
    """The clips of an index with their waveforms, at a sample rate: a sequence that many threads may read at once.

    Where a file's rate is a multiple of the sample rate asked for, every second, fourth … sample is taken, as the
    published 16 kHz and 8 kHz models were trained. Rows that lie plainly in their file are read at their offset,
    without the HDF5 library, whose one lock would make threads wait for each other.

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
        lengths = {file.samples: file.path for file in self._files}
        if len(lengths) > 1:
            told = " and ".join(f"{path} of {samples} samples" for samples, path in list(lengths.items())[:2])
            raise InputError(f"{index.path}: lists clips of different lengths: {told} at {sample_rate} Hz")
        self.samples = next(iter(lengths), 0)
        self.dtype = np.dtype(np.int16 if all(file.dtype.kind == "i" for file in self._files) else np.float32)
        self._handles = _Handles()

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ClipSource({self.index!r}, {self.samples} samples at {self.sample_rate} Hz, {self.dtype})"

    def __getitem__(self, clip: SupportsIndex) -> dict[str, Any]:
        """One clip: "audio_name" str, "waveform" (samples,) int16 or float32, "target" (classes,) bool."""
        number = range(len(self))[clip]  # negative numbers and the end of iteration, as for any sequence
        return {name: values[0] for name, values in self.batch(np.array([number])).items()}

    def batch(self, clips: Int[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
        """Several clips: "audio_name" (rows,) str, "waveform" (rows, samples), "target" (rows, classes) bool."""
        return {**self.labels(clips), "waveform": self.waveforms(clips)}

    def labels(self, clips: Int[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
        """What the index tells of several clips: "audio_name" and "target", as in `batch`."""
        return {
            "audio_name": np.array([os.fsdecode(name) for name in self.index.audio_name[clips]], dtype=np.str_),
            "target": self.index.targets.dense(clips),
        }

    def waveforms(self, clips: Int[np.ndarray, " rows"]) -> Shaped[np.ndarray, "rows samples"]:
        """The waveforms of some clips, int16 or float32 (`dtype`).

        Raises:
          InputError: a file has vanished or cannot be read any more.
        """
        rows = np.empty((len(clips), self.samples), self.dtype)
        for place, clip in enumerate(clips):
            file = self._files[self.index.file_number[clip]]
            row = int(self.index.index_in_hdf5[clip])
            if file.stride == 1 and file.dtype == self.dtype and file.offsets is not None:
                self._handles.read_into(file, row, rows[place])
                continue
            whole = np.empty(file.samples * file.stride + file.rest, file.dtype)
            self._handles.read_into(file, row, whole)
            decimated = whole[:: file.stride]
            rows[place] = decimated if file.dtype.kind == self.dtype.kind else decimated.astype(np.float32) / 32767
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_handles"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._handles = _Handles()


@dataclasses.dataclass(frozen=True, eq=False)
class _File:
    """What must be known to read the rows of a waveforms file.

    Attributes:
      samples: length of a row after decimation.
      stride: every how many-th sample is taken.
      rest: how many samples longer than `samples * stride` a row is; not positive.
      dtype: of the file, in native byte order.
      offsets: where each row begins in the file, bytes; None where only the HDF5 library can tell.
    """

    path: Path
    samples: int
    stride: int
    rest: int
    dtype: np.dtype
    offsets: Int[np.ndarray, " rows"] | None


class _Handles:
    """The files that this process has open, shared by its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[Path, int] = {}
        self._hdf5: dict[Path, h5py.File] = {}
        weakref.finalize(self, _close, self._descriptors, self._hdf5)

    def read_into(self, file: _File, row: int, out: np.ndarray) -> None:
        if file.offsets is None:
            self._read_by_hdf5(file, row, out)
        else:
            self._read_at_offset(file, int(file.offsets[row]), out)

    def _read_at_offset(self, file: _File, offset: int, out: np.ndarray) -> None:
        view = out.data.cast("B")
        try:
            descriptor = self._descriptors.get(file.path)
            if descriptor is None:
                with self._lock:
                    if file.path not in self._descriptors:
                        self._descriptors[file.path] = os.open(file.path, os.O_RDONLY)
                    descriptor = self._descriptors[file.path]
            while len(view):
                count = os.preadv(descriptor, [view], offset)
                if not count:
                    raise InputError(f"{file.path}: has become shorter than it was")
                view = view[count:]
                offset += count
        except OSError as error:
            raise InputError(f"{file.path}: cannot be read any more: {error.strerror}") from error

    def _read_by_hdf5(self, file: _File, row: int, out: np.ndarray) -> None:
        import h5py

        try:
            with self._lock:
                if file.path not in self._hdf5:
                    self._hdf5[file.path] = h5py.File(file.path, "r")
                out[:] = self._hdf5[file.path]["waveform"][row]  # pyright: ignore[reportIndexIssue]
        except (OSError, RuntimeError, KeyError) as error:
            raise InputError(f"{file.path}: cannot be read any more: {error}") from error


def _close(descriptors: dict[Path, int], files: "dict[Path, h5py.File]") -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
    for file in files.values():
        file.close()


def _inspect(index: ClipIndex, number: int, sample_rate: int) -> _File:
    path = index.files[number]
    with reading(path) as file:
        waveform = column(file, "waveform", "if", 2)
        names = column(file, "audio_name", "S", 1)[:]
        rate = int(file.attrs.get("sample_rate", _PUBLISHED_RATE))
        if waveform.dtype.newbyteorder("=") not in (_SHORTS, _FLOATS):
            raise InputError(f"{path}: its waveforms are {waveform.dtype}, not int16 or float32")
        offsets = _offsets(file, waveform)
        rows, length = waveform.shape
        dtype = waveform.dtype.newbyteorder("=")
    if rate < 1 or rate % sample_rate:
        raise InputError(f"{path}: holds {rate} Hz, which is no multiple of the model's {sample_rate} Hz; pack it anew")
    _check_rows(index, number, names, rows)
    stride = rate // sample_rate
    samples = -(-length // stride)
    return _File(path, samples, stride, length - samples * stride, dtype, offsets)


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


def _offsets(file: "h5py.File", waveform: "h5py.Dataset") -> Int[np.ndarray, " rows"] | None:
    """Where each row begins in the file, if the rows lie there plainly: whole, uncompressed, in our byte order."""
    plain = waveform.dtype in (_SHORTS, _FLOATS) and waveform.dtype.isnative and hasattr(os, "preadv")
    if not plain or file.userblock_size or waveform.external or waveform.is_virtual or not waveform.size:
        return None
    rows, length = waveform.shape
    row_bytes = length * waveform.dtype.itemsize
    if waveform.chunks is None:
        begin = waveform.id.get_offset()
        return None if begin is None else begin + np.arange(rows, dtype=np.int64) * row_bytes
    height, width = waveform.chunks
    if width != length or waveform.id.get_create_plist().get_nfilters():
        return None
    begins = np.full(-(-rows // height), -1, np.int64)

    def note(chunk: Any) -> None:
        begins[chunk.chunk_offset[0] // height] = chunk.byte_offset

    waveform.id.chunk_iter(note)
    if (begins < 0).any():  # never written: zeros that are nowhere
        return None
    place = np.arange(rows, dtype=np.int64)
    return begins[place // height] + place % height * row_bytes
