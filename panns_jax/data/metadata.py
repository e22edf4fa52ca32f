"""AudioSet's lists: segments csv files (which clip carries which labels) and black lists of clips."""

import csv
import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet, audioset

PUBLISHED_BLACK_LIST = Path(__file__).parent / "dcase2017task4_blacklist.txt"
"""The 1,591 clips of the test and evaluation sets of DCASE 2017 task 4, which no published model was trained on."""

_YOUTUBE_ID_LENGTH = 11
# What is printable is no white space but for the space itself.
_NEVER_IN_AN_ID = re.compile(r'[ /\\"]')


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A row of a segments csv.

    Attributes:
      clip_id: id of the video; it may begin with "-".
      start: where the clip begins in the video, seconds.
      end: where it ends, seconds.
      labels: indices of its classes, each once, in the order of the row.
    """

    clip_id: str
    start: float
    end: float
    labels: tuple[int, ...]

    @property
    def audio_name(self) -> str:
        """Name of the clip in every file of this project: that of its wav file, "Y" + id + ".wav"."""
        return f"Y{self.clip_id}.wav"


def read_segments(path: str | os.PathLike[str], labels: LabelSet | None = None) -> list[Segment]:
    """Reads a segments csv: `ID, 0.000, 10.000, "/m/09x0r,/m/05zppz"`, after comment lines that begin with "#".

    Args:
      path: the csv; UTF-8 with or without a byte order mark, any line ends, blank lines allowed.
      labels: the classes that the label ids are looked up in; AudioSet's by default.

    Raises:
      InputError: the file cannot be read, or a line is malformed, names an unknown label, or repeats a clip; the
        message names file and line.
    """
    labels = audioset() if labels is None else labels
    classes = {label_id: index for index, label_id in enumerate(labels.ids)}
    segments: list[Segment] = []
    line_of: dict[str, int] = {}
    for number, line in _lines(Path(path)):
        try:
            segment = _parse_segment(line, classes, labels.task)
            if segment.clip_id in line_of:
                raise InputError(f"the clip {segment.clip_id} is in line {line_of[segment.clip_id]} already")
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        line_of[segment.clip_id] = number
        segments.append(segment)
    return segments


def segment_targets(segments: Iterable[Segment], num_classes: int) -> Bool[np.ndarray, "clips classes"]:
    """Which classes each clip carries."""
    segments = list(segments)
    targets = np.zeros((len(segments), num_classes), bool)
    for row, segment in enumerate(segments):
        targets[row, list(segment.labels)] = True
    return targets


def read_black_list(path: str | os.PathLike[str] = PUBLISHED_BLACK_LIST) -> frozenset[str]:
    """Reads clip ids, one a line: bare, or as file names with a leading "Y" and with or without ".wav".

    A name with ".wav", or of 12 letters, is taken for a file name and loses its "Y": a bare id of YouTube has 11.

    Raises:
      InputError: the file cannot be read, or a line holds more than an id.
    """
    ids = set()
    for number, line in _lines(Path(path)):
        name = line.strip('"')
        if any(character.isspace() or character == "," for character in name):
            raise InputError(f"{path}, line {number}: expected one clip id, found {_shown(line)}")
        bare = name.removesuffix(".wav")
        is_file_name = bare != name or len(bare) == _YOUTUBE_ID_LENGTH + 1
        ids.add(bare.removeprefix("Y") if is_file_name else bare)
    return frozenset(ids)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers from 1."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip() and not line.lstrip().startswith("#"):
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text file in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _parse_segment(line: str, classes: dict[str, int], task: str) -> Segment:
    try:
        # Line by line: an unclosed quote must not swallow the lines that follow it.
        fields = [field.strip() for field in next(csv.reader([line], skipinitialspace=True, strict=True))]
    except csv.Error as error:
        raise InputError(f"{error}: {_shown(line)}") from None
    if len(fields) != 4:
        raise InputError(f'expected ID, start, end, "labels" (4 fields), found {len(fields)}: {_shown(line)}')
    clip_id, start, end, label_field = fields
    if not clip_id or not clip_id.isprintable() or _NEVER_IN_AN_ID.search(clip_id):
        raise InputError(f"{clip_id!r} is no clip id")
    begins, ends = _seconds(start), _seconds(end)
    if not begins < ends:
        raise InputError(f"the clip ends at {end} s, not after its start at {start} s")
    indices: dict[int, None] = {}
    for label in filter(None, map(str.strip, label_field.split(","))):
        if label not in classes:
            raise InputError(f"the label {label!r} is none of the {len(classes)} classes of {task}")
        indices[classes[label]] = None
    if not indices:
        raise InputError(f"the clip {clip_id} has no labels")
    return Segment(clip_id, begins, ends, tuple(indices))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{text!r} is no time in seconds")
    return value


def _shown(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:77] + "...")
