"""How the rows of a waveforms file lie on disk, and reading them by many threads at once.

Three kinds of file: `waveform` (N, samples) int16, as published; the same in float32, as in 2019; and `flac`, the FLAC
streams of all rows one after another, uint8, with `flac_offset` (N + 1,), which tells where each begins and ends.
"""

import dataclasses
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Int, Num, Shaped

from panns_jax.data import flac
from panns_jax.data.hdf5 import column, reading
from panns_jax.errors import InputError

if TYPE_CHECKING:
    import h5py

PUBLISHED_RATE = 32000
"""Sample rate of files that do not tell theirs."""

_SHORTS = np.dtype("<i2")
_FLOATS = np.dtype("<f4")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What must be known to read the rows of a waveforms file; small, and pickled without an open file.

    Attributes:
      path: the file.
      count: number of rows, empty ones included.
      samples: length of every row.
      sample_rate: of all rows, samples per second.
      dtype: int16 (full scale is 32767) or float32, in native byte order.
      encoding: "int16", "float32" or "flac".
    """

    path: Path
    count: int
    samples: int
    sample_rate: int
    dtype: np.dtype
    encoding: str
    _place: "_Place"

    def read_into(self, row: int, out: Shaped[np.ndarray, " samples"], files: "OpenFiles") -> None:
        """Reads a row into `out`, (samples,) of `dtype`.

        Raises:
          InputError: the file has vanished, or cannot be read any more.
          DamagedRow: the row is FLAC that cannot be decoded.
        """
        self._place.read_into(row, out, self.path, files)


class OpenFiles:
    """The files that this process has open, shared by its threads; closed when nobody refers to this any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[Path, int] = {}
        self._hdf5: dict[Path, h5py.File] = {}
        weakref.finalize(self, _close, self._descriptors, self._hdf5)

    def read_at(self, path: Path, offset: int, view: memoryview) -> None:
        """Fills a view of bytes with what stands at an offset of a file.

        Raises:
          InputError: the file has vanished, or ends before.
        """
        try:
            descriptor = self._descriptors.get(path)
            if descriptor is None:
                with self._lock:
                    if path not in self._descriptors:
                        self._descriptors[path] = os.open(path, os.O_RDONLY)
                    descriptor = self._descriptors[path]
            while len(view):
                count = os.preadv(descriptor, [view], offset)
                if not count:
                    raise InputError(f"{path}: has become shorter than it was")
                view = view[count:]
                offset += count
        except OSError as error:
            raise InputError(f"{path}: cannot be read any more: {error.strerror}") from error

    def read_by_hdf5(self, path: Path, name: str, selection: int | slice) -> Shaped[np.ndarray, "..."]:
        """Reads a part of a data set by the HDF5 library, one thread at a time.

        Raises:
          InputError: the file has vanished, or cannot be read.
        """
        import h5py

        try:
            with self._lock:
                if path not in self._hdf5:
                    self._hdf5[path] = h5py.File(path, "r")
                return np.asarray(self._hdf5[path][name][selection])  # pyright: ignore[reportIndexIssue]
        except (OSError, RuntimeError, KeyError) as error:
            raise InputError(f"{path}: cannot be read any more: {error}") from error


def holds_waveforms(file: "h5py.File") -> bool:
    """Whether an HDF5 file is, by its data sets, a waveforms file."""
    return "waveform" in file or "flac" in file


def count_rows(file: "h5py.File") -> int:
    """The number of rows of a waveforms file, empty ones included.

    Raises:
      InputError: it is none.
    """
    if "flac" in file:
        column(file, "flac", "u", 1)
        return max(0, len(column(file, "flac_offset", "iu", 1)) - 1)
    return column(file, "waveform", "if", 2).shape[0]


def find_rows(path: str | os.PathLike[str]) -> Rows:
    """Looks up how the rows of a waveforms file lie in it.

    Raises:
      InputError: the file is missing, damaged, or no waveforms file.
    """
    path = Path(path)
    with reading(path) as file:
        rate = _whole_number(file, "sample_rate", PUBLISHED_RATE)
        if "flac" in file:
            return _find_flac(path, file, rate)
        waveform = column(file, "waveform", "if", 2)
        dtype = waveform.dtype.newbyteorder("=")
        if dtype not in (_SHORTS, _FLOATS):
            raise InputError(f"{path}: its waveforms are {waveform.dtype}, not int16 or float32")
        rows, samples = waveform.shape
        return Rows(path, rows, samples, rate, dtype, dtype.name, _plain(file, waveform) or _ByHdf5())


class _Place(Protocol):
    def read_into(self, row: int, out: Num[np.ndarray, " samples"], path: Path, files: OpenFiles) -> None: ...


@dataclasses.dataclass(frozen=True, eq=False)
class _Plain:
    """Rows that lie in the file as they are in memory.

    Attributes:
      begins: where each chunk of rows begins in the file, bytes.
      height: rows in a chunk.
      row_bytes: length of a row.
    """

    begins: Int[np.ndarray, " chunks"]
    height: int
    row_bytes: int

    def read_into(self, row: int, out: Num[np.ndarray, " samples"], path: Path, files: OpenFiles) -> None:
        offset = int(self.begins[row // self.height]) + row % self.height * self.row_bytes
        files.read_at(path, offset, out.data.cast("B"))


@dataclasses.dataclass(frozen=True, eq=False)
class _ByHdf5:
    """Rows that only the HDF5 library finds: compressed, or in chunks that split them."""

    def read_into(self, row: int, out: Num[np.ndarray, " samples"], path: Path, files: OpenFiles) -> None:
        out[:] = files.read_by_hdf5(path, "waveform", row)


@dataclasses.dataclass(frozen=True, eq=False)
class _Flac:
    """Rows that are FLAC streams, one after another.

    Attributes:
      starts: where each stream begins among all of them, and the end; bytes.
      begins: where each chunk of bytes begins in the file; None where only the HDF5 library can tell.
      chunk: bytes in a chunk.
    """

    starts: Int[np.ndarray, " starts"]
    begins: Int[np.ndarray, " chunks"] | None
    chunk: int

    def read_into(self, row: int, out: Num[np.ndarray, " samples"], path: Path, files: OpenFiles) -> None:
        first, end = int(self.starts[row]), int(self.starts[row + 1])
        if self.begins is None:
            flac.decode_into(files.read_by_hdf5(path, "flac", slice(first, end)).tobytes(), out)
            return
        stream = bytearray(end - first)
        view = memoryview(stream)
        while len(view):
            number, inside = divmod(end - len(view), self.chunk)
            piece = view[: self.chunk - inside]
            files.read_at(path, int(self.begins[number]) + inside, piece)
            view = view[len(piece) :]
        flac.decode_into(stream, out)


def _find_flac(path: Path, file: "h5py.File", rate: int) -> Rows:
    streams = column(file, "flac", "u", 1)
    starts = column(file, "flac_offset", "iu", 1)[:].astype(np.int64)
    samples = _whole_number(file, "samples", 0)
    if not samples:
        raise InputError(f"{path}: holds FLAC, but no attribute 'samples' that tells how long its rows are")
    ascending = len(starts) and starts[0] == 0 and starts[-1] == len(streams) and (np.diff(starts) >= 0).all()
    if streams.dtype != np.uint8 or not ascending:
        raise InputError(f"{path}: is damaged: its 'flac_offset' does not tell where in 'flac' the rows begin")
    chunks = _chunks(file, streams)
    begins, chunk = chunks or (None, 1)
    place = _Flac(starts, begins, chunk)
    return Rows(path, len(starts) - 1, samples, rate, np.dtype(np.int16), "flac", place)


def _whole_number(file: "h5py.File", name: str, default: int) -> int:
    """An attribute that is a positive number."""
    value = file.attrs.get(name, default)
    try:
        number = int(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = -1
    if number < 1 and name in file.attrs:
        raise InputError(f"{file.filename}: its attribute {name!r} is {value}, not a positive number")
    return number


def _plain(file: "h5py.File", waveform: "h5py.Dataset") -> _Plain | None:
    """Where the rows lie, if they do so plainly: whole, uncompressed, in our byte order."""
    if not waveform.dtype.isnative or (waveform.chunks and waveform.chunks[1] != waveform.shape[1]):
        return None
    chunks = _chunks(file, waveform)
    return chunks and _Plain(*chunks, waveform.shape[1] * waveform.dtype.itemsize)


def _chunks(file: "h5py.File", dataset: "h5py.Dataset") -> tuple[Int[np.ndarray, " chunks"], int] | None:
    """Where the chunks of a data set begin in the file, and how many places of its first axis each holds.

    None where that is not all that must be known to read them without the HDF5 library.
    """
    if not hasattr(os, "preadv") or file.userblock_size or dataset.external or dataset.is_virtual or not dataset.size:
        return None
    if dataset.chunks is None:
        begin = dataset.id.get_offset()
        return None if begin is None else (np.array([begin], np.int64), len(dataset))
    if dataset.id.get_create_plist().get_nfilters():
        return None
    height = dataset.chunks[0]
    begins = np.full(-(-len(dataset) // height), -1, np.int64)

    def note(chunk: Any) -> None:
        begins[chunk.chunk_offset[0] // height] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return None if (begins < 0).any() else (begins, height)  # one that was never written is nowhere: zeros


def _close(descriptors: dict[Path, int], files: "dict[Path, h5py.File]") -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
    for file in files.values():
        file.close()
