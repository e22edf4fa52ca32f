"""`panns-jax pack`: sound files to a waveforms HDF5 file in the published layout."""

import contextlib
import csv
import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from jaxtyping import Float, Int16

from panns_jax.errors import InputError
from panns_jax.execute import Engine, counted, for_each, tell_nodes
from panns_jax.files import written_aside
from panns_jax.labels import audioset

if TYPE_CHECKING:
    import h5py

    from panns_jax.data.metadata import Segment

# Extensions in the order of preference, where a clip is there in several formats.
_EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".w64", ".au")
_SHOWN = 10
# No sound is recorded at a higher one; soxr crashes at some that are (seen at 2 GHz with soxr 1.1).
_HIGHEST_RATE = 384_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack:
    """Packs the clips of a segments csv into one HDF5 file: mono, one rate, one length, int16.

    The sound of a clip is the file Y<id>.wav in the folder, or Y<id> with another extension that libsndfile reads
    (flac, ogg, opus, mp3, aiff, caf, w64, au). Clips without a readable file are left out and listed.
    """

    csv: Path
    """Segments csv, as AudioSet publishes: ID, 0.000, 10.000, "/m/09x0r,/m/05zppz"."""
    audios: Path
    """Folder of the sound files."""
    out: Path
    """The HDF5 file to write, such as WORKSPACE/hdf5s/waveforms/balanced_train.h5."""
    clip_seconds: float = 10.0
    """Length of every clip: shorter ones are padded with zeros at the end, longer ones cut."""
    sample_rate: int = 32000
    """Samples per second; other rates are resampled."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace OUT if it exists."""
    workers: int | None = None
    """Number of processes that read sound files, 0 for none; as many as there are processor cores, here or in the
    cluster, by default."""
    engine: Engine = "local"
    """local: processes of this machine; ray: a cluster, whose machines share AUDIOS."""
    address: str | None = None
    """Of the Ray cluster, auto or host:port; without it, Ray is started on this machine."""

    def run(self) -> int:
        """Packs and tells what was done; 1 where clips were left out."""
        report = pack(
            self.csv,
            self.audios,
            self.out,
            clip_seconds=self.clip_seconds,
            sample_rate=self.sample_rate,
            workers=self.workers,
            replace=self.force,
            engine=self.engine,
            address=self.address,
        )
        total = report.packed + len(report.left_out)
        clips = f"{report.packed} of {total} clips of {self.clip_seconds:g} s at {self.sample_rate} Hz"
        print(f"packed {clips} into {self.out}")
        if report.clipped:
            print(f"{report.clipped} of them went beyond full scale and were clipped")
        tell_nodes(report.nodes)
        if report.left_out:
            print(f"{len(report.left_out)} left out, listed in {_left_out_path(self.out)}:")
            for clip in report.left_out[:_SHOWN]:
                print(f"  {clip.clip_id}: {clip.reason}")
            if len(report.left_out) > _SHOWN:
                print(f"  and {len(report.left_out) - _SHOWN} more")
        return 1 if report.left_out else 0


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
      nodes: clips that each machine of a cluster worked on; empty without one.
    """

    packed: int
    clipped: int
    left_out: tuple[LeftOut, ...]
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)


def pack(
    segments_csv: str | os.PathLike[str],
    audios: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    clip_seconds: float = 10.0,
    sample_rate: int = 32000,
    workers: int | None = 0,
    replace: bool = False,
    engine: Engine = "local",
    address: str | None = None,
) -> PackReport:
    """Writes a waveforms file: `audio_name` (N,) S20, `waveform` (N, samples) int16, `target` (N, 527) bool.

    The rows are in the order of the csv. What was left out is also written to OUT.left_out.csv (clip_id, reason).

    Args:
      segments_csv: as AudioSet publishes.
      audios: folder of the sound files.
      out: the file to write, *.h5.
      clip_seconds: length of every clip.
      sample_rate: of every clip, samples per second.
      workers: processes that read sound files; 0 for none, None for as many as there are processor cores.
      replace: whether a file that is there may be replaced.
      engine: what reads the sound files: processes of this machine, or a cluster.
      address: of the cluster.

    Raises:
      InputError: an option or the csv is wrong, no clip at all could be read, or the file is there already or cannot
        be written.
    """
    from panns_jax.data.hdf5 import require_hdf5_name, writing
    from panns_jax.data.metadata import read_segments

    samples = _clip_samples(clip_seconds, sample_rate)
    out = Path(out)
    require_hdf5_name(out)
    if out.exists() and not replace:
        raise InputError(f"--out {out} exists already; --force replaces it")
    segments = read_segments(segments_csv)
    if not segments:
        raise InputError(f"{segments_csv}: holds no segments")
    paths = _sound_files(Path(audios), segments)
    read = functools.partial(_read_row, sample_rate=sample_rate, samples=samples)
    rows: list[Segment] = []
    left_out: list[LeftOut] = []
    nodes: dict[str, int] = {}
    clipped = 0
    task = f"packing {out.name}"
    with (
        for_each(read, paths, workers=workers, task=task, unit="clips", engine=engine, address=address) as outcomes,
        writing(out) as file,
    ):
        # A row is a chunk: read in one piece at an offset that does not move, while the number of rows can grow.
        waveform = file.create_dataset(
            "waveform", (0, samples), np.int16, maxshape=(None, samples), chunks=(1, samples)
        )
        for segment, outcome in zip(segments, counted(outcomes, nodes), strict=True):
            if outcome.result is None:
                left_out.append(LeftOut(segment.clip_id, outcome.failure or ""))
                continue
            row, beyond = outcome.result
            waveform.resize(len(rows) + 1, axis=0)
            waveform[len(rows)] = row
            rows.append(segment)
            clipped += beyond
        if not rows:
            raise InputError(f"{segments_csv}: none of its {len(segments)} clips can be read; {left_out[0].reason}")
        _write_labels(file, rows)
        file.attrs["sample_rate"] = np.int32(sample_rate)
        _write_left_out(out, left_out)  # before the file itself, which stands for it
    return PackReport(len(rows), clipped, tuple(left_out), nodes)


def to_int16(waveform: Float[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    """Full scale [-1, 1] to ±32767, towards zero, as the published files hold it; what is beyond is clipped."""
    return (np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16)


def _clip_samples(clip_seconds: float, sample_rate: int) -> int:
    if not 1 <= sample_rate <= _HIGHEST_RATE:
        raise InputError(f"--sample-rate must be from 1 to {_HIGHEST_RATE} samples per second, not {sample_rate}")
    if not 0 < clip_seconds < math.inf or round(clip_seconds * sample_rate) < 1:
        raise InputError(f"--clip-seconds must be at least one sample long, such as 10, not {clip_seconds:g}")
    samples = round(clip_seconds * sample_rate)
    if samples * 2 >= 2**32:
        raise InputError(f"--clip-seconds {clip_seconds:g} is too long: a clip must fit into 4 GB")
    return samples


def _sound_files(folder: Path, segments: Sequence["Segment"]) -> list[Path]:
    """The file of each clip; that of the published name where there is none."""
    preference = {extension: rank for rank, extension in enumerate(_EXTENSIONS)}
    best: dict[str, tuple[int, str]] = {}
    try:
        # One listing: asking for millions of names one by one is slow on network disks.
        with os.scandir(folder) as entries:
            for entry in entries:
                name = Path(entry.name)
                rank = preference.get(name.suffix.lower())
                if rank is not None:
                    best[name.stem] = min(best.get(name.stem, (rank, name.name)), (rank, name.name))
    except OSError as error:
        raise InputError(f"--audios {folder}: cannot be listed: {error.strerror}") from error
    names = ((segment, f"Y{segment.clip_id}") for segment in segments)
    folder = folder.absolute()  # the nodes of a cluster work in folders of their own
    return [folder / (best[stem][1] if stem in best else segment.audio_name) for segment, stem in names]


def _read_row(path: Path, *, sample_rate: int, samples: int) -> tuple[Int16[np.ndarray, " samples"], bool]:
    """The row of a clip, and whether it went beyond full scale."""
    from panns_jax.audio import read_waveform

    waveform = read_waveform(path, sample_rate, seconds=samples / sample_rate)[:samples]
    row = np.zeros(samples, np.int16)
    row[: len(waveform)] = to_int16(waveform)
    return row, bool(np.abs(waveform).max() > 1)


def _write_labels(file: "h5py.File", rows: list["Segment"]) -> None:
    from panns_jax.data.hdf5 import NAME_BYTES, bytes_column
    from panns_jax.data.metadata import segment_targets

    file["audio_name"] = bytes_column([segment.audio_name.encode() for segment in rows], NAME_BYTES)
    file["target"] = segment_targets(rows, len(audioset()))


def _left_out_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.left_out.csv")


def _write_left_out(out: Path, left_out: Sequence[LeftOut]) -> None:
    path = _left_out_path(out)
    with _named_errors(path):
        if not left_out:
            path.unlink(missing_ok=True)  # that of an earlier packing
            return
        with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["clip_id", "reason"])
            writer.writerows((clip.clip_id, clip.reason) for clip in left_out)


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
