"""Waveforms of labelled clips, decoded once where they fit into memory, and ahead of their use."""

import collections
import contextlib
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.execute import available_workers

CACHE_BYTES = 2 << 30
"""What decoded waveforms may take of memory, by default: 2 GB, which is 4½ hours at 32 kHz."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Decoded:
    """The waveforms of a set at a sample rate; those that fit are kept, and not read again. For any thread.

    Attributes:
      labelled: the clips.
      sample_rate: samples per second.
    """

    def __init__(self, labelled: LabelledSet, sample_rate: int, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Nothing is read yet.

        Args:
          labelled: the clips.
          sample_rate: samples per second.
          cache_bytes: what kept waveforms may take of memory; once it is full, the others are read each time.
        """
        self.labelled = labelled
        self.sample_rate = sample_rate
        self._left = cache_bytes
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def waveform(self, row: int) -> Float[np.ndarray, " samples"]:
        """The whole clip in a row of the set, which must not be written to.

        Raises:
          InputError: it cannot be read; the message begins with its name.
        """
        if (kept := self._kept.get(row)) is not None:
            return kept
        waveform = self.labelled.clips[row].sound.waveform(self.sample_rate)
        waveform.setflags(write=False)
        with self._lock:
            if row not in self._kept and waveform.nbytes <= self._left:
                self._left -= waveform.nbytes
                self._kept[row] = waveform
        return waveform

    def each(self, rows: Int[np.ndarray, " rows"], *, workers: int | None = None) -> Generator[Float[np.ndarray, "_"]]:
        """The waveforms of some rows in order, read ahead by threads; a few of them are in memory at a time.

        Raises:
          InputError: one cannot be read, when its turn comes.
        """
        return ahead(self.waveform, rows.tolist(), workers=workers)


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Generator[Result]:
    """Applies a function to items by threads, some items ahead of whoever takes the results; in the order of the items.

    The threads end with the iterator (`close`), or with its last result.

    Args:
      function: for any thread.
      items: as many as there are, without end too.
      workers: number of threads; by default as many as there are processor cores.

    Raises:
      Exception: what the function raised, when the turn of that item comes.
    """
    workers = workers or available_workers()
    pool = ThreadPoolExecutor(workers)
    waiting: collections.deque[Future[Result]] = collections.deque()
    with contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, cancel_futures=True)
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
