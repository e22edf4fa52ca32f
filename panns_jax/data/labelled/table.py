"""Labelled sounds in tables: a row for each, with its path and its class or classes."""

import ast
import dataclasses
import math
import os
import re
from pathlib import Path

from panns_jax.audio import SOUND_EXTENSIONS, Reading
from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.folder import SPLITS
from panns_jax.data.labelled.labels import label_set, require_text
from panns_jax.data.labelled.sounds import FileSound
from panns_jax.errors import InputError
from panns_jax.tables import PATH_COLUMNS, Row, Table, cell_text, read_table

NO_COLUMN = "none"
"""What is said for a column where there is to be none, whatever the table has."""

_SLICES = "slice_file_name"
# In this order: names of classes before their numbers. Several to a clip are in those of the second list.
_LABEL_COLUMNS = ("label", "class", "category", "class_name", "event_label", "genre", "species", "target", "classid")
_LABELS_COLUMNS = ("labels", "classes", "categories", "event_labels", "tags", "tag", "genres")
_START_COLUMNS = ("start", "onset", "start_time", "begin", "start (s)", "begin time (s)")
_END_COLUMNS = ("end", "offset", "end_time", "stop", "end (s)", "end time (s)")
_FOLD_COLUMNS = ("fold", "fold_id")
_SPLIT_COLUMNS = ("split", "subset", "partition")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """What of a table is what; by default that is found out by the names of its columns.

    Attributes:
      path: the column of the paths; or their pattern with columns in braces, such as "fold{fold}/{name}.wav".
      label: the column of the class or the classes.
      start: the column of the time at which the clip begins in its file, in seconds; "none" for the file's beginning.
      end: that of its end; "none" for the file's end.
      fold: the column of the number of its fold; "none" for no folds.
      split: the column of its split; "none" for none.
      separator: what stands between several classes; by default ";" where the column has one, and else ",".
      root: the folder that relative paths begin at; by default that of the table.
      allow_missing: whether clips whose file is not there are in the set (they cannot be read), while others' are.
    """

    path: str | None = None
    label: str | None = None
    start: str | None = None
    end: str | None = None
    fold: str | None = None
    split: str | None = None
    separator: str | None = None
    root: Path | None = None
    allow_missing: bool = False


def read_labelled_table(path: Path, columns: Columns | None = None, *, multi_label: bool = False) -> LabelledSet:
    """Reads a table of clips: csv, tsv or Parquet.

    Rows that speak of the same part of the same file are one clip, which has the classes of all of them.

    Args:
      path: the table.
      columns: what of it is what.
      multi_label: whether a clip may carry several classes, or none.

    Raises:
      InputError: the table cannot be read, lacks a column, or a row is not as it should be; the message names the row.
    """
    columns = columns or Columns()
    table = read_table(path)
    rows = _Rows(table, columns, multi_label)
    clips: dict[tuple[str, float, float | None], _Told] = {}
    for row in table.rows:
        told = rows.clip(row)
        key = (str(told.path), told.reading.start, told.reading.end)
        clips[key] = _joined(clips[key], told, multi_label) if key in clips else told
    _require_files(list(clips.values()), path, columns)
    names = [name for told in clips.values() for name in told.labels]
    if not names:
        raise InputError(f"{path}: no row has a class in its column {rows.label!r}")
    made = tuple(
        LabelledClip(FileSound(told.path, told.reading, told.where), told.labels, told.fold, told.split)
        for told in clips.values()
    )
    return LabelledSet(str(path), label_set(path.stem, names), made, multi_label)


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What a row tells."""

    where: str
    path: Path
    is_there: bool
    labels: tuple[str, ...]
    reading: Reading
    fold: int | None
    split: str | None


class _Rows:
    """The rows of a table as clips.

    Attributes:
      label: the column of the classes.
    """

    def __init__(self, table: Table, columns: Columns, multi_label: bool) -> None:
        self._table = table
        self._multi_label = multi_label
        self._path = self._pattern(columns.path)
        labels = (*_LABELS_COLUMNS, *_LABEL_COLUMNS) if multi_label else (*_LABEL_COLUMNS, *_LABELS_COLUMNS)
        self.label = self._found(columns.label, labels, "label", "--label-column") or ""
        is_slices = _SLICES in table.columns  # whose times are those in the recordings that they were cut from
        self._start = None if is_slices and not columns.start else self._optional(columns.start, _START_COLUMNS)
        self._end = None if is_slices and not columns.end else self._optional(columns.end, _END_COLUMNS)
        self._fold = self._optional(columns.fold, _FOLD_COLUMNS)
        self._split = self._optional(columns.split, _SPLIT_COLUMNS)
        self._separator = columns.separator or self._usual_separator()
        self._root = table.path.parent if columns.root is None else columns.root
        self._listings = _Listings()

    def clip(self, row: Row) -> _Told:
        """What a row tells.

        Raises:
          InputError: it is not as it should be.
        """
        path, is_there = self._file(row)
        return _Told(
            row.where,
            path,
            is_there,
            self._labels(row),
            self._reading(row),
            self._fold_of(row),
            self._split_of(row),
        )

    def _pattern(self, wanted: str | None) -> tuple[str, ...]:
        """The pattern of the paths: text, and columns at the second, fourth and so on."""
        if wanted is not None and self._table.column(wanted.strip()) is None and re.search("[{}]", wanted):
            parts = re.split(r"\{([^{}]*)\}", wanted)
            if any(re.search("[{}]", text) for text in parts[::2]):
                raise InputError(
                    f"--path-column {wanted}: is no pattern with columns in braces, as fold{{fold}}/{{name}} is"
                )
            parts[1::2] = [str(self._found(column, (), "", "")) for column in parts[1::2]]
            return tuple(parts)
        if wanted is None and _SLICES in self._table.columns and self._table.column("fold"):
            return "fold", str(self._table.column("fold")), "/", _SLICES
        return "", str(self._found(wanted, (*PATH_COLUMNS, _SLICES), "path", "--path-column"))

    def _found(self, wanted: str | None, usual: tuple[str, ...], what: str, option: str) -> str | None:
        """A column that there has to be."""
        found = self._table.column(wanted.strip()) if wanted is not None else self._table.column(*usual)
        if found is not None:
            return found
        there = f"those of its first line are {', '.join(map(repr, self._table.columns))}"
        if wanted is not None:
            raise InputError(f"{self._table.path}: has no column {wanted!r}; {there}")
        named = f"{', '.join(usual[:4])} or the like ({there})"
        raise InputError(f"{self._table.path}: no column is called {named}; name that of the {what} with {option}")

    def _optional(self, wanted: str | None, usual: tuple[str, ...]) -> str | None:
        if wanted is None:
            return self._table.column(*usual)
        return None if wanted.strip().lower() == NO_COLUMN else self._found(wanted, (), "", "")

    def _usual_separator(self) -> str:
        cells = (row.cells.get(self.label) for row in self._table.rows)
        return ";" if any(isinstance(cell, str) and ";" in cell for cell in cells) else ","

    def _file(self, row: Row) -> tuple[Path, bool]:
        """The path of a row, and whether there is such a file."""
        parts = list(self._path)
        for place in range(1, len(parts), 2):
            column = parts[place]
            parts[place] = row.text(column)
            if not parts[place]:
                raise InputError(f"{row.where}: has no path in its column {column!r}")
        name = "".join(parts)
        if "\0" in name:
            raise InputError(f"{row.where}: {name!r} is no path")
        return self._listings.find(self._root, name)

    def _labels(self, row: Row) -> tuple[str, ...]:
        told = self._listed(row)
        if told is None:
            text = self._text(row, self.label)
            told = text.split(self._separator) if self._multi_label else [text]
        # A line break in a name would break the lines of whatever prints it.
        names = [" ".join(name.split()) for name in told]
        labels = tuple(dict.fromkeys(require_text(name, row.where) for name in names if name))
        if not self._multi_label:
            if not labels:
                raise InputError(f"{row.where}: has no class in its column {self.label!r}")
            is_several = self.label.casefold() in _LABELS_COLUMNS and re.search(r"\S[,;]\s*\S", labels[0])
            if len(labels) > 1 or is_several:
                told = ", ".join(labels)
                raise InputError(f"{row.where}: has several classes ({told}), which --multi-label lets a clip have")
        return labels

    def _listed(self, row: Row) -> list[str] | None:
        """The classes of a cell that lists them, as Parquet does, or as pandas writes such cells in csv."""
        value = row.cells.get(self.label)
        if isinstance(value, str) and re.fullmatch(r"\s*\[.*\]\s*", value, re.DOTALL):
            try:
                value = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError):
                return None  # the brackets are of the name
            if re.search(r"'\s+'|\"\s+\"", row.text(self.label)):  # which Python reads as one text
                raise InputError(f"{row.where}: its {self.label} must have commas between the classes that it lists")
        if not isinstance(value, list | tuple):
            return None
        try:
            return [cell_text(one) for one in value]
        except InputError as error:
            raise InputError(f"{row.where}: a class of its {self.label} {error}") from error

    def _text(self, row: Row, column: str | None) -> str:
        """What is in a column that may be none; a number that is none, as pandas writes it, is nothing."""
        text = "" if column is None else row.text(column)
        return "" if text in ("nan", "NaN") else text

    def _reading(self, row: Row) -> Reading:
        start, end = self._seconds(row, self._start), self._seconds(row, self._end)
        if end is not None and end <= (start or 0.0):
            raise InputError(f"{row.where}: its end at {end:g} s is not after its start at {start or 0:g} s")
        return Reading(start=start or 0.0, end=end)

    def _seconds(self, row: Row, column: str | None) -> float | None:
        text = self._text(row, column)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise InputError(f"{row.where}: its {column} must be seconds, such as 1.5, not {text!r}")
        return seconds

    def _fold_of(self, row: Row) -> int | None:
        text = self._text(row, self._fold)
        if not text:
            return None
        if not re.fullmatch(r"[+-]?\d+(\.0*)?", text, re.ASCII):
            raise InputError(f"{row.where}: its {self._fold} must be a whole number, not {text!r}")
        return int(text.partition(".")[0])

    def _split_of(self, row: Row) -> str | None:
        text = self._text(row, self._split)
        if not text:
            return None
        if text.casefold() not in SPLITS:
            raise InputError(f"{row.where}: its {self._split} must be train, validation or test, not {text!r}")
        return SPLITS[text.casefold()]


class _Listings:
    """Which files there are, folder by folder: asking for every one of many takes long on network disks."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, root: Path, name: str) -> tuple[Path, bool]:
        """The file of a name, which may lack the ending of a sound, and whether it is there."""
        # As Windows writes paths, where there is no such file.
        spellings = dict.fromkeys((name, name.replace("\\", "/")))
        for spelling in spellings:
            path = root / spelling
            there = self._listing(path.parent)
            for ending in ("", *SOUND_EXTENSIONS):
                if path.name + ending in there:
                    return path.with_name(path.name + ending), True
        return root / name, False

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {entry.name: entry.name for entry in os.scandir(folder) if not entry.is_dir()}
            except OSError:
                self._names[folder] = {}
        return self._names[folder]


def _joined(first: _Told, second: _Told, multi_label: bool) -> _Told:
    """What two rows tell of the same clip."""
    before = first.where.rpartition(", ")[2]
    if not multi_label and first.labels != second.labels:
        told = f"the class {second.labels[0]!r}, and in {before} {first.labels[0]!r}"
        raise InputError(f"{second.where}: gives {second.path} {told}; with --multi-label it has both")
    if (first.fold, first.split) != (second.fold, second.split):
        raise InputError(f"{second.where}: gives {second.path} another fold or split than {before} does")
    return dataclasses.replace(first, labels=tuple(dict.fromkeys((*first.labels, *second.labels))))


def _require_files(clips: list[_Told], table: Path, columns: Columns) -> None:
    missing = [told for told in clips if not told.is_there]
    if not missing or (columns.allow_missing and len(missing) < len(clips)):
        return
    first = missing[0]
    what = f"{first.where}: there is no sound file {first.path}"
    if len(missing) == len(clips):
        raise InputError(f"{what}, nor those of the other rows; name the folder that the paths begin at with --root")
    others = f", nor those of {len(missing) - 1} other rows" if len(missing) > 1 else ""
    raise InputError(f"{what}{others}; --allow-missing leaves such clips out")
