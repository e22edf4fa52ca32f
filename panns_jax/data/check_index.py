"""Looking at index files: whether each clip is where they say, with the labels that they say."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from panns_jax.data.findings import Finding, about_clips, names_of, repeated, unless_unreadable
from panns_jax.data.hdf5 import column, reading
from panns_jax.data.index import ClipIndex, read_index
from panns_jax.data.storage import count_rows, holds_waveforms
from panns_jax.errors import InputError

_SLAB = 1 << 13
_ANEW = "make the index anew with panns-jax index"


@dataclasses.dataclass(frozen=True, slots=True)
class SeenIndex:
    """What a look at an index file shows.

    Attributes:
      path: the file.
      clips: number of clips.
      files: the waveforms files that it lists.
      findings: about the file.
    """

    path: Path
    clips: int
    files: tuple[Path, ...]
    findings: tuple[Finding, ...]


def look_at_index(path: Path) -> SeenIndex:
    """Looks at an index, and at the names and labels of the waveforms files that it lists.

    Raises:
      InputError: the index cannot be read, or is none.
    """
    index = read_index(path)
    findings = list(_about_clips(index))
    for number, file in enumerate(index.files):
        clips = np.flatnonzero(index.file_number == number)
        findings += _about_file(index, file, clips)
    return SeenIndex(path, len(index), tuple(index.files), tuple(findings))


def _about_clips(index: ClipIndex) -> Iterable[Finding]:
    path = index.path
    if not len(index):
        yield Finding(path, "no clips", "lists no clip at all", _ANEW)
    again = names_of(index.audio_name, repeated(index.audio_name))
    yield from about_clips(
        path, "repeated", again, "clips that are listed more than once", f"{_ANEW}, naming each file once"
    )
    bare = names_of(index.audio_name, np.flatnonzero(np.diff(index.targets.starts) == 0))
    yield from about_clips(
        path, "no labels", bare, "clips without labels", "pack their files anew from a csv that has them"
    )


def _about_file(index: ClipIndex, file: Path, clips: Int[np.ndarray, " clips"]) -> list[Finding]:
    """What is wrong with the clips of one waveforms file."""

    def about(kind: str, wrong: Int[np.ndarray, " some"], what: str, mend: str) -> list[Finding]:
        return about_clips(index.path, kind, names_of(index.audio_name, wrong), what, mend)

    if not file.is_file():
        mend = f"copy the file there, or {_ANEW}"
        return about("missing file", clips, f"clips looked for in {file}, which is not there", mend)
    found = unless_unreadable(file, lambda path: _compared(index, path, clips))
    if isinstance(found, Finding):
        what = f"clips looked for in {file}, which is no good ({found.what})"
        return about("unreadable file", clips, what, "mend that file first")
    beyond, misnamed, mislabelled = found
    return [
        *about("beyond the end", beyond, f"clips looked for in rows that {file} does not have", _ANEW),
        *about("wrong row", misnamed, f"clips looked for in rows of {file} that hold others, or none", _ANEW),
        *about("wrong labels", mislabelled, f"clips that carry other labels in {file}", _ANEW),
    ]


def _compared(
    index: ClipIndex, file: Path, clips: Int[np.ndarray, " clips"]
) -> tuple[Int[np.ndarray, " beyond"], Int[np.ndarray, " misnamed"], Int[np.ndarray, " mislabelled"]]:
    """The clips in rows that the file does not have, in rows of other clips, and with other labels."""
    with reading(file) as opened:
        if not holds_waveforms(opened):
            raise InputError(f"{file}: holds no waveforms")
        count = count_rows(opened)
        names = column(opened, "audio_name", "S", 1)[:]
        target = column(opened, "target", "bui", 2)
        if not len(names) == len(target) == count:
            raise InputError(f"{file}: has {count} waveforms, {len(names)} names and {len(target)} rows of labels")
        places = index.index_in_hdf5[clips]
        there = (places >= 0) & (places < count)
        beyond, clips, places = clips[~there], clips[there], places[there]
        same = names[places] == index.audio_name[clips]
        misnamed, clips, places = clips[~same], clips[same], places[same]
        if target.shape[1] != index.targets.num_classes:
            return beyond, misnamed, clips
        order = np.argsort(places, kind="stable")
        clips, places = clips[order], places[order]
        wrong = [np.zeros(0, np.int64)]
        # The labels by slabs: those of all of AudioSet would be a gigabyte.
        for start in range(0, count, _SLAB):
            first, last = np.searchsorted(places, [start, start + _SLAB])
            if first < last:
                labels = target[start : start + _SLAB].astype(bool)[places[first:last] - start]
                differ = (labels != index.targets.dense(clips[first:last])).any(axis=1)
                wrong.append(clips[first:last][differ])
    return beyond, misnamed, np.sort(np.concatenate(wrong))
