"""Batches of clips, read ahead by threads or worker processes (grain), in an order that depends on neither."""

import contextlib
import dataclasses
import math
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Shaped

from panns_jax.data.buffers import Buffers, Filled, Places, Shape
from panns_jax.data.sampling import Sampler
from panns_jax.data.shared import Shared, can_share
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError, require_extra
from panns_jax.execute import available_workers

if TYPE_CHECKING:
    import jax

Batch = dict[str, np.ndarray]

_ENDLESS = 1 << 62
_ALL = slice(None)
# Batches that wait, read ahead; each may be 40 MB.
_AHEAD = 4
_AHEAD_PER_WORKER = 2
# A worker's batches that wait in its queue and in the reader's, those that it is at, and some that are in use.
_PLACES_PER_WORKER = 2 * _AHEAD_PER_WORKER + 6
# Arrays from here on travel from worker processes in shared memory.
_SHARED_BYTES = 1 << 16


class Batches(Iterator[Batch]):
    """Batches read ahead in the background; `close` or leaving `with` ends the threads and processes that read."""

    def __init__(self, batches: "BatchList", *, start: int, workers: int) -> None:
        self._places = batches.places if isinstance(batches, _PlacedBatches) else None
        # The one reference to grain's iterator, so that it is gone once it is closed: what of it lasts until the
        # interpreter takes its modules apart complains then. A finalizer runs before that.
        self._held: list[Any] = [iter(_dataset(batches, start, workers))]
        self._end = weakref.finalize(self, _close, self._held)

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
          InputError: a waveforms file cannot be read any more, or a worker process died.
        """
        if not self._held:
            raise StopIteration
        try:
            batch = next(self._held[0])
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            died = "a worker process that reads batches has died, as happens when memory (or /dev/shm) runs out"
            raise InputError(f"{died}; try fewer --workers") from error
        waveform = batch["waveform"]
        if self._places is not None and isinstance(waveform, Filled):
            batch["waveform"] = self._places.received(waveform)
        return batch

    def close(self) -> None:
        """Ends the background work, and the batches."""
        self._end()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def training_batches(
    source: ClipSource,
    sampler: Sampler,
    *,
    batch_rows: int,
    start: int = 0,
    workers: int = 0,
    own: slice = _ALL,
) -> Batches:
    """Endless batches of a training run: batch i holds the samples i * batch_rows … (i + 1) * batch_rows - 1.

    Args:
      source: the clips.
      sampler: which clip each sample is.
      batch_rows: clips in a batch.
      start: number of the first batch; the same batch follows, wherever a run is taken up.
      workers: processes that read; 0 reads by threads of this process, which is as fast for plain rows and takes less
        memory. The batches are the same.
      own: the rows of each batch that are read, where other processes of the run read the others.

    Returns:
      Batches of "waveform" (rows, samples) int16 or float32, "target" (rows, classes) float32 of 0 and 1, and
      "audio_name" (rows,) str.
    """
    batches = _TrainingBatches(source, sampler, batch_rows, own)
    return Batches(_placed(batches, workers), start=start, workers=workers)


def evaluation_batches(source: ClipSource, *, batch_size: int, workers: int = 0, own: slice = _ALL) -> Batches:
    """All clips once, in order; the last batch is filled up with silence to `batch_size`.

    Args:
      source: the clips.
      batch_size: clips in a batch.
      workers: processes that read; 0 reads by threads.
      own: the rows of each batch whose waveforms are read, where other processes of the run read the others.

    Returns:
      Batches as `training_batches` gives, with "valid" (rows,) bool, False for what was filled up. All but "waveform"
      tell of the whole batch in any case, as the index has it.
    """
    return Batches(_placed(_EvaluationBatches(source, batch_size, own), workers), start=0, workers=workers)


def to_float(waveform: "jax.Array | Shaped[np.ndarray, '...']") -> "jax.Array":
    """int16 to float32 in [-1, 1], full scale ±32767; float32 as it is. Meant for the device, inside `jit`."""
    import jax.numpy as jnp

    waveform = jnp.asarray(waveform)
    return waveform.astype(jnp.float32) / 32767.0 if waveform.dtype == jnp.int16 else waveform


@dataclasses.dataclass(frozen=True, eq=False)
class _TrainingBatches:
    source: ClipSource
    sampler: Sampler
    batch_rows: int
    own: slice
    buffers: Buffers = dataclasses.field(default_factory=Buffers)

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: SupportsIndex) -> Batch:
        return self.read(index.__index__(), self.buffers.empty(self.shape, self.source.dtype))

    @property
    def shape(self) -> Shape:
        """That of the waveforms of a batch."""
        return len(range(self.batch_rows)[self.own]), self.source.samples

    def read(self, number: int, out: Shaped[np.ndarray, "rows samples"]) -> Batch:
        """A batch, its waveforms in `out`."""
        first = number * self.batch_rows
        clips = self.sampler.batch(np.arange(first, first + self.batch_rows)[self.own])
        batch = self.source.batch(clips, out=out)
        targets: Float[np.ndarray, "rows classes"] = batch["target"].astype(np.float32)
        return {**batch, "target": targets}


@dataclasses.dataclass(frozen=True, eq=False)
class _EvaluationBatches:
    source: ClipSource
    batch_size: int
    own: slice
    buffers: Buffers = dataclasses.field(default_factory=Buffers)

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def __getitem__(self, index: SupportsIndex) -> Batch:
        return self.read(index.__index__(), self.buffers.empty(self.shape, self.source.dtype))

    @property
    def shape(self) -> Shape:
        """That of the waveforms of a batch."""
        return len(range(self.batch_size)[self.own]), self.source.samples

    def read(self, number: int, out: Shaped[np.ndarray, "rows samples"]) -> Batch:
        """A batch, its waveforms in `out`."""
        first = number * self.batch_size
        clips = np.arange(first, min(first + self.batch_size, len(self.source)))
        own = np.arange(first, first + self.batch_size)[self.own]
        there = own[own < len(self.source)]
        self.source.waveforms(there, out=out[: len(there)])
        out[len(there) :] = 0
        batch = self.source.labels(clips) | {"valid": np.ones(len(clips), bool)}
        batch["target"] = batch["target"].astype(np.float32)
        return {"waveform": out, **{name: _filled(rows, self.batch_size) for name, rows in batch.items()}}


def _filled(rows: np.ndarray, count: int) -> np.ndarray:
    missing = count - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows


@dataclasses.dataclass(frozen=True, eq=False)
class _PlacedBatches:
    """The same in a worker process, which fills places with the waveforms and hands over which: nothing is copied."""

    batches: _TrainingBatches | _EvaluationBatches
    places: Places
    workers: int

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        number = index.__index__()
        filled = self.places.claim(number % self.workers, self.batches.shape, self.batches.source.dtype)
        if filled is None:  # many batches are held at once; grain copies this one
            return self.batches[number]
        try:
            batch = self.batches.read(number, self.places.array(filled))
        except BaseException:
            self.places.free(filled)
            raise
        return {**batch, "waveform": filled}


def _placed(batches: _TrainingBatches | _EvaluationBatches, workers: int) -> "BatchList":
    """By worker processes that hand over what they fill, where there are such processes and this system can."""
    if workers < 1 or not can_share():
        return batches
    size = math.prod(batches.shape) * batches.source.dtype.itemsize
    return _PlacedBatches(batches, Places(groups=workers, in_each=_PLACES_PER_WORKER, size=size), workers)


def _close(held: list[Any]) -> None:
    held.pop().close()


BatchList = _TrainingBatches | _PlacedBatches | _EvaluationBatches


def _dataset(batches: BatchList, start: int, workers: int) -> Any:
    require_extra("reading batches", "train", "grain")
    import grain

    if workers < 0:
        raise InputError(f"--workers must be 0 (threads only) or more, not {workers}")
    dataset = grain.MapDataset.source(batches)[start:]
    if not workers:
        threads = min(available_workers(), _AHEAD)
        return dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD))
    _mark_flags_parsed()
    dataset = grain.MapDataset.source(Shared(batches))[start:]
    each = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
    options = grain.experimental.DatasetOptions(min_shm_size=_SHARED_BYTES)
    return grain.experimental.WithOptionsIterDataset(each, options).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD_PER_WORKER),
        worker_init_fn=_begin_worker,
    )


def _mark_flags_parsed() -> None:
    # grain 0.2.17 and 0.2.18 read a flag of absl when they start processes, which fails outside of absl's main.
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _begin_worker(index: int, count: int) -> None:
    """Makes a worker process of grain end when the process that started it does, in whatever way."""
    del index, count
    with contextlib.suppress(ValueError):  # no main thread, no signals
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
