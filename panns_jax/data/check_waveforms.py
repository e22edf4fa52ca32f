"""Looking at waveforms files: their names and labels, and every row of them."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from panns_jax.data.findings import Finding, about_clips, names_of, repeated
from panns_jax.data.flac import DamagedRow
from panns_jax.data.hdf5 import column, reading
from panns_jax.data.storage import OpenFiles, Rows, find_rows
from panns_jax.errors import InputError

ROWS_AT_ONCE = 256
_SLAB = 1 << 13
_PACK_ANEW = "pack the file anew"


@dataclasses.dataclass(frozen=True, slots=True)
class SeenWaveforms:
    """What a look at a waveforms file shows without reading its rows.

    Attributes:
      path: the file.
      rows: number of rows.
      clips: how many of them have a name.
      samples: length of each.
      sample_rate: samples per second.
      encoding: "int16", "float32" or "flac".
      classes: number of classes.
      findings: about the file.
    """

    path: Path
    rows: int
    clips: int
    samples: int
    sample_rate: int
    encoding: str
    classes: int
    findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a waveforms file: `start` to `stop` - 1."""

    path: Path
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, slots=True)
class SeenRows:
    """What reading a part's rows shows: names of clips.

    Attributes:
      silent: whose samples are all zero.
      not_finite: with samples that are no finite numbers.
      undecodable: that cannot be read.
      reason: why the first of those cannot.
      nameless: number of rows without a name that are not silent.
    """

    silent: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    undecodable: tuple[str, ...] = ()
    reason: str = ""
    nameless: int = 0


def look_at_waveforms(path: Path) -> SeenWaveforms:
    """Looks at all but the rows.

    Raises:
      InputError: the file cannot be read, or is no waveforms file.
    """
    with reading(path) as file:
        if "index_in_hdf5" in file:
            raise InputError(f"{path}: is an index file, in the place of a waveforms file")
        names = column(file, "audio_name", "S", 1)[:]
        target = column(file, "target", "bui", 2)
        classes = target.shape[1]
        slabs = [target[start : start + _SLAB].astype(bool).any(axis=1) for start in range(0, len(target), _SLAB)]
    labelled = np.concatenate([np.zeros(0, bool), *slabs])
    rows = find_rows(path)
    if not len(names) == len(labelled) == rows.count:
        told = f"{rows.count} waveforms, {len(names)} names and {len(labelled)} rows of labels"
        raise InputError(f"{path}: has {told}")
    return SeenWaveforms(
        path=path,
        rows=rows.count,
        clips=int((names != b"").sum()),
        samples=rows.samples,
        sample_rate=rows.sample_rate,
        encoding=rows.encoding,
        classes=classes,
        findings=tuple(_about_labels(path, names, labelled)),
    )


def _about_labels(
    path: Path, names: Shaped[np.ndarray, " rows"], labelled: Bool[np.ndarray, " rows"]
) -> Iterable[Finding]:
    named = names != b""
    if empty := int((~named).sum()):
        what = f"empty rows, which the published packer leaves where a sound is missing: {empty} of {len(names)}"
        yield Finding(path, "empty rows", what, "they are passed over, nothing is to be done", is_note=True)
    if not named.any():
        yield Finding(path, "no clips", "holds no clip at all", f"see to its sound files, and {_PACK_ANEW}")
    clips = np.flatnonzero(named)
    again = names_of(names, clips[repeated(names[clips])])
    yield from about_clips(
        path, "repeated", again, "clips that are there more than once", f"{_PACK_ANEW}, each clip once"
    )
    bare = names_of(names, np.flatnonzero(named & ~labelled))
    yield from about_clips(path, "no labels", bare, "clips without labels", f"{_PACK_ANEW} from a csv that has them")
    if lost := int((~named & labelled).sum()):
        mend = f"they are never used; {_PACK_ANEW} if they are wanted"
        yield Finding(path, "no name", f"rows that have labels but no name: {lost}", mend, count=lost)


def unlike_the_others(files: Sequence[SeenWaveforms]) -> list[Finding]:
    """Files whose clips are of another rate, length or number of classes than those of most, which train together."""
    findings = []
    usual_rate = _most(file.sample_rate for file in files)
    usual_length = _most(file.samples / file.sample_rate for file in files)
    usual_classes = _most(file.classes for file in files)
    for file in files:
        seconds = file.samples / file.sample_rate
        if file.sample_rate != usual_rate:
            what = f"holds {file.sample_rate} Hz, most files of the workspace {usual_rate} Hz"
            findings.append(Finding(file.path, "sample rate", what, f"{_PACK_ANEW} with --sample-rate {usual_rate}"))
        if seconds != usual_length:
            what = f"holds clips of {seconds:g} s, most files of the workspace {usual_length:g} s"
            findings.append(Finding(file.path, "length", what, f"{_PACK_ANEW} with --clip-seconds {usual_length:g}"))
        if file.classes != usual_classes:
            what = f"has {file.classes} classes, most files of the workspace {usual_classes}"
            findings.append(Finding(file.path, "classes", what, "keep data of another task in a workspace of its own"))
    return findings


def parts_of(file: SeenWaveforms) -> list[Part]:
    """All rows of a file, in parts that are read at once."""
    starts = range(0, file.rows, ROWS_AT_ONCE)
    return [Part(file.path, start, min(start + ROWS_AT_ONCE, file.rows)) for start in starts]


def look_at_rows(part: Part) -> SeenRows:
    """Reads the rows of a part.

    Raises:
      InputError: the file cannot be read any more.
    """
    rows, names, files = _opened(part.path)
    row = np.empty(rows.samples, rows.dtype)
    kinds: dict[str, list[int]] = {"silent": [], "not_finite": [], "undecodable": []}
    reason = ""
    nameless = 0
    for number in range(part.start, part.stop):
        try:
            rows.read_into(number, row, files)
        except DamagedRow as error:
            kinds["undecodable"].append(number)
            reason = reason or str(error)
            continue
        sounds = bool(row.any())
        if not names[number]:
            nameless += sounds
        elif not sounds:
            kinds["silent"].append(number)
        elif row.dtype.kind == "f" and not np.isfinite(row).all():
            kinds["not_finite"].append(number)
    named = {kind: tuple(names_of(names, np.array(numbers, np.int64))) for kind, numbers in kinds.items()}
    return SeenRows(**named, reason=reason, nameless=nameless)


def about_rows(path: Path, parts: Sequence[SeenRows]) -> list[Finding]:
    """The findings about a file from what all its parts showed."""
    silent = [name for part in parts for name in part.silent]
    not_finite = [name for part in parts for name in part.not_finite]
    undecodable = [name for part in parts for name in part.undecodable]
    reason = next((part.reason for part in parts if part.reason), "")
    nameless = sum(part.nameless for part in parts)
    heard = "listen to their sound files; train --black-list leaves out the ids that a file lists"
    infinite = "clips with samples that are no finite numbers"
    unread = f"clips that cannot be decoded, the first for the reason {reason!r}"
    findings = [
        *about_clips(path, "silent", silent, "silent clips", heard),
        *about_clips(path, "not finite", not_finite, infinite, _PACK_ANEW),
        *about_clips(path, "undecodable", undecodable, unread, f"copy the file again, or {_PACK_ANEW}"),
    ]
    if nameless:
        what = f"rows that hold sound but no name: {nameless}"
        mend = f"they are never used; {_PACK_ANEW} if they are wanted"
        findings.append(Finding(path, "no name", what, mend, count=nameless))
    return findings


@functools.lru_cache(maxsize=2)
def _opened(path: Path) -> tuple[Rows, Shaped[np.ndarray, " rows"], OpenFiles]:
    """Kept for the next part, which is of the same file nearly always."""
    with reading(path) as file:
        names = column(file, "audio_name", "S", 1)[:]
    return find_rows(path), names, OpenFiles()


def _most(values: Iterable[int | float]) -> int | float:
    """The value that occurs most often; of several, the first."""
    return Counter(values).most_common(1)[0][0]
