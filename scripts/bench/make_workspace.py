"""Makes a workspace of AudioSet's shape out of nothing, to measure on and to try things with.

    python scripts/bench/make_workspace.py WORKSPACE                      # full_train.h5, and its 42 waveforms files
    python scripts/bench/make_workspace.py WORKSPACE --noise --clips 1500 # balanced_train.h5, with sound: 1 GB

Clips have names and classes as AudioSet's do: each class has as many as it has there (or its share of fewer clips), and
the black list's are among them. The waveforms of the 42 files are holes, which take no room on disk and read as
silence; with --noise, they are noise.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import common
import h5py
import numpy as np
from jaxtyping import Int, Shaped

from panns_jax.data.index import ClipIndex, write_index
from panns_jax.data.metadata import PUBLISHED_BLACK_LIST, read_black_list
from panns_jax.data.targets import Targets
from panns_jax.labels import audioset_train_clips

CLIPS = 2_063_839
"""Training clips that the paper counts."""
PART_CLIPS = 50_000
"""Clips in each file of the unbalanced set but the last."""
PARTS = 41

_ALPHABET = np.frombuffer(b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz", np.uint8)
_ID_LENGTH = 11
_BLOCK = 64  # clips of noise drawn at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="folder, made where it is not there")
    parser.add_argument("--clips", type=common.at_least_one, default=CLIPS, help="how many (%(default)s)")
    parser.add_argument("--noise", action="store_true", help="write one file of noise, 640 kB a clip")
    parser.add_argument("--chunked", action="store_true", help="each row a chunk, as panns-jax pack writes them")
    options = parser.parse_args()
    if options.noise:
        index = make_balanced(options.workspace, options.clips, chunked=options.chunked)
    else:
        index = make_full(options.workspace, options.clips, chunked=options.chunked)
    print(f"{index}: {len(index.targets.classes)} labels")


def make_full(workspace: Path, clips: int = CLIPS, *, chunked: bool = False) -> ClipIndex:
    """Writes hdf5s/indexes/full_train.h5 and the waveforms files that it lists, whose waveforms are holes.

    Args:
      workspace: the folder.
      clips: how many; the balanced file gets about one in ninety, the others the rest in equal parts.
      chunked: whether each row is a chunk, as `panns-jax pack` writes them, or all rows lie in one piece, as the
        published packer does.
    """
    waveforms = workspace.absolute() / "hdf5s" / "waveforms"
    parts = [waveforms / "unbalanced_train" / f"unbalanced_train_part{number:02}.h5" for number in range(PARTS)]
    index = generated_index(
        workspace / "hdf5s" / "indexes" / "full_train.h5", clips, [waveforms / "balanced_train.h5", *parts]
    )
    for number, path in enumerate(index.files):
        _write_waveforms(path, index, np.flatnonzero(index.file_number == number), noise=False, chunked=chunked)
    write_index(index.path, index)
    return index


def make_balanced(workspace: Path, clips: int, *, chunked: bool = False) -> ClipIndex:
    """Writes hdf5s/waveforms/balanced_train.h5 of noise, and its index.

    Args:
      workspace: the folder.
      clips: how many.
      chunked: as for `make_full`.
    """
    path = workspace.absolute() / "hdf5s" / "waveforms" / "balanced_train.h5"
    index = generated_index(workspace / "hdf5s" / "indexes" / "balanced_train.h5", clips, [path])
    _write_waveforms(path, index, np.arange(clips), noise=True, chunked=chunked)
    write_index(index.path, index)
    return index


def generated_index(path: Path, clips: int, files: Sequence[Path], *, seed: int = 0) -> ClipIndex:
    """An index of AudioSet's names and class frequencies; nothing is written.

    Args:
      path: of the index.
      clips: how many.
      files: the waveforms files, of which the first is the balanced one where there are several.
      seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    sizes = _file_sizes(clips, len(files))
    return ClipIndex(
        path=path,
        audio_name=_names(clips, rng),
        targets=_targets(clips, rng),
        files=tuple(files),
        file_number=np.repeat(np.arange(len(files), dtype=np.int32), sizes),
        index_in_hdf5=np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
    )


def _file_sizes(clips: int, files: int) -> list[int]:
    """How many clips are in each file: of 2,063,839 in 42 files, 22,050, 50,000 in forty, and 41,789."""
    part = -(-clips * PART_CLIPS // CLIPS)
    rest = clips - (clips * 22_050 // CLIPS if files > 1 else 0)
    ends = np.minimum(np.arange(1, files) * part, rest)
    sizes = np.diff(ends, prepend=0).tolist()
    return [clips - sum(sizes), *sizes]


def _names(clips: int, rng: np.random.Generator) -> Shaped[np.ndarray, " clips"]:
    ids = _ALPHABET[rng.integers(0, len(_ALPHABET), (clips, _ID_LENGTH))].view(f"S{_ID_LENGTH}")[:, 0]
    listed = np.array(sorted(read_black_list(PUBLISHED_BLACK_LIST)), np.bytes_)
    listed = listed[: max(1, clips * len(listed) // CLIPS)]
    ids[rng.choice(clips, len(listed), replace=False)] = listed
    return np.strings.add(np.strings.add(b"Y", ids), b".wav").astype("S20")


def _targets(clips: int, rng: np.random.Generator) -> Targets:
    """Each class on as many clips as AudioSet's, and at least one class on each clip."""
    counts = np.maximum(1, np.round(np.array(audioset_train_clips()) * (clips / CLIPS))).astype(np.int64)
    classes = rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
    numbers = np.concatenate([rng.permutation(clips), rng.integers(0, clips, len(classes))])[: len(classes)]
    while True:  # a clip that was given a class twice gives it to another
        pairs = numbers * len(counts) + classes
        order = np.argsort(pairs, kind="stable")
        again = order[1:][np.diff(pairs[order]) == 0]
        if not len(again):
            break
        numbers[again] = rng.integers(0, clips, len(again))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(numbers, minlength=clips))])
    return Targets(len(counts), starts, classes[order])


def _write_waveforms(
    path: Path, index: ClipIndex, clips: Int[np.ndarray, " rows"], *, noise: bool, chunked: bool
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(clips), common.SECONDS * common.SAMPLE_RATE)
    with h5py.File(path, "w") as file:
        file["audio_name"] = index.audio_name[clips]
        file["target"] = index.targets.dense(clips)
        file.attrs["sample_rate"] = np.int32(common.SAMPLE_RATE)
        waveform = _allocated(file, shape, chunked=chunked)
        for start in range(0, len(clips), _BLOCK) if noise else ():
            rng = np.random.default_rng(start)
            block = (min(_BLOCK, len(clips) - start), shape[1])
            waveform[start : start + _BLOCK] = rng.integers(-(1 << 14), 1 << 14, block, dtype=np.int16)


def _allocated(file: h5py.File, shape: tuple[int, int], *, chunked: bool) -> h5py.Dataset:
    """A data set "waveform" that has its place in the file before anything is written there."""
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if chunked:
        made.set_chunk((1, shape[1]))
    return h5py.Dataset(
        h5py.h5d.create(file.id, b"waveform", h5py.h5t.NATIVE_INT16, h5py.h5s.create_simple(shape), made)
    )


if __name__ == "__main__":
    main()
