"""Classes with the times at which they are heard, which every format of labels is made of."""

import abc
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from panns_jax.infer.writers.tables import Columns, Row, Table, TableFormat, seconds, writing_table


@dataclasses.dataclass(frozen=True)
class Span:
    """A class that is heard from one time to another.

    Attributes:
      start: seconds from the beginning of the sound.
      end: likewise.
      label: name of the class.
      id: its identifier, such as "/m/09x0r".
      score: how sure the model is, in [0, 1].
    """

    start: float
    end: float
    label: str
    id: str
    score: float


@dataclasses.dataclass(frozen=True)
class LabelledSound:
    """What is heard in a sound.

    Attributes:
      file: what the sound is called in tables; the path of a sound file.
      duration: seconds.
      spans: in any order; none where nothing is heard.
    """

    file: str
    duration: float
    spans: Sequence[Span]


class SpanWriter(abc.ABC):
    """Writes one sound after another in a format of labels."""

    @abc.abstractmethod
    def add(self, sound: LabelledSound) -> None:
        """Writes what is heard in a sound.

        Raises:
          InputError: the format has no place for it.
        """


class SpanTable(SpanWriter):
    """A row for each span: `file`, `start`, `end`, `label`, `id`, `score`."""

    columns: ClassVar[Columns] = {
        "file": "text",
        "start": "time",
        "end": "time",
        "label": "text",
        "id": "text",
        "score": "score",
    }

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, sound: LabelledSound) -> None:
        self._table.add(self._row(sound.file, span) for span in sound.spans)

    def _row(self, file: str, span: Span) -> Row:
        return {
            "file": file,
            "start": seconds(span.start),
            "end": seconds(span.end),
            "label": span.label,
            "id": span.id,
            "score": span.score,
        }


@contextlib.contextmanager
def writing_span_table(path: Path | None, format: TableFormat) -> Iterator[SpanWriter]:
    """Writes spans as a table, whose arguments and errors are those of `writing_table`."""
    with writing_table(path, format, SpanTable.columns) as table:
        yield SpanTable(table)
