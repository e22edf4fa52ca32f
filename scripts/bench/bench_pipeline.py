"""Batches of 64 clips of ten seconds, beside the published way to load them and a bare loop that reads the rows.

    python scripts/bench/bench_pipeline.py [--rounds 7] [--index INDEX.h5] [--workers 2] [--json FILE] [--no-tune]

The peer is PyTorch's DataLoader with a data set that opens the HDF5 file for every clip, in as many worker processes;
ours reads by threads, as is the default, and by worker processes. All read the same rows of the same file, in the same
order, from the system's cache: 2,000 clips of noise, 1.3 GB in the folder for temporary files, unless --index names an
index of one's own. Where its waveforms do not lie in one piece, as where they are compressed, ours alone are measured.
Then each of ours feeds a consumer that takes 30 ms for a batch, as a training step on a GPU would, and the share of the
time that it waits is told.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import common
import limits
import machine
import table
import turns

if TYPE_CHECKING:
    from panns_jax.data.index import ClipIndex
    from panns_jax.data.sampling import Sampler

_ROWS = 64
_CLIPS = 2000
_PEER, _BARE = "PyTorch DataLoader", "os.pread"
# Ours over theirs: a third of the published way's time, and by threads 40 % of the bare loop's speed.
_PEER_AIM, _BARE_AIM = 1 / 3, 2.5
_TIMED = 32  # batches in a turn
# More than any side reads ahead: not timed, they are taken first, so that a turn lives off nothing read before it.
_AHEAD = 16
# Seconds in which what reads ahead has done so and is quiet.
_REST = 1.0
_CONSUMED_IN, _CONSUMED = 0.030, 100
_WAIT_LIMIT = 5.0


def main() -> None:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--index", type=Path, help="an index file of one waveforms file, instead of one of noise")
    parser.add_argument("--workers", type=common.at_least_one, default=2, help="worker processes (%(default)s)")
    common.add_no_tune(parser)
    options = parser.parse_args()
    tuned = common.tune(options)
    common.require("grain")
    described = machine.describe(tuned=tuned)
    machine.print_header(
        f"Batches of {_ROWS} clips of {common.SECONDS} s, {options.workers} worker processes", described
    )
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(_index(options.index))
        sides, ours = _sides(index, options.workers, stack)
        taken = _in_turns(sides, options.rounds)
        waits = {name: _share_waited(batches) for name, batches in ours.items()}
    rows = [
        table.Row("batch of 64 clips", name, timing, None, "", details={"clips_per_second": _ROWS / timing.median})
        for name, timing in taken.items()
    ]
    aims = {**{(name, _PEER): _PEER_AIM for name in ours}, (table.OURS, _BARE): _BARE_AIM}
    compared = table.ratios(rows, aims)
    print(table.table(rows, compared))
    for row in rows:
        print(f"  {row.engine:<36} {row.details['clips_per_second']:,.0f} clips/s")
    figures = [
        limits.Limited(f"{name}: 30 ms a batch, share of the time waited", share, "%", limit=_WAIT_LIMIT)
        for name, share in waits.items()
    ]
    print(f"\n{limits.lines(figures)}", flush=True)
    table.write_json(options.json, described, [*rows, *figures], compared)


@contextlib.contextmanager
def _index(path: Path | None) -> "Iterator[ClipIndex]":
    """The index that is named, or that of a workspace of noise, removed in the end."""
    from panns_jax.data.index import read_index
    from panns_jax.errors import InputError

    if path is not None:
        try:
            yield read_index(path)
        except InputError as error:
            sys.exit(str(error))
        return
    from make_workspace import make_balanced

    with tempfile.TemporaryDirectory() as folder:
        yield make_balanced(Path(folder), _CLIPS)


def _sides(
    index: "ClipIndex", workers: int, stack: contextlib.ExitStack
) -> tuple[dict[str, Callable[[int], None]], dict[str, Iterator[Any]]]:
    """What reads some batches, by engine; and those of ours."""
    from panns_jax.data.pipeline import training_batches
    from panns_jax.data.sampling import make_sampler
    from panns_jax.data.sources import ClipSource

    source = ClipSource(index, common.SAMPLE_RATE)
    sampler = make_sampler("balanced", index.targets, seed=0, batch_rows=_ROWS)
    ours = {
        name: stack.enter_context(training_batches(source, sampler, batch_rows=_ROWS, workers=count))
        for name, count in ((table.OURS, 0), (f"{table.OURS}, {workers} workers", workers))
    }
    iterators: dict[str, Iterator[Any]] = {**ours}
    place = _place(index)
    if place is None:
        print(f"{index.files[0]}: its waveforms do not lie in one piece; {_PEER} and {_BARE} are left out")
    else:
        common.require("torch")
        import published_loader

        iterators[_PEER] = published_loader.batches(index, sampler, batch_rows=_ROWS, workers=workers)
        iterators[_BARE] = _bare(index, sampler, place)

    def reader(batches: Iterator[Any]) -> Callable[[int], None]:
        def read(count: int) -> None:
            for _ in range(count):
                next(batches)

        return read

    _require_same(iterators)
    return {name: reader(batches) for name, batches in iterators.items()}, dict(ours)


class _Place(NamedTuple):
    """Where the rows of a waveforms file lie: at which byte they begin, and how many each has."""

    begin: int
    row_bytes: int


def _place(index: "ClipIndex") -> _Place | None:
    """That of the index's one file; None where its rows do not lie in one piece."""
    import h5py

    if len(index.files) != 1:
        sys.exit(f"{index.path}: lists clips of {len(index.files)} waveforms files; name an index of one")
    with h5py.File(index.files[0], "r") as file:
        waveform: Any = file.get("waveform")
        if waveform is None or waveform.chunks or waveform.id.get_offset() is None:
            return None
        return _Place(waveform.id.get_offset(), waveform.shape[1] * waveform.dtype.itemsize)


def _bare(index: "ClipIndex", sampler: "Sampler", place: _Place) -> "Iterator[list[bytes]]":
    """The rows of the first batch; of the others, none: each row is let go before the next is read."""
    import numpy as np

    descriptor = os.open(index.files[0], os.O_RDONLY)
    first = 0
    while True:
        clips = index.index_in_hdf5[sampler.batch(np.arange(first, first + _ROWS))].tolist()
        rows = []
        for clip in clips:
            row = os.pread(descriptor, place.row_bytes, place.begin + clip * place.row_bytes)
            if not first:
                rows.append(row)
        yield rows
        first += _ROWS


def _require_same(iterators: dict[str, Iterator[Any]]) -> None:
    """Sees to it that the first batch of all is the same."""
    import numpy as np

    firsts = {name: next(batches) for name, batches in iterators.items()}
    bare = firsts.pop(_BARE, None)
    ours = np.asarray(firsts[table.OURS]["waveform"])
    rows = ours if bare is None else np.stack([np.frombuffer(row, ours.dtype) for row in bare])
    for name, batch in firsts.items():
        waveform = np.asarray(batch["waveform"])
        expected = rows if waveform.dtype == rows.dtype else (rows / 32767.0).astype(np.float32)
        if not np.array_equal(waveform, expected):
            sys.exit(f"{name} reads other waveforms than the others")


def _in_turns(sides: dict[str, Callable[[int], None]], rounds: int) -> dict[str, turns.Timing]:
    """Seconds for a batch; as `turns.in_turns`, but a side reads ahead, which must not cost the others nor gain it."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            time.sleep(_REST)
            sides[name](_AHEAD)
            begun = time.perf_counter()
            sides[name](_TIMED)
            if turn:  # the first is to warm up
                seconds[name].append((time.perf_counter() - begun) / _TIMED)
    return {name: turns.Timing(tuple(values)) for name, values in seconds.items()}


def _share_waited(batches: Iterator[Any]) -> float:
    """Per cent of the time that a consumer waits for batches: median over five runs of some hundred batches."""
    shares = []
    for _ in range(5):
        waited = 0.0
        begun = time.perf_counter()
        for _ in range(_CONSUMED):
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
            time.sleep(_CONSUMED_IN)
        shares.append(100 * waited / (time.perf_counter() - begun))
    return statistics.median(shares)


if __name__ == "__main__":
    main()
