"""Events of many recordings in the formats of `panns-jax detect`: one file for all, or one for each."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from panns_jax.errors import InputError
from panns_jax.files import make_folder, require_parent
from panns_jax.infer.events import Event
from panns_jax.infer.writers.audacity import writing_audacity
from panns_jax.infer.writers.dcase import file_names, writing_dcase
from panns_jax.infer.writers.destination import (
    ENDINGS,
    TextStream,
    encodable,
    format_by_ending,
    names_folder,
    paths_below,
    writing_text,
)
from panns_jax.infer.writers.raven import writing_raven
from panns_jax.infer.writers.rttm import writing_rttm
from panns_jax.infer.writers.spans import LabelledSound, Span, SpanWriter
from panns_jax.infer.writers.tables import Row, Table, require_parquet, writing_table

if TYPE_CHECKING:
    from panns_jax.labels import LabelSet
    from panns_jax.models.config import ModelConfig

EventFormat = Literal["text", "dcase", "audacity", "raven", "rttm", "json", "jsonl", "csv", "parquet"]

_ENDINGS = {**ENDINGS, "dcase": ".tsv", "rttm": ".rttm"}
_COLUMNS = {"file": "text", "onset": "time", "offset": "time", "label": "text", "id": "text", "score": "score"}


class EventWriter(Protocol):
    """Takes one recording after another."""

    def add(self, name: str, duration: float, events: Sequence[Event]) -> None:
        """Writes the events of a recording.

        Args:
          name: of its source.
          duration: seconds.
          events: in the order of `find_events`.
        """
        ...


class EventOutput:
    """Where events are written, and in which format: what the options say.

    Attributes:
      format: that of the option, or else what the file's name ends in; in a folder dcase; text for standard output.

    Args:
      names: of the recordings.
      format: the option `--format`.
      out: the option `--out`.
      roots: folders that the recordings were looked for in.

    Raises:
      InputError: the format is not told, has no place for so many recordings or cannot be printed, or the place cannot
        be written to.
    """

    def __init__(
        self, names: Sequence[str], format: EventFormat | None, out: str | None, roots: Sequence[Path] = ()
    ) -> None:
        self._names = list(names)
        self._roots = roots
        self._folder = Path(out) if out is not None and names_folder(out) else None
        self._file = Path(out) if out is not None and self._folder is None else None
        if format is None and out is not None and self._folder is None:
            format = next(known for known in get_args(EventFormat) if known == format_by_ending(out, _ENDINGS))
        self.format: EventFormat = format or ("text" if self._folder is None else "dcase")
        if self._file is not None:
            require_parent(self._file)
        if self._folder is not None:
            make_folder(self._folder)
        if self.format == "parquet":
            require_parquet(self._folder or self._file)
        if self.format == "audacity" and self._folder is None and len(self._names) > 1:
            raise InputError(
                f"an Audacity label track belongs to one recording, and there are {len(self._names)}: name a folder"
                " with --out, for a label track for each"
            )

    @contextlib.contextmanager
    def writing(self, config: "ModelConfig", step: float) -> Iterator[EventWriter]:
        """Opens the place; files are complete when the block ends well.

        Args:
          config: of the model that heard the events.
          step: seconds of a time step, which JSON tells.
        """
        labels, frontend = config.labels, config.frontend
        heard = (frontend.fmin, frontend.fmax) if config.body.reads_logmel else (0.0, config.sample_rate / 2)
        settings = _Settings(self.format, file_names(self._names), step, heard)
        if self._folder is not None:
            paths = paths_below(self._folder, self._names, _ENDINGS[self.format], self._roots)
            yield _FilePerRecording(paths, settings, labels)
            return
        with settings.writing(self._file) as spans:
            yield _Labelled(spans, labels)


class _Settings:
    def __init__(self, format: EventFormat, names: dict[str, str], step: float, heard: tuple[float, float]) -> None:
        self._format: EventFormat = format
        self._names = names
        self._step = step
        self._heard = (float(heard[0]), float(heard[1]))

    def writing(self, path: Path | None) -> contextlib.AbstractContextManager[SpanWriter]:
        """Opens a file, or standard output."""
        match self._format:
            case "text":
                return _writing_text(path)
            case "dcase":
                return writing_dcase(path, self._names)
            case "rttm":
                return writing_rttm(
                    path, {sound: str(Path(name).with_suffix("")) for sound, name in self._names.items()}
                )
            case "audacity":
                return writing_audacity(path)
            case "raven":
                return writing_raven(path, self._heard)
            case "json" | "jsonl" | "csv" | "parquet":
                return self._writing_table(path)

    @contextlib.contextmanager
    def _writing_table(self, path: Path | None) -> Iterator[SpanWriter]:
        assert self._format in ("json", "jsonl", "csv", "parquet")
        with writing_table(path, self._format, _COLUMNS) as table:
            yield _Rows(table) if self._format in ("csv", "parquet") else _Records(table, self._step)


class _Labelled(EventWriter):
    def __init__(self, spans: SpanWriter, labels: "LabelSet") -> None:
        self._spans = spans
        self._labels = labels

    def add(self, name: str, duration: float, events: Sequence[Event]) -> None:
        self._spans.add(labelled(name, duration, events, self._labels))


class _FilePerRecording(EventWriter):
    def __init__(self, paths: dict[str, Path], settings: _Settings, labels: "LabelSet") -> None:
        self._paths = paths
        self._settings = settings
        self._labels = labels

    def add(self, name: str, duration: float, events: Sequence[Event]) -> None:
        make_folder(self._paths[name].parent)
        with self._settings.writing(self._paths[name]) as spans:
            spans.add(labelled(name, duration, events, self._labels))


def labelled(name: str, duration: float, events: Sequence[Event], labels: "LabelSet") -> LabelledSound:
    """Events as classes with times."""
    spans = [
        Span(event.onset, event.offset, labels.names[event.index], labels.ids[event.index], event.score)
        for event in events
    ]
    return LabelledSound(name, duration, spans)


@contextlib.contextmanager
def _writing_text(path: Path | None) -> Iterator[SpanWriter]:
    with writing_text(path) as stream:
        yield _Text(stream)


class _Text(SpanWriter):
    """Onset, offset, score and label of each event, under the name of the recording."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._gap = ""

    def add(self, sound: LabelledSound) -> None:
        lines = [f"{span.start:10.3f} {span.end:10.3f}  {span.score:.3f}  {span.label}" for span in sound.spans]
        self._stream.write("\n".join([f"{self._gap}{sound.file}", *(lines or ["    no events"])]) + "\n")
        self._stream.flush()
        self._gap = "\n"


class _Rows(SpanWriter):
    """A row per event."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, sound: LabelledSound) -> None:
        self._table.add({"file": sound.file, **_values(span)} for span in sound.spans)


class _Records(SpanWriter):
    """An object per recording: `file`, `duration` and `step` in seconds, `events`."""

    def __init__(self, table: Table, step: float) -> None:
        self._table = table
        self._step = step

    def add(self, sound: LabelledSound) -> None:
        events = [_values(span) for span in sound.spans]
        times = {"duration": round(sound.duration, 6), "step": round(self._step, 6)}
        self._table.add([{"file": encodable(sound.file), **times, "events": events}])


def _values(span: Span) -> Row:
    return {"onset": span.start, "offset": span.end, "label": span.label, "id": span.id, "score": span.score}
