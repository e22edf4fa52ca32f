"""Vectors in a folder: an .npy file for each sound and tap, `index.csv` and `attributes.json`.

`embedding/street/a.wav.npy` is (D,), or (windows, D); of a sequence (steps, D), the steps of all windows one after
another. `index.csv` has a row for each sound, or each window: name, file (beneath the tap's folder), start and end of a
window, and the steps of a sequence, such as frames_steps.
"""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.infer.vectors.npz import write_header
from panns_jax.infer.vectors.parquet import STEPS
from panns_jax.infer.vectors.table import END, NAME, START, Table, Tap, files_of

INDEX = "index.csv"
ATTRIBUTES = "attributes.json"
_FILE = "file"
_LONGEST = 200  # bytes of a file's name


def write_folder(table: Table, out: Path) -> None:
    """Writes the folder, whole or not at all; one that was written before is replaced.

    Raises:
      InputError: it cannot be written, or the table cannot be read.
    """
    require_ours(out)
    aside, before = (out.with_name(f".{out.name}.{what}") for what in ("part", "before"))
    try:
        for abandoned in (aside, before):
            shutil.rmtree(abandoned, ignore_errors=True)
        aside.mkdir()
        _write(table, aside)
        if out.exists():
            out.rename(before)
        aside.rename(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        for abandoned in (aside, before):
            shutil.rmtree(abandoned, ignore_errors=True)


def require_ours(out: Path) -> None:
    """Checks that a folder may be replaced.

    Raises:
      InputError: it holds what was not written here, or is no folder.
    """
    try:
        if out.is_dir():
            if any(out.iterdir()) and not (out / INDEX).exists():
                raise InputError(f"{out} holds other files than vectors; name a new folder")
        elif out.exists():
            raise InputError(f"{out} is a file, not a folder; name a new folder, or a file that ends in .h5")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error


def _write(table: Table, out: Path) -> None:
    spans = list(files_of(table))
    places = _places([table.names[first] for first, _ in spans])
    for place in {Path(name) / place.parent for name in table.taps for place in places}:
        (out / place).mkdir(parents=True, exist_ok=True)
    for name in table.taps:
        for (first, end), place in zip(spans, places, strict=True):
            vectors = table.read(name, first, end)
            whole = table.start is None and table.taps[name].steps is None
            _save(out / name / place, vectors[0] if whole else vectors)
    with (out / INDEX).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        windowed = () if table.start is None or table.end is None else (table.start, table.end)
        steps = {f"{name}{STEPS}": tap.steps for name, tap in table.taps.items() if tap.steps is not None}
        rows.writerow([NAME, _FILE, *([START, END] if windowed else []), *steps])
        for (first, end), place in zip(spans, places, strict=True):
            for row in range(first, end):
                seconds = [float(column[row]) for column in windowed]
                rows.writerow([table.names[row], place.as_posix(), *seconds, *(s[row] for s in steps.values())])
    taps = {name: {"dtype": tap.dtype.name, "width": tap.width} for name, tap in table.taps.items()}
    (out / ATTRIBUTES).write_text(json.dumps({**table.attributes, "arrays": taps}, indent=2) + "\n", encoding="utf-8")


def _save(file: Path, array: np.ndarray) -> None:
    # NumPy's own function does not tell why it cannot write.
    with file.open("wb") as opened:
        write_header(opened, array.dtype, array.shape)
        opened.write(np.ascontiguousarray(array).data)


def _places(names: list[str]) -> list[Path]:
    """A file for each sound: where it lies beneath the folder that all have in common, and another one for each."""
    paths = [Path(os.path.abspath(name)) for name in names]  # noqa: PTH100, which would follow links
    try:
        common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    except ValueError:  # several drives of Windows
        common = None
    places: list[Path] = []
    taken: set[str] = set()
    for number, path in enumerate(paths):
        place = Path(path.name) if common is None else path.relative_to(common)
        if len(os.fsencode(place.name)) > _LONGEST:
            place = place.with_name(f"{place.name[: _LONGEST // 8]}~{number}")
        if str(place).casefold() in taken:  # many file systems make no difference between a and A
            place = place.with_name(f"{place.name}~{number}")
        taken.add(str(place).casefold())
        places.append(place.with_name(f"{place.name}.npy"))
    return places


class FolderTable:
    """The vectors of a folder; as `Table`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with (path / INDEX).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = list(csv.DictReader(file))
            self.attributes: dict[str, Any] = json.loads((path / ATTRIBUTES).read_text(encoding="utf-8"))
            described = self.attributes.pop("arrays")
            self.names: list[str] = [row[NAME] for row in rows]
            self._files = [row[_FILE] for row in rows]
            columns = {
                name: np.array([float(row[name]) for row in rows])
                for name in (rows[0] if rows else ())
                if name not in (NAME, _FILE)
            }
            self.start, self.end = columns.get(START), columns.get(END)
            self.taps: dict[str, Tap] = {}
            for name, tap in described.items():
                steps = columns.get(f"{name}{STEPS}")
                steps = None if steps is None else steps.astype(np.int64)
                self.taps[name] = Tap(np.dtype(tap["dtype"]), int(tap["width"]), steps)
        except OSError as error:
            raise InputError(f"{path}: is no folder of vectors: {error.strerror} ({error.filename})") from error
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: is damaged: {INDEX} or {ATTRIBUTES} is not as panns-jax embed writes it"
            ) from error
        self._rows_of_files = list(files_of(self))
        self._begins = [begin for begin, _ in self._rows_of_files]

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        described = self.taps[tap]
        parts = [np.zeros((0, described.width), described.dtype)]
        number = int(np.searchsorted(self._begins, first, side="right")) - 1
        while number < len(self._begins) and self._begins[number] < end:
            begin, stop = self._rows_of_files[number]
            origin, _ = described.span(begin, begin)
            some, stop = described.span(max(first, begin), min(end, stop))
            parts.append(self._load(tap, begin)[some - origin : stop - origin])
            number += 1
        return np.concatenate(parts)

    def _load(self, tap: str, row: int) -> np.ndarray:
        file = self._path / tap / self._files[row]
        try:
            return np.load(file).reshape(-1, self.taps[tap].width)
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot be read: {error}") from error
