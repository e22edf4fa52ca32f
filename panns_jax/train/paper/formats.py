"""Tables as Markdown, CSV, LaTeX, and as text for people."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

TableFormat = Literal["markdown", "csv", "latex"]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      key: its name for programs.
      heading: its name for people.
      digits: behind the point; None for text, and for whole numbers.
    """

    key: str
    heading: str
    digits: int | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: that it is asked for by.
      title: what it shows.
      columns: from left to right.
      rows: a value for each column; None where there is none.
      notes: sentences to stand below it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()


def as_text(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns, two blanks apart."""
    lines = _cells(columns, rows, str)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = _numeric(columns, rows)
    return "\n".join("  ".join(_aligned(line, widths, right)).rstrip() for line in lines)


def as_markdown(table: Table) -> str:
    """A heading, a table with aligned columns, and the notes."""
    lines = _cells(table.columns, table.rows, lambda text: text.replace("|", "\\|"))
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    right = _numeric(table.columns, table.rows)
    rule = ["-" * (width - 1) + (":" if number else "-") for width, number in zip(widths, right, strict=True)]
    head, *body = [_aligned(line, widths, right) for line in lines]
    shown = [f"| {' | '.join(line)} |" for line in (head, rule, *body)]
    return "\n".join([f"## {table.title}", "", *shown, *(part for note in table.notes for part in ("", note))])


def as_csv(table: Table) -> str:
    """A head of keys, and values as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows(table.rows)
    return text.getvalue().rstrip("\n")


def as_latex(table: Table) -> str:
    """A `table` with a `tabular` of the package booktabs; the notes are comments behind it."""
    head, *body = _cells(table.columns, table.rows, _escaped)
    places = "".join("r" if number else "l" for number in _numeric(table.columns, table.rows))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escaped(table.title)}}}",
            rf"  \begin{{tabular}}{{{places}}}",
            r"    \toprule",
            rf"    {' & '.join(head)} \\",
            r"    \midrule",
            *(rf"    {' & '.join(line)} \\" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            *(f"% {note}" for note in table.notes),
        ]
    )


FORMATS: dict[TableFormat, Callable[[Table], str]] = {"markdown": as_markdown, "csv": as_csv, "latex": as_latex}

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "′": r"$'$",
    "·": r"$\cdot$",
    "⁹": r"$^9$",
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _cells(columns: Sequence[Column], rows: Sequence[Sequence[Any]], escape: Callable[[str], str]) -> list[list[str]]:
    """The headings and all values as text."""
    shown = [[_shown(value, column) for value, column in zip(row, columns, strict=True)] for row in rows]
    return [[escape(cell) for cell in line] for line in ([column.heading for column in columns], *shown)]


def _shown(value: Any, column: Column) -> str:
    if value is None:
        return "-"
    if column.digits is not None:
        return f"{value:.{column.digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _numeric(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[bool]:
    return [
        column.digits is not None or any(isinstance(row[place], int) for row in rows)
        for place, column in enumerate(columns)
    ]


def _aligned(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    cells = zip(line, widths, right, strict=True)
    return [f"{cell:>{width}}" if number else f"{cell:<{width}}" for cell, width, number in cells]
