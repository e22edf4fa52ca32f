"""Vectors in an .npz file of NumPy's: the same arrays as in HDF5, and `attributes`, a string of JSON."""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import require_file, written_aside
from panns_jax.infer.vectors.hdf5 import OFFSET
from panns_jax.infer.vectors.table import END, NAME, START, Table, Tap, offsets_of

_ATTRIBUTES = "attributes"
_NAMES_AT_ONCE = 1 << 14


def write_npz(table: Table, out: Path) -> None:
    """Writes the file, whole or not at all; not compressed, as vectors would hardly get smaller.

    Raises:
      InputError: it cannot be written, or the table cannot be read.
    """
    rows = len(table.names)
    with written_aside(out) as aside, zipfile.ZipFile(aside, "w") as archive:
        longest = np.dtype(f"U{max([1, *map(len, table.names)])}")
        with _member(archive, NAME, longest, (rows,)) as member:
            for first in range(0, rows, _NAMES_AT_ONCE):
                member.write(np.array(table.names[first : first + _NAMES_AT_ONCE], longest).tobytes())
        arrays = {START: table.start, END: table.end}
        arrays |= {
            f"{name}{OFFSET}": offsets_of(tap.steps) for name, tap in table.taps.items() if tap.steps is not None
        }
        arrays[_ATTRIBUTES] = np.array(json.dumps(dict(table.attributes)))
        for name, array in arrays.items():
            if array is not None:
                with _member(archive, name, array.dtype, array.shape) as member:
                    member.write(array.tobytes())
        for name, tap in table.taps.items():
            length = rows if tap.steps is None else int(tap.steps.sum())
            with _member(archive, name, tap.dtype, (length, tap.width)) as member:
                for first, end in tap.rows_at_once(rows):
                    member.write(np.ascontiguousarray(table.read(name, first, end)).data)


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """An array of the archive, after its header."""
    # A fixed time: the same vectors give the same bytes.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        write_header(member, dtype, shape)
        yield member


def write_header(file: IO[bytes] | io.BufferedIOBase, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Writes what comes before the numbers of an array in an .npy file."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, described)


class NpzTable:
    """The vectors of an .npz file; as `Table`. They are read from their place in the file, uncompressed as it is."""

    def __init__(self, path: Path) -> None:
        require_file(path, "an .npz file")
        self._path = path
        self._places: dict[str, int] = {}
        arrays: dict[str, np.ndarray] = {}
        shapes: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        try:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:
                for info in archive.infolist():
                    name = info.filename.removesuffix(".npy")
                    if info.compress_type != zipfile.ZIP_STORED:
                        raise InputError(f"{path}: was not written by panns-jax embed: {name!r} is compressed")
                    self._places[name], dtype, shape = _header(file, info)
                    shapes[name] = dtype, shape
                    if len(shape) < 2:
                        with archive.open(info) as member:
                            arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
            self.attributes: dict[str, Any] = json.loads(str(arrays[_ATTRIBUTES]))
            self.names: list[str] = arrays[NAME].tolist()
        except KeyError as error:
            raise InputError(f"{path}: was not written by panns-jax embed: it has no array {error}") from error
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise error if isinstance(error, InputError) else InputError(f"{path}: cannot be read: {error}") from error
        self.start, self.end = arrays.get(START), arrays.get(END)
        self.taps: dict[str, Tap] = {}
        for name, (dtype, shape) in shapes.items():
            if len(shape) == 2:
                offsets = arrays.get(name + OFFSET)
                self.taps[name] = Tap(dtype, shape[1], None if offsets is None else np.diff(offsets))

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        described = self.taps[tap]
        first, end = described.span(first, end)
        width = described.width
        place = self._places[tap] + first * width * described.dtype.itemsize
        try:
            found = np.fromfile(self._path, described.dtype, (end - first) * width, offset=place)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror}") from error
        if len(found) != (end - first) * width:
            raise InputError(f"{self._path}: is damaged: it ends early")
        return found.reshape(-1, width)


def _header(file: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, np.dtype, tuple[int, ...]]:
    """Where the numbers of an array begin in the file, their type and the array's shape."""
    file.seek(info.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2")  # of the member's name, and of what comes after it
    file.seek(int(lengths.sum(dtype=np.int64)), 1)
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return file.tell(), dtype, shape
