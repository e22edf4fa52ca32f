"""Tables are read back by other programs' readers with the values that were written."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.infer.writers import tables
from panns_jax.infer.writers.tables import TableFormat, shortest, writing_table

COLUMNS = {"file": "text", "start": "time", "rank": "count", "score": "score", "summary": "text"}
ROWS = [
    {"file": "Vögel, 鳥.wav", "start": 0.5, "rank": 1, "score": shortest(np.float32(0.1)), "summary": None},
    {"file": 'a "quoted"\nname\t.wav', "start": 3600.000001, "rank": 2, "score": 1.0, "summary": "max"},
]


def write(path: Path, format: TableFormat, *sounds: list[Any]) -> None:
    with writing_table(path, format, COLUMNS) as table:
        for rows in sounds:
            table.add(rows)


def test_csv_is_read_back(tmp_path: Path):
    write(tmp_path / "x.csv", "csv", ROWS[:1], ROWS[1:])
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [{key: "" if value is None else str(value) for key, value in row.items()} for row in ROWS]


def test_json_and_json_lines_are_read_back(tmp_path: Path):
    write(tmp_path / "x.json", "json", ROWS[:1], ROWS[1:])
    write(tmp_path / "x.jsonl", "jsonl", ROWS[:1], ROWS[1:])
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == ROWS
    assert text == json.dumps(ROWS, indent=2) + "\n"
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()] == ROWS


def test_parquet_is_read_back_with_the_types_of_its_columns(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "x.parquet", "parquet", ROWS[:1], ROWS[1:])
    table = parquet.read_table(tmp_path / "x.parquet")
    assert [str(field.type) for field in table.schema] == ["string", "double", "int32", "float", "string"]
    read = table.to_pylist()
    assert [row["score"] for row in read] == [np.float32(0.1), 1]
    assert [{**row, "score": shortest(np.float32(row["score"]))} for row in read] == ROWS


def test_a_parquet_file_is_written_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "_CELLS_IN_A_GROUP", 4 * len(COLUMNS))
    rows = [{**ROWS[0], "rank": rank} for rank in range(10)]
    write(tmp_path / "x.parquet", "parquet", rows[:7], rows[7:])
    groups = parquet.ParquetFile(tmp_path / "x.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 4, 2]
    assert parquet.read_table(tmp_path / "x.parquet")["rank"].to_pylist() == list(range(10))


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_a_table_without_rows_is_one_that_can_be_read(format: TableFormat, tmp_path: Path):
    path = tmp_path / "x"
    if format == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        write(path, format, [])
        assert parquet.read_table(path).column_names == list(COLUMNS)
        return
    write(path, format, [])
    read = path.read_text()
    assert read == {"csv": ",".join(COLUMNS) + "\n", "json": "[]\n", "jsonl": ""}[format]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems where names are text")
@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_a_name_that_is_no_text_is_written_with_an_escape(format: TableFormat, tmp_path: Path):
    row = {**ROWS[0], "file": b"caf\xe9.wav".decode("utf-8", "surrogateescape")}
    if format == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        write(tmp_path / "x", format, [row])
        assert parquet.read_table(tmp_path / "x")["file"].to_pylist() == ["caf\\udce9.wav"]
    else:
        write(tmp_path / "x", format, [row])
        assert "caf\\udce9.wav" in (tmp_path / "x").read_text(encoding="utf-8")


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_a_table_that_is_broken_off_leaves_the_old_file(
    format: TableFormat, error: type[BaseException], tmp_path: Path
):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "x").write_text("old")
    with pytest.raises(error), writing_table(tmp_path / "x", format, COLUMNS) as table:
        table.add(ROWS)
        raise error("enough")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(
    format: TableFormat, full_disk: Callable[[int], contextlib.AbstractContextManager[None]], tmp_path: Path
):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    with full_disk(100), pytest.raises(InputError, match=rf"cannot write {tmp_path / 'x'}: .*File too large"):
        write(tmp_path / "x", format, ROWS * 50)
    assert list(tmp_path.iterdir()) == []


def test_parquet_is_not_printed():
    with pytest.raises(InputError, match="name a file with --out"), writing_table(None, "parquet", COLUMNS):
        pass


def test_a_missing_library_is_named_with_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "panns_jax\[parquet\]"'):
        write(tmp_path / "x.parquet", "parquet", ROWS)


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_rows_are_printed_where_no_file_is_named(format: TableFormat, capsys: Any, tmp_path: Path):
    write(tmp_path / "x", format, ROWS)
    with writing_table(None, format, COLUMNS) as table:
        table.add(ROWS)
    assert capsys.readouterr().out == (tmp_path / "x").read_bytes().decode()


@given(st.floats(0, 1, width=32))
def test_a_score_is_written_in_the_fewest_digits_that_read_back(value: float):
    score = np.float32(value)
    written = io.StringIO()
    csv.writer(written).writerow([shortest(score)])
    assert np.float32(float(written.getvalue())) == score
    assert len(repr(shortest(score))) <= max(len(repr(float(score))), 3)
