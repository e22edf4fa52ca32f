"""HDF5 files read and written with errors that name the file, and written whole or not at all."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import require_file, written_aside

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5")
"""What the names of HDF5 files end in, in small letters."""

NAME_BYTES = 20
"""Width of `audio_name` in the published files; ours are wider only where a name needs it."""


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> "Iterator[h5py.File]":
    """Opens an HDF5 file to read; the block should do nothing else.

    Raises:
      InputError: the file is missing, no HDF5 file, truncated or damaged.
    """
    import h5py

    path = Path(path)
    require_file(path, "an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as HDF5: {_reason(error)}") from error


def require_hdf5_name(out: Path) -> None:
    """Checks that the option --out names an HDF5 file, and not by mistake one of another kind that is there.

    Raises:
      InputError: it is a folder, or ends differently.
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file in it")
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out must end in .h5 or .hdf5, got {out.name!r}")


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> "Iterator[h5py.File]":
    """Opens an HDF5 file that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
      InputError: the file cannot be written, for instance because the disk is full.
    """
    import h5py

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside, _ForgivingFile(aside) as raw:
            file = h5py.File(raw, "w")
            try:
                yield file
            finally:
                raw.forgives = True
                file.close()
            if raw.error is not None:
                raise raw.error
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from error


class _ForgivingFile(io.FileIO):
    """The file under an HDF5 file: after the first failed write it takes everything and keeps nothing.

    HDF5 cannot close a file whose last writes fail, and the process crashes at its end (seen with h5py 3.16).

    Attributes:
      error: the first failure.
      forgives: whether that failure too is kept for later instead of raised.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+")
        self.error: OSError | None = None
        self.forgives = False

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self._keep(error)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self._keep(error)
        return size or 0

    def _keep(self, error: OSError) -> None:
        self.error = error
        if not self.forgives:
            raise error


def column(file: "h5py.File", name: str, kind: str, dimensions: int) -> "h5py.Dataset":
    """The data set `name`, checked for its kind of numbers (numpy's letters) and number of dimensions.

    Raises:
      InputError: there is none, or it is of another type.
    """
    import h5py

    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        held = ", ".join(sorted(map(os.fsdecode, file))) or "nothing"  # names that are no text are bytes
        raise InputError(f"{file.filename}: has no data set {name!r}; it holds {held}")
    if found.dtype.kind not in kind or found.ndim != dimensions:
        raise InputError(f"{file.filename}: {name!r} is {found.dtype} {found.shape}, not what the published files hold")
    return found


def bytes_column(values: list[bytes], least: int) -> np.ndarray:
    """Byte strings as an array of fixed width: `least`, or what the longest needs, so that none is cut."""
    return np.array(values, dtype=f"S{max([least, *map(len, values)])}")


def _reason(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    # HDF5 wraps what the system said into a sentence of its own.
    said = re.search(r"error message = '([^']+)'", told)
    if said:
        return said[1]
    inner = re.search(r"\((.*)\)", told, re.DOTALL)
    return " ".join((inner[1] if inner else told).split()) or type(error).__name__
