"""What became of the clips of a segments csv: kept beside, and in, the file that was packed from it."""

import contextlib
import csv
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_jax.data.row_writer import RowFormat
from panns_jax.errors import InputError
from panns_jax.files import written_aside

if TYPE_CHECKING:
    import h5py

    from panns_jax.data.metadata import Segment

_FINGERPRINT = "segments_sha256"
_CLIPPED = "clipped"
# A reason names a file, whose name need not be text.
_AS_CSV: Any = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A clip that was not packed, and why, in a sentence."""

    clip_id: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class PackReport:
    """What became of the clips of a segments csv.

    Attributes:
      packed: number of rows written.
      clipped: how many of them had samples beyond full scale.
      left_out: the clips without a row.
      before: whether all this was done earlier, and nothing now.
      new: of a packing done before: how many of the clips left out have a sound file that is newer.
      nodes: clips that each machine of a cluster worked on; empty without one.
    """

    packed: int
    clipped: int
    left_out: tuple[LeftOut, ...]
    before: bool = False
    new: int = 0
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)


def left_out_path(out: Path) -> Path:
    """The list of what was left out of a waveforms file."""
    return out.with_name(f"{out.name}.left_out.csv")


def write_left_out(out: Path, left_out: Sequence[LeftOut]) -> None:
    """Writes the list, or removes that of an earlier packing where nothing was left out.

    Raises:
      InputError: it cannot be written.
    """
    path = left_out_path(out)
    with _named_errors(path):
        if not left_out:
            path.unlink(missing_ok=True)
            return
        with written_aside(path) as aside, aside.open("w", **_AS_CSV) as file:
            writer = csv.writer(file)
            writer.writerow(["clip_id", "reason"])
            writer.writerows((clip.clip_id, clip.reason) for clip in left_out)


def note_report(file: "h5py.File", report: PackReport, fingerprint: str) -> None:
    """Writes into a file what it was packed from, for `read_report`.

    Args:
      file: being packed.
      report: of this packing.
      fingerprint: of the csv.
    """
    file.attrs[_FINGERPRINT] = fingerprint
    file.attrs[_CLIPPED] = np.int64(report.clipped)


def read_report(out: Path, rows_format: RowFormat, fingerprint: str, segments: Sequence["Segment"]) -> PackReport:
    """The report of an earlier packing from the same csv, with the same options.

    Args:
      out: the file that was packed.
      rows_format: of the rows, by the options.
      fingerprint: of the csv.
      segments: its clips.

    Raises:
      InputError: the file is damaged, or was packed otherwise.
    """
    from panns_jax.data.hdf5 import column, reading
    from panns_jax.data.storage import count_rows

    with reading(out) as file:
        attributes = dict(file.attrs)
        rows = count_rows(file) if _FINGERPRINT in attributes else 0
        packed = set(column(file, "audio_name", "S", 1)[:].tolist()) if rows else set()
    if not rows:
        raise InputError(f"--out {out} exists already, and does not tell what it was packed from")
    expected = {
        _FINGERPRINT: (fingerprint, "from another csv"),
        "sample_rate": (rows_format.sample_rate, f"at {attributes.get('sample_rate')} Hz"),
        "samples": (rows_format.samples, f"as clips of {attributes.get('samples')} samples"),
        "encoding": (rows_format.encoding, f"as {attributes.get('encoding')}"),
    }
    for name, (value, otherwise) in expected.items():
        if attributes.get(name) != value:
            raise InputError(f"--out {out} exists already, packed {otherwise}")
    clipped: Any = attributes[_CLIPPED]
    told = {clip.clip_id: clip for clip in _read_left_out(out)}
    left_out = (segment.clip_id for segment in segments if segment.audio_name.encode() not in packed)
    unknown = "it was left out earlier, and the list that told why is gone"
    return PackReport(
        rows, int(clipped), tuple(told.get(name) or LeftOut(name, unknown) for name in left_out), before=True
    )


def count_new(out: Path, files: Iterable[Path]) -> int:
    """How many files have come, or were changed, since `out` was written."""
    written = out.stat().st_ctime
    return sum(_changed(path) > written for path in files)


def _changed(path: Path) -> float:
    # Not the time of modification, which downloads set to that of the original.
    with contextlib.suppress(OSError):
        return path.stat().st_ctime
    return 0.0


def _read_left_out(out: Path) -> tuple[LeftOut, ...]:
    path = left_out_path(out)
    if not path.exists():
        return ()
    try:
        with path.open(**_AS_CSV) as file:
            return tuple(LeftOut(row["clip_id"], row["reason"]) for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(f"{path}: cannot be read as the list of what was left out") from error


@contextlib.contextmanager
def _named_errors(path: Path | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
