"""Tables of any columns as CSV, JSON, JSON lines and Parquet."""

import abc
import contextlib
import csv
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from panns_jax.errors import InputError, require_extra
from panns_jax.files import written_aside
from panns_jax.infer.writers.destination import TextStream, encodable, writing_text

if TYPE_CHECKING:
    import numpy as np

TableFormat = Literal["json", "jsonl", "csv", "parquet"]

Row = Mapping[str, object]
"""The values of a row by the names of their columns. In JSON a value may be of any depth; None is an empty place."""

Columns = Mapping[str, str]
"""What is in each column: "text", "time" (seconds), "score" (float32) or "count"."""

_CELLS_IN_A_GROUP = 1 << 18  # some 10 MB, until they are on disk


def seconds(time: float) -> float:
    """A time as it stands in tables: to the microsecond."""
    return round(time, 6)


def shortest(score: "np.float32") -> float:
    """The number of the fewest digits that reads back as the same float32."""
    return float(str(score))


class Table(abc.ABC):
    """Rows that are written as they come."""

    @abc.abstractmethod
    def add(self, rows: Iterable[Row]) -> None:
        """Writes rows, those of one sound as a rule: on standard output they are seen at once."""

    @abc.abstractmethod
    def end(self) -> None:
        """Writes what makes a table complete."""


@contextlib.contextmanager
def writing_table(path: Path | None, format: TableFormat, columns: Columns) -> Iterator[Table]:
    """Opens a table, which is complete when the block ends well; a file vanishes when it does not.

    Args:
      path: the file, which is replaced once the new one is complete; None for standard output.
      format: json is one list of objects, jsonl an object per line.
      columns: of csv and parquet; rows of json have what they have.

    Raises:
      InputError: the file cannot be written, parquet is to go to standard output, or its library is missing.
    """
    if format == "parquet":
        require_parquet(path)
        assert path is not None
        with written_aside(path) as aside, Parquet(aside, columns) as table:
            yield table
            table.end()
        return
    with writing_text(path) as stream:
        match format:
            case "json":
                table = Json(stream)
            case "jsonl":
                table = JsonLines(stream)
            case "csv":
                table = Csv(stream, columns)
        yield table
        table.end()


def require_parquet(out: Path | None) -> None:
    """Checks, before any work is done, that a Parquet file can be written.

    Raises:
      InputError: it has no name, or the library is missing.
    """
    if out is None:
        raise InputError("parquet is no text and cannot be printed: name a file with --out, such as tags.parquet")
    require_extra("parquet", "parquet", "pyarrow")


class Csv(Table):
    """A line per row, under a header that is printed with the first rows: where every sound fails, nothing is."""

    def __init__(self, stream: TextStream, columns: Columns) -> None:
        self._stream = stream
        self._columns = columns
        self._lines = csv.writer(stream, lineterminator="\n")
        self._begun = False

    def add(self, rows: Iterable[Row]) -> None:
        if not self._begun:
            self._lines.writerow(self._columns)
            self._begun = True
        self._lines.writerows([row[column] for column in self._columns] for row in rows)
        self._stream.flush()

    def end(self) -> None:
        self.add(())


class JsonLines(Table):
    """An object per line."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._stream.write(json.dumps(row, allow_nan=False) + "\n")
        self._stream.flush()

    def end(self) -> None:
        pass


class Json(Table):
    """One list of objects."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._gap = "[\n"

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._stream.write(self._gap + textwrap.indent(json.dumps(row, indent=2, allow_nan=False), "  "))
            self._gap = ",\n"

    def end(self) -> None:
        self._stream.write("[]\n" if self._gap == "[\n" else "\n]\n")


class Parquet(Table):
    """A Parquet file, written in groups of rows, so that no more than one of them is in memory.

    Use as a context manager, which closes the file.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {
            "text": pyarrow.string(),
            "time": pyarrow.float64(),
            "score": pyarrow.float32(),
            "count": pyarrow.int32(),
        }
        self._schema = pyarrow.schema([(column, types[kind]) for column, kind in columns.items()])
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows_in_a_group = max(1, _CELLS_IN_A_GROUP // max(1, len(columns)))
        self._waiting: list[Row] = []

    def __enter__(self) -> "Parquet":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._waiting.append(row)
            if len(self._waiting) == self._rows_in_a_group:
                self._write_group()

    def end(self) -> None:
        if self._waiting:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow

        values = {column: [_storable(row[column]) for row in self._waiting] for column in self._schema.names}
        self._waiting = []
        self._writer.write_table(pyarrow.table(values, schema=self._schema))


def _storable(value: object) -> object:
    """File names need not be text; as on standard output, what is none is written as an escape."""
    return encodable(value) if isinstance(value, str) else value
