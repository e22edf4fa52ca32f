"""Index files: which clip lies in which row of which waveforms file, and `panns-jax index`, which writes them."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import tyro
from jaxtyping import Bool, Int, Shaped

from panns_jax.data.targets import Targets
from panns_jax.errors import InputError

if TYPE_CHECKING:
    import h5py

_SLAB = 1 << 15
_PATH_BYTES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """Lists the clips of waveforms files, for training and evaluation; rows without a clip are skipped.

    With --combine the files are index files, and the result lists their clips one file after another:
    full_train.h5 is made of balanced_train.h5 and the 41 unbalanced_train_partNN.h5.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Waveforms files, or index files to combine."""
    out: Path
    """The index file to write, such as WORKSPACE/hdf5s/indexes/balanced_train.h5."""
    combine: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the files for index files."""

    def run(self) -> int:
        """Writes the index and tells how many clips it lists."""
        from panns_jax.data.hdf5 import require_hdf5_name

        if not self.files:
            raise InputError(f"name the {'index' if self.combine else 'waveforms'} files to list")
        require_hdf5_name(self.out)
        if any(path.exists() and self.out.exists() and path.samefile(self.out) for path in self.files):
            raise InputError(f"--out {self.out} is one of the files to list")
        _spare_waveforms(self.out)
        index = combined([read_index(path) if self.combine else list_clips(path) for path in self.files], self.out)
        if not len(index):
            raise InputError(f"{', '.join(map(str, self.files))}: no clips, only empty rows")
        write_index(self.out, index)
        print(f"{len(index)} clips of {index.targets.num_classes} classes listed in {self.out}")
        return 0


@dataclasses.dataclass(frozen=True, eq=False)
class ClipIndex:
    """The clips of an index file; none of them is an empty row.

    Attributes:
      path: the index file, for messages.
      audio_name: name of each clip, (N,) bytes, such as b"Y--PJHxphWEs.wav".
      targets: the classes of each clip.
      files: the waveforms files.
      file_number: which of the files each clip is in, (N,).
      index_in_hdf5: its row there, (N,).
    """

    path: Path
    audio_name: Shaped[np.ndarray, " clips"]
    targets: Targets
    files: tuple[Path, ...]
    file_number: Int[np.ndarray, " clips"]
    index_in_hdf5: Int[np.ndarray, " clips"]

    def __len__(self) -> int:
        return len(self.audio_name)

    def __repr__(self) -> str:
        return f"ClipIndex({str(self.path)!r}, {len(self)} clips in {len(self.files)} files)"

    @property
    def target(self) -> Bool[np.ndarray, "clips classes"]:
        """Which classes each clip carries, as a matrix: a gigabyte for all of AudioSet, where `targets` will do."""
        return self.targets.dense()

    def listed(self, clip_ids: Iterable[str]) -> Bool[np.ndarray, " clips"]:
        """Which clips are those of the ids, as of a black list."""
        names = np.array([f"Y{clip_id}.wav".encode() for clip_id in clip_ids], dtype=np.bytes_)
        return np.isin(self.audio_name, names)


def read_index(path: str | os.PathLike[str]) -> ClipIndex:
    """Reads an index file in the published layout, or in the older one of 2019 (`hdf5s/targets/`).

    The waveforms files are looked for where the index says; where they are not, as in a workspace that was moved, in
    the same place of the workspace (`hdf5s/…`) that the index itself lies in. Whether they exist is not asked yet.

    Raises:
      InputError: the file is missing, damaged, or no index file.
    """
    from panns_jax.data.hdf5 import column, reading
    from panns_jax.data.storage import holds_waveforms

    path = Path(path)
    with reading(path) as file:
        names = column(file, "audio_name", "S", 1)[:]
        targets = _read_targets(file, len(names))
        if holds_waveforms(file) and "index_in_hdf5" not in file:
            raise InputError(f"{path}: is a waveforms file; panns-jax index makes an index file of it")
        rows = column(file, "index_in_hdf5", "iu", 1)[:].astype(np.int32)
        old_layout = "hdf5_name" in file
        stored, numbers = _distinct(column(file, "hdf5_name" if old_layout else "hdf5_path", "S", 1))
    if not len(names) == len(targets) == len(rows) == len(numbers):
        raise InputError(f"{path}: is no index file: its columns are of different lengths")
    resolve = _resolve_name if old_layout else _resolve_path
    kept = np.flatnonzero(names != b"")
    used, numbers = np.unique(numbers[kept], return_inverse=True)
    return ClipIndex(
        path=path,
        audio_name=names[kept],
        targets=targets.take(kept),
        files=tuple(resolve(os.fsdecode(stored[number]), path) for number in used),
        file_number=numbers.astype(np.int32),
        index_in_hdf5=rows[kept],
    )


def list_clips(path: str | os.PathLike[str]) -> ClipIndex:
    """The clips of a waveforms file.

    Raises:
      InputError: the file is missing, damaged, or no waveforms file.
    """
    from panns_jax.data.hdf5 import column, reading
    from panns_jax.data.storage import count_rows

    path = Path(path)
    with reading(path) as file:
        if "index_in_hdf5" in file:
            raise InputError(f"{path}: is an index file; --combine lists the clips of index files")
        rows = count_rows(file)
        names = column(file, "audio_name", "S", 1)[:]
        targets = _read_targets(file, len(names))
    if not len(names) == len(targets) == rows:
        raise InputError(f"{path}: is no waveforms file: its columns are of different lengths")
    kept = np.flatnonzero(names != b"").astype(np.int32)
    return ClipIndex(path, names[kept], targets.take(kept), (path,), np.zeros(len(kept), np.int32), kept)


def combined(parts: Sequence[ClipIndex], path: Path) -> ClipIndex:
    """The clips of several indexes, one index after another.

    Raises:
      InputError: they have different numbers of classes, or some list the same clip.
    """
    for part in parts[1:]:
        if part.targets.num_classes != parts[0].targets.num_classes:
            described = (f"{p.path} has {p.targets.num_classes} classes" for p in (parts[0], part))
            raise InputError(f"{' and '.join(described)}: they cannot be listed together")
    files: dict[Path, Path] = {}
    for file in (file for part in parts for file in part.files):
        files.setdefault(file.resolve(), file)
    place = {file: number for number, file in enumerate(files)}
    numbers = [np.array([place[f.resolve()] for f in part.files] or [0], np.int32)[part.file_number] for part in parts]
    whole = ClipIndex(
        path=path,
        audio_name=np.concatenate([part.audio_name for part in parts]),
        targets=Targets.concatenate(part.targets for part in parts),
        files=tuple(files.values()),
        file_number=np.concatenate(numbers),
        index_in_hdf5=np.concatenate([part.index_in_hdf5 for part in parts]),
    )
    _require_each_once(whole, parts)
    return whole


def write_index(path: str | os.PathLike[str], index: ClipIndex) -> None:
    """Writes an index file in the published layout, with the paths of the waveforms files as the index has them.

    Raises:
      InputError: the file cannot be written.
    """
    from panns_jax.data.hdf5 import NAME_BYTES, bytes_column, writing

    paths = bytes_column([file.as_posix().encode(errors="surrogateescape") for file in index.files], _PATH_BYTES)
    name_bytes = max(NAME_BYTES, index.audio_name.dtype.itemsize)
    shape = (len(index), index.targets.num_classes)
    with writing(path) as file:
        file["audio_name"] = index.audio_name.astype(f"S{name_bytes}")
        target = file.create_dataset("target", shape, bool)
        hdf5_path = file.create_dataset("hdf5_path", shape[:1], paths.dtype)
        for start in range(0, len(index), _SLAB):  # the whole would be gigabytes
            slab = slice(start, start + _SLAB)
            target[slab] = index.targets.dense(slab)
            hdf5_path[slab] = paths[index.file_number[slab]]
        file["index_in_hdf5"] = index.index_in_hdf5.astype(np.int32)


def _require_each_once(whole: ClipIndex, parts: Sequence[ClipIndex]) -> None:
    """A clip listed twice, as where a file is named twice, would be trained on twice as often."""
    places = whole.file_number.astype(np.int64) << 32 | whole.index_in_hdf5
    first = np.unique(places, return_index=True)[1]
    if len(first) == len(whole):
        return
    again = np.setdiff1d(np.arange(len(whole)), first)[0]
    ends = np.cumsum([len(part) for part in parts])
    holders = [parts[np.searchsorted(ends, clip, "right")].path for clip in np.flatnonzero(places == places[again])[:2]]
    name = os.fsdecode(bytes(whole.audio_name[again]))
    told = f"{holders[0]} twice" if holders[0] == holders[1] else f"both {holders[0]} and {holders[1]}"
    raise InputError(f"{name} is listed by {told}; name each file once")


def _spare_waveforms(out: Path) -> None:
    """Refuses to replace what took hours to pack: names of indexes and waveforms files differ by a folder only."""
    import h5py

    from panns_jax.data.storage import holds_waveforms

    if out.is_file() and h5py.is_hdf5(out):
        with h5py.File(out, "r") as file:
            if holds_waveforms(file):
                raise InputError(f"--out {out} is a waveforms file, which an index must not replace; name another file")


def _read_targets(file: "h5py.File", rows: int) -> Targets:
    from panns_jax.data.hdf5 import column

    target = column(file, "target", "bui", 2)
    slabs = (target[start : start + _SLAB].astype(bool) for start in range(0, rows, _SLAB))
    return Targets.from_slabs(slabs, target.shape[1])


class _Distinct(NamedTuple):
    values: list[bytes]
    numbers: Int[np.ndarray, " rows"]


def _distinct(strings: "h5py.Dataset") -> _Distinct:
    """The distinct strings of a column and the number of each row's; at 200 bytes a row the column itself is large."""
    values: dict[bytes, int] = {}
    numbers = [np.zeros(0, np.int32)]
    for start in range(0, len(strings), _SLAB):
        found, inverse = np.unique(strings[start : start + _SLAB], return_inverse=True)
        places = np.array([values.setdefault(bytes(value), len(values)) for value in found], np.int32)
        numbers.append(places[inverse])
    return _Distinct(list(values), np.concatenate(numbers))


def _resolve_path(stored: str, index: Path) -> Path:
    path = Path(stored)
    return next(filter(_exists, [path, *_elsewhere(stored, index)]), path)


def _elsewhere(stored: str, index: Path) -> Iterator[Path]:
    """Where else a waveforms file may be: seen from the folders above the index, and in the index's own workspace."""
    parts = (PureWindowsPath(stored) if "\\" in stored else PurePosixPath(stored)).parts
    tails = [parts] if not Path(stored).is_absolute() else []
    tails += [parts[place:] for place, part in enumerate(parts) if part == "hdf5s"]
    folders = index.absolute().parents
    yield from (folder.joinpath(*tail) for tail in tails for folder in folders)


def _resolve_name(name: str, index: Path) -> Path:
    """The 2019 layout tells bare file names only: `hdf5s/targets/x.h5` goes with `hdf5s/waveforms/`."""
    waveforms = index.parent.parent / "waveforms"
    inside = waveforms / "unbalanced_train" / name
    return inside if not _exists(waveforms / name) and _exists(inside) else waveforms / name


def _exists(path: Path) -> bool:
    with contextlib.suppress(OSError):  # such as a name that is too long
        return path.is_file()
    return False
