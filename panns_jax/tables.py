"""Tables that people have: csv with any delimiter, tsv and Parquet, as rows of cells by column."""

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_file

PATH_COLUMNS = (
    *("path", "file", "filename", "file_name", "file_path", "filepath", "audio", "audio_file", "audio_filename"),
    *("audio_path", "audiofile", "wav", "wav_file", "wav_path", "sound", "recording", "fname", "begin path"),
)
"""Columns of tables that hold paths, where none is named; in this order, in any case."""

PARQUET_ENDINGS = (".parquet", ".pq")
TABLE_ENDINGS = (".csv", ".tsv", ".txt", *PARQUET_ENDINGS)
"""What names of tables end in."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
      where: it is, for messages, such as "clips.csv, line 3".
      cells: what is in it, by column; text, or what a Parquet file holds; None and "" for nothing.
    """

    where: str
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """What is in a column, as text; empty where there is nothing.

        Whole numbers are such, also where a table holds them with a point.

        Raises:
          InputError: what is there is no text or number, but holds such.
        """
        try:
            return cell_text(self.cells.get(column))
        except InputError as error:
            raise InputError(f"{self.where}: its {column} {error}") from error


def cell_text(value: object) -> str:
    """A text or number of a cell as text; see `Row.text`.

    Raises:
      InputError: it holds several values; the message is a part of a sentence.
    """
    if value is None or value != value:  # which a number that is none is, too
        return ""
    if isinstance(value, Mapping | list | tuple):
        raise InputError(f"must be a text or a number, not what holds such: {str(value)[:60]}")
    if isinstance(value, bytes):  # as Parquet has text whose writer did not say that it is
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      path: its file.
      columns: their names, in order.
      rows: in order, without the empty ones.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, *names: str) -> str | None:
        """The first of the columns that are there, whatever the case of their names; None where none is."""
        there = {name.casefold(): name for name in reversed(self.columns)}
        return next((there[name.casefold()] for name in names if name.casefold() in there), None)


def read_table(path: Path) -> Table:
    """Reads a table whose first line, or schema, names the columns.

    Text is UTF-8, or UTF-16 where it says so; a delimiter of comma, semicolon, tab or bar is found out by the first
    line; cells that hold it stand in quotes.

    Args:
      path: a Parquet file by its ending, or else text.

    Raises:
      InputError: it cannot be read, holds no rows, or a line does not fit the first one.
    """
    require_file(path, "a table")
    table = _read_parquet(path) if path.suffix.lower() in PARQUET_ENDINGS else _read_text(path)
    if not table.rows:
        raise InputError(f"{path}: holds no rows")
    return table


def decoded(content: bytes) -> str:
    """The text of a list: in UTF-8, but for bytes that are none, which names may hold, or UTF-16 if it says so."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes
        return content.decode("utf-16", "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def delimiter_of(path: Path, first_line: str) -> str:
    """What stands between the cells of a table; Excel writes semicolons where numbers have commas."""
    return "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first_line.count)


def _read_text(path: Path) -> Table:
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if "\0" in text:
        raise InputError(f"{path}: is no table but something else than text")
    lines = _without_blank_beginning(text)
    told = lines.partition("\n")[0].strip()
    delimiter = delimiter_of(path, told)
    skipped = text.count("\n") - lines.count("\n")
    if told.lower().startswith("sep=") and len(told) == 5:  # by which Excel is told the delimiter
        delimiter, lines = told[4], lines.partition("\n")[2]
        skipped += 1
    rows = _text_rows(path, lines, delimiter, skipped)
    header = next(rows, None)
    if header is None:
        raise InputError(f"{path}: is empty")
    columns = tuple(name.strip() for name in header[1])
    return Table(path, columns, tuple(_row(where, columns, cells) for where, cells in rows))


def _without_blank_beginning(text: str) -> str:
    begin = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, begin) + 1 :]


def _text_rows(path: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not empty, the first line too, and where they are."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            what = "a quote is not closed" if "unexpected end" in str(error) else str(error)
            raise InputError(f"{path}, line {skipped + rows.line_num}: {what}") from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield f"{path}, line {skipped + rows.line_num}", cells


def _row(where: str, columns: tuple[str, ...], cells: list[str]) -> Row:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise InputError(
            f"{where}: has {len(cells)} cells, and the first line {len(columns)}; a cell that holds the delimiter"
            " stands in quotes"
        )
    # Reversed, so that the first of two columns of one name counts.
    return Row(where, dict(reversed(list(zip(columns, cells, strict=False)))))


def _read_parquet(path: Path) -> Table:
    require_extra("a table in Parquet", "parquet", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as Parquet: {reason}") from error
    rows = table.to_pylist()
    return Table(
        path,
        tuple(table.column_names),
        tuple(Row(f"{path}, row {number}", cells) for number, cells in enumerate(rows, start=1)),
    )
