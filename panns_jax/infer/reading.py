"""Sounds read by threads, ahead of who hears them."""

import collections
import functools
import threading
from collections.abc import Generator, Iterable, Iterator

import numpy as np
from jaxtyping import Float

from panns_jax.infer.sources import Source

Block = Float[np.ndarray, "_"]

# Seconds of sound that wait, beyond which none is begun to be read; and of one sound, beyond which it is not read on.
_WAITING = 300.0
_OF_ONE = 60.0

# Sounds that wait.
_SOUNDS = 128


class _Read:
    """The blocks of one sound that wait."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.blocks: collections.deque[Block] = collections.deque()
        self.samples = 0
        self.is_read = False
        self.failure: BaseException | None = None

    def has_news(self) -> bool:
        """Whether there is a block to take, or none will come."""
        return bool(self.blocks) or self.is_read


class Reader:
    """Reads sounds by threads, in their order; some minutes of sound wait at most, however long the sounds are.

    >>> with contextlib.closing(Reader(sources, sample_rate, threads=2)) as reader:
    ...     for source, blocks in reader:
    ...         for block in blocks: ...

    The blocks of a sound are to be read to their end before the next sound is asked for, or given up; where it cannot
    be read, they raise an InputError.

    Args:
      sources: the sounds, of which no more are asked for than are read ahead.
      sample_rate: samples per second of what is read.
      threads: how many sounds are read at a time.
    """

    def __init__(self, sources: Iterable[Source], sample_rate: int, *, threads: int) -> None:
        self._sources = iter(sources)
        self._asking = threading.Lock()  # of whom the next source is asked for
        self._sample_rate = sample_rate
        self._changed = threading.Condition()
        self._read: dict[int, _Read] = {}
        self._begun = self._taken = 0
        self._waiting = 0
        self._is_closed = self._is_ended = False
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[tuple[Source, Iterator[Block]]]:
        while True:
            with self._changed:
                number, self._taken = self._taken, self._taken + 1
                self._changed.notify_all()
                self._changed.wait_for(functools.partial(self._is_begun, number))
                if number not in self._read:
                    if self._failure is not None:
                        raise self._failure
                    return
                source = self._read[number].source
            yield source, self._blocks(number)

    def _blocks(self, number: int) -> Generator[Block, None, None]:
        try:
            while True:
                with self._changed:
                    read = self._read[number]
                    self._changed.wait_for(read.has_news)
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

    def _is_begun(self, number: int) -> bool:
        return number in self._read or self._is_ended

    def _work(self) -> None:
        while (begun := self._begin()) is not None:
            number, read = begun
            try:
                for block in read.source.blocks(self._sample_rate):
                    if not self._put(number, read, block):
                        break
            except BaseException as error:  # whoever takes the sound is told
                read.failure = error
            with self._changed:
                read.is_read = True
                self._changed.notify_all()

    def _begin(self) -> tuple[int, _Read] | None:
        """The next sound that is to be read; None where there is none."""
        with self._asking:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._is_ended or self._has_room)
                if self._is_closed or self._is_ended:
                    return None
            try:
                source = next(self._sources, None)
            except BaseException as error:  # whoever takes the sounds is told
                source, self._failure = None, error
            with self._changed:
                self._changed.notify_all()
                if source is None:
                    self._is_ended = True
                    return None
                number, self._begun = self._begun, self._begun + 1
                read = self._read[number] = _Read(source)
                return number, read

    @property
    def _has_room(self) -> bool:
        """Whether another sound may be begun; the one that is waited for may be in any case."""
        few = self._begun < self._taken + _SOUNDS and self._waiting < _WAITING * self._sample_rate
        return few or self._begun < self._taken

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
