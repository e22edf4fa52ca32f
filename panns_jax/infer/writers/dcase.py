"""Events as the DCASE challenges have them."""

import collections
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from panns_jax.infer.writers.audacity import one_cell
from panns_jax.infer.writers.destination import TextStream, writing_text
from panns_jax.infer.writers.spans import LabelledSound, SpanWriter

HEADER = ("filename", "onset", "offset", "event_label")


@contextlib.contextmanager
def writing_dcase(path: Path | None, names: Mapping[str, str]) -> Iterator[SpanWriter]:
    """Writes a line for each event, under a header, with tabs between: file name, onset and offset in seconds, label.

    Args:
      path: the file; None for standard output.
      names: what stands in the first column for a sound, where that is not its name here: reference annotations have
        file names without folders.

    Raises:
      InputError: the file cannot be written.
    """
    with writing_text(path) as stream:
        yield _EventList(stream, names)


class _EventList(SpanWriter):
    def __init__(self, stream: TextStream, names: Mapping[str, str]) -> None:
        self._stream = stream
        self._names = names
        stream.write("\t".join(HEADER) + "\n")

    def add(self, sound: LabelledSound) -> None:
        name = one_cell(self._names.get(sound.file, sound.file))
        for span in sorted(sound.spans, key=lambda span: (span.start, span.end)):
            self._stream.write(f"{name}\t{span.start:.3f}\t{span.end:.3f}\t{one_cell(span.label)}\n")
        self._stream.flush()


def file_names(sounds: Sequence[str]) -> dict[str, str]:
    """The names of files without their folders; sounds that are alike then keep what they are called."""
    bare = [Path(sound).name for sound in sounds]
    count = collections.Counter(bare)
    return {sound: name if count[name] == 1 else sound for sound, name in zip(sounds, bare, strict=True)}
