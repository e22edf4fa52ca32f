"""Tags of sounds in every format that they can be had in."""

import abc
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from panns_jax.infer.tags import Choice, Only, Part, Tagged, parts, spans
from panns_jax.infer.writers.audacity import writing_audacity
from panns_jax.infer.writers.destination import Format, TextStream, writing_text
from panns_jax.infer.writers.raven import writing_raven
from panns_jax.infer.writers.spans import LabelledSound, SpanWriter, writing_span_table
from panns_jax.infer.writers.tables import Columns, Table, seconds, shortest, writing_table

if TYPE_CHECKING:
    from panns_jax.infer.files import HeardSound


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What is told of each sound, and in which form.

    Attributes:
      format: "audacity" and "raven" tell of windows, or of what `only` names.
      choice: the classes that are told.
      windowed: whether sounds are heard window by window.
      only: which of windows, maximum and mean are told, where not all are.
      wide: tables have a column for each class, in place of a row.
      merge: windows in a row with the same class become one span.
      headings: texts name the sounds.
      frequencies: Hz, lowest and highest that the model hears.
    """

    format: Format
    choice: Choice
    windowed: bool = False
    only: Only | None = None
    wide: bool = False
    merge: bool = False
    headings: bool = True
    frequencies: tuple[float, float] = (0.0, 0.0)

    def parts(self, sound: "HeardSound") -> list[Part]:
        """What is told of a sound."""
        return parts(sound.excerpts, self.only if self.windowed else "windows")

    def tagged(self, sound: "HeardSound") -> list[tuple[Part, list[Tagged]]]:
        """What is told of a sound, with the classes."""
        return [(part, self.choice.tags(part.clipwise)) for part in self.parts(sound)]


class TagWriter(abc.ABC):
    """Writes one sound after another."""

    @abc.abstractmethod
    def add(self, sound: "HeardSound") -> None:
        """Writes what is told of a sound."""


@contextlib.contextmanager
def writing_tags(path: Path | None, layout: Layout) -> Iterator[TagWriter]:
    """Opens a file of tags, which is complete when the block ends well; a file vanishes when it does not.

    Args:
      path: the file; None for standard output.
      layout: what is written, and how.

    Raises:
      InputError: the file cannot be written, Parquet has no file, or a second sound comes for one of Audacity's.
    """
    match layout.format:
        case "text":
            with writing_text(path) as stream:
                yield _Text(stream, layout)
        case "audacity":
            with writing_audacity(path) as writer:
                yield _Spans(writer, dataclasses.replace(layout, only=layout.only or "windows"))
        case "raven":
            with writing_raven(path, layout.frequencies) as writer:
                yield _Spans(writer, dataclasses.replace(layout, only=layout.only or "windows"))
        case format if layout.merge:
            with writing_span_table(path, format) as writer:
                yield _Spans(writer, dataclasses.replace(layout, only="windows"))
        case format if layout.wide:
            with writing_table(path, format, _Wide.columns(layout)) as table:
                yield _Wide(table, layout)
        case "json" | "jsonl":
            with writing_table(path, layout.format, {}) as table:
                yield _Records(table, layout)
        case "csv" | "parquet":
            with writing_table(path, layout.format, _Rows.columns(layout)) as table:
                yield _Rows(table, layout)


class _Text(TagWriter):
    """As the published inference prints it; under the file's name where there are several."""

    def __init__(self, stream: TextStream, layout: Layout) -> None:
        self._stream = stream
        self._layout = layout
        self._gap = ""

    def add(self, sound: "HeardSound") -> None:
        lines = [f"{self._gap}{sound.source.name}"] if self._layout.headings else []
        for part, tags in self._layout.tagged(sound):
            told = [f"{tag.label}: {tag.probability:.3f}" for tag in tags]
            if self._layout.windowed:
                lines.append(_heading(part))
                told = [f"  {line}" for line in told]
            lines += told
        embedding = sound.excerpts[0].heard.embedding
        if embedding is not None and not self._layout.windowed:
            lines.append(f"embedding: {embedding.shape}")
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._gap = "\n"


def _heading(part: Part) -> str:
    span = f"{seconds(part.start):.10g} to {seconds(part.end):.10g} s"
    return span if part.summary is None else f"{span}, {part.summary} of the windows"


class _Records(TagWriter):
    """An object for each part of a sound."""

    def __init__(self, table: Table, layout: Layout) -> None:
        self._table = table
        self._layout = layout

    def add(self, sound: "HeardSound") -> None:
        embedding = sound.excerpts[0].heard.embedding
        self._table.add(
            {
                "file": sound.source.name,
                "duration": seconds(sound.duration),
                **_place(part, self._layout),
                "tags": [dataclasses.asdict(tag) for tag in tags],
                "embedding_dim": None if embedding is None else len(embedding),
            }
            for part, tags in self._layout.tagged(sound)
        )


class _Rows(TagWriter):
    """A row for each class of each part of a sound."""

    @staticmethod
    def columns(layout: Layout) -> Columns:
        place = _PLACE if layout.windowed else {}
        return {"file": "text", **place, "rank": "count", "label": "text", "id": "text", "probability": "score"}

    def __init__(self, table: Table, layout: Layout) -> None:
        self._table = table
        self._layout = layout

    def add(self, sound: "HeardSound") -> None:
        self._table.add(
            {
                "file": sound.source.name,
                **_place(part, self._layout),
                "rank": rank,
                "label": tag.label,
                "id": tag.id,
                "probability": tag.probability,
            }
            for part, tags in self._layout.tagged(sound)
            for rank, tag in enumerate(tags, start=1)
        )


class _Wide(TagWriter):
    """A row for each part of a sound, with a column for each class."""

    @staticmethod
    def columns(layout: Layout) -> Columns:
        names = layout.choice.labels.names
        place = _PLACE if layout.windowed else {}
        return {"file": "text", **place, **{names[i]: "score" for i in layout.choice.indices}}

    def __init__(self, table: Table, layout: Layout) -> None:
        self._table = table
        self._layout = layout

    def add(self, sound: "HeardSound") -> None:
        choice = self._layout.choice
        self._table.add(
            {
                "file": sound.source.name,
                **_place(part, self._layout),
                **{choice.labels.names[i]: shortest(part.clipwise[i]) for i in choice.indices},
            }
            for part in self._layout.parts(sound)
        )


_PLACE: Columns = {"start": "time", "end": "time", "summary": "text"}


def _place(part: Part, layout: Layout) -> dict[str, object]:
    """Where in the sound a part is, and of what it is told; nothing of sounds that are heard as a whole."""
    if not layout.windowed:
        return {}
    return {"start": seconds(part.start), "end": seconds(part.end), "summary": part.summary}


class _Spans(TagWriter):
    """A span for each class of each part of a sound."""

    def __init__(self, writer: SpanWriter, layout: Layout) -> None:
        self._writer = writer
        self._layout = layout

    def add(self, sound: "HeardSound") -> None:
        told = spans(self._layout.tagged(sound), merge=self._layout.merge)
        self._writer.add(LabelledSound(sound.source.name, sound.duration, told))
