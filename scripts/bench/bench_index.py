"""The index of all of AudioSet: how long it takes to open, in how much memory, and how fast samples are drawn.

    python scripts/bench/bench_index.py [--rounds 5] [--workspace FOLDER] [--json FILE]

An index of 2,063,839 clips and the 42 waveforms files that it lists are made first, 2.5 GB in the folder for temporary
files, or taken from --workspace, as `make_workspace.py FOLDER` made it. It is opened in processes of their own, once
from disk and then from the system's cache, and by two worker processes of the pipeline, whose memory is compared with
that of workers on a small index. Memory is told where there is Linux.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import limits
import machine
import table

if TYPE_CHECKING:
    from panns_jax.data.sampling import Sampler

_WORKERS = 2
_SMALL = 1000  # clips
_SECONDS = 0.5  # of drawing samples, at least
_OPEN_LIMIT, _PEAK_LIMIT, _RATE_LIMIT, _MAKE_LIMIT = 15, 1500, 200_000, 60

_OPEN = """
import json, sys, time
from pathlib import Path
from panns_jax.data.index import read_index
from panns_jax.data.sources import ClipSource

begun = time.perf_counter()
index = read_index(sys.argv[1])
opened = time.perf_counter()
ClipSource(index, 32000)
checked = time.perf_counter()
status = Path("/proc/self/status")
peak = [line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line] if status.exists() else []
print(json.dumps([opened - begun, checked - opened, *(int(kilobytes) / 1024 for kilobytes in peak)]))
"""


def main() -> None:
    parser = common.parser(__doc__ or "", rounds=5)
    parser.add_argument("--workspace", type=_workspace, help="of make_workspace.py, instead of a new one")
    options = parser.parse_args()
    common.require("grain")
    described = machine.describe(tuned=False)
    machine.print_header("The index of 2,063,839 clips", described)
    figures: list[limits.Limited] = []
    with _workspaces(options.workspace, figures) as (full, small):
        figures += _opening(full, options.rounds)
        figures += _drawing(full, options.rounds)
        figures += _workers(full, small)
    print(f"\n{limits.lines(figures)}", flush=True)
    table.write_json(options.json, described, figures)


def _workspace(text: str) -> Path:
    index = Path(text) / "hdf5s" / "indexes" / "full_train.h5"
    if not index.is_file():
        raise argparse.ArgumentTypeError(f"there is no {index}; make_workspace.py makes it")
    return Path(text)


@contextlib.contextmanager
def _workspaces(given: Path | None, figures: list[limits.Limited]) -> Iterator[tuple[Path, Path]]:
    """The index files of a full and of a small workspace; where none is given, what making it took goes to figures."""
    from make_workspace import make_full

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full = given or folder / "full"
        if given is None:
            begun = time.perf_counter()
            make_full(full)
            figures.append(limits.Limited("making it", time.perf_counter() - begun, "s", limit=_MAKE_LIMIT))
        make_full(folder / "small", _SMALL)
        indexes = Path("hdf5s", "indexes", "full_train.h5")
        yield full / indexes, folder / "small" / indexes


def _opening(index: Path, rounds: int) -> list[limits.Limited]:
    _forget(index)
    cold = _opened(index)
    warm = [_opened(index) for _ in range(rounds)]
    opened, checked, *peak = (statistics.median(values) for values in zip(*warm, strict=True))
    figures = [
        limits.Limited("opening it from disk", cold[0], "s", limit=_OPEN_LIMIT),
        limits.Limited("opening it from the system's cache", opened, "s", limit=_OPEN_LIMIT),
        limits.Limited("comparing it with the 42 waveforms files", checked, "s"),
    ]
    return figures + [
        limits.Limited("peak of the process's memory", megabytes, "MB", limit=_PEAK_LIMIT) for megabytes in peak
    ]


def _forget(path: Path) -> None:
    """Has the system's cache let go of a file."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _opened(index: Path) -> list[float]:
    """Seconds to read and to check it in a process of its own, and the most memory that this had, MB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(common.ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", _OPEN, index], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def _drawing(path: Path, rounds: int) -> list[limits.Limited]:
    from panns_jax.data.index import read_index
    from panns_jax.data.metadata import PUBLISHED_BLACK_LIST, read_black_list
    from panns_jax.data.sampling import Balance, make_sampler

    index = read_index(path)
    excluded = index.listed(read_black_list(PUBLISHED_BLACK_LIST))
    figures = []
    balances: tuple[Balance, ...] = ("none", "balanced", "alternate")
    for balance in balances:
        begun = time.perf_counter()
        sampler = make_sampler(balance, index.targets, seed=0, batch_rows=64, excluded=excluded)
        figures.append(limits.Limited(f"making the sampler, {balance}", time.perf_counter() - begun, "s"))
        for rows in (64, 4096):
            rate = statistics.median(_rate(sampler, rows) for _ in range(rounds))
            what = f"samples, {balance}, {rows} at a time"
            figures.append(limits.Limited(what, rate, "samples/s", "at least", _RATE_LIMIT))
    return figures


def _rate(sampler: "Sampler", rows: int) -> float:
    import numpy as np

    drawn = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < _SECONDS:
        sampler.batch(np.arange(drawn, drawn + rows))
        drawn += rows
    return drawn / (time.perf_counter() - begun)


def _workers(full: Path, small: Path) -> list[limits.Limited]:
    """What a worker process needs for the full index beyond what one needs for a small one."""
    if not Path("/proc/self/smaps_rollup").exists():
        return []
    first, second = _worker_memory(full), _worker_memory(small)
    return [
        limits.Limited("memory of a worker process, its share of what is shared", first["Pss"], "MB"),
        limits.Limited("of this, for the index", first["Pss"] - second["Pss"], "MB"),
        limits.Limited("of this, its own", first["Anonymous"] - second["Anonymous"], "MB"),
    ]


def _worker_memory(path: Path) -> dict[str, float]:
    """Megabytes of a worker process that has read many batches: the mean over the workers."""
    from panns_jax.data.index import read_index
    from panns_jax.data.pipeline import training_batches
    from panns_jax.data.sampling import make_sampler
    from panns_jax.data.sources import ClipSource

    index = read_index(path)
    sampler = make_sampler("balanced", index.targets, seed=0, batch_rows=4)
    before = _children()
    with training_batches(ClipSource(index, common.SAMPLE_RATE), sampler, batch_rows=4, workers=_WORKERS) as batches:
        for _ in range(500):
            next(batches)
        found = [_rollup(pid) for pid in _children() - before]
    workers = [memory for memory in found if memory["Pss"] > 30]  # Python's own helper process is smaller
    return {name: statistics.mean(memory[name] for memory in workers) for name in ("Pss", "Anonymous")}


def _children() -> set[int]:
    parts = Path("/proc/self/task").glob("*/children")
    return {int(pid) for part in parts for pid in part.read_text().split()}


def _rollup(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields: dict[str, Any] = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)}
    return {name: int(kilobytes) / 1024 for name, kilobytes in fields.items()}


if __name__ == "__main__":
    main()
