"""Sounds read by threads, ahead of who hears them."""

import collections
import threading
from collections.abc import Generator, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from panns_jax.infer.sources import Source

Block = Float[np.ndarray, "_"]

# Seconds of sound that wait, beyond which none is begun to be read; and of one sound, beyond which it is not read on.
_WAITING = 300.0
_OF_ONE = 60.0


class _Read:
    """The blocks of one sound that wait."""

    def __init__(self) -> None:
        self.blocks: collections.deque[Block] = collections.deque()
        self.samples = 0
        self.is_read = False
        self.failure: BaseException | None = None


class Reader:
    """Reads sounds by threads, in their order; some minutes of sound wait at most, however long the sounds are.

    >>> with contextlib.closing(Reader(sources, sample_rate, threads=2)) as reader:
    ...     for source in sources:
    ...         for block in reader.blocks(): ...

    Args:
      sources: the sounds.
      sample_rate: samples per second of what is read.
      threads: how many sounds are read at a time.
    """

    def __init__(self, sources: Sequence[Source], sample_rate: int, *, threads: int) -> None:
        self._sources = sources
        self._sample_rate = sample_rate
        self._changed = threading.Condition()
        self._read: dict[int, _Read] = {}
        self._begun = self._taken = 0
        self._waiting = 0
        self._is_closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(threads, len(sources)))]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def blocks(self) -> Iterator[Block]:
        """The blocks of the next sound; to be read to their end before the next call, or given up.

        Raises:
          InputError: the sound cannot be read.
        """
        number, self._taken = self._taken, self._taken + 1
        return self._blocks(number)

    def _blocks(self, number: int) -> Generator[Block, None, None]:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: number in self._read and self._has_news(self._read[number]))
                    read = self._read[number]
                    if not read.blocks:
                        if read.failure is not None:
                            raise read.failure
                        return
                    block = read.blocks.popleft()
                    read.samples -= len(block)
                    self._waiting -= len(block)
                    self._changed.notify_all()
                yield block
        finally:
            with self._changed:
                self._waiting -= self._read.pop(number).samples if number in self._read else 0
                self._changed.notify_all()

    @staticmethod
    def _has_news(read: _Read) -> bool:
        return bool(read.blocks) or read.is_read

    def _work(self) -> None:
        while (begun := self._begin()) is not None:
            number, read = begun
            try:
                for block in self._sources[number].blocks(self._sample_rate):
                    if not self._put(number, read, block):
                        break
            except BaseException as error:  # whoever takes the sound is told
                read.failure = error
            with self._changed:
                read.is_read = True
                self._changed.notify_all()

    def _begin(self) -> tuple[int, _Read] | None:
        """The next sound that is to be read; None where there is none."""
        with self._changed:
            most = _WAITING * self._sample_rate
            # The sound that is waited for is always begun.
            self._changed.wait_for(lambda: self._is_closed or self._waiting < most or self._begun < self._taken)
            if self._is_closed or self._begun == len(self._sources):
                return None
            number, self._begun = self._begun, self._begun + 1
            read = self._read[number] = _Read()
            self._changed.notify_all()
            return number, read

    def _put(self, number: int, read: _Read, block: Block) -> bool:
        """Lets a block wait to be taken; False where nobody will take it."""
        with self._changed:
            most = _OF_ONE * self._sample_rate
            self._changed.wait_for(lambda: self._is_closed or number not in self._read or read.samples < most)
            if self._is_closed or number not in self._read:
                return False
            read.blocks.append(block)
            read.samples += len(block)
            self._waiting += len(block)
            self._changed.notify_all()
            return True
