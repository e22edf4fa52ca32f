"""Writing a waveforms file row by row, in one of two encodings, with no more in memory than a row or a chunk."""

import dataclasses
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from jaxtyping import Int16

from panns_jax.data import flac
from panns_jax.labels import audioset

if TYPE_CHECKING:
    import h5py

    from panns_jax.data.metadata import Segment

Encoding = Literal["int16", "flac"]
EncodedRow = Int16[np.ndarray, " samples"] | bytes

# Bytes of FLAC that are written at once, and lie in the file in one piece.
_CHUNK = 1 << 20
_SLAB = 1 << 13


@dataclasses.dataclass(frozen=True, slots=True)
class RowFormat:
    """What all rows of a file have in common.

    Attributes:
      sample_rate: samples per second.
      samples: length of every row.
      encoding: "int16" as published, or "flac".
    """

    sample_rate: int
    samples: int
    encoding: Encoding = "int16"

    def encode(self, row: Int16[np.ndarray, " samples"]) -> EncodedRow:
        """What a `RowWriter` takes; apart from it, so that other processes can do it."""
        return flac.encode(row, self.sample_rate) if self.encoding == "flac" else row

    def writer(self, file: "h5py.File") -> "RowWriter":
        """Begins the rows of a new file."""
        file.attrs["sample_rate"] = np.int32(self.sample_rate)
        file.attrs["samples"] = np.int64(self.samples)
        file.attrs["encoding"] = self.encoding
        return _FlacWriter(file) if self.encoding == "flac" else _Int16Writer(file, self.samples)


class RowWriter(Protocol):
    """Takes one encoded row after another."""

    def append(self, row: EncodedRow) -> None: ...

    def finish(self) -> None:
        """Writes what is still to be written."""


def write_labels(file: "h5py.File", rows: Sequence["Segment"]) -> None:
    """Writes the data sets `audio_name` and `target`."""
    from panns_jax.data.hdf5 import NAME_BYTES, bytes_column
    from panns_jax.data.metadata import segment_targets

    classes = len(audioset())
    file["audio_name"] = bytes_column([segment.audio_name.encode() for segment in rows], NAME_BYTES)
    target = file.create_dataset("target", (len(rows), classes), bool)
    for start in range(0, len(rows), _SLAB):
        slab = rows[start : start + _SLAB]
        target[start : start + len(slab)] = segment_targets(slab, classes)


class _Int16Writer:
    """`waveform` (N, samples). A row is a chunk: it lies in one piece, while the number of rows can grow."""

    def __init__(self, file: "h5py.File", samples: int) -> None:
        self._count = 0
        self._waveform = file.create_dataset(
            "waveform", (0, samples), np.int16, maxshape=(None, samples), chunks=(1, samples)
        )

    def append(self, row: EncodedRow) -> None:
        self._waveform.resize(self._count + 1, axis=0)
        # Past the library's cache of chunks, which nobody would read from.
        self._waveform.id.write_direct_chunk((self._count, 0), row)
        self._count += 1

    def finish(self) -> None:
        pass


class _FlacWriter:
    """`flac`, the streams of all rows one after another, in chunks; `flac_offset`, where each begins, and the end."""

    def __init__(self, file: "h5py.File") -> None:
        self._file = file
        self._streams = file.create_dataset("flac", (0,), np.uint8, maxshape=(None,), chunks=(_CHUNK,))
        self._offsets = array("q", [0])
        self._waiting = bytearray()
        self._written = 0

    def append(self, row: EncodedRow) -> None:
        assert isinstance(row, bytes)
        self._waiting += row
        self._offsets.append(self._offsets[-1] + len(row))
        while len(self._waiting) >= _CHUNK:
            self._streams.resize(self._written + _CHUNK, axis=0)
            self._streams.id.write_direct_chunk((self._written,), bytes(self._waiting[:_CHUNK]))
            self._written += _CHUNK
            del self._waiting[:_CHUNK]

    def finish(self) -> None:
        if self._waiting:
            self._streams.resize(self._offsets[-1], axis=0)
            self._streams[self._written :] = np.frombuffer(self._waiting, np.uint8)
        self._file["flac_offset"] = np.frombuffer(self._offsets, np.int64)
