"""Vectors in an HDF5 file: `name` (N,), `embedding` (N, D); of a sequence, `frames` (steps of all, D) and
`frames_offset` (N + 1,); of windows `start` and `end` (N,), seconds; and attributes of the file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.infer.vectors.table import END, NAME, START, Table, Tap, offsets_of, tidy

if TYPE_CHECKING:
    import h5py

OFFSET = "_offset"
_NAMES_AT_ONCE = 1 << 14
_CHUNK = 256 << 10  # bytes


def write_hdf5(table: Table, out: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
      InputError: it cannot be written, or the table cannot be read.
    """
    import h5py

    from panns_jax.data.hdf5 import writing

    rows = len(table.names)
    with writing(out) as file:
        file.attrs.update({name: value for name, value in table.attributes.items() if value is not None})
        names = file.create_dataset(NAME, (rows,), h5py.string_dtype())
        for first in range(0, rows, _NAMES_AT_ONCE):
            some = table.names[first : first + _NAMES_AT_ONCE]
            names[first : first + len(some)] = [os.fsencode(name) for name in some]  # as bytes: one need not be text
        if table.start is not None:
            file[START], file[END] = table.start, table.end
        for name, tap in table.taps.items():
            offsets = np.arange(rows + 1) if tap.steps is None else offsets_of(tap.steps)
            if tap.steps is not None:
                file[name + OFFSET] = offsets
            length = int(offsets[-1])
            chunk = (min(length, max(1, _CHUNK // (tap.dtype.itemsize * tap.width))), tap.width)
            vectors = file.create_dataset(name, (length, tap.width), tap.dtype, chunks=chunk if length else None)
            for first, end in tap.rows_at_once(rows):
                vectors[offsets[first] : offsets[end]] = table.read(name, first, end)
            vectors.flush()  # what cannot be written is told here, where it can be caught


class Hdf5Table:
    """The vectors of an open file; as `Table`."""

    def __init__(self, path: Path, file: "h5py.File") -> None:
        import h5py

        self._path, self._file = path, file
        found = {name: data for name, data in file.items() if isinstance(data, h5py.Dataset)}
        if NAME not in found:
            raise InputError(f"{path}: was not written by panns-jax embed: it has no data set {NAME!r}")
        self.names: list[str] = [os.fsdecode(name) for name in found[NAME][:]]
        self.start, self.end = (found[name][:] if name in found else None for name in (START, END))
        self.attributes: dict[str, Any] = {name: tidy(value) for name, value in file.attrs.items()}
        self.taps: dict[str, Tap] = {}
        self._offsets: dict[str, np.ndarray] = {}
        for name, data in found.items():
            if data.ndim == 2 and data.dtype.kind == "f":
                offsets = found[name + OFFSET][:] if name + OFFSET in found else None
                steps = None if offsets is None else np.diff(offsets)
                self.taps[name] = Tap(data.dtype, data.shape[1], steps)
                self._offsets[name] = np.arange(len(self.names) + 1) if offsets is None else offsets
                if len(self._offsets[name]) != len(self.names) + 1 or self._offsets[name][-1] != len(data):
                    raise InputError(f"{path}: is damaged: {name!r} does not fit {NAME!r}")

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        offsets = self._offsets[tap]
        try:
            return self._file[tap][offsets[first] : offsets[end]]  # pyright: ignore
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self._path}: cannot be read as HDF5: {error}") from error
