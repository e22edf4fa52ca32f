"""`panns-jax pack`: sound files to waveforms HDF5 files, as published or in FLAC."""

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.data.hdf5 import SUFFIXES, require_hdf5_name, writing
from panns_jax.data.packed import (
    LeftOut,
    PackReport,
    count_new,
    left_out_path,
    note_report,
    read_report,
    write_left_out,
)
from panns_jax.data.row_writer import EncodedRow, Encoding, RowFormat, write_labels
from panns_jax.data.sounds import read_row, sound_files
from panns_jax.errors import InputError
from panns_jax.execute import Engine, counted, for_each, tell_nodes
from panns_jax.files import sha256

if TYPE_CHECKING:
    from panns_jax.data.metadata import Segment

_SHOWN = 10
# No sound is recorded at a higher one; soxr crashes at some that are (seen at 2 GHz with soxr 1.1).
_HIGHEST_RATE = 384_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack:
    """Packs the clips of segments csv files into an HDF5 file each: mono, one rate, one length.

    The sound of a clip is the file Y<id>.wav in the folder, or Y<id> with another extension that libsndfile reads
    (flac, ogg, opus, mp3, aiff, caf, …) or ffmpeg where it is installed (m4a, mp4, webm, mkv, …). Clips without a
    readable file are left out and listed in OUT.left_out.csv.

    A file is complete or not there. Started again, files that were packed from the same csv with the same options are
    left as they are, so that an interrupted packing of many goes on where it stopped.
    """

    csv: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Segments csv, as AudioSet publishes: ID, 0.000, 10.000, "/m/09x0r,/m/05zppz"; or several, such as parts/*.csv."""
    audios: Path
    """Folder of the sound files; of several csv, each takes its own folder in it where there is one of its name."""
    out: Path
    """The HDF5 file to write, such as W/hdf5s/waveforms/eval.h5; or a folder for all (x_segments.csv: x.h5)."""
    clip_seconds: float = 10.0
    """Length of every clip: shorter ones are padded with zeros at the end, longer ones cut."""
    sample_rate: int = 32000
    """Samples per second; other rates are resampled."""
    encoding: Encoding = "int16"
    """int16 is the published layout; flac holds the same samples in about half the room, decoded as they are read."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Pack anew what is packed already, and replace it."""
    workers: int | None = None
    """Number of processes that read sound files, 0 for none; as many as there are processor cores, here or in the
    cluster, by default."""
    engine: Engine = "local"
    """local: processes of this machine; ray: a cluster, whose machines share AUDIOS."""
    address: str | None = None
    """Of the Ray cluster, auto or host:port; without it, Ray is started on this machine."""

    def run(self) -> int:
        """Packs and tells what was done; 1 where clips were left out, or one of several csv could not be packed."""
        places = _places(self.csv, self.out)
        unpacked: list[NothingPackedError] = []
        incomplete = False
        for number, (segments_csv, out) in enumerate(places, start=1):
            try:
                report = pack(
                    segments_csv,
                    _folder_of(segments_csv, self.audios),
                    out,
                    clip_seconds=self.clip_seconds,
                    sample_rate=self.sample_rate,
                    encoding=self.encoding,
                    workers=self.workers,
                    replace=self.force,
                    engine=self.engine,
                    address=self.address,
                    place=f" ({number} of {len(places)})" if len(places) > 1 else "",
                )
            except NothingPackedError as error:
                unpacked.append(error)
                continue
            incomplete |= bool(report.left_out)
            self._tell(report, out)
        if unpacked:
            if len(unpacked) == len(places):
                raise InputError("\n  ".join(map(str, unpacked)))
            print(f"{len(unpacked)} of {len(places)} csv not packed:", file=sys.stderr)
            for error in unpacked:
                print(f"  {error}", file=sys.stderr)
        return 1 if unpacked or incomplete else 0

    def _tell(self, report: PackReport, out: Path) -> None:
        total = report.packed + len(report.left_out)
        clips = f"{report.packed} of {total} clips of {self.clip_seconds:g} s at {self.sample_rate} Hz"
        if report.before:
            print(f"{out} is there already, with {clips}")
        else:
            print(f"packed {clips} into {out}")
        if report.clipped:
            print(f"{report.clipped} of them went beyond full scale and were clipped")
        tell_nodes(report.nodes)
        if report.left_out:
            print(f"{len(report.left_out)} left out, listed in {left_out_path(out)}:")
            for clip in report.left_out[:_SHOWN]:
                print(f"  {clip.clip_id}: {clip.reason}")
            if len(report.left_out) > _SHOWN:
                print(f"  and {len(report.left_out) - _SHOWN} more")
        if report.new:
            print(f"{report.new} of them have a new sound file now; --force packs all anew")


class NothingPackedError(InputError):
    """A csv that cannot be packed, while others may be."""


def pack(
    segments_csv: str | os.PathLike[str],
    audios: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    clip_seconds: float = 10.0,
    sample_rate: int = 32000,
    encoding: Encoding = "int16",
    workers: int | None = 0,
    replace: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    place: str = "",
) -> PackReport:
    """Writes a waveforms file: `audio_name` (N,) S20, `waveform` (N, samples) int16, `target` (N, 527) bool.

    The rows are in the order of the csv. What was left out is also written to OUT.left_out.csv (clip_id, reason). A
    file that is there already, from the same csv and with the same options, stays as it is.

    Args:
      segments_csv: as AudioSet publishes.
      audios: folder of the sound files.
      out: the file to write, *.h5.
      clip_seconds: length of every clip.
      sample_rate: of every clip, samples per second.
      encoding: "flac" writes the same samples as `flac` (bytes,) uint8 and `flac_offset` (N + 1,) instead of
        `waveform`.
      workers: processes that read sound files; 0 for none, None for as many as there are processor cores.
      replace: whether a file that is there is packed anew.
      engine: what reads the sound files: processes of this machine, or a cluster.
      address: of the cluster.
      place: what the progress bar says after the file's name.

    Raises:
      InputError: an option is wrong, or the file cannot be written.
      NothingPackedError: the csv or the folder cannot be read, no clip at all could be, or another file is there.
    """
    rows_format = _row_format(clip_seconds, sample_rate, encoding)
    out = Path(out)
    require_hdf5_name(out)
    segments, paths, fingerprint = _clips(Path(segments_csv), Path(audios))
    if out.exists() and not replace:
        return _there_already(out, rows_format, fingerprint, segments, paths)
    read = functools.partial(_read_encoded, rows_format=rows_format)
    rows: list[Segment] = []
    left_out: list[LeftOut] = []
    nodes: dict[str, int] = {}
    clipped = 0
    task = f"packing {out.name}{place}"
    with (
        for_each(read, paths, workers=workers, task=task, unit="clips", engine=engine, address=address) as outcomes,
        writing(out) as file,
    ):
        writer = rows_format.writer(file)
        for segment, outcome in zip(segments, counted(outcomes, nodes), strict=True):
            if outcome.result is None:
                left_out.append(LeftOut(segment.clip_id, outcome.failure or ""))
                continue
            row, beyond = outcome.result
            writer.append(row)
            rows.append(segment)
            clipped += beyond
        if not rows:
            told = f"none of its {len(segments)} clips can be read; {left_out[0].reason}"
            raise NothingPackedError(f"{segments_csv}: {told}")
        writer.finish()
        write_labels(file, rows)
        report = PackReport(len(rows), clipped, tuple(left_out), nodes=nodes)
        note_report(file, report, fingerprint)
        write_left_out(out, left_out)  # before the file itself, which stands for it
    return report


def _clips(segments_csv: Path, audios: Path) -> tuple[list["Segment"], list[Path], str]:
    """The clips of a csv, the sound file of each, and a fingerprint of the csv."""
    from panns_jax.data.metadata import read_segments

    try:
        segments = read_segments(segments_csv)
        if not segments:
            raise InputError(f"{segments_csv}: holds no segments")
        return segments, sound_files(audios, segments), sha256(segments_csv)
    except InputError as error:
        raise NothingPackedError(str(error)) from error


def _there_already(
    out: Path, rows_format: RowFormat, fingerprint: str, segments: Sequence["Segment"], paths: Sequence[Path]
) -> PackReport:
    try:
        report = read_report(out, rows_format, fingerprint, segments)
    except InputError as error:
        raise NothingPackedError(f"{error}; --force replaces it") from error
    files = {segment.clip_id: path for segment, path in zip(segments, paths, strict=True)}
    left_out = [files[clip.clip_id] for clip in report.left_out]
    return dataclasses.replace(report, new=count_new(out, left_out))


def _read_encoded(path: Path, *, rows_format: RowFormat) -> tuple[EncodedRow, bool]:
    """The row of a clip, and whether it went beyond full scale."""
    row, beyond = read_row(path, rows_format.sample_rate, rows_format.samples)
    return rows_format.encode(row), beyond


def _row_format(clip_seconds: float, sample_rate: int, encoding: Encoding) -> RowFormat:
    if not 1 <= sample_rate <= _HIGHEST_RATE:
        raise InputError(f"--sample-rate must be from 1 to {_HIGHEST_RATE} samples per second, not {sample_rate}")
    if not 0 < clip_seconds < math.inf or round(clip_seconds * sample_rate) < 1:
        raise InputError(f"--clip-seconds must be at least one sample long, such as 10, not {clip_seconds:g}")
    samples = round(clip_seconds * sample_rate)
    if samples * 2 >= 2**32:
        raise InputError(f"--clip-seconds {clip_seconds:g} is too long: a clip must fit into 4 GB")
    if encoding == "flac":
        from panns_jax.data.flac import require_encodable

        require_encodable(sample_rate)
    return RowFormat(sample_rate, samples, encoding)


def _places(files: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Each csv, and the file that it is packed into."""
    if not files:
        raise InputError("--csv needs at least one file")
    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        if len(files) > 1:
            raise InputError(f"--out {out} is one file, for {len(files)} csv; name a folder")
        return [(files[0], out)]
    if out.suffix and not out.is_dir():
        raise InputError(f"--out must end in .h5 or .hdf5, or be a folder, got {out.name!r}")
    named: dict[Path, Path] = {}
    for file in files:
        place = out / f"{file.stem.replace('_segments', '')}.h5"
        if place in named:
            raise InputError(f"--csv {named[place]} and {file} would both be packed into {place}")
        named[place] = file
    return [(file, place) for place, file in named.items()]


def _folder_of(segments_csv: Path, audios: Path) -> Path:
    """The sounds of a csv: AudioSet's are in a folder for each list, named as it is."""
    own = audios / segments_csv.stem
    return own if own.is_dir() else audios
