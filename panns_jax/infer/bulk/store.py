"""Vectors as they come, in a folder beside the output that they will become."""

import contextlib
import dataclasses
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import alone
from panns_jax.infer.bulk.journal import NAME, Entry, Journal, Plan
from panns_jax.infer.bulk.rows import Result, Rows
from panns_jax.infer.vectors.table import END, START, Tap

_STEPS = "_steps"
_TIMES: dict[str, tuple[np.dtype, int]] = {START: (np.dtype(np.float64), 1), END: (np.dtype(np.float64), 1)}


class Store:
    """The folder `OUT.part`: a file of bare numbers for each tap, and the journal, which tells what is in them.

    Numbers are appended, then the journal's line is: what the journal tells is there, whenever the process ends.

    Attributes:
      journal: what became of each sound so far.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self.journal = journal
        self._files: dict[str, io.FileIO] = {}
        self._ends: dict[str, int] = {}
        if journal.taps is not None:
            self._drop_lost()
            self._open()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self.journal.close()

    def _columns(self) -> dict[str, tuple[np.dtype, int]]:
        """Type and width of what is in each file."""
        columns = dict(_TIMES)
        for name, tap in (self.journal.taps or {}).items():
            columns[name] = np.dtype(tap["dtype"]), tap["width"]
            if tap["sequence"]:
                columns[name + _STEPS] = np.dtype(np.int64), 1
        return columns

    def _size(self, column: str) -> int:
        dtype, width = self._columns()[column]
        return dtype.itemsize * width

    def _is_sequence(self, column: str) -> bool:
        return bool((self.journal.taps or {}).get(column, {}).get("sequence"))

    def _drop_lost(self) -> None:
        """Forgets what the journal tells and the files do not hold, as after a power failure."""
        there = {}
        for column in self._columns():
            path = self._folder / f"{column}.raw"
            there[column] = path.stat().st_size // self._size(column) if path.exists() else 0
        rows = min(count for column, count in there.items() if not self._is_sequence(column))
        for number, entry in list(self.journal.entries.items()):
            lost = entry.row is not None and entry.row + entry.rows > rows
            if lost or any(first + count > there[name] for name, (first, count) in entry.steps.items()):
                del self.journal.entries[number]

    def _open(self) -> None:
        """Opens the files, and cuts off what the journal does not tell of."""
        entries = self.journal.entries.values()
        rows = max((entry.row + entry.rows for entry in entries if entry.row is not None), default=0)
        for column in self._columns():
            end = rows
            if self._is_sequence(column):
                end = max((sum(entry.steps[column]) for entry in entries if column in entry.steps), default=0)
            file = io.FileIO(self._folder / f"{column}.raw", "a")
            file.truncate(end * self._size(column))
            self._files[column], self._ends[column] = file, end

    def enter(self, number: int, name: str, result: Result, node: str | None = None) -> None:
        """Writes what became of a sound.

        Args:
          number: its place in the list.
          name: what it is called.
          result: what became of it.
          node: the machine that worked on it, in a cluster.

        Raises:
          InputError: it cannot be written, as where the disk is full.
        """
        try:
            entry = Entry(result.stamp, failure=result.failure)
            if result.rows is not None:
                entry = self._append(result.rows, result)
            self.journal.enter(number, name, entry, node)
        except OSError as error:
            raise InputError(
                f"cannot write {self._folder}: {error.strerror}; once that is mended, the same command goes on"
            ) from error

    def _append(self, rows: Rows, result: Result) -> Entry:
        if self.journal.taps is None:
            described = {
                name: {"dtype": array.dtype.name, "width": array.shape[1], "sequence": name in rows.steps}
                for name, array in rows.vectors.items()
            }
            self.journal.describe(described)
            self._open()
        count, row = len(rows.start), self._ends[START]
        arrays = {START: rows.start, END: rows.end, **rows.vectors}
        arrays |= {name + _STEPS: steps for name, steps in rows.steps.items()}
        steps = {name: (self._ends[name], len(rows.vectors[name])) for name in rows.steps}
        for column, array in arrays.items():
            rest = np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
            while len(rest):
                rest = rest[self._files[column].write(rest) or 0 :]
            self._ends[column] += len(array)
        return Entry(result.stamp, row, count, steps)

    def table(self, names: Sequence[str], attributes: Mapping[str, Any], *, windows: bool) -> "StoredTable":
        """What is stored, in the order of the list.

        Args:
          names: of all sounds of the list.
          attributes: what holds for all.
          windows: whether the rows are windows, whose times are told.
        """
        done = sorted((n, entry) for n, entry in self.journal.entries.items() if entry.row is not None)
        entries = [entry for _, entry in done]
        runs = _Runs([(entry.row or 0, entry.rows) for entry in entries])
        files: dict[str, _Numbers] = {}
        for column, (dtype, width) in self._columns().items():
            sequence = self._is_sequence(column)
            placed = _Runs([entry.steps[column] for entry in entries]) if sequence else runs
            files[column] = _Numbers(self._folder / f"{column}.raw", dtype, width, placed)
        taps: dict[str, Tap] = {}
        for name in self.journal.taps or {}:
            steps = files[name + _STEPS].all()[:, 0] if self._is_sequence(name) else None
            taps[name] = Tap(files[name].dtype, files[name].width, steps)
        start, end = (files[name].all()[:, 0] if windows and entries else None for name in (START, END))
        repeated = [names[number] for number, entry in done for _ in range(entry.rows)]
        return StoredTable(repeated, start, end, taps, attributes, files)


class _Runs:
    """Where numbers lie that were not written in the order in which they are wanted."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        """Takes the first place and the number of places of each part, in the order in which they are wanted."""
        runs: list[list[int]] = []
        for first, count in spans:
            if runs and sum(runs[-1]) == first:
                runs[-1][1] += count
            elif count:
                runs.append([first, count])
        self._firsts = [first for first, _ in runs]
        self._begins = np.cumsum([0, *(count for _, count in runs)])

    @property
    def total(self) -> int:
        return int(self._begins[-1])

    def places(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Where what is wanted from `first` to before `end` lies: places and numbers of them."""
        run = int(np.searchsorted(self._begins, first, side="right")) - 1
        while first < end:
            begin, stop = int(self._begins[run]), int(self._begins[run + 1])
            count = min(end, stop) - first
            yield self._firsts[run] + first - begin, count
            first, run = first + count, run + 1


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """A file of numbers, read in the order in which they are wanted."""

    path: Path
    dtype: np.dtype
    width: int
    runs: _Runs

    def read(self, first: int, end: int) -> np.ndarray:
        parts = [np.zeros((0, self.width), self.dtype)]
        size = self.dtype.itemsize * self.width
        try:
            for place, count in self.runs.places(first, end):
                found = np.fromfile(self.path, self.dtype, count * self.width, offset=place * size)
                parts.append(found.reshape(-1, self.width))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read: {error}") from error
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def all(self) -> np.ndarray:
        return self.read(0, self.runs.total)


@dataclasses.dataclass(frozen=True)
class StoredTable:
    """What is stored, in the order of the list; as `panns_jax.infer.vectors.table.Table`."""

    names: list[str]
    start: np.ndarray | None
    end: np.ndarray | None
    taps: dict[str, Tap]
    attributes: Mapping[str, Any]
    files: dict[str, _Numbers]

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        return self.files[tap].read(*self.taps[tap].span(first, end))


def part_of(out: Path) -> Path:
    """The folder in which the work on an output goes on."""
    return out.with_name(f"{out.name}.part")


@contextlib.contextmanager
def opened(out: Path, plan: Plan, *, restart: bool) -> Iterator[Store]:
    """The store of an output, with what was done before.

    Args:
      out: the output.
      plan: what is to be done.
      restart: whether what was done before is thrown away.

    Raises:
      InputError: it was begun by another plan, another process is at it, or it cannot be written.
    """
    folder = part_of(out)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    with alone(folder / ".lock", f"another process is at work on {out}; give each its own --out"):
        journal = Journal(folder / NAME)
        if restart or journal.plan is None:
            clear(folder)
            journal = Journal(folder / NAME)
        elif difference := plan.difference(journal.plan):
            raise InputError(
                f"{folder} was begun {difference}: name the same to go on, or add --restart to throw away what is done"
            )
        store = None
        try:
            journal.open()
            if journal.plan is None:
                journal.begin(plan)
            store = Store(folder, journal)
            yield store
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
        finally:
            (store or journal).close()


def clear(folder: Path) -> None:
    """Removes what is in the folder of a store, but for its lock; the journal first, which stands for the rest."""
    (folder / NAME).unlink(missing_ok=True)
    for file in folder.glob("*.raw"):
        file.unlink(missing_ok=True)


def discard(out: Path) -> None:
    """Removes the folder of a store that is done with."""
    with contextlib.suppress(OSError):
        clear(part_of(out))
    shutil.rmtree(part_of(out), ignore_errors=True)
