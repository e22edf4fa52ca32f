"""Vectors in a Parquet file: columns `name`, `start` and `end` of windows, and each tap as a list of fixed size; a
sequence as a list of these, with their number in `frames_steps`. The attributes are JSON in the schema's metadata."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_file, written_aside
from panns_jax.infer.vectors.table import END, NAME, START, Table, Tap, offsets_of

if TYPE_CHECKING:
    import pyarrow

STEPS = "_steps"
_KEY = b"panns_jax"


def require_parquet() -> None:
    """Checks that there is a library for such files.

    Raises:
      InputError: there is none.
    """
    require_extra("a .parquet file", "parquet", "pyarrow")


def write_parquet(table: Table, out: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
      InputError: it cannot be written, or the table cannot be read.
    """
    require_parquet()
    from pyarrow import ArrowException, parquet

    schema = _schema(table)
    # Row groups as large as the tap with the largest rows allows; there is none where there are no rows.
    largest = max(table.taps.values(), key=_bytes, default=Tap(np.dtype(np.float32), 1))
    try:
        with written_aside(out) as aside, parquet.ParquetWriter(aside, schema, use_dictionary=False) as writer:
            for first, end in largest.rows_at_once(len(table.names)):
                writer.write_batch(_batch(table, schema, first, end))
    except ArrowException as error:
        raise InputError(f"cannot write {out}: {error}") from error


def _bytes(tap: Tap) -> int:
    rows = 1 if tap.steps is None else int(tap.steps.sum())
    return tap.dtype.itemsize * tap.width * rows


def _schema(table: Table) -> "pyarrow.Schema":
    import pyarrow

    fields = [pyarrow.field(NAME, pyarrow.string())]
    if table.start is not None:
        fields += [pyarrow.field(START, pyarrow.float64()), pyarrow.field(END, pyarrow.float64())]
    for name, tap in table.taps.items():
        vector = pyarrow.list_(pyarrow.from_numpy_dtype(tap.dtype), tap.width)
        fields.append(pyarrow.field(name, vector if tap.steps is None else pyarrow.list_(vector)))
        if tap.steps is not None:
            fields.append(pyarrow.field(name + STEPS, pyarrow.int64()))
    return pyarrow.schema(fields, {_KEY: json.dumps(dict(table.attributes)).encode()})


def _batch(table: Table, schema: "pyarrow.Schema", first: int, end: int) -> "pyarrow.RecordBatch":
    import pyarrow

    # Parquet's strings are text: bytes of a name that are none are shown as escapes.
    columns: list[Any] = [[name.encode(errors="backslashreplace").decode() for name in table.names[first:end]]]
    if table.start is not None and table.end is not None:
        columns += [table.start[first:end], table.end[first:end]]
    for name, tap in table.taps.items():
        flat = pyarrow.array(np.ascontiguousarray(table.read(name, first, end)).reshape(-1))
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, tap.width)
        if tap.steps is None:
            columns.append(vectors)
            continue
        steps = tap.steps[first:end]
        columns += [pyarrow.ListArray.from_arrays(offsets_of(steps).astype(np.int32), vectors), steps]
    arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pyarrow.record_batch(arrays, schema=schema)


class ParquetTable:
    """The vectors of a Parquet file; as `Table`. Reads group of rows by group of rows."""

    def __init__(self, path: Path) -> None:
        require_parquet()
        require_file(path, "a Parquet file")
        from pyarrow import ArrowException, parquet

        self._path = path
        self._last: tuple[str, int, np.ndarray] | None = None
        try:
            self._file = parquet.ParquetFile(path)
            schema = self._file.schema_arrow
            if schema.metadata is None or _KEY not in schema.metadata:
                raise InputError(f"{path}: was not written by panns-jax embed: it does not tell the model")
            self.attributes: dict[str, Any] = json.loads(schema.metadata[_KEY])
            small = [name for name in schema.names if not str(schema.field(name).type).endswith(("]", ">"))]
            read = self._file.read(small)
            columns: dict[str, Any] = {name: read[name].to_numpy() for name in small}
        except (OSError, ArrowException) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
        self.names: list[str] = columns[NAME].tolist()
        self.start, self.end = columns.get(START), columns.get(END)
        self.taps: dict[str, Tap] = {}
        for name in schema.names:
            if name not in small:
                kind, steps = schema.field(name).type, columns.get(name + STEPS)
                vector = kind if steps is None else kind.value_type
                self.taps[name] = Tap(np.dtype(vector.value_type.to_pandas_dtype()), vector.list_size, steps)
        metadata = self._file.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._groups = np.cumsum([0, *counts])

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        described = self.taps[tap]
        parts = [np.zeros((0, described.width), described.dtype)]
        for group in range(len(self._groups) - 1):
            begin, stop = int(self._groups[group]), int(self._groups[group + 1])
            if first < stop and begin < end:
                origin, _ = described.span(begin, begin)
                some, stop = described.span(max(first, begin), min(end, stop))
                parts.append(self._group(tap, group)[some - origin : stop - origin])
        return np.concatenate(parts)

    def _group(self, tap: str, group: int) -> np.ndarray:
        """The vectors of a group of rows; kept, as more of it is likely to be asked for next."""
        from pyarrow import ArrowException

        if self._last is None or self._last[:2] != (tap, group):
            try:
                read = self._file.read_row_group(group, [tap])[tap].combine_chunks()
            except (OSError, ArrowException) as error:
                raise InputError(f"{self._path}: cannot be read as Parquet: {error}") from error
            vectors = read if self.taps[tap].steps is None else read.flatten()
            flat = vectors.flatten().to_numpy(zero_copy_only=False)
            self._last = tap, group, flat.astype(self.taps[tap].dtype, copy=False).reshape(-1, self.taps[tap].width)
        return self._last[2]
