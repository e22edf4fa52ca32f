"""Events as Rich Transcription Time Marked files have them, which tools for speakers and speech read."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from panns_jax.infer.writers.destination import TextStream, writing_text
from panns_jax.infer.writers.spans import LabelledSound, SpanWriter


@contextlib.contextmanager
def writing_rttm(path: Path | None, names: Mapping[str, str]) -> Iterator[SpanWriter]:
    """Writes a line for each event: SPEAKER, recording, channel 1, onset, duration, the label in the speaker's place,
    and the score as confidence. Blanks part the fields, and are underscores within them.

    Args:
      path: the file; None for standard output.
      names: of the recordings, for sounds that are not called so here.

    Raises:
      InputError: the file cannot be written.
    """
    with writing_text(path) as stream:
        yield _Rttm(stream, names)


class _Rttm(SpanWriter):
    def __init__(self, stream: TextStream, names: Mapping[str, str]) -> None:
        self._stream = stream
        self._names = names

    def add(self, sound: LabelledSound) -> None:
        name = _field(self._names.get(sound.file, sound.file))
        for span in sorted(sound.spans, key=lambda span: (span.start, span.end)):
            times = f"{span.start:.3f} {span.end - span.start:.3f}"
            self._stream.write(f"SPEAKER {name} 1 {times} <NA> <NA> {_field(span.label)} {span.score} <NA>\n")
        self._stream.flush()


def _field(text: str) -> str:
    return "_".join(text.split()) or "_"
