"""Rows of waveforms files read from the system's cache: int16 and FLAC, by threads and by worker processes.

    python scripts/bench/bench_rows.py [--rounds 7] [--clips 256] [--audios FOLDER] [--workers 2] [--json FILE]

Batches of 64 clips of ten seconds. The other side is a bare loop of os.preadv over the rows of the int16 file, one
thread. Both files hold the same clips: of the sound files in --audios, or else made up (noise of several colours and
levels with tones, some of it padded with silence). Tells how large the FLAC file is beside the other, too.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import common
import machine
import table
import turns

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.data.sources import ClipSource

_ROWS = 64
_TIMED = 6  # batches in a turn
# More than any side has read ahead: taken first and not timed, so that a turn lives off nothing read before it.
_AHEAD = 10
_BARE = "os.preadv"
_SAMPLES = common.SECONDS * common.SAMPLE_RATE

Batches = Callable[[int], None]
"""Reads so many batches."""


def main() -> None:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--clips", type=common.at_least_one, default=256, help="clips in each file (%(default)s)")
    parser.add_argument("--audios", type=Path, help="folder of sound files to pack, instead of made-up sound")
    parser.add_argument("--workers", type=common.at_least_one, default=2, help="threads, or processes (%(default)s)")
    options = parser.parse_args()
    common.require("grain")
    described = machine.describe(tuned=False)
    machine.print_header(f"Batches of {_ROWS} clips of {common.SECONDS} s", described)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {encoding: folder / f"{encoding}.h5" for encoding in ("int16", "flac")}
        clips = list(_recorded(options.audios, options.clips) if options.audios else _made_up(options.clips))
        for encoding, path in files.items():
            _write(path, encoding, clips)
        del clips
        sides = _sides(files, options.workers, stack)
        timings = _in_turns(sides, options.rounds)
        share = files["flac"].stat().st_size / files["int16"].stat().st_size
    what = f"{_TIMED} batches of {_ROWS} clips"
    rows = [table.Row(what, name, timing, None, "") for name, timing in timings.items()]
    compared = table.ratios(rows, {})
    print(table.table(rows, compared))
    for row in rows:
        print(f"  {row.engine:<42} {_TIMED * _ROWS / row.timing.median:>10,.0f} clips/s")
    print(f"\nthe FLAC file takes {share:.2f} of the room of the int16 file")
    table.write_json(options.json, described | {"flac_size": share}, rows, compared)


def _sides(files: dict[str, Path], workers: int, stack: contextlib.ExitStack) -> dict[str, Batches]:
    from panns_jax.data.index import list_clips
    from panns_jax.data.pipeline import training_batches
    from panns_jax.data.sampling import make_sampler
    from panns_jax.data.sources import ClipSource

    sides: dict[str, Batches] = {_BARE: _bare_loop(files["int16"])}
    for encoding, path in files.items():
        index = list_clips(path)
        source = ClipSource(index, common.SAMPLE_RATE)
        for threads in sorted({1, workers}):
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            sides[f"{table.OURS} {encoding}, {_counted(threads, 'thread')}"] = _by_threads(source, pool)
        sampler = make_sampler("none", index.targets, seed=0, batch_rows=_ROWS)
        batches = stack.enter_context(training_batches(source, sampler, batch_rows=_ROWS, workers=workers))
        sides[f"{table.OURS} {encoding}, {_counted(workers, 'process')}"] = _by_pipeline(batches)
    return sides


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def _bare_loop(path: Path) -> Batches:
    import h5py
    import numpy as np

    with h5py.File(path) as file:
        waveform = file["waveform"]
        assert isinstance(waveform, h5py.Dataset)
        begins: list[int] = []
        waveform.id.chunk_iter(lambda chunk: begins.append(chunk.byte_offset))
    descriptor = os.open(path, os.O_RDONLY)

    def read(batches: int) -> None:
        row = np.random.default_rng(0)
        for _ in range(batches):
            out = np.empty((_ROWS, _SAMPLES), np.int16)
            for place, number in enumerate(row.integers(len(begins), size=_ROWS)):
                os.preadv(descriptor, [out[place]], begins[number])

    return read


def _by_threads(source: "ClipSource", pool: ThreadPoolExecutor) -> Batches:
    import numpy as np

    def read(batches: int) -> None:
        clips = np.random.default_rng(0).integers(len(source), size=(batches, _ROWS))
        for _ in pool.map(source.waveforms, clips):
            pass

    return read


def _by_pipeline(batches: Iterator[object]) -> Batches:
    def read(count: int) -> None:
        for _ in range(count):
            next(batches)

    return read


def _in_turns(sides: dict[str, Batches], rounds: int) -> dict[str, turns.Timing]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            sides[name](_AHEAD)
            begun = time.perf_counter()
            sides[name](_TIMED)
            seconds[name].append(time.perf_counter() - begun)
            time.sleep(1)  # in which what reads ahead has done so and is quiet
    return {name: turns.Timing(tuple(taken)) for name, taken in seconds.items()}


def _write(path: Path, encoding: str, clips: "list[np.ndarray]") -> None:
    import h5py

    from panns_jax.data.metadata import Segment
    from panns_jax.data.row_writer import RowFormat, write_labels

    rows_format = RowFormat(common.SAMPLE_RATE, _SAMPLES, "flac" if encoding == "flac" else "int16")
    with h5py.File(path, "w") as file:
        writer = rows_format.writer(file)
        for clip in clips:
            writer.append(rows_format.encode(clip))
        writer.finish()
        write_labels(file, [Segment(str(number), 0, 10, (number % 527,)) for number in range(len(clips))])


def _recorded(folder: Path, count: int) -> "Iterator[np.ndarray]":
    """Clips of the sound files below a folder, cut one after another, again and again."""
    import numpy as np

    from panns_jax.audio import read_waveform
    from panns_jax.data.sounds import to_int16
    from panns_jax.errors import InputError

    sounds = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(InputError):
            sounds.append(read_waveform(path, common.SAMPLE_RATE))
    if not sounds:
        raise SystemExit(f"{folder} holds no sound file that can be read")
    whole = to_int16(np.concatenate(sounds))
    for number in range(count):
        yield np.take(whole, np.arange(number * _SAMPLES, (number + 1) * _SAMPLES), mode="wrap")


def _made_up(count: int) -> "Iterator[np.ndarray]":
    import numpy as np

    sys.path.append(str(common.ROOT / "scripts"))
    from demo_sounds import coloured_noise

    from panns_jax.data.sounds import to_int16

    rng = np.random.default_rng(0)
    time_line = np.arange(_SAMPLES) / common.SAMPLE_RATE
    for _ in range(count):
        noise = coloured_noise(rng, _SAMPLES, common.SAMPLE_RATE, rng.uniform(0, 6))
        tones = sum(np.sin(2 * np.pi * k * rng.uniform(100, 500) * time_line) / k for k in range(1, 8))
        sound = noise / np.abs(noise).max() * 10 ** rng.uniform(-2, -0.3) + tones * 10 ** rng.uniform(-3, -1)
        if rng.random() < 0.1:
            sound[int(rng.uniform(0.2, 0.9) * _SAMPLES) :] = 0
        yield to_int16(sound.astype(np.float32))


if __name__ == "__main__":
    main()
