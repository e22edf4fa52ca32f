"""Label tracks of Audacity."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from panns_jax.errors import InputError
from panns_jax.infer.writers.destination import TextStream, writing_text
from panns_jax.infer.writers.spans import LabelledSound, SpanWriter

_SEPARATORS = str.maketrans(dict.fromkeys("\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))


@contextlib.contextmanager
def writing_audacity(path: Path | None) -> Iterator[SpanWriter]:
    """Writes a label track, which Audacity imports by File > Import > Labels: a line per span, by time, and no header.

    A line is start, end and label with tabs between, the times in seconds with six decimals, as Audacity exports them.

    Args:
      path: the file, whose name is to end in .txt for Audacity to show it; None for standard output.

    Raises:
      InputError: the file cannot be written, or a second sound is to go into it: label tracks belong to one recording.
    """
    with writing_text(path) as stream:
        yield _LabelTrack(stream)


class _LabelTrack(SpanWriter):
    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._file: str | None = None

    def add(self, sound: LabelledSound) -> None:
        if self._file is not None:
            raise InputError(
                f"an Audacity label track belongs to one recording, and {sound.file} comes after {self._file}: name a"
                " folder with --out, for a label track for each"
            )
        self._file = sound.file
        for span in sorted(sound.spans, key=lambda span: (span.start, span.end)):
            self._stream.write(f"{span.start:.6f}\t{span.end:.6f}\t{one_cell(span.label)}\n")
        self._stream.flush()


def one_cell(text: str) -> str:
    """A text with blanks for what would begin another cell or line, as tabs do."""
    return text.translate(_SEPARATORS)
