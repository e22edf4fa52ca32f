"""Selection tables of Raven."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from panns_jax.infer.writers.audacity import one_cell
from panns_jax.infer.writers.destination import TextStream, writing_text
from panns_jax.infer.writers.spans import LabelledSound, SpanWriter

HEADER = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin Path",
    "File Offset (s)",
    "Class",
    "ID",
    "Score",
)


@contextlib.contextmanager
def writing_raven(path: Path | None, frequencies: tuple[float, float]) -> Iterator[SpanWriter]:
    """Writes a selection table, which Raven opens together with the recordings that it names.

    A line per span, by time, under a header, with tabs between. As Raven takes several recordings for one sequence,
    `Begin Time (s)` and `End Time (s)` count from the beginning of the first recording in the table on, over all that
    follow; `File Offset (s)` is where the span begins in its own recording, `Begin Path`.

    Args:
      path: the file; None for standard output.
      frequencies: Hz, the lower and upper edge of every selection: what the model hears.

    Raises:
      InputError: the file cannot be written.
    """
    with writing_text(path) as stream:
        table = _SelectionTable(stream, frequencies)
        yield table
        table.begin()


class _SelectionTable(SpanWriter):
    def __init__(self, stream: TextStream, frequencies: tuple[float, float]) -> None:
        self._stream = stream
        self._frequencies = [f"{frequency:.1f}" for frequency in frequencies]
        self._selections = 0
        self._elapsed = 0.0
        self._begun = False

    def begin(self) -> None:
        """Writes the header, unless it stands there: where every sound fails, nothing is printed."""
        if not self._begun:
            self._stream.write("\t".join(HEADER) + "\n")
            self._begun = True

    def add(self, sound: LabelledSound) -> None:
        self.begin()
        path = Path(sound.file)
        # From wherever the table is opened; a name that is no file's, such as standard input's, stays.
        begin_path = one_cell(str(path.absolute() if path.is_file() else path))
        for span in sorted(sound.spans, key=lambda span: (span.start, span.end)):
            self._selections += 1
            cells = (
                str(self._selections),
                "Spectrogram 1",
                "1",
                f"{self._elapsed + span.start:.6f}",
                f"{self._elapsed + span.end:.6f}",
                *self._frequencies,
                begin_path,
                f"{span.start:.6f}",
                one_cell(span.label),
                one_cell(span.id),
                str(span.score),
            )
            self._stream.write("\t".join(cells) + "\n")
        self._stream.flush()
        self._elapsed += sound.duration
