"""Vectors of many sounds, wherever they lie, with no more of them in memory than is asked for."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from panns_jax.errors import InputError

Form = Literal["h5", "npz", "parquet", "folder"]
_FORMS: dict[str, Form] = {".h5": "h5", ".hdf5": "h5", ".npz": "npz", ".parquet": "parquet"}

# What is read and written at once.
_CHUNK = 16 << 20  # bytes
_MOST_ROWS = 1 << 16

NAME = "name"
START = "start"
END = "end"


@dataclasses.dataclass(frozen=True)
class Tap:
    """What is stored of one tap of the model.

    Attributes:
      dtype: float32 or float16.
      width: numbers in a vector.
      steps: of a sequence, how many vectors each row has; None where each row has one.
    """

    dtype: np.dtype
    width: int
    steps: Int64[np.ndarray, " rows"] | None = None

    def rows_at_once(self, rows: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows that together make all, each small enough to be held in memory (if no row alone is not)."""
        limit = max(1, _CHUNK // (self.dtype.itemsize * self.width))
        if self.steps is None:
            least = min(limit, _MOST_ROWS)
            yield from ((first, min(first + least, rows)) for first in range(0, rows, least))
            return
        offsets, first = self._offsets, 0
        while first < rows:
            fitting = int(np.searchsorted(offsets, offsets[first] + limit, side="right")) - 1
            end = min(max(fitting, first + 1), first + _MOST_ROWS, rows)
            yield first, end
            first = end

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Where the vectors of the rows from `first` to before `end` lie among those of all rows."""
        return (first, end) if self.steps is None else (int(self._offsets[first]), int(self._offsets[end]))

    @functools.cached_property
    def _offsets(self) -> Int64[np.ndarray, " rows_and_one"]:
        assert self.steps is not None
        return offsets_of(self.steps)


@runtime_checkable
class Table(Protocol):
    """A row for each sound, or for each window of each sound, in the order of the sounds.

    Attributes:
      names: of the sound of each row.
      start: of each row's window, seconds; None where each row is a whole sound.
      end: likewise.
      taps: what there is of the model, by name.
      attributes: what holds for all rows, such as the model's name and sample rate.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def start(self) -> Float[np.ndarray, " rows"] | None: ...

    @property
    def end(self) -> Float[np.ndarray, " rows"] | None: ...

    @property
    def taps(self) -> Mapping[str, Tap]: ...

    @property
    def attributes(self) -> Mapping[str, Any]: ...

    def read(self, tap: str, first: int, end: int) -> Float[np.ndarray, "vectors width"]:
        """The vectors of the rows from `first` to before `end`: one for each, or all steps of each one after another.

        Raises:
          InputError: the file cannot be read.
        """
        ...


def offsets_of(steps: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows_and_one"]:
    """Where the steps of each row begin, and the end: row i has those from offsets[i] to before offsets[i + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(steps, dtype=np.int64)])


def form_of(out: Path) -> Form:
    """The form in which vectors are stored under this name.

    Raises:
      InputError: by this name it is none of them.
    """
    form = _FORMS.get(out.suffix.lower())
    if form is not None:
        return form
    if not out.suffix or out.is_dir():
        return "folder"
    raise InputError(f"{out} must end in .h5, .hdf5, .npz or .parquet, or be a folder, whose name has no ending")


def files_of(table: Table) -> Iterator[tuple[int, int]]:
    """The rows of each sound: one, or as many as it has windows."""
    names, start = table.names, table.start
    first = 0
    for row in range(1, len(names) + 1):
        same = row < len(names) and start is not None and names[row] == names[first] and start[row] > start[row - 1]
        if not same:
            yield first, row
            first = row


def tidy(value: Any) -> Any:
    """An attribute as a plain value of Python's, as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    return None if isinstance(value, float) and not math.isfinite(value) else value
