"""`panns-jax tag`: what is heard in sound files, by name and probability."""

import abc
import csv
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Literal

from panns_jax.errors import InputError
from panns_jax.infer.files import HeardSound, SoundFiles, hear_sounds

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.labels import LabelSet


Format = Literal["text", "json", "jsonl", "csv"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tag(SoundFiles):
    """Names what is heard in sound files.

    Each file is heard as a whole. Files that cannot be read are named at the end (exit code 1), and the others done.
    """

    top: int = 10
    """Number of classes per file, the most probable first."""
    format: Format = "text"
    """text for people; json is one list, jsonl one line per file, csv one row per class."""

    def run(self) -> int:
        """Prints the tags of every file; the exit code is 0, or 1 where some files failed.

        Raises:
          InputError: an option cannot be used, or no file could be read.
        """
        if self.top < 1:
            raise InputError(f"--top must be at least 1, not {self.top}")
        listener = self.load()
        writer = _writer(self.format, several=len(self.files) > 1)
        with hear_sounds(self.sources, listener, task="tagging") as hearing:
            for sound in hearing:
                writer.add(sound, top_tags(sound.excerpts[0].heard.clipwise, listener.config.labels, self.top))
        code = hearing.report()
        writer.end()
        return code


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A class heard in a clip: its name, id and index in the label set, and its probability in [0, 1]."""

    label: str
    id: str
    index: int
    probability: float


def top_tags(clipwise: "np.ndarray", labels: "LabelSet", top: int) -> list[Tagged]:
    """The most probable classes, the first of equals first.

    Args:
      clipwise: (classes,), probability of each class.
      labels: the classes.
      top: how many; all where there are fewer.
    """
    order = (-clipwise).argsort(kind="stable")[:top]
    # The shortest number that reads back as the same float32.
    return [Tagged(labels.names[i], labels.ids[i], int(i), float(str(clipwise[i]))) for i in order]


class _Writer(abc.ABC):
    """Prints clips in one of the formats."""

    @abc.abstractmethod
    def add(self, sound: HeardSound, tags: list[Tagged]) -> None:
        """Prints a clip, or keeps it until the end."""

    def end(self) -> None:  # noqa: B027
        """Prints what could not be printed before; by default nothing."""


class _Text(_Writer):
    """As the published inference prints it; under the file's name where there are several."""

    def __init__(self, *, headings: bool) -> None:
        self._headings = headings
        self._gap = ""

    def add(self, sound: HeardSound, tags: list[Tagged]) -> None:
        heading = [f"{self._gap}{sound.source.name}"] if self._headings else []
        lines = [f"{tag.label}: {tag.probability:.3f}" for tag in tags]
        embedding = (
            []
            if sound.excerpts[0].heard.embedding is None
            else [f"embedding: {sound.excerpts[0].heard.embedding.shape}"]
        )
        print("\n".join([*heading, *lines, *embedding]), flush=True)
        self._gap = "\n"


class _Csv(_Writer):
    """One row per class, under a header."""

    def __init__(self) -> None:
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._begun = False

    def add(self, sound: HeardSound, tags: list[Tagged]) -> None:
        if not self._begun:
            self._rows.writerow(["file", "rank", "label", "id", "probability"])
            self._begun = True
        for rank, tag in enumerate(tags, start=1):
            self._rows.writerow([sound.source.name, rank, tag.label, tag.id, tag.probability])
        sys.stdout.flush()


class _JsonLines(_Writer):
    """One object per line."""

    def add(self, sound: HeardSound, tags: list[Tagged]) -> None:
        print(json.dumps(_record(sound, tags)), flush=True)


class _Json(_Writer):
    """One list, printed at the end: a part of it would be no JSON."""

    def __init__(self) -> None:
        self._records: list[dict[str, object]] = []

    def add(self, sound: HeardSound, tags: list[Tagged]) -> None:
        self._records.append(_record(sound, tags))

    def end(self) -> None:
        print(json.dumps(self._records, indent=2))


def _writer(format: Format, *, several: bool) -> _Writer:
    match format:
        case "text":
            return _Text(headings=several)
        case "json":
            return _Json()
        case "jsonl":
            return _JsonLines()
        case "csv":
            return _Csv()


def _record(sound: HeardSound, tags: list[Tagged]) -> dict[str, object]:
    return {
        "file": sound.source.name,
        "duration": round(sound.duration, 6),
        "tags": [dataclasses.asdict(tag) for tag in tags],
        "embedding_dim": None if sound.excerpts[0].heard.embedding is None else len(sound.excerpts[0].heard.embedding),
    }
