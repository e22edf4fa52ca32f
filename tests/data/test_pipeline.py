"""Batches read ahead by threads and processes."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from panns_jax.data.buffers import Places
from panns_jax.data.index import list_clips
from panns_jax.data.pipeline import evaluation_batches, to_float, training_batches
from panns_jax.data.sampling import make_sampler
from panns_jax.data.shared import can_share
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError

pytest.importorskip("grain")

CLIPS = 23


@pytest.fixture
def source(tmp_path, write_waveforms) -> ClipSource:
    names = [f"Yc{number}.wav" if number % 5 else None for number in range(CLIPS * 5 // 4 + 1)]
    return ClipSource(list_clips(write_waveforms(tmp_path / "x.h5", names, samples=32000)), 32000)


def take(source: ClipSource, count: int, *, start: int = 0, workers: int = 0) -> list[dict[str, np.ndarray]]:
    sampler = make_sampler("balanced", source.index.targets, seed=3, batch_rows=8)
    with training_batches(source, sampler, batch_rows=8, start=start, workers=workers) as batches:
        return [{name: np.array(values) for name, values in next(batches).items()} for _ in range(count)]


def assert_same(some: list[dict[str, np.ndarray]], others: list[dict[str, np.ndarray]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_batch_holds_its_samples(source):
    sampler = make_sampler("balanced", source.index.targets, seed=3, batch_rows=8)
    for number, batch in enumerate(take(source, 5)):
        clips = sampler.batch(np.arange(number * 8, number * 8 + 8))
        assert batch["waveform"].dtype == np.int16 and batch["waveform"].shape == (8, 32000)
        assert batch["target"].dtype == np.float32 and batch["target"].shape == (8, 527)
        np.testing.assert_array_equal(batch["waveform"], source.waveforms(clips))
        np.testing.assert_array_equal(batch["target"], source.index.target[clips])
        assert batch["audio_name"].tolist() == [source[clip]["audio_name"] for clip in clips]


def test_a_run_taken_up_gets_the_batches_that_would_have_followed(source):
    assert_same(take(source, 3, start=4), take(source, 7)[4:])


def test_batches_do_not_depend_on_the_number_of_workers(source):
    assert_same(take(source, 7, start=2, workers=2), take(source, 7, start=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_held_are_not_written_over(source, workers):
    sampler = make_sampler("balanced", source.index.targets, seed=3, batch_rows=8)
    with training_batches(source, sampler, batch_rows=8, workers=workers) as batches:
        held = [next(batches) for _ in range(40)]
        for number, batch in enumerate(held):
            expected = source.waveforms(sampler.batch(np.arange(number * 8, number * 8 + 8)))
            np.testing.assert_array_equal(batch["waveform"], expected)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (8, 0), (23, 0), (64, 0), (8, 1)])
def test_evaluation_passes_over_all_clips_once_in_order(source, batch_size, workers):
    with evaluation_batches(source, batch_size=batch_size, workers=workers) as batches:
        taken = [{name: np.array(values) for name, values in batch.items()} for batch in batches]
    assert len(taken) == -(-CLIPS // batch_size)
    assert all(len(values) == batch_size for batch in taken for values in batch.values())
    valid = np.concatenate([batch["valid"] for batch in taken])
    assert valid.tolist() == [True] * CLIPS + [False] * (len(valid) - CLIPS)
    waveform = np.concatenate([batch["waveform"] for batch in taken])
    np.testing.assert_array_equal(waveform[:CLIPS], source.waveforms(np.arange(CLIPS)))
    assert not waveform[CLIPS:].any()
    names = np.concatenate([batch["audio_name"] for batch in taken])
    assert names[:CLIPS].tolist() == [clip["audio_name"] for clip in source]


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_batches_that_are_held_are_not_written_over(source, workers):
    with evaluation_batches(source, batch_size=2, workers=workers) as batches:
        held = list(batches)
        waveforms = np.concatenate([batch["waveform"] for batch in held])
    np.testing.assert_array_equal(waveforms[:CLIPS], source.waveforms(np.arange(CLIPS)))
    assert not waveforms[CLIPS:].any()


@pytest.mark.skipif(not can_share(), reason="Linux alone can share memory that has no name")
def test_worker_processes_copy_no_waveforms_of_either_kind(source, monkeypatch):
    received = []
    monkeypatch.setattr(
        Places, "received", lambda places, filled, to=Places.received: received.append(filled) or to(places, filled)
    )
    sampler = make_sampler("none", source.index.targets, seed=3, batch_rows=8)
    with training_batches(source, sampler, batch_rows=8, workers=1) as batches:
        next(batches)
    with evaluation_batches(source, batch_size=8, workers=1) as batches:
        next(batches)
    assert [filled.shape for filled in received] == [(8, source.samples)] * 2


def test_processes_read_disjoint_rows_that_make_up_each_batch(source):
    sampler = make_sampler("balanced", source.index.targets, seed=3, batch_rows=8)
    parts = []
    for own in (slice(0, 4), slice(4, 8)):
        with training_batches(source, sampler, batch_rows=8, own=own) as batches:
            parts.append([{name: np.array(values) for name, values in next(batches).items()} for _ in range(3)])
    joined = [{name: np.concatenate([one[name], two[name]]) for name in one} for one, two in zip(*parts, strict=True)]
    assert_same(joined, take(source, 3))


def test_processes_evaluate_disjoint_rows_and_know_the_labels_of_all(source):
    parts = []
    for own in (slice(0, 4), slice(4, 8), slice(None)):
        with evaluation_batches(source, batch_size=8, own=own) as batches:
            parts.append([{name: np.array(values) for name, values in batch.items()} for batch in batches])
    for one, two, whole in zip(*parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([one["waveform"], two["waveform"]]), whole["waveform"])
        for name in ("target", "valid", "audio_name"):
            np.testing.assert_array_equal(one[name], whole[name])
            np.testing.assert_array_equal(two[name], whole[name])


def test_int16_becomes_float_full_scale_on_the_device():
    import jax

    waveform = np.array([[-32767, 0, 16384, 32767]], np.int16)
    expected = waveform.astype(np.float32) / 32767
    for convert in (to_float, jax.jit(to_float)):
        result = convert(waveform)
        assert isinstance(result, jax.Array) and result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_array_equal(to_float(expected), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_file_is_named(source, workers):
    source.index.files[0].unlink()
    with pytest.raises(InputError, match=r"x\.h5: cannot be read any more"):
        take(source, 1, workers=workers)


def test_fewer_than_no_workers_is_refused(source):
    with pytest.raises(InputError, match="--workers must be 0"):
        take(source, 1, workers=-1)


def test_closed_batches_have_ended(source):
    sampler = make_sampler("none", source.index.targets, seed=3, batch_rows=8)
    batches = training_batches(source, sampler, batch_rows=8)
    next(batches)
    batches.close()
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("grain-prefetch") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "threads outlived their batches"
        time.sleep(0.05)


def test_without_grain_the_extra_is_named(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(InputError, match=r'pip install "panns_jax\[train\]"'):
        take(source, 1)


RUN = """
    import os, signal, sys, time
    from panns_jax.data.index import list_clips
    from panns_jax.data.pipeline import training_batches
    from panns_jax.data.sampling import make_sampler
    from panns_jax.data.sources import ClipSource
    from panns_jax.errors import InputError

    def main():
        source = ClipSource(list_clips(sys.argv[1]), 32000)
        sampler = make_sampler("none", source.index.targets, seed=0, batch_rows=8)
        batches = training_batches(source, sampler, batch_rows=8, workers=int(sys.argv[2]))
        for _ in range(3):
            next(batches)
        print("reading", flush=True)
        if sys.argv[3] == "leave":
            return
        if sys.argv[3] == "close":
            return batches.close()
        try:
            for batch in batches:
                time.sleep(0.01)
        except InputError as error:
            sys.exit(str(error))

    if __name__ == "__main__":
        main()
"""


@pytest.fixture
def run(tmp_path, source):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))

    started: list[subprocess.Popen[str]] = []

    def start(workers: int, end: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, script, source.index.path, str(workers), end],
            **dict.fromkeys(("stdout", "stderr"), subprocess.PIPE),
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # all of its session has ended, as it should
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("end", ["close", "leave"])
def test_a_process_that_has_read_ends_at_once_and_silently(run, workers, end):
    process = run(workers, end)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "reading\n", "")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_cut_while_it_is_read_is_one_clear_error(run, source, workers):
    process = run(workers, "go on")
    assert process.stdout.readline() == "reading\n"
    os.truncate(source.index.files[0], 100_000)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[0] == f"{source.index.files[0]}: has become shorter than it was"
    assert "Traceback" not in errors


def workers_of(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if "spawn_main" in line]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_worker_processes_end_with_the_one_they_read_for(run, how):
    process = run(2, "go on")
    assert process.stdout.readline() == "reading\n"
    workers = workers_of(process.pid)
    assert len(workers) == 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlived their master"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_worker_process_that_is_killed_is_one_clear_error(run):
    process = run(2, "go on")
    assert process.stdout.readline() == "reading\n"
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        errors.splitlines()[0].startswith("a worker process that reads batches has died") and "Traceback" not in errors
    )
